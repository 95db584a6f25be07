"""The mean of an utterance's own frames."""

import pytest
import torch

from qieemo_sb.lobes.average import AveragePooling

FRAMES = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 6.0], [99.0, 99.0]]])


def test_frames_past_the_end_do_not_count():
    pooled = AveragePooling(width=2)(FRAMES, torch.tensor([3]))
    assert pooled.tolist() == [[3.0, 2.0]]


def test_around_a_frame_is_the_mean_of_its_neighbours():
    around = AveragePooling(width=2).around(FRAMES, torch.tensor([3]), 3)
    assert around[0, :3, 0].tolist() == pytest.approx([2.0, 3.0, 4.0])


def test_a_long_span_is_the_whole():
    pool, lengths = AveragePooling(width=6), torch.tensor([20, 11])
    frames = torch.randn(2, 20, 6)
    whole = pool(frames, lengths)
    around = pool.around(frames, lengths, 39)
    for row, length in enumerate(lengths.tolist()):
        own = around[row, :length]
        assert torch.allclose(own, whole[row].expand_as(own), atol=1e-5)


def test_an_even_span_has_no_middle():
    with pytest.raises(ValueError, match="no middle"):
        AveragePooling(width=2).around(FRAMES, torch.tensor([3]), 4)


def test_float32_under_autocast():
    pool, lengths = AveragePooling(width=2), torch.tensor([3])
    with torch.autocast("cpu", torch.bfloat16):
        assert pool(FRAMES.bfloat16(), lengths).dtype == torch.float32
