"""Predictions as text: tables for people and programs, tiers for annotators."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from qieemo_sb.errors import QieemoError, shown
from qieemo_sb.serving.results import Prediction

Predictions = Sequence[Prediction]


def table(predictions: Predictions, scores: bool = False) -> str:
    """Lines of file, emotion and probability, tab-separated, for people.

    With ``scores``, those of all emotions follow.
    """
    return "".join(table_line(p, scores) for p in predictions)


def table_line(prediction: Prediction, scores: bool = False) -> str:
    """A line of ``table``."""
    cells = [shown(prediction.file or ""), prediction.emotion]
    cells.append(f"{prediction.score:.4f}")
    if scores:
        cells += [f"{k} {x:.4f}" for k, x in prediction.scores.items()]
    return "\t".join(cells) + "\n"


def as_json(predictions: Predictions) -> str:
    """A JSON list of ``Prediction.to_dict``."""
    rows = [json_line(p).rstrip() for p in predictions]
    return "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"


def json_line(prediction: Prediction, scores: bool = True) -> str:
    """A line of JSON, all of a prediction."""
    return json.dumps(prediction.to_dict()) + "\n"


def as_jsonl(predictions: Predictions) -> str:
    """A line of JSON for each prediction."""
    return "".join(map(json_line, predictions))


def as_csv(predictions: Predictions, scores: bool = True) -> str:
    """Comma-separated rows below a line of names, as Prediction.to_row."""
    if not predictions:
        return ""
    return csv_header(predictions[0], scores) + "".join(
        csv_line(p, scores) for p in predictions
    )


def csv_header(prediction: Prediction, scores: bool = True) -> str:
    """The first line of ``as_csv``."""
    return _csv(_row(prediction, scores))


def csv_line(prediction: Prediction, scores: bool = True) -> str:
    """A line of ``as_csv``."""
    return _csv(_row(prediction, scores).values())


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


TIMELINES: dict[str, Callable[[Predictions], str]] = {
    "json": as_json,
    "jsonl": as_jsonl,
    "csv": as_csv,
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
