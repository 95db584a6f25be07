"""A picture of a timeline: the waveform in rows, coloured by emotion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qieemo_sb.audio import read_blocks
from qieemo_sb.frames import FRAME_HOP, FRAME_SECONDS
from qieemo_sb.serving.formats import shown
from qieemo_sb.serving.results import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# By the first three letters, as corpora shorten names. Okabe and Ito's colours,
# which the colour-blind tell apart, and two more.
COLOURS = {
    "neu": "#4d5560",
    "cal": "#56b4e9",
    "hap": "#e69f00",
    "sad": "#0072b2",
    "ang": "#d55e00",
    "fea": "#cc79a7",
    "dis": "#009e73",
    "sur": "#f0e442",
    "bor": "#882255",
    "unk": "#999999",
}
OTHERS = "#8b5a2b #44aa99 #332288 #aa4499 #ddcc77 #117733".split()
SILENCE = "#cfcfcf"
INK, GREY = "#1a1a1a", "#6e6e6e"

INCHES, DPI = 11.0, 150  # width of a picture, and its dots an inch
LETTER = 0.068  # inches of one, in a band
MOST_ROWS = 12
ROWS = (60, 120, 300, 600, 1200, 1800, 3600)  # seconds of a row
TICKS = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300)  # seconds between them
MOST_TICKS = 13  # in a row
LOUD = 99.8  # percentile of the peaks that fills the height of a row
POINTS = 1600  # of a waveform in a row
BAND = 0.6  # height of a speaker's band; the waveform is from -1 to 1


def timeline_picture(
    path: str | Path, segments: Sequence[Prediction]
) -> Figure:
    """Draw a recording, coloured by emotion, with its segments below.

    A recording longer than a minute is cut into rows, as a text is into lines.
    What belongs to no segment is grey. Where several speakers are named, each
    has a band of segments.

    Arguments
    ---------
    path : str or Path
        The audio file.
    segments : sequence of Prediction
        Of ``classifier.timeline``.

    Returns
    -------
    matplotlib.figure.Figure
        Save it by ``figure.savefig("timeline.png")``.

    Raises
    ------
    AudioError
        The file cannot be used.
    """
    from matplotlib.figure import Figure

    peaks = _peaks(path)
    seconds = len(peaks) * FRAME_SECONDS
    fitting = [x for x in ROWS if seconds <= MOST_ROWS * x] or ROWS[-1:]
    width = min(seconds, fitting[0])
    rows = math.ceil(seconds / width - 1e-9)
    speakers = list(dict.fromkeys(x.speaker for x in segments)) or [None]
    colours = _colours(segments)
    height = (1.0 if rows > 1 else 1.7) + 0.2 * (len(speakers) - 1)
    size = (INCHES, 0.4 + height * rows)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    for row, axes in enumerate(figure.subplots(rows, squeeze=False)[:, 0]):
        start = row * width
        _draw_axes(axes, start, width, seconds, speakers)
        _draw_wave(axes, start, width, peaks, segments, colours)
        _draw_bands(axes, start, width, speakers, segments, colours)
    if colours:
        _draw_legend(figure, colours)
    return figure


def emotion_colours(emotions: Iterable[str]) -> dict[str, str]:
    """Colours of emotions; their order does not matter.

    Example
    -------
    >>> emotion_colours(["sad", "excited", "neutral", "sad"])
    {'neutral': '#4d5560', 'sad': '#0072b2', 'excited': '#8b5a2b'}
    """
    names, others = sorted(set(emotions)), itertools.cycle(OTHERS)
    first: dict[str, str] = {}  # of the names that begin alike
    for name in names:
        first.setdefault(name[:3].lower(), name)
    known = {first[k]: colour for k, colour in COLOURS.items() if k in first}
    return known | {x: next(others) for x in names if x not in known}


def _colours(segments):
    """Colours of the emotions that segments have.

    They are chosen among all that the model knows, so that pictures agree.
    """
    found = {x.emotion for x in segments}
    known = {name for x in segments[:1] for name in x.scores}
    colours = emotion_colours(known | found)
    return {x: colour for x, colour in colours.items() if x in found}


def clock(seconds: float, digits: int = 0) -> str:
    """Time as people write it, with so many digits after the point.

    Example
    -------
    >>> clock(65), clock(59.96, 1), clock(3725)
    ('1:05', '1:00.0', '1:02:05')
    """
    minutes, rest = divmod(round(seconds, digits), 60)
    hours, minutes = divmod(int(minutes), 60)
    second = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    return f"{hours}:{minutes:02}:{second}" if hours else f"{minutes}:{second}"


def _peaks(path):
    """Largest magnitude of each frame of a file, in constant memory a frame."""
    peaks, rest = [], np.empty(0, np.float32)
    for block in read_blocks(path):
        rest = np.concatenate([rest, np.abs(block)])
        size = len(rest) // FRAME_HOP * FRAME_HOP
        peaks.append(rest[:size].reshape(-1, FRAME_HOP).max(axis=1))
        rest = rest[size:]
    if len(rest):
        peaks.append(rest.max(keepdims=True))
    return np.concatenate(peaks)


def _draw_axes(axes, start, width, seconds, speakers):
    """Time below, the speakers' names beside their bands, nothing else."""
    places = [_band(lane) + BAND / 2 for lane in range(len(speakers))]
    step = next((x for x in TICKS if width <= MOST_TICKS * x), 600)
    end = min(start + width, seconds)
    ticks = np.arange(math.ceil(start / step - 1e-6), end / step + 1e-6) * step
    axes.set(xlim=(start, start + width), ylim=(_band(len(speakers) - 1), 1.05))
    axes.set_xticks(ticks, [clock(x, int(step < 1)) for x in ticks])
    names = [shown(x or "") for x in speakers]
    axes.set_yticks(places, names)
    axes.tick_params(length=0, colors=GREY, labelsize=9)
    axes.spines[:].set_visible(False)


def _band(lane):
    """Lower edge of a speaker's band."""
    return -1.1 - (lane + 1) * BAND


def _draw_wave(axes, start, width, peaks, segments, colours):
    """The row's waveform: grey, and above it each segment's in its colour."""
    first, last = (round(x / FRAME_SECONDS) for x in (start, start + width))
    row = peaks[first:last]
    step = max(1, math.ceil(len(row) / POINTS))
    heights = np.maximum.reduceat(row, np.arange(0, len(row), step))
    loud = max(float(np.percentile(peaks, LOUD)), 1e-4)
    heights = np.clip(heights / loud, 1e-3, 1.0) ** 0.6  # soft speech shows
    edges = np.minimum(np.arange(len(heights) + 1) * step, len(row))
    times = start + edges * FRAME_SECONDS
    style = {"step": "post", "linewidth": 0}

    def fill(begin, end, colour):
        a = max(0, int(np.searchsorted(times, begin, "right")) - 1)
        b = min(len(heights), int(np.searchsorted(times, end, "left")))
        if b > a:
            part = np.append(heights[a:b], heights[b - 1])
            x = np.clip(times[a : b + 1], begin, end)
            axes.fill_between(x, -part, part, color=colour, **style)

    fill(start, start + width, SILENCE)
    for begin, end, segment in _inside(segments, start, width):
        fill(begin, end, colours[segment.emotion])


def _draw_bands(axes, start, width, speakers, segments, colours):
    """The row's segments, with their names where there is room."""
    for begin, end, segment in _inside(segments, start, width):
        colour = colours[segment.emotion]
        low = _band(speakers.index(segment.speaker))
        box = [(begin, end - begin)], (low + 0.06, BAND - 0.12)
        axes.broken_barh(*box, color=colour, linewidth=0.6, edgecolor="white")
        room = (end - begin) / width * (INCHES - 0.3)
        if room > LETTER * (len(segment.emotion) + 1.5):
            place = (begin + end) / 2, low + BAND / 2
            at = {"ha": "center", "va": "center_baseline", "size": 8}
            axes.text(*place, segment.emotion, color=_ink(colour), **at)


def _inside(segments, start, width):
    """(start, end, segment) of those in a row, cut at its ends."""
    for x in segments:
        begin, end = max(x.start, start), min(x.end, start + width)
        if begin < end:
            yield begin, end, x


def _ink(colour):
    """Black or white, which can be read on a colour."""
    from matplotlib.colors import to_rgb

    light = np.dot(to_rgb(colour), (0.299, 0.587, 0.114))
    return INK if light > 0.5 else "white"


def _draw_legend(figure, colours):
    """Each emotion's colour, and silence's, above all."""
    from matplotlib.patches import Patch

    names = {**colours, "no speech": SILENCE}
    patches = [Patch(color=c, label=shown(name)) for name, c in names.items()]
    style = {"frameon": False, "fontsize": 9, "handlelength": 1.2}
    place = {"loc": "outside upper left", "ncols": len(patches)}
    figure.legend(handles=patches, labelcolor=INK, **style, **place)
