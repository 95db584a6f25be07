"""Predictions as text: tables for people and programs, tiers for annotators."""

from __future__ import annotations

import csv
import functools
import html
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from qieemo_sb.errors import QieemoError, shown
from qieemo_sb.serving.results import Prediction

Predictions = Sequence[Prediction]
FORMATS = ("table", "json", "jsonl", "csv")  # written while results come


def lines(
    predictions: Iterable[Prediction], kind: str, scores: bool = False
) -> Iterator[str]:
    """Predictions as text, piece by piece.

    Arguments
    ---------
    predictions : iterable of Prediction
    kind : str
        One of ``FORMATS``: "table" has file, emotion and probability,
        tab-separated, for people; "csv" the cells of ``Prediction.to_row``.
    scores : bool
        Write those of all emotions, not of the best alone; JSON always has
        them.

    Yields
    ------
    str
    """
    empty = True
    for prediction in predictions:
        if kind == "table":
            yield _table_line(prediction, scores)
        elif kind == "csv":
            row = _row(prediction, scores)
            yield (_csv(row) if empty else "") + _csv(row.values())
        else:
            text = json.dumps(prediction.to_dict())
            start = "[\n" if empty else ",\n"
            yield f"{text}\n" if kind == "jsonl" else start + text
        empty = False
    if kind == "json":
        yield "[]\n" if empty else "\n]\n"


def _table_line(prediction, scores):
    """A line for people."""
    cells = [shown(prediction.file or ""), prediction.emotion]
    cells.append(f"{prediction.score:.4f}")
    if scores:
        cells += [f"{k} {x:.4f}" for k, x in prediction.scores.items()]
    return "\t".join(cells) + "\n"


def rttm(predictions: Predictions) -> str:
    """RTTM, with the emotion where the speaker's name stands if unknown.

    ``SPEAKER file 1 start length <NA> <NA> speaker:emotion score <NA>``
    """
    lines = []
    for p in predictions:
        file = "_".join(Path(p.file or "audio").stem.split()) or "audio"
        who = p.emotion if p.speaker is None else f"{p.speaker}:{p.emotion}"
        length = p.end - p.start
        lines.append(
            f"SPEAKER {shown(file)} 1 {p.start:.3f} {length:.3f} <NA> <NA> "
            f"{shown('_'.join(who.split()))} {p.score:.3f} <NA>\n"
        )
    return "".join(lines)


def text_grid(predictions: Predictions) -> str:
    """Praat's TextGrid, with a tier for each speaker."""
    from praatio.utilities.textgrid_io import getTextgridAsStr

    end = max((p.end for p in predictions), default=0.0)
    tiers: dict[str, list] = {}
    for p in predictions:
        entries = tiers.setdefault(shown(p.speaker or "emotion"), [])
        # Turns may overlap by a little; intervals of a tier may not.
        start = max([p.start, *(entry[1] for entry in entries[-1:])])
        if start < p.end:
            entries.append((start, p.end, p.emotion))
    tiers = tiers or {"emotion": []}
    grid = {
        "xmin": 0.0,
        "xmax": end,
        "tiers": [
            {
                "class": "IntervalTier",
                "name": name,
                "xmin": 0.0,
                "xmax": end,
                "entries": entries,
            }
            for name, entries in tiers.items()
        ],
    }
    return getTextgridAsStr(grid, "long_textgrid", includeBlankSpaces=True)


def web_vtt(predictions: Predictions) -> str:
    """WebVTT, captions for a video or audio player."""
    import webvtt

    captions = webvtt.WebVTT()
    for p in predictions:
        who, emotion = (
            html.escape(shown(name or ""), quote=False)
            for name in (p.speaker, p.emotion)
        )
        voice = f"<v {who}>" if who else ""
        text = f"{voice}{emotion} {p.score:.2f}"
        times = _clock(p.start), _clock(p.end)
        captions.captions.append(webvtt.Caption(*times, text))
    return captions.content + "\n"


def _joined(kind, predictions):
    """All ``lines`` of a format."""
    return "".join(lines(predictions, kind, scores=True))


TIMELINES: dict[str, Callable[[Predictions], str]] = {
    "json": functools.partial(_joined, "json"),
    "jsonl": functools.partial(_joined, "jsonl"),
    "csv": functools.partial(_joined, "csv"),
    "rttm": rttm,
    "textgrid": text_grid,
    "webvtt": web_vtt,
}
SUFFIXES = {"textgrid": "TextGrid", "webvtt": "vtt"}  # others: the name


def format_timeline(predictions: Iterable[Prediction], kind: str) -> str:
    """Segments as text.

    Arguments
    ---------
    predictions : iterable of Prediction
        Of ``classifier.timeline``.
    kind : str
        A key of ``TIMELINES``.

    Returns
    -------
    str

    Raises
    ------
    QieemoError
        There is no such format.
    """
    if kind not in TIMELINES:
        raise QieemoError(
            f"There is no format {kind!r} for a timeline; there are "
            f"{', '.join(TIMELINES)}."
        )
    return TIMELINES[kind](list(predictions))


def _row(prediction, scores):
    """Cells by name; without ``scores``, that of the best emotion alone."""
    row = prediction.to_row()
    for name in ("file", "speaker"):
        row[name] = row[name] and shown(row[name])
    names = list(row)[: None if scores else list(row).index("score") + 1]
    return {name: row[name] for name in names}


def _csv(cells):
    """A line of comma-separated cells."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _clock(seconds):
    """Seconds → hours:minutes:seconds.milliseconds."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}.{milliseconds:03}"
