"""Audio files → 16 kHz mono, at once or window by window, and their checks.

Arrays are numpy's, so that an exported model needs no torch. Everything is
read from front to back, once: decoded, mixed, resampled, cut, block by block.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from qieemo_sb.audio.checks import check_batch, check_signal
from qieemo_sb.audio.decode import (
    BLOCK,
    audio_error,
    check_file,
    open_audio,
)
from qieemo_sb.audio.resample import Resampler, near_rate, resample
from qieemo_sb.errors import AudioError, shown
from qieemo_sb.frames import (
    SAMPLE_RATE,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    num_frames,
    sample_windows,
)

__all__ = [
    "Resampler",
    "Source",
    "Windows",
    "audio_seconds",
    "check_batch",
    "check_file",
    "check_signal",
    "near_rate",
    "read_audio",
    "read_batches",
    "read_blocks",
    "read_spans",
    "read_windows",
    "resample",
    "result_or_error",
    "survey",
    "to_mono",
]

PROGRESS_FROM = 200  # files; fewer are decoded before a bar is of use
SAMPLES = "The array"  # in messages, where the name of a file stands

# A path; or samples, [S] or [S, channels] at 16 kHz, of NumPy or torch; or a
# dict of "array" and "sampling_rate", as rows of datasets are.
Source: TypeAlias = "str | Path | np.ndarray | Mapping[str, Any]"


def read_audio(source: Source) -> np.ndarray:
    """Read a recording as 16 kHz mono.

    Any sampling rate, any number of channels (averaged), any length from
    25 ms on, silence too.

    Arguments
    ---------
    source : path, array or dict
        A file of any format that libsndfile or FFmpeg reads; samples [S] or
        [S, channels] at 16 kHz, or in a dict as "array", with "sampling_rate".

    Returns
    -------
    np.ndarray
        [S] float32.

    Raises
    ------
    AudioError
        The file is missing, no regular file, empty or not decodable, holds
        samples that are NaN, infinite or beyond 1e15, or is shorter than
        25 ms.

    Example
    -------
    >>> read_audio({"array": np.zeros(800), "sampling_rate": 8_000}).shape
    (1600,)
    """
    samples = bytearray()  # it grows in place: audio is not held twice
    for block in read_blocks(source):
        samples += block.data
    signal = np.frombuffer(samples, np.float32)
    check_signal(name(source), signal)
    return signal


def read_windows(source: Source) -> Iterator[np.ndarray]:
    """Read a recording in windows of at most 30 s, one at a time.

    Together they are the result of ``read_audio``, cut where an encoder cuts;
    two hours take no more memory than two minutes.

    Arguments
    ---------
    source : path, array or dict
        As of ``read_audio``, as are errors, raised when the window that
        cannot be used is reached.

    Yields
    ------
    np.ndarray
        [S] float32 at 16 kHz.

    Example
    -------
    >>> silence = {"array": np.zeros(8_000 * 40), "sampling_rate": 8_000}
    >>> [len(window) / SAMPLE_RATE for window in read_windows(silence)]
    [20.0, 20.0]
    """
    for window in _cut(read_blocks(source)):
        check_signal(name(source), window)
        yield window


def _cut(blocks):
    """Windows of a signal that comes in blocks."""
    cutter = Windows()
    for block in blocks:
        yield from cutter.update(block)
    yield from cutter.finish()


def read_blocks(source: Source) -> Iterator[np.ndarray]:
    """Read a recording as blocks [S] float32 at 16 kHz, mono, unchecked.

    Arguments and errors as of ``read_audio``, but for those of samples.
    """
    if isinstance(source, str | Path):
        with open_audio(source) as file:
            yield from _blocks(source, file.rate, file.blocks())
        return
    array, rate = source, SAMPLE_RATE
    if isinstance(source, Mapping):
        if not {"array", "sampling_rate"} <= source.keys():
            raise AudioError(
                'A recording in a dict has "array" and "sampling_rate", not '
                f"{sorted(source)}."
            )
        array, rate = source["array"], source["sampling_rate"]
    signal = to_mono(array)
    parts = (signal[i : i + BLOCK] for i in range(0, len(signal), BLOCK))
    yield from _blocks(SAMPLES, rate, parts)


def _blocks(path, rate, blocks):
    """Blocks [S] or [S, channels] at a rate → at 16 kHz, mono."""
    try:
        resampler = Resampler(rate)
    except AudioError as error:
        raise AudioError(f"{shown(str(path))}: {error}", path) from error
    empty = True
    for block in blocks:
        empty = empty and not len(block)
        yield resampler.update(to_mono(block))
    if empty:
        raise audio_error(path, "has no samples", "record or copy it again")
    yield resampler.finish()


def read_spans(
    source: Source, spans: Sequence[tuple[int, int]]
) -> Iterator[np.ndarray]:
    """Read parts of a recording, in memory bounded by the longest of them.

    Arguments
    ---------
    source : path, array or dict
        As of ``read_audio``, as are errors, but for those of samples.
    spans : sequence of (int, int)
        (start, end) in samples at 16 kHz, sorted by their starts; they may
        overlap.

    Yields
    ------
    np.ndarray
        [end - start] float32 of each; less where the recording ends.

    Example
    -------
    >>> ramp = np.arange(100_000, dtype=np.float32)
    >>> [
    ...     x.tolist()
    ...     for x in read_spans(ramp, [(5, 8), (7, 8), (99_999, 10**6)])
    ... ]
    [[5.0, 6.0, 7.0], [7.0], [99999.0]]
    """
    blocks = read_blocks(source)
    held, first, ended = np.empty(0, np.float32), 0, False
    for start, end in spans:
        while not ended and first + len(held) < end:
            skipped = min(max(0, start - first), len(held))
            held, first = held[skipped:], first + skipped
            block = next(blocks, None)
            ended = block is None
            if block is not None:
                held = np.concatenate([held, block])
        yield held[max(0, start - first) : max(0, end - first)].copy()


class Windows:
    """Cuts a signal that comes in chunks into windows of at most 30 s.

    Those of ``frames.sample_windows`` for the whole. At most 60 s are held.

    Example
    -------
    >>> cutter, minute = Windows(), np.zeros(960_000, np.float32)
    >>> [len(x) for x in cutter.update(minute)]
    []
    >>> [len(x) for x in cutter.update(minute[:160_000])]
    [480000]
    >>> [len(x) for x in cutter.finish()]
    [320000, 320000]
    """

    def __init__(self):
        self._chunks: list[np.ndarray] = []
        self._size = 0

    def update(self, samples: np.ndarray) -> list[np.ndarray]:
        """Take samples [S] at 16 kHz → the windows that are certain."""
        self._chunks.append(samples)
        self._size += len(samples)
        windows = []
        while num_frames(self._size) > 2 * WINDOW_FRAMES:
            held = np.concatenate(self._chunks)
            windows.append(held[:WINDOW_SAMPLES])
            self._chunks = [held[WINDOW_SAMPLES:]]
            self._size -= WINDOW_SAMPLES
        return windows

    def finish(self) -> list[np.ndarray]:
        """The last window or two."""
        held = np.concatenate([*self._chunks, np.empty(0, np.float32)])
        return [held[start:end] for start, end in sample_windows(len(held))]


def to_mono(samples: Any) -> np.ndarray:
    """Samples of any kind → [S] float32, the mean of their channels.

    Arguments
    ---------
    samples : np.ndarray, torch.Tensor or sequence of float
        [S] or [S, channels]: floating point from -1 to 1, or int16.

    Returns
    -------
    np.ndarray
        [S].

    Raises
    ------
    AudioError
        Another shape or type.
    """
    if hasattr(samples, "detach"):  # torch's
        samples = samples.detach().cpu()
        samples = samples.float() if samples.is_floating_point() else samples
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise AudioError(f"Samples are no array: {error}.") from error
    if array.dtype == np.int16:
        array = array.astype(np.float32) / 32_768
    if (
        array.dtype.kind != "f"
        or array.ndim not in (1, 2)
        or 0 in array.shape[1:]
    ):
        raise AudioError(
            f"Samples are {list(array.shape)} of {array.dtype}: give [S] or "
            "[S, channels] of floating point from -1 to 1, or int16."
        )
    with np.errstate(invalid="ignore", over="ignore"):  # checked later
        mono = array if array.ndim == 1 else array.mean(axis=1)
        return np.ascontiguousarray(mono, np.float32)


def audio_seconds(source: Source) -> float | None:
    """Length of a recording [s] by its header; None if that is not there."""
    try:
        if isinstance(source, str | Path):
            with open_audio(source) as file:
                return file.seconds
        array: Any = source
        if isinstance(source, Mapping):
            return len(source["array"]) / source["sampling_rate"]
        return len(array) / SAMPLE_RATE
    except (AudioError, LookupError, TypeError, ZeroDivisionError):
        return None


def name(source: Source) -> str:
    """The path of a recording, for messages."""
    return str(source) if isinstance(source, str | Path) else SAMPLES


def read_batches(
    paths: Sequence[Source], max_seconds: float
) -> Iterator[list[tuple[int, np.ndarray | AudioError]]]:
    """Read files in batches of like length, the short ones first.

    The next batch is read in the background. SpeechBrain's
    ``DynamicBatchSampler`` does so for a data set in training, with shuffling
    and buckets that differ in size.

    Arguments
    ---------
    paths : sequence of path, array or dict
        Recordings, as of ``read_audio``.
    max_seconds : float
        Most audio in a batch, padding included. A longer file is a batch by
        itself.

    Yields
    ------
    list of (int, np.ndarray or AudioError)
        Index into ``paths``, and the result or error of ``read_audio``.

    Example
    -------
    >>> paths = [np.zeros(seconds * 16_000) for seconds in (3, 1, 2)]
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


def result_or_error(function: Callable, path: Source) -> Any:
    """Result of a function for a file, or the AudioError that it raises."""
    try:
        return function(path)
    except AudioError as error:
        return error
