"""Audio files → 16 kHz mono, at once or window by window, and their checks.

Arrays are numpy's, so that an exported model needs no torch. The resampling
filter is that of ``torchaudio.transforms.Resample``, which SpeechBrain uses: a
signal has the same samples here, in training and in SpeechBrain's classes.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from qieemo_sb.errors import AudioError
from qieemo_sb.frames import (
    MIN_SAMPLES,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    sample_windows,
)

if TYPE_CHECKING:
    import torch

ZERO_CROSSINGS = 6  # of the resampler's sinc, on each side
ROLL_OFF = 0.99  # the resampler's cut-off, of the lower Nyquist frequency
CHUNK = 2**13  # windows of the filter that are copied at once
MAX_TAPS = 2_000_000  # of the resampler's filter; 44.1 kHz takes 70 000
BLOCK = 2**20  # samples decoded at once, as headers may be wrong
LOUDEST = 1e15  # of a sample: beyond, the power of a spectrum is infinite
UNKNOWN = 2**63 - 1  # frames in the header of a file that went through a pipe
UNREADABLE = (RuntimeError, TypeError)  # of soundfile; the second for *.raw
PROGRESS_FROM = 200  # files; fewer are decoded before a bar is of use


def read_audio(path: str | Path) -> np.ndarray:
    """Read an audio file as 16 kHz mono.

    Any sampling rate, any number of channels (averaged), any length from
    25 ms on, silence too.

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
    >>> read_audio(path).shape
    (16000,)
    """
    with _Audio(path) as file:
        return file.read_signal()


def read_windows(path: str | Path) -> Iterator[np.ndarray]:
    """Read an audio file in windows of at most 30 s, one at a time.

    Together they are the result of ``read_audio``, cut where an encoder cuts;
    two hours take no more memory than a minute.

    Arguments
    ---------
    path : str or Path
        As of ``read_audio``, as are errors, raised when the window that
        cannot be used is reached.

    Yields
    ------
    np.ndarray
        [S] float32 at 16 kHz.

    Example
    -------
    >>> path = getfixture("tmp_path") / "long.wav"
    >>> soundfile.write(path, np.zeros(8_000 * 40), 8_000)
    >>> [len(window) / SAMPLE_RATE for window in read_windows(path)]
    [20.0, 20.0]
    """
    with _Audio(path) as file:
        size = file.size_if_long()
        if size is not None:
            yield from file.windows(sample_windows(size))
            return
        signal = file.read_signal()
    for start, end in sample_windows(len(signal)):
        yield signal[start:end]


def audio_seconds(path: str | Path) -> float | None:
    """Length of an audio file [s] by its header; None if that is not there."""
    try:
        about = soundfile.info(_name(path))
    except UNREADABLE:
        return None
    return None if about.frames == UNKNOWN else about.frames / about.samplerate


def read_batches(
    paths: Sequence[str | Path], max_seconds: float
) -> Iterator[list[tuple[int, np.ndarray | AudioError]]]:
    """Read files in batches of like length, the short ones first.

    The next batch is read in the background. SpeechBrain's
    ``DynamicBatchSampler`` does so for a data set in training, with shuffling
    and buckets that differ in size.

    Arguments
    ---------
    paths : sequence of (str or Path)
        Audio files.
    max_seconds : float
        Most audio in a batch, padding included. A longer file is a batch by
        itself.

    Yields
    ------
    list of (int, np.ndarray or AudioError)
        Index into ``paths``, and the result or error of ``read_audio``.

    Example
    -------
    >>> paths = [getfixture("tmp_path") / f"{name}.wav" for name in "abc"]
    >>> for path, seconds in zip(paths, (3, 1, 2)):
    ...     soundfile.write(path, np.zeros(seconds * 16_000), 16_000)
    >>> [[i for i, _ in batch] for batch in read_batches(paths, 4.0)]
    [[1, 2], [0]]
    """
    # Unreadable files come last: the others need not wait for their errors.
    seconds = [audio_seconds(path) or math.inf for path in paths]
    groups: list[list[int]] = []
    for i in sorted(range(len(paths)), key=lambda i: (seconds[i], i)):
        if groups and seconds[i] * (len(groups[-1]) + 1) <= max_seconds:
            groups[-1].append(i)
        else:
            groups.append([i])

    def read(group):
        return [(i, result_or_error(read_audio, paths[i])) for i in group]

    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = None
        for group in [*groups, []]:
            current, upcoming = upcoming, pool.submit(read, group)
            if current is not None:
                yield current.result()


def survey(
    paths: Iterable[str | Path],
) -> tuple[dict[str | Path, float], dict[str | Path, str]]:
    """Decode every file once, on all cores.

    Arguments
    ---------
    paths : iterable of (str or Path)
        Files; one named twice is decoded once.

    Returns
    -------
    lengths : dict
        Seconds at 16 kHz of each good file, by path, in input order.
    failures : dict
        The fault of each bad file, by path, in input order.
    """
    from tqdm import tqdm

    def seconds(path):
        return len(read_audio(path)) / SAMPLE_RATE

    paths = list(dict.fromkeys(paths))
    lengths, failures = {}, {}
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        outcomes = tqdm(
            pool.map(functools.partial(result_or_error, seconds), paths),
            desc="Decoding audio",
            total=len(paths),
            # None: a bar on a terminal, nothing in a log file.
            disable=True if len(paths) < PROGRESS_FROM else None,
        )
        for path, outcome in zip(paths, outcomes, strict=True):
            if isinstance(outcome, AudioError):
                failures[path] = str(outcome)
            else:
                lengths[path] = outcome
    return lengths, failures


def check_file(path: str | Path) -> None:
    """Raise AudioError for a file that is missing, a folder, or empty."""
    if os.path.isdir(path):
        raise _error(path, "is a folder", "name an audio file in it")
    if not os.path.exists(path):
        raise _error(path, "does not exist", "check the path")
    if os.path.getsize(path) == 0:
        raise _error(path, "is empty (0 bytes)", "record or copy it again")


def check_signal(path: str | Path, signal: np.ndarray) -> None:
    """Raise AudioError for samples [S] that no model can use.

    They are NaN, infinite or beyond 1e15, or last less than 25 ms at 16 kHz.
    """
    if len(signal) < MIN_SAMPLES:
        problem = (
            f"is too short: {len(signal)} samples at 16 kHz, at least "
            f"{MIN_SAMPLES} (25 ms) are needed"
        )
        raise _error(path, problem, "drop it")
    if not _is_finite(signal):
        problem = f"holds samples that are NaN, infinite or beyond {LOUDEST:g}"
        raise _error(path, problem, "export it again or drop it")


def check_batch(
    wavs: np.ndarray | torch.Tensor,
    lengths: Sequence[int] | np.ndarray | torch.Tensor | None = None,
) -> list[int]:
    """Check a batch of waveforms, without a copy of it.

    Arguments
    ---------
    wavs : np.ndarray or torch.Tensor
        [B, S] at 16 kHz. Samples past an utterance's end may be anything.
    lengths : sequence of int, np.ndarray, torch.Tensor or None
        [B] samples of each utterance; None: every row is full.

    Returns
    -------
    list of int
        The lengths.

    Raises
    ------
    AudioError
        Not [B, S], no utterance, integer samples, other than B whole lengths,
        or an utterance that is shorter than 25 ms or has samples that are
        NaN, infinite or beyond 1e15. The message names the row.
    """
    if len(wavs.shape) != 2:
        raise AudioError(f"Waveforms must be [B, S], not {tuple(wavs.shape)}.")
    if len(wavs) == 0:
        raise AudioError("The batch has no utterance.")
    if "float" not in str(wavs.dtype):  # -1 to 1, or -32768 to 32767?
        raise AudioError(
            f"Waveforms are {wavs.dtype}: give floating-point samples from -1 "
            "to 1 (those of int16 divided by 32768)."
        )
    if lengths is None:
        lengths = [wavs.shape[1]] * len(wavs)
    # A tensor's tolist waits for a GPU once, not once a row.
    sizes = lengths.tolist() if hasattr(lengths, "tolist") else list(lengths)
    whole = all(isinstance(size, int | np.integer) for size in sizes)
    if not whole or len(sizes) != len(wavs):
        raise AudioError(
            f"lengths must be {len(wavs)} whole numbers of samples, one for "
            f"each utterance, not {sizes}."
        )
    for row, size in enumerate(sizes):
        if not MIN_SAMPLES <= size <= wavs.shape[1]:
            raise AudioError(
                f"Utterance {row} of the batch has {size} samples; at least "
                f"{MIN_SAMPLES} (25 ms at 16 kHz) are needed, and at most "
                f"{wavs.shape[1]} are there. Leave it out."
            )
    if _is_finite(wavs):
        return sizes
    # Perhaps that is only past an utterance's end.
    rows = [i for i, size in enumerate(sizes) if not _is_finite(wavs[i, :size])]
    if rows:
        raise AudioError(
            f"Utterances {rows} of the batch have samples that are NaN, "
            f"infinite or beyond {LOUDEST:g}. Repair the files or leave them "
            "out."
        )
    return sizes


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
    with np.errstate(invalid="ignore", over="ignore"):  # checked later
        pieces = [
            np.ascontiguousarray(windows[first : first + CHUNK]) @ filters.T
            for first in range(0, len(windows), CHUNK)
        ]
    return np.concatenate(pieces).reshape(-1)[:size]


class _Audio(soundfile.SoundFile):
    """An open audio file that is read from front to back.

    It is not seekable: after each read soundfile would seek to the place where
    it already is, which an MP3 decoder misses by some samples, and which is
    unknown in a stream.
    """

    def __init__(self, path):
        check_file(path)
        self.path = path
        try:
            super().__init__(_name(path))
        except UNREADABLE as error:
            raise self._undecodable(error) from error

    def seekable(self):
        return False

    def read_block(self, size=BLOCK):
        """Next samples as mono [S] float32; none at the end."""
        try:
            block = self.read(size, "float32", always_2d=True)
        except UNREADABLE as error:
            raise self._undecodable(error) from error
        with np.errstate(invalid="ignore", over="ignore"):  # checked later
            return block.mean(axis=1)

    def blocks(self):
        """All samples as mono, block by block."""
        while len(block := self.read_block()):
            yield block

    def read_signal(self):
        """The whole file at 16 kHz, checked, [S] float32."""
        samples = bytearray()  # it grows in place: audio is not held twice
        for block in self.blocks():
            samples += block.data
        if not samples:
            raise _error(self.path, "has no samples", "record or copy it again")
        signal = resample(np.frombuffer(samples, np.float32), self.samplerate)
        check_signal(self.path, signal)
        return signal

    def size_if_long(self):
        """Samples at 16 kHz of a file of more than a window, else None."""
        frames, rate = self.frames, near_rate(self.samplerate)
        if frames * SAMPLE_RATE <= WINDOW_SAMPLES * rate:
            return None
        if frames == UNKNOWN or not _has_frame(self.path, frames - 1):
            with _Audio(self.path) as file:  # the header is wrong: decode all
                frames = sum(map(len, file.blocks()))
        size = -(-frames * SAMPLE_RATE // rate)
        return size if size > WINDOW_SAMPLES else None

    def windows(self, spans):
        """Windows (start, end) at 16 kHz, decoded and checked one by one."""
        rate = near_rate(self.samplerate)
        held, held_from = np.empty(0, np.float32), 0
        for start, end in spans:
            first, last, skip = _stretch(start, end, rate)
            held, held_from = held[first - held_from :], first
            more = self.read_block(last - first - len(held))
            held = np.concatenate([held, more])
            signal = resample(held, rate)[skip : skip + end - start]
            if len(signal) < end - start:
                raise self._undecodable("it ends early")
            check_signal(self.path, signal)
            yield signal

    def _undecodable(self, cause):
        reason = str(getattr(cause, "error_string", cause)).rstrip(".")
        return _error(
            self.path,
            f"cannot be decoded ({reason})",
            "copy it again or convert it to WAV or FLAC",
        )


def _has_frame(path, place):
    """True if a file can be read at a place that its header promises."""
    try:
        with soundfile.SoundFile(_name(path)) as file:
            file.seek(place)
            return len(file.read(1)) == 1
    except UNREADABLE:
        return False


def _stretch(start, end, rate):
    """Samples (first, last) of a file that a window at 16 kHz is made of.

    They include the reach of the resampler's filter on both sides; the third
    number is how many samples at 16 kHz come out before the window.
    """
    # In units of these both rates count whole samples, and the filter repeats.
    divisor = math.gcd(rate, SAMPLE_RATE)
    unit, unit_16k = rate // divisor, SAMPLE_RATE // divisor
    around = -(-rate // 10 // unit)  # 0.1 s; the filter is some ms long
    first = max(0, start // unit_16k - around)
    last = -(-end // unit_16k) + around
    return first * unit, last * unit, start - first * unit_16k


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


def _is_finite(samples):
    """True if all samples are numbers of at most ``LOUDEST``."""
    # Both extremes are NaN if one sample is, and NaN is never less.
    return bool(max(-samples.min(), samples.max()) <= LOUDEST)


def result_or_error(function: Callable, path: str | Path) -> Any:
    """Result of a function for a file, or the AudioError that it raises."""
    try:
        return function(path)
    except AudioError as error:
        return error


def _name(path):
    """A path as soundfile opens it: names need not be UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def _error(path, problem, remedy):
    return AudioError(f"{path} {problem}; {remedy}.", path)
