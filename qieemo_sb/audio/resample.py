"""Any sampling rate → 16 kHz, at once or chunk by chunk.

The filter is that of ``torchaudio.transforms.Resample``, which SpeechBrain
uses: a signal has the same samples here, in training and in its classes.
"""

from __future__ import annotations

import functools
import math
import numbers

import numpy as np

from qieemo_sb.errors import AudioError
from qieemo_sb.frames import SAMPLE_RATE

ZERO_CROSSINGS = 6  # of the sinc, on each side
ROLL_OFF = 0.99  # the cut-off, of the lower Nyquist frequency
PRODUCT = 2**13  # windows of the filter that are copied at once
MAX_TAPS = 2_000_000  # of the filter; 44.1 kHz takes 70 000
RATES = 1_000, 1_000_000  # Hz; others are no recordings


def near_rate(rate: int) -> int:
    """The nearest rate that a filter of modest size brings to 16 kHz.

    All usual rates are their own. 48 001 Hz would need a filter for each of
    16 000 phases, gigabytes; as 48 000 Hz it is 21 millionths off. At 4 kHz
    and more the result is at most a thousandth off.

    Example
    -------
    >>> near_rate(44_100), near_rate(48_001)
    (44100, 48000)
    """
    for step in (n for n in range(1, SAMPLE_RATE + 1) if SAMPLE_RATE % n == 0):
        near = step * max(1, round(rate / step))
        common = math.gcd(near, SAMPLE_RATE)
        if near // common * (SAMPLE_RATE // common) <= MAX_TAPS:
            break
    return near


def resample(signal: np.ndarray, rate: int) -> np.ndarray:
    """Bring a signal to 16 kHz by sinc interpolation.

    The sinc has a Hann window of six zero crossings on each side.

    Arguments
    ---------
    signal : np.ndarray
        [S] float32.
    rate : int
        Its samples a second; see ``near_rate``.

    Returns
    -------
    np.ndarray
        [ceil(16000 S / near_rate(rate))] float32.

    Raises
    ------
    AudioError
        The rate is less than 1 kHz or more than 1 MHz.

    Example
    -------
    >>> resample(np.ones(8, np.float32), 8_000).shape
    (16,)
    """
    resampler = Resampler(rate)
    parts = [resampler.update(signal), resampler.finish()]
    return parts[0] if not len(parts[1]) else np.concatenate(parts)


class Resampler:
    """Brings a signal to 16 kHz while it comes in.

    All results together are those of ``resample`` for the whole signal,
    whatever the chunks.

    Arguments
    ---------
    rate : int
        Samples a second of the chunks.

    Raises
    ------
    AudioError
        The rate is less than 1 kHz or more than 1 MHz.

    Example
    -------
    >>> resampler = Resampler(8_000)
    >>> chunks = [resampler.update(np.ones(4, np.float32)) for _ in range(9)]
    >>> sum(map(len, chunks)) + len(resampler.finish())
    72
    """

    def __init__(self, rate: int):
        is_number = isinstance(rate, numbers.Real)
        if not is_number or not RATES[0] <= rate <= RATES[1]:
            raise AudioError(
                f"A sampling rate of {rate} Hz is that of no recording: give "
                f"one from {RATES[0]} to {RATES[1]} Hz."
            )
        rate = near_rate(rate)
        divisor = math.gcd(rate, SAMPLE_RATE)
        # So many samples in make so many out, by the same filters again.
        self._old, self._new = rate // divisor, SAMPLE_RATE // divisor
        self._filters = _filters(self._old, self._new)  # [new, K]
        self._width = (self._filters.shape[1] - self._old) // 2
        self._held = np.zeros(self._width, np.float32)
        self._taken = self._given = 0  # samples in and out

    def update(self, chunk: np.ndarray) -> np.ndarray:
        """Samples at 16 kHz that are certain after a chunk [S] float32."""
        self._taken += len(chunk)
        if self._old == self._new:
            self._given += len(chunk)
            return np.asarray(chunk, np.float32)
        return self._filtered(chunk)

    def finish(self) -> np.ndarray:
        """The last samples, for which silence follows."""
        left = -(-self._new * self._taken // self._old) - self._given
        if not left:
            return np.empty(0, np.float32)
        silence = np.zeros(self._width + self._old, np.float32)
        return self._filtered(silence)[:left]

    def _filtered(self, chunk):
        """Samples that the filters give after a chunk of the signal."""
        signal = np.concatenate([self._held, chunk], dtype=np.float32)
        size = self._filters.shape[1]
        steps = max(0, (len(signal) - size) // self._old + 1)
        self._held = signal[steps * self._old :].copy()
        if not steps:
            return signal[:0]
        windows = np.lib.stride_tricks.sliding_window_view(signal, size)
        windows = windows[: steps * self._old : self._old]  # [steps, K]
        with np.errstate(invalid="ignore", over="ignore"):  # checked later
            pieces = [
                np.ascontiguousarray(windows[i : i + PRODUCT]) @ self._filters.T
                for i in range(0, steps, PRODUCT)
            ]
        samples = np.concatenate(pieces).reshape(-1)
        self._given += len(samples)
        return samples


@functools.lru_cache(maxsize=16)  # of some megabytes each
def _filters(old, new):
    """Filter taps [new, K] that make ``new`` samples of ``old``."""
    cut_off = ROLL_OFF * min(old, new)
    width = math.ceil(ZERO_CROSSINGS * old / cut_off)
    taps = np.arange(-width, width + old) / old
    # Rounded as torchaudio rounds: at odd rates its filter differs for it.
    phases = np.arange(new, dtype=np.float32)[:, None] / np.float32(new)
    times = cut_off * (taps - phases)
    times = np.clip(times, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(np.pi * times / ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(times) * window * cut_off / old).astype(np.float32)
