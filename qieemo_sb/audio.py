"""Audio files: decode, bring to 16 kHz mono, refuse what cannot be used.

A file is decoded as SpeechBrain does and normalised by SpeechBrain's own
code, so an utterance has the same samples here, in training and in
SpeechBrain's ``EncoderClassifier.load_audio``.
"""

import functools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch

from qieemo_sb.errors import AudioError
from qieemo_sb.frames import (
    MIN_SAMPLES,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    sample_windows,
)

ZERO_CROSSINGS = 6  # of the resampler's sinc, on each side
ROLL_OFF = 0.99  # the resampler's cut-off, of the lower Nyquist frequency
CHUNK = 2**13  # resampled at once: so many windows are copied, not a file's
MAX_TAPS = 2_000_000  # of the resampler's filter; 44.1 kHz takes 70 000
BLOCK = 2**20  # samples decoded at once: a header may tell any length
ROUNDING = 1e-3  # by which a relative length may be more than one
LOUDEST = 1e15  # of a sample: beyond, the power of a spectrum is infinite
UNREADABLE = (RuntimeError, TypeError)  # of soundfile; the second for *.raw


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


UNKNOWN = 2**63 - 1  # frames by the header of what was written to a pipe
PROGRESS_FROM = 200  # files; fewer are decoded before a bar is of use


def read_audio(path: str | Path) -> torch.Tensor:
    """Read an audio file as 16 kHz mono.

    Any sampling rate, any number of channels (averaged), any length from
    25 ms on, silence too.

    Arguments
    ---------
    path : str or Path
        A file that libsndfile reads: WAV, FLAC, OGG, MP3 and others.

    Returns
    -------
    torch.Tensor
        [S] float32.

    Raises
    ------
    AudioError
        The file is missing, a folder, empty or not decodable, holds samples
        that are NaN, infinite or beyond 1e15, or is shorter than 25 ms.

    Example
    -------
    >>> from speechbrain.dataio import audio_io
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> audio_io.save(path, torch.zeros(2, 48_000), 48_000)
    >>> read_audio(path).shape
    torch.Size([16000])
    """
    samples, rate = decode(path)
    signal = _to_16_khz(torch.from_numpy(samples), rate)
    check_signal(path, signal.numpy())
    return signal


def audio_seconds(path: str | Path) -> float | None:
    """Length of an audio file by its header, without decoding it.

    Arguments
    ---------
    path : str or Path
        A file.

    Returns
    -------
    float or None
        Seconds; None if there is no header to be read, or it does not tell.
    """
    try:
        about = soundfile.info(file_name(path))
    except UNREADABLE:
        return None
    if about.frames == UNKNOWN:
        return None
    return about.frames / about.samplerate


def read_windows(path: str | Path) -> Iterator[torch.Tensor]:
    """Read an audio file in windows of at most 30 s, one at a time.

    Together they are what ``read_audio`` gives, cut where an encoder cuts; two
    hours take no more memory than a minute.

    Arguments
    ---------
    path : str or Path
        A file that libsndfile reads.

    Yields
    ------
    torch.Tensor
        [S] float32 at 16 kHz.

    Raises
    ------
    AudioError
        As ``read_audio``, when the window that cannot be used is reached.

    Example
    -------
    >>> from speechbrain.dataio import audio_io
    >>> path = getfixture("tmp_path") / "long.wav"
    >>> audio_io.save(path, torch.zeros(1, 8_000 * 40), 8_000)
    >>> [len(window) / SAMPLE_RATE for window in read_windows(path)]
    [20.0, 20.0]
    """
    check_file(path)
    num_samples = _num_samples(path)
    if num_samples > WINDOW_SAMPLES:
        yield from _stream(path, sample_windows(num_samples))
        return
    signal = read_audio(path)
    for start, end in sample_windows(len(signal)):
        yield signal[start:end]


def survey(
    paths: Iterable[str | Path],
) -> tuple[dict[str | Path, float], dict[str | Path, str]]:
    """Decode every file once; tell lengths from failures.

    Arguments
    ---------
    paths : iterable of (str or Path)
        Files; one named twice is decoded once.

    Returns
    -------
    lengths : dict
        Seconds at 16 kHz of each good file, by path, in input order.
    failures : dict
        What is wrong with each bad file, by path, in input order.
    """
    lengths, failures = {}, {}
    for path, outcome in _decode_all(list(dict.fromkeys(paths))):
        if isinstance(outcome, AudioError):
            failures[path] = str(outcome)
        else:
            lengths[path] = outcome
    return lengths, failures


def find_bad_audio(paths: Iterable[str | Path]) -> dict[str | Path, str]:
    """Find the files that `read_audio` would refuse, by decoding them all.

    Arguments
    ---------
    paths : iterable of (str or Path)
        Files.

    Returns
    -------
    dict
        What is wrong with each bad file, by path, in input order.

    Example
    -------
    >>> find_bad_audio([])
    {}
    """
    return survey(paths)[1]


def _decode_all(paths: list) -> Iterator[tuple[str | Path, float | AudioError]]:
    from tqdm import tqdm

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        outcomes = tqdm(
            pool.map(_seconds_or_error, paths),
            desc="Decoding audio",
            total=len(paths),
            # None: a bar on a terminal, nothing in a log file.
            disable=True if len(paths) < PROGRESS_FROM else None,
        )
        yield from zip(paths, outcomes, strict=True)


def _seconds_or_error(path: str | Path) -> float | AudioError:
    try:
        return len(read_audio(path)) / SAMPLE_RATE
    except AudioError as error:
        return error


def _num_samples(path):
    """Samples at 16 kHz by the header; 0 if it tells more than there is."""
    try:
        with soundfile.SoundFile(file_name(path)) as file:
            file.seek(max(0, file.frames - 1))
            there = len(file.read(1))
            rate = near_rate(file.samplerate)
            return -(-file.frames * SAMPLE_RATE // rate) * there
    except UNREADABLE:
        return 0


def _stream(path, windows):
    """Decode, resample and check window after window (start, end)."""
    with Forwards(file_name(path)) as file:
        rate, held, held_from = near_rate(file.samplerate), None, 0
        for start, end in windows:
            first, last, skip = _stretch(start, end, rate)
            kept = 0 if held is None else len(held) - (first - held_from)
            more = _read_on(path, file, last - first - kept)
            held = more if kept == 0 else np.concatenate([held[-kept:], more])
            held_from = first
            signal = _to_16_khz(torch.from_numpy(held), rate)
            signal = signal[skip : skip + end - start]
            if len(signal) < end - start:
                raise undecodable(path, "it ends early")
            check_signal(path, signal.numpy())
            yield signal


def _stretch(start, end, rate):
    """What of a file resamples to a window at 16 kHz.

    First and last sample of the file, with what the resampler's filter looks
    at around the window, and samples at 16 kHz that come before the window.
    """
    # In such units both rates count whole samples, and the filter repeats.
    divisor = math.gcd(rate, SAMPLE_RATE)
    unit, unit_16k = rate // divisor, SAMPLE_RATE // divisor
    around = -(-rate // 10 // unit)  # 0.1 s; the filter is some ms long
    first = max(0, start // unit_16k - around)
    last = -(-end // unit_16k) + around
    return first * unit, last * unit, start - first * unit_16k


def _read_on(path, file, size):
    try:
        return file.read(size, dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise undecodable(path, error) from error


def _to_16_khz(samples: torch.Tensor, rate: int) -> torch.Tensor:
    """[S, channels] at any rate → [S] at 16 kHz."""
    # Under autocast, the resampler's filter would lose most of its digits.
    with torch.autocast("cpu", enabled=False):
        return _normalizer()(samples, near_rate(rate))


@functools.cache
def _normalizer():
    # SpeechBrain takes longer to import than a manifest to check: only those
    # who decode wait for it.
    from speechbrain.dataio.preprocess import AudioNormalizer

    return AudioNormalizer(sample_rate=SAMPLE_RATE)


def file_batches(
    paths: Sequence[str | Path], max_seconds: float
) -> Iterator[list[tuple[int, torch.Tensor | AudioError]]]:
    """Read files in batches, the short ones first.

    A batch's files are near in length, so that little is padded; the next
    batch is read in the background. SpeechBrain's ``DynamicBatchSampler``
    does so for a data set in training, with shuffling and buckets that differ
    in size.

    Arguments
    ---------
    paths : sequence of (str or Path)
        Audio files.
    max_seconds : float
        Most audio in a batch, padding included. A longer file is a batch by
        itself.

    Yields
    ------
    list of (int, torch.Tensor or AudioError)
        Index into ``paths``, and the waveform [S] at 16 kHz or why there is
        none.

    Example
    -------
    >>> from speechbrain.dataio import audio_io
    >>> paths = [getfixture("tmp_path") / f"{name}.wav" for name in "abc"]
    >>> for path, seconds in zip(paths, (3, 1, 2)):
    ...     audio_io.save(path, torch.zeros(1, seconds * 16_000), 16_000)
    >>> [[i for i, _ in batch] for batch in file_batches(paths, 4.0)]
    [[1, 2], [0]]
    """
    groups = _groups(paths, max_seconds)
    with ThreadPoolExecutor(max_workers=1) as pool:
        upcoming = None
        for group in groups:
            current = upcoming
            upcoming = pool.submit(_read, paths, group)
            if current is not None:
                yield current.result()
        if upcoming is not None:
            yield upcoming.result()


def _groups(paths, max_seconds):
    """Indices of the files of each batch."""
    seconds = [audio_seconds(path) for path in paths]
    # What cannot be read comes last: it keeps nobody from being answered.
    seconds = [float("inf") if s is None else s for s in seconds]
    groups = []
    for i in sorted(range(len(paths)), key=lambda i: (seconds[i], i)):
        if groups and seconds[i] * (len(groups[-1]) + 1) <= max_seconds:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _read(paths, group):
    return [(i, _signal_or_error(paths[i])) for i in group]


def _signal_or_error(path):
    try:
        return read_audio(path)
    except AudioError as error:
        return error
