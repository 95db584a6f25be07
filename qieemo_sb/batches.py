"""Audio files in batches of like length, read while others are computed.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from qieemo_sb.audio import AudioError, audio_seconds, read_audio


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
