"""Batches of waveforms that a model can use, and those that it cannot."""

import numpy as np
import pytest
import torch

from qieemo_sb.audio import check_batch
from qieemo_sb.errors import AudioError


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_lengths_of_a_good_batch(kind):
    wavs = noise(2, 500)
    wavs[1, 400:] = np.nan  # past its end
    assert check_batch(kind(wavs), kind(np.array([500, 400]))) == [500, 400]
    assert check_batch(kind(wavs), [500, 400]) == [500, 400]
    assert check_batch(kind(wavs[:1])) == [500]
    assert check_batch(torch.zeros(1, 400, dtype=torch.bfloat16)) == [400]


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
@pytest.mark.parametrize(
    "wavs, lengths, message",
    [
        (np.zeros(500), None, r"must be \[B, S\], not \(500,\)"),
        (np.zeros((1, 500, 1)), None, r"not \(1, 500, 1\)"),
        (np.zeros((0, 500)), None, "no utterance"),
        (np.zeros((1, 500), np.int16), None, "int16: give floating-point"),
        (np.zeros((2, 500)), [500], "must be 2 whole numbers"),
        (np.zeros((2, 500)), np.array([1.0, 0.5]), "whole numbers of samples"),
        (np.zeros((2, 500)), [500, 399], "Utterance 1 .* has 399 samples"),
        (np.zeros((2, 500)), [501, 500], "Utterance 0 .* at most 500 are"),
        (np.zeros((1, 0)), None, "Utterance 0 of the batch has 0 samples"),
        (np.full((1, 500), 1e16), None, r"Utterances \[0\]"),
    ],
)
def test_batches_that_are_refused(kind, wavs, lengths, message):
    with pytest.raises(AudioError, match=message):
        check_batch(kind(wavs), lengths)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_with_samples_that_are_no_numbers(value):
    wavs = noise(3, 500)
    wavs[0, 7] = wavs[2, -1] = value
    with pytest.raises(AudioError, match=r"Utterances \[0, 2\] of the batch"):
        check_batch(wavs)
