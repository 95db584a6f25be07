import torch

from qieemo_sb.training.augment import random_crop, spectrogram_drops

ROWS = list(torch.arange(10.0).repeat(64, 1))


def test_crops_are_stretches_from_every_place_of_an_utterance():
    cropped, lengths = random_crop(ROWS, 4)
    assert (cropped.diff(dim=1) == 1).all()
    assert set(cropped[:, 0].tolist()) == {0, 1, 2, 3, 4, 5, 6}
    assert lengths.tolist() == [4] * 64


def test_a_shorter_utterance_is_kept_and_channels_stay_together():
    frames = torch.stack([ROWS[0], -ROWS[0]], dim=-1)
    cropped, lengths = random_crop([frames[:3], frames, frames[:6]], 4)
    assert lengths.tolist() == [3, 4, 4]
    assert torch.equal(cropped[0, :3], frames[:3])
    assert not cropped[0, 3:].any()
    assert torch.equal(cropped[..., 0], -cropped[..., 1])
    whole, lengths = random_crop([frames[:3], frames], 20)
    assert torch.equal(whole[1], frames) and lengths.tolist() == [3, 10]


def test_drops_replace_frames_and_channels_by_the_mean():
    mel = torch.randn(2, 100, 80)
    dropped = spectrogram_drops()(mel.clone())
    changed = dropped != mel
    assert changed.all(dim=2).sum(dim=1).min() >= 5
    assert changed.all(dim=1).sum(dim=1).min() >= 3
    assert not changed.all()
