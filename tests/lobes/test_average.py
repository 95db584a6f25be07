"""The mean of an utterance's own frames."""

import pytest
import torch

from qieemo_sb.lobes.pooling import AveragePooling

FRAMES = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 6.0], [99.0, 99.0]]])


def around(pool, frames, lengths, span):
    return torch.cat(list(pool.around(frames, lengths, span)), dim=1)


def test_frames_past_the_end_do_not_count():
    pooled = AveragePooling(width=2)(FRAMES, torch.tensor([3]))
    assert pooled.tolist() == [[3.0, 2.0]]


def test_around_a_frame_is_the_mean_of_its_neighbours():
    pooled = around(AveragePooling(width=2), FRAMES, torch.tensor([3]), 3)
    assert pooled[0, :3, 0].tolist() == pytest.approx([2.0, 3.0, 4.0])


def test_a_long_span_is_the_whole():
    pool, lengths = AveragePooling(width=6), torch.tensor([20, 11])
    frames = torch.randn(2, 20, 6)
    whole = pool(frames, lengths)
    pooled = around(pool, frames, lengths, 39)
    for row, length in enumerate(lengths.tolist()):
        own = pooled[row, :length]
        assert torch.allclose(own, whole[row].expand_as(own), atol=1e-5)


def test_an_even_span_has_no_middle():
    with pytest.raises(ValueError, match="no middle"):
        AveragePooling(width=2).around(FRAMES, torch.tensor([3]), 4)


def test_float32_under_autocast():
    pool, lengths = AveragePooling(width=2), torch.tensor([3])
    with torch.autocast("cpu", torch.bfloat16):
        assert pool(FRAMES.bfloat16(), lengths).dtype == torch.float32


def test_joined_windows_are_the_whole():
    pool, frames = AveragePooling(width=6), torch.randn(1, 20, 6)
    windows = [frames[:, :7], frames[:, 7:]]
    statistics = [
        pool.statistics(window, torch.tensor([window.shape[1]]))
        for window in windows
    ]
    expected = pool(frames, torch.tensor([20]))
    assert torch.allclose(pool.join(statistics, [2]), expected, atol=1e-6)
