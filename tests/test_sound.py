"""Audio files without torch: the same samples, the same errors."""

import subprocess
import sys

import numpy as np
import pytest

from qieemo_sb.audio import (
    CHUNK,
    MAX_TAPS,
    _filters,
    check_finite,
    check_lengths,
    near_rate,
    read_audio,
    read_sound,
    resample,
)
from qieemo_sb.errors import AudioError


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    "rate", [8_000, 11_025, 16_000, 22_050, 44_100, 44_056, 48_000, 48_001]
)
def test_same_samples_as_with_torch(write_wav, rate, channels):
    path = write_wav(noise(rate + 17, channels), rate)
    found, expected = read_sound(path), read_audio(path).numpy()
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6


def test_same_samples_to_the_bit_at_16_khz(write_wav):
    path = write_wav(noise(16_000))
    assert read_sound(path).tolist() == read_audio(path).tolist()


def test_long_signal_is_resampled_in_pieces():
    signal = noise(3 * 2 * CHUNK + 1)
    resampled = resample(signal, 48_000)
    assert resampled.shape == (2 * CHUNK + 1,)
    middle = slice(3 * CHUNK - 300, 3 * CHUNK + 300)
    around = slice(CHUNK - 50, CHUNK + 50)
    expected = resample(signal[middle], 48_000)[50:150]
    assert np.abs(resampled[around] - expected).max() < 1e-6


@pytest.mark.parametrize(
    "rate, near",
    [(rate, rate) for rate in (1, 8_000, 11_025, 22_050, 44_100, 48_000)]
    # One in 48 000; 11 127 would take 89 million taps.
    + [(192_000, 192_000), (48_001, 48_000), (11_127, 11_125)],
)
def test_rates_are_their_own_or_the_nearest_that_is_cheap(rate, near):
    assert near_rate(rate) == near


@pytest.mark.parametrize("rate", [7_919, 22_255, 44_056, 99_991, 655_350])
def test_a_cheap_rate_is_near(rate):
    near = near_rate(rate)
    assert abs(near - rate) < rate / 1000
    common = np.gcd(near, 16_000)
    assert _filters(near // common, 16_000 // common).size < 2 * MAX_TAPS


@pytest.mark.parametrize(
    "samples, rate, size", [(1, 8_000, 2), (441, 44_100, 160), (4, 48_000, 2)]
)
def test_size_at_16_khz(samples, rate, size):
    assert resample(np.zeros(samples, np.float32), rate).shape == (size,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("samples", [[0.0, 1.0], [[0.0, 1.0]] * 2])
def test_not_finite(write_wav, rate, value, samples):
    signal = np.tile(samples, (rate, 1)).astype(np.float32)
    signal[7] = value
    with pytest.raises(AudioError, match="NaN, infinite"):
        read_sound(write_wav(signal, rate))


def test_errors_are_those_with_torch(write_wav, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("hello " * 100)
    paths = [tmp_path, tmp_path / "gone.wav", tmp_path / "empty.wav"]
    paths += [tmp_path / "text.wav", write_wav(np.zeros(0), name="0.wav")]
    paths += [write_wav(np.zeros(1_197), 48_000, name="399.wav")]
    for path in paths:
        messages = []
        for read in (read_sound, read_audio):
            with pytest.raises(AudioError) as caught:
                read(path)
            assert caught.value.path == str(path)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_batch_with_a_short_row():
    with pytest.raises(ValueError, match="Utterance 1 of the batch has 399"):
        check_lengths([400, 399])


def test_batch_with_rows_that_are_not_finite():
    with pytest.raises(ValueError, match=r"Utterances \[0, 2\]"):
        check_finite([False, True, False])


def test_neither_torch_nor_speechbrain_is_imported():
    code = (
        "import sys, qieemo_sb.audio\n"
        "print({'torch', 'speechbrain', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
