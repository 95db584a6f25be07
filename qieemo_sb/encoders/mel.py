"""The mel scale that Whisper was trained with.

Authors
 * The Qieemo-SB authors 2026
"""

import numpy as np

from qieemo_sb.frames import N_FFT, SAMPLE_RATE

# Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz, 200 / 3 Hz a
# mel; logarithmic above, 27 mels for a factor of 6.4.
HERTZ_PER_MEL = 200 / 3
KNEE_HERTZ = 1_000.0
KNEE_MEL = KNEE_HERTZ / HERTZ_PER_MEL  # 15
LOG_STEP = np.log(6.4) / 27


def mel_filters(n_mels: int) -> np.ndarray:
    """Triangular filters, each of unit area.

    Arguments
    ---------
    n_mels : int
        Mel bands from 0 to 8 kHz.

    Returns
    -------
    np.ndarray
        [n_mels, 201] float64: weights of the bins of a power spectrum.

    Example
    -------
    >>> mel_filters(80).shape
    (80, 201)
    """
    mels = np.linspace(0.0, _mel(SAMPLE_RATE / 2), n_mels + 2)
    edges = _hertz(mels)
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    widths = np.diff(edges)[:, None]
    slopes = bins - edges[:, None]  # [n_mels + 2, 201]
    rising = slopes[:-2] / widths[:-1]
    falling = -slopes[2:] / widths[1:]
    areas = (edges[2:] - edges[:-2])[:, None] / 2
    return np.maximum(0.0, np.minimum(rising, falling)) / areas


def _mel(hertz):
    """Mel of a frequency above the knee."""
    return KNEE_MEL + np.log(hertz / KNEE_HERTZ) / LOG_STEP


def _hertz(mels):
    """Frequency [Hz] of each mel."""
    above = KNEE_HERTZ * np.exp(LOG_STEP * (mels - KNEE_MEL))
    return np.where(mels < KNEE_MEL, HERTZ_PER_MEL * mels, above)
