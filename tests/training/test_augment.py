import torch

from qieemo_sb.training.augment import random_crop

COUNT = torch.arange(10.0).repeat(64, 1)
FULL = torch.full((64,), 10)


def test_a_crop_is_a_stretch_of_its_utterance():
    cropped, lengths = random_crop(COUNT, FULL, 4)
    assert (cropped.diff(dim=1) == 1).all()
    assert lengths.tolist() == [4] * 64


def test_every_place_is_cut_out_some_time():
    torch.manual_seed(0)
    cropped, _ = random_crop(COUNT, FULL, 4)
    assert set(cropped[:, 0].tolist()) == {0, 1, 2, 3, 4, 5, 6}


def test_no_crop_reaches_past_the_end_of_an_utterance():
    cropped, lengths = random_crop(COUNT, torch.full((64,), 6), 4)
    assert cropped.max() == 5
    assert lengths.tolist() == [4] * 64


def test_a_shorter_utterance_is_kept_whole():
    cropped, lengths = random_crop(COUNT, torch.full((64,), 3), 4)
    assert (cropped[:, :3] == COUNT[:, :3]).all()
    assert lengths.tolist() == [3] * 64


def test_a_batch_shorter_than_the_crop_is_unchanged():
    cropped, lengths = random_crop(COUNT, FULL, 20)
    assert torch.equal(cropped, COUNT)
    assert torch.equal(lengths, FULL)


def test_channels_stay_together():
    frames = torch.stack([COUNT, -COUNT], dim=-1)
    cropped, _ = random_crop(frames, FULL, 4)
    assert torch.equal(cropped[..., 0], -cropped[..., 1])
