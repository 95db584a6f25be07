"""Audio files: decode, bring to 16 kHz mono, refuse what cannot be used.

A file is decoded as SpeechBrain does and normalised by SpeechBrain's own
code, so an utterance has the same samples here, in training and in
SpeechBrain's ``EncoderClassifier.load_audio``.

Authors
 * The Qieemo-SB authors 2026
"""

import functools
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import torch

from qieemo_sb.frames import SAMPLE_RATE, WINDOW_SAMPLES, sample_windows
from qieemo_sb.sound import (
    UNREADABLE,
    AudioError,
    Forwards,
    check_file,
    check_signal,
    decode,
    file_name,
    near_rate,
    undecodable,
)

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
