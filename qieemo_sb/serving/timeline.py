"""Emotion over time: a recording → segments with one emotion each.

Speech is found first, or given as who speaks when (diarisation). In each
stretch the frame-wise emotions say where segments begin, and the frames of a
segment, pooled as those of an utterance, which emotion it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from qieemo_sb.audio import check_signal, read_blocks, read_spans
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import FRAME_HOP, MIN_SAMPLES, SAMPLE_RATE, sample_windows
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.model import MOMENT, Qieemo
from qieemo_sb.serving.folder import read_text
from qieemo_sb.serving.results import Prediction
from qieemo_sb.serving.speech import speech_spans

if TYPE_CHECKING:
    from qieemo_sb.serving.classifier import EmotionClassifier

CELL = 5  # frames, 0.1 s: the resolution of borders
SHORTEST = 1.5  # seconds of a segment; a shorter stretch of speech is one
SWITCH = 2.0  # log-probability that a change of emotion costs
LATEST = 1e9  # seconds
LONGEST = 86_400  # seconds of a turn: each 30 s of it take memory
ADAPT_FROM = 1.0  # seconds of a turn that tells something of a voice


class Turn(NamedTuple):
    """A stretch of speech, in seconds, and who speaks."""

    start: float
    end: float
    speaker: str | None = None


def cut(frame_log_probs: np.ndarray) -> list[tuple[int, int]]:
    """Cut frames into segments of one emotion each.

    The best path through the emotions, where a change costs and no segment is
    shorter than 1.5 s (Viterbi, with a shortest stay).

    Arguments
    ---------
    frame_log_probs : np.ndarray
        [T, C], each of the second around a frame.

    Returns
    -------
    list of (int, int)
        (start, end) in frames.

    Example
    -------
    >>> emotions = np.eye(2).repeat(200, axis=0)  # 4 s of each
    >>> cut(np.log(0.8 * emotions + 0.1))
    [(0, 200), (200, 400)]
    """
    frames, classes = frame_log_probs.shape
    shortest = round(SHORTEST / (CELL * FRAME_HOP / SAMPLE_RATE))
    cells = frame_log_probs[CELL // 2 :: CELL]
    # The second around a frame is counted once, not with each of its cells.
    total = np.zeros((len(cells) + 1, classes))
    np.cumsum(cells * (CELL / MOMENT), axis=0, out=total[1:])
    # Of the first t cells: score and beginning of the last segment, by its
    # emotion, and the best of all.
    scores = np.full((len(cells) + 1, classes), -np.inf)
    starts = np.zeros((len(cells) + 1, classes), int)
    best = np.full(len(cells) + 1, -np.inf)
    best[0] = SWITCH  # the first segment is no change
    for t in range(shortest, len(cells) + 1):
        first = t - shortest
        stay = scores[t - 1] + total[t] - total[t - 1]
        begin = best[first] - SWITCH + total[t] - total[first]
        scores[t] = np.maximum(stay, begin)
        starts[t] = np.where(begin > stay, first, starts[t - 1])
        best[t] = scores[t].max()
    borders, t = [frames], len(cells)
    while t >= 2 * shortest and (t := starts[t, scores[t].argmax()]) > 0:
        borders.append(int(t) * CELL)
    borders.append(0)
    return list(zip(borders[:0:-1], borders[-2::-1], strict=True))


def timeline(
    classifier: EmotionClassifier,
    path: str | Path,
    turns: str | Path | Sequence[Turn] | None = None,
    speaker: Moments | None = None,
) -> list[Prediction]:
    """Segments of a recording, each with its emotion.

    Memory does not grow with the length of the recording.

    Arguments
    ---------
    classifier : EmotionClassifier
    path : str or Path
        An audio file.
    turns : str, Path, sequence of Turn, or None
        Who speaks when, perhaps in an RTTM file. Each speaker is adapted to by
        all of their turns. None: speech is found, and its speakers are not.
    speaker : Moments or None
        Of ``adapt``, who speaks where no name is given.

    Returns
    -------
    list of Prediction
        In order of time; none where nobody speaks.

    Raises
    ------
    AudioError
        The file cannot be used.
    QieemoError
        Turns that are no turns.
    """
    if turns is None:
        turns = find_turns(read_blocks(path))
    elif isinstance(turns, str | Path):
        turns = read_rttm(turns)
    return join(segments(classifier, path, turns, speaker))


def find_turns(blocks: Iterable[np.ndarray]) -> list[Turn]:
    """Speech in blocks [S] at 16 kHz, as turns of unknown speakers."""
    return [
        Turn(start / SAMPLE_RATE, end / SAMPLE_RATE)
        for start, end in speech_spans(blocks)
    ]


def segments(
    classifier: EmotionClassifier,
    path: str | Path,
    turns: Sequence[Turn],
    speaker: Moments | None = None,
) -> Iterator[Prediction]:
    """Segments of a recording one by one, before ``join``."""
    pieces = sorted(
        (piece for turn in turns for piece in _pieces(turn)),
        key=lambda piece: piece[:2],  # some speakers may have no name
    )
    voices = {None: speaker, **_voices(classifier, path, pieces)}
    for piece, wav in _speech(path, pieces):
        moments = voices.get(piece.speaker)
        for start, end, log_probs in _segments(classifier, wav, moments):
            first = piece.start / SAMPLE_RATE
            yield classifier.prediction(
                log_probs, path, first + start, first + end, piece.speaker
            )


def join(segments: Iterable[Prediction]) -> list[Prediction]:
    """Neighbours of one emotion and speaker, without a gap, as one segment.

    Their scores are weighted by their lengths.
    """
    joined: list[Prediction] = []
    for segment in segments:
        last = joined[-1] if joined else None
        if (
            last is None
            or (last.emotion, last.speaker)
            != (segment.emotion, segment.speaker)
            or segment.start - last.end > FRAME_HOP / SAMPLE_RATE
        ):
            joined.append(segment)
            continue
        a, b = last.end - last.start, segment.end - segment.start
        last.scores = {
            key: (a * value + b * segment.scores[key]) / (a + b)
            for key, value in last.scores.items()
        }
        last.end = segment.end
    return joined


def read_rttm(path: str | Path) -> list[Turn]:
    """Read who speaks when from an RTTM file, of one recording.

    Arguments
    ---------
    path : str or Path
        Lines ``SPEAKER file channel start length <NA> <NA> speaker <NA> <NA>``.

    Returns
    -------
    list of Turn

    Raises
    ------
    QieemoError
        The file has no such lines, or some of several recordings; names it.
    """
    turns, files = [], set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue  # SPKR-INFO, NON-SPEECH and others
        try:
            start, length = float(fields[3]), float(fields[4])
            turns.append(Turn(start, start + length, fields[7]))
            files.add(fields[1])
        except (IndexError, ValueError) as error:
            raise QieemoError(
                f"{path}, line {number} is no turn in RTTM: {line.strip()!r}"
            ) from error
    if len(files) != 1:
        raise QieemoError(
            f"{path} has turns of {len(files)} recordings: give those of one."
        )
    return turns


class _Piece(NamedTuple):
    """At most 30 s of a turn, in samples."""

    start: int
    end: int
    speaker: str | None


def _pieces(turn):
    """A turn as pieces that are encoded at once."""
    start, end, speaker = turn
    if not 0 <= start < end < LATEST or end - start > LONGEST:
        raise QieemoError(
            f"A turn of {speaker} is from {start} to {end} s: give its start "
            "and its end in seconds, at most a day apart."
        )
    first = round(start * SAMPLE_RATE)
    size = round(end * SAMPLE_RATE) - first
    return [
        _Piece(first + a, first + b, speaker) for a, b in sample_windows(size)
    ]


def _speech(path, pieces):
    """Each piece with its samples [S]; those too short are left out."""
    spans = [piece[:2] for piece in pieces]
    for piece, wav in zip(pieces, read_spans(path, spans), strict=True):
        if len(wav) >= MIN_SAMPLES:
            check_signal(path, wav)
            yield piece, wav


def _voices(classifier, path, pieces):
    """Moments of each speaker whose name is known."""
    long = [
        piece
        for piece in pieces
        if piece.speaker is not None
        and piece.end - piece.start >= ADAPT_FROM * SAMPLE_RATE
    ]
    vectors: dict[str, list[torch.Tensor]] = {}
    for piece, wav in _speech(path, long) if long else ():
        vector = classifier.embed_batch(torch.from_numpy(wav))
        vectors.setdefault(piece.speaker, []).append(vector)
    return {name: classifier.moments(x) for name, x in vectors.items()}


def _segments(classifier, wav, speaker):
    """Segments (start, end, log-probabilities [C]) of a piece of speech."""
    model: Qieemo = classifier.emotion_model
    batch = torch.from_numpy(wav).to(classifier.device)[None]
    with classifier.context():
        windows, _ = model.encoder.windows(batch, None, model.blocks)
        (window,) = windows
        streams = model.fuse(window)
        around = model.classify_frames(
            model.tensors(streams), window.lengths, speaker
        )
        spans = cut(around[0].float().cpu().numpy())
        vectors = []
        for start, end in spans:
            length = window.lengths.new_tensor([end - start])
            part = _between(streams, start, end)
            vectors.append(model.embedding(model.pool(part, length)))
        log_probs = model.classifier(torch.cat(vectors), speaker)
    times = np.array(spans) * FRAME_HOP / SAMPLE_RATE
    times[-1, 1] = len(wav) / SAMPLE_RATE
    return [
        (*time, row)
        for time, row in zip(
            times.tolist(), log_probs.float().cpu().numpy(), strict=True
        )
    ]


def _between(streams, start, end):
    """Streams, or blocks, from one frame to another."""
    return {
        name: _between(x, start, end)
        if isinstance(x, dict)
        else x[:, start:end]
        for name, x in streams.items()
    }
