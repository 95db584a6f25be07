"""Audio files: decode, bring to 16 kHz mono, refuse what cannot be used.

A file is decoded as SpeechBrain does and normalised by SpeechBrain's own
code, so an utterance has the same samples here, in training and in
SpeechBrain's ``EncoderClassifier.load_audio``.

Authors
 * The Qieemo-SB authors 2026
"""

import functools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.sound import AudioError, check_signal, decode

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
        The file is missing, a folder, empty or not decodable, holds NaN or
        infinite samples, or is shorter than 25 ms.

    Example
    -------
    >>> from speechbrain.dataio import audio_io
    >>> path = getfixture("tmp_path") / "stereo.wav"
    >>> audio_io.save(path, torch.zeros(2, 48_000), 48_000)
    >>> read_audio(path).shape
    torch.Size([16000])
    """
    samples, rate = decode(path)
    signal = _normalizer()(torch.from_numpy(samples), rate)
    check_signal(path, signal.numpy())
    return signal


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


@functools.cache
def _normalizer():
    # SpeechBrain takes longer to import than a manifest to check: only those
    # who decode wait for it.
    from speechbrain.dataio.preprocess import AudioNormalizer

    return AudioNormalizer(sample_rate=SAMPLE_RATE)
