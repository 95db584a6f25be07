"""Any rate becomes 16 kHz, at once or chunk by chunk."""

import numpy as np
import pytest

from qieemo_sb.audio.resample import (
    MAX_TAPS,
    PRODUCT,
    Resampler,
    _filters,
    near_rate,
    resample,
)
from qieemo_sb.errors import AudioError


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_long_signal_is_resampled_in_pieces():
    signal = noise(3 * 2 * PRODUCT + 1)
    resampled = resample(signal, 48_000)
    assert resampled.shape == (2 * PRODUCT + 1,)
    middle = slice(3 * PRODUCT - 300, 3 * PRODUCT + 300)
    around = slice(PRODUCT - 50, PRODUCT + 50)
    expected = resample(signal[middle], 48_000)[50:150]
    assert np.abs(resampled[around] - expected).max() < 1e-6


@pytest.mark.parametrize(
    "samples, rate, size", [(1, 8_000, 2), (441, 44_100, 160), (4, 48_000, 2)]
)
def test_size_at_16_khz(samples, rate, size):
    assert resample(np.zeros(samples, np.float32), rate).shape == (size,)


@pytest.mark.parametrize(
    "rate, near",
    [(rate, rate) for rate in (1, 8_000, 11_025, 22_050, 44_100, 192_000)]
    # 11 127 itself would take 89 million taps.
    + [(48_001, 48_000), (11_127, 11_125)],
)
def test_rates_are_their_own_or_the_nearest_that_is_cheap(rate, near):
    assert near_rate(rate) == near


@pytest.mark.parametrize("rate", [7_919, 22_255, 44_056, 99_991, 655_350])
def test_a_cheap_rate_is_near(rate):
    near = near_rate(rate)
    assert abs(near - rate) < rate / 1000
    common = np.gcd(near, 16_000)
    assert _filters(near // common, 16_000 // common).size < 2 * MAX_TAPS


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_chunks_do_not_matter(rate, size):
    signal = noise(rate // 20 + 3)
    resampler = Resampler(rate)
    parts = [
        resampler.update(signal[i : i + size])
        for i in range(0, len(signal), size)
    ]
    found = np.concatenate([*parts, resampler.finish()])
    assert found.shape == resample(signal, rate).shape
    assert np.abs(found - resample(signal, rate)).max() < 1e-6
    assert len(resampler._held) < 2 * rate / 16_000 * 100 + 200  # 12 ms or so


def test_rates_of_no_recording():
    for rate in (0, -1, 999, 1_000_001):
        with pytest.raises(AudioError, match=f"rate of {rate} Hz"):
            Resampler(rate)
