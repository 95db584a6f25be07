"""The clock, against numbers worked out by hand."""

import pytest
import torch

from qieemo_sb.errors import AudioError
from qieemo_sb.frames import (
    absolute_lengths,
    frame_mask,
    frame_windows,
    num_frames,
    num_mel_frames,
    sample_windows,
)


@pytest.mark.parametrize(
    "samples, mel, frames",
    [
        (400, 2, 1),  # the shortest utterance
        (479, 2, 1),
        (480, 3, 2),  # an odd mel frame has an encoder frame of its own
        (16_000, 100, 50),
        (480_000, 3_000, 1_500),
    ],
)
def test_frames_of_an_utterance(samples, mel, frames):
    assert num_mel_frames(samples) == mel
    assert num_frames(samples) == frames
    assert num_frames(torch.tensor([samples])).tolist() == [frames]


@pytest.mark.parametrize("size", [2_001, 480_001, 7_999_999, 16_000_001])
def test_lengths_survive_a_float32_ratio(size):
    lengths = size - torch.arange(2_000)  # the longest round the most
    relative = lengths.float() / size
    assert absolute_lengths(relative, size).tolist() == lengths.tolist()


def test_lengths_that_are_no_fractions_are_refused():
    assert absolute_lengths(torch.tensor([1.0005]), 10).tolist() == [10]
    for wrong in (-0.5, 1.5, 16_000.0, torch.nan):
        with pytest.raises(AudioError, match="row 1"):
            absolute_lengths(torch.tensor([1.0, wrong]), 10)
    with pytest.raises(AudioError, match=r"must be \[B\], not .*\[1, 1\]"):
        absolute_lengths(torch.tensor([[1.0]]), 10)


def test_mask_is_true_on_real_frames():
    mask = frame_mask(torch.tensor([0, 2, 3]), 3)
    assert mask.int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    "frames, windows",
    [
        (1, [(0, 1)]),
        (1_500, [(0, 1_500)]),
        (1_501, [(0, 750), (750, 1_501)]),
        (3_000, [(0, 1_500), (1_500, 3_000)]),
        (4_000, [(0, 1_500), (1_500, 2_750), (2_750, 4_000)]),
    ],
)
def test_windows_are_30_s_and_the_last_two_equal(frames, windows):
    assert frame_windows(frames) == windows


@pytest.mark.parametrize("samples", [400, 480_160, 480_479, 1_234_567])
def test_frames_of_windows_add_up(samples):
    windows = sample_windows(samples)
    assert sum(num_frames(e - s) for s, e in windows) == num_frames(samples)
    assert [e for _, e in windows[:-1]] == [s for s, _ in windows[1:]]
    assert (windows[0][0], windows[-1][1]) == (0, samples)
