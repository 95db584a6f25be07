"""Audio files as arrays: decode, check, bring to 16 kHz mono.

Needs neither torch nor SpeechBrain. ``qieemo_sb.audio`` decodes and checks
with what is here too, so a file is refused in the same words everywhere.

Authors
 * The Qieemo-SB authors 2026
"""

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from qieemo_sb.frames import MIN_SAMPLES, SAMPLE_RATE

ZERO_CROSSINGS = 6  # of the resampler's sinc, on each side
ROLL_OFF = 0.99  # the resampler's cut-off, of the lower Nyquist frequency
CHUNK = 2**13  # resampled at once: so many windows are copied, not a file's
MAX_TAPS = 2_000_000  # of the resampler's filter; 44.1 kHz takes 70 000
BLOCK = 2**20  # samples decoded at once: a header may tell any length
ROUNDING = 1e-3  # by which a relative length may be more than one
LOUDEST = 1e15  # of a sample: beyond, the power of a spectrum is infinite
UNREADABLE = (RuntimeError, TypeError)  # of soundfile; the second for *.raw


class AudioError(ValueError):
    """An audio file that cannot be used.

    Arguments
    ---------
    message : str
        Names the file, what is wrong with it and what to do.
    path : str or Path
        The file.
    """

    # `path` has a default because pickle and DataLoader workers rebuild an
    # exception from its message alone.
    def __init__(self, message: str, path: str | Path = ""):
        super().__init__(message)
        self.path = os.fspath(path)


def read_sound(path: str | Path) -> np.ndarray:
    """Read an audio file as 16 kHz mono.

    What ``qieemo_sb.audio.read_audio`` gives, as an array: the same samples
    at 16 kHz, and at any other rate the same filter, rounded otherwise.

    Arguments
    ---------
    path : str or Path
        A file that libsndfile reads: WAV, FLAC, OGG, MP3 and others.

    Returns
    -------
    np.ndarray
        [S] float32.

    Raises
    ------
    AudioError
        The file is missing, a folder, empty or not decodable, holds samples
        that are NaN, infinite or beyond 1e15, or is shorter than 25 ms.

    Example
    -------
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> soundfile.write(path, np.zeros((48_000, 2)), 48_000)
    >>> read_sound(path).shape
    (16000,)
    """
    samples, rate = decode(path)
    with np.errstate(invalid="ignore", over="ignore"):  # checked below
        signal = resample(samples.mean(axis=1), rate)
    check_signal(path, signal)
    return signal


def decode(path: str | Path) -> tuple[np.ndarray, int]:
    """Read an audio file as it is.

    Arguments
    ---------
    path : str or Path
        Any.

    Returns
    -------
    samples : np.ndarray
        [S, channels] float32, at least one sample.
    rate : int
        Samples a second.

    Raises
    ------
    AudioError
        The file is missing, a folder, empty or not decodable.
    """
    check_file(path)
    blocks = []
    try:
        with Forwards(file_name(path)) as file:
            rate, channels = file.samplerate, file.channels
            while len(block := file.read(BLOCK, "float32", always_2d=True)):
                blocks.append(block)
    except UNREADABLE as error:
        raise undecodable(path, error) from error
    if not blocks:
        raise _error(path, "has no samples", "record or copy it again")
    samples = np.empty((sum(map(len, blocks)), channels), np.float32)
    end = len(samples)
    while blocks:  # which go one by one: long audio is not held twice
        block = blocks.pop()
        samples[end - len(block) : end] = block
        end -= len(block)
    return samples, rate


class Forwards(soundfile.SoundFile):
    """A file that is read from front to back, however long it says it is.

    Where it can, soundfile seeks to where it is after each read, which MP3's
    decoder does not hit to the sample, and a stream's does not know.
    """

    def seekable(self):
        """Whether to seek."""
        return False


def file_name(path: str | Path) -> str | bytes:
    """A path as soundfile opens it, whatever bytes its name is made of.

    Arguments
    ---------
    path : str or Path
        Any.

    Returns
    -------
    str or bytes
        soundfile encodes strings strictly, and names need not be UTF-8.
    """
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def check_file(path: str | Path) -> None:
    """Refuse what cannot be an audio file, before it is opened.

    Arguments
    ---------
    path : str or Path
        Any.

    Raises
    ------
    AudioError
        The file is missing, a folder, or empty.
    """
    if os.path.isdir(path):
        raise _error(path, "is a folder", "name an audio file in it")
    if not os.path.exists(path):
        raise _error(path, "does not exist", "check the path")
    if os.path.getsize(path) == 0:
        raise _error(path, "is empty (0 bytes)", "record or copy it again")


def undecodable(path: str | Path, cause: Exception | str) -> AudioError:
    """The error of a file that libsndfile cannot read.

    Arguments
    ---------
    path : str or Path
        The file.
    cause : Exception or str
        What libsndfile says.

    Returns
    -------
    AudioError
        To be raised.
    """
    reason = str(getattr(cause, "error_string", cause)).rstrip(".")
    return _error(
        path,
        f"cannot be decoded ({reason})",
        "copy it again or convert it to WAV or FLAC",
    )


def check_signal(path: str | Path, signal: np.ndarray) -> None:
    """Refuse what no model can use.

    Arguments
    ---------
    path : str or Path
        Where the signal comes from, for messages.
    signal : np.ndarray
        [S] at 16 kHz.

    Raises
    ------
    AudioError
        Samples that are NaN, infinite or beyond 1e15, or less than 25 ms.
    """
    low, high = signal.min(initial=0), signal.max(initial=0)
    if not -LOUDEST <= low <= high <= LOUDEST:  # NaN is within nothing
        raise _error(
            path,
            f"holds samples that are NaN, infinite or beyond {LOUDEST:g}",
            "export it again or drop it",
        )
    if len(signal) < MIN_SAMPLES:
        raise _error(
            path,
            f"is too short: {len(signal)} samples at 16 kHz, at least "
            f"{MIN_SAMPLES} (25 ms) are needed",
            "drop it",
        )


def check_lengths(samples: Sequence[int]) -> None:
    """Refuse a batch with rows that are too short.

    Arguments
    ---------
    samples : sequence of int
        Length of each row at 16 kHz.

    Raises
    ------
    ValueError
        Names the first such row.
    """
    for row, length in enumerate(samples):
        if length < MIN_SAMPLES:
            raise ValueError(
                f"Utterance {row} of the batch has {length} samples; at least "
                f"{MIN_SAMPLES} ({1000 * MIN_SAMPLES // SAMPLE_RATE} ms at 16 "
                "kHz) are needed. Leave it out."
            )


def check_finite(finite: Sequence[bool]) -> None:
    """Refuse a batch with samples that are no sound.

    Arguments
    ---------
    finite : sequence of bool
        Whether all samples of a row are numbers, and none beyond ``LOUDEST``.

    Raises
    ------
    ValueError
        Names the rows that have others.
    """
    rows = [row for row, whole in enumerate(finite) if not whole]
    if rows:
        raise ValueError(
            f"Utterances {rows} of the batch have samples that are NaN, "
            f"infinite or beyond {LOUDEST:g}. Repair the files or leave them "
            "out."
        )


def check_relative(shape: Sequence[int], lengths: list, rows: int) -> None:
    """Refuse what are no lengths of a batch.

    Arguments
    ---------
    shape : sequence of int
        Of the lengths.
    lengths : list of float
        They themselves, relative to the longest row's.
    rows : int
        Of the batch.

    Raises
    ------
    ValueError
        Not one for each row, or one that is no fraction.
    """
    if tuple(shape) != (rows,):
        raise ValueError(
            f"wav_lens must be [{rows}], a length for each row, not of shape "
            f"{list(shape)}."
        )
    for row, length in enumerate(lengths):
        if not 0 <= length <= 1 + ROUNDING:
            raise ValueError(
                f"wav_lens are fractions of the longest row; that of row {row} "
                f"is {length:g}. Divide samples by the most of them."
            )


def check_floating(floating: bool, kind: object) -> None:
    """Refuse integers: whether they mean -1 to 1 or -32768 to 32767 is unknown.

    Arguments
    ---------
    floating : bool
        Whether samples are floating-point numbers.
    kind : object
        Their type, for the message.

    Raises
    ------
    ValueError
        They are not.
    """
    if not floating:
        raise ValueError(
            f"Waveforms are {kind}: give floating-point samples from -1 to 1 "
            "(those of int16 divided by 32768)."
        )


def near_rate(rate: int) -> int:
    """The nearest rate that a filter of modest size brings to 16 kHz.

    All usual rates are their own. 48 001 Hz would need a filter for each of
    16 000 phases, gigabytes; as 48 000 Hz it is 21 millionths off.

    Arguments
    ---------
    rate : int
        Samples a second.

    Returns
    -------
    int
        At most a thousandth off at 4 kHz and more.

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
    """Bring a signal to 16 kHz by windowed-sinc interpolation.

    The filter is that of ``torchaudio.transforms.Resample``, which SpeechBrain
    uses: a Hann window over six zero crossings on each side.

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

    Example
    -------
    >>> resample(np.ones(8), 8_000).shape
    (16,)
    """
    rate = near_rate(rate)
    divisor = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // divisor, SAMPLE_RATE // divisor
    if old == new:
        return signal
    filters = _filters(old, new)  # [new, K]
    size = -(-new * len(signal) // old)
    width = (filters.shape[1] - old) // 2
    padded = np.pad(signal, (width, width + old))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, filters.shape[1]
    )[::old]  # [S / old + 1, K]: of each, `new` samples are made
    pieces = [
        np.ascontiguousarray(windows[first : first + CHUNK]) @ filters.T
        for first in range(0, len(windows), CHUNK)
    ]
    return np.concatenate(pieces).reshape(-1)[:size]


@functools.lru_cache(maxsize=16)  # of some megabytes each
def _filters(old, new):
    """Taps [new, K] of each of the ``new`` samples that ``old`` become."""
    cut_off = ROLL_OFF * min(old, new)
    width = math.ceil(ZERO_CROSSINGS * old / cut_off)
    taps = np.arange(-width, width + old) / old
    # Rounded as torchaudio rounds: at odd rates its filter differs for it.
    phases = np.arange(new, dtype=np.float32)[:, None] / np.float32(new)
    times = cut_off * (taps - phases)
    times = np.clip(times, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(np.pi * times / ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(times) * window * cut_off / old).astype(np.float32)


def _error(path, problem, remedy):
    return AudioError(f"{path} {problem}; {remedy}.", path)
