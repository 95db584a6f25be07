"""Files in batches: each once, the short ones first, bad ones told."""

import numpy as np
import pytest
import torch

from qieemo_sb.audio import file_batches
from qieemo_sb.errors import AudioError


@pytest.fixture
def paths(write_wav):
    """Files of so many seconds."""

    def make(*seconds):
        return [
            write_wav(np.full(int(s * 16_000), i / 100), name=f"{i}.wav")
            for i, s in enumerate(seconds)
        ]

    return make


def indices(paths, max_seconds):
    return [[i for i, _ in b] for b in file_batches(paths, max_seconds)]


def test_short_files_come_first(paths):
    assert indices(paths(3, 1, 2), 100) == [[1, 2, 0]]


def test_padding_counts(paths):
    # 1 + 1 + 4 are six seconds, but twelve when padded.
    files = paths(1, 4, 1)
    assert indices(files, 11.9) == [[0, 2], [1]]
    assert indices(files, 12.0) == [[0, 2, 1]]


def test_long_file_is_a_batch_by_itself(paths):
    assert indices(paths(5, 1, 6), 2) == [[1], [0], [2]]


def test_waveforms_are_those_of_the_files(paths):
    for batch in file_batches(paths(2, 0.5, 1), 2):
        for i, signal in batch:
            assert len(signal) == (32_000, 8_000, 16_000)[i]
            assert torch.allclose(signal, torch.tensor(i / 100))


def test_bad_files_come_last_as_errors(paths, tmp_path, write_wav):
    nan = write_wav(np.full(800, np.nan), name="nan.wav")
    files = [tmp_path / "gone.wav", *paths(1), nan]
    found = dict(item for batch in file_batches(files, 9) for item in batch)
    assert list(found) == [2, 1, 0]
    assert isinstance(found[0], AudioError) and "gone.wav" in str(found[0])
    assert isinstance(found[2], AudioError) and "nan.wav" in str(found[2])


def test_no_files():
    assert list(file_batches([], 9)) == []
