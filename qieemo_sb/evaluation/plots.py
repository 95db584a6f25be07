"""Every picture: numbers in, an image file out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qieemo_sb.corpora.files import replacing
from qieemo_sb.frames import FRAME_HOP, SAMPLE_RATE
from qieemo_sb.lobes.tokens import display_name

if TYPE_CHECKING:  # matplotlib is slow to import: only who draws pays
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.78  # inches: room for "100%" above a count
INK = "#1a1a1a"
GREY = "#6e6e6e"
EMPTY = "#f0f0f0"  # the row of a class that nobody spoke
COLOURS = "Blues"
SERIES = ("#2a6aad", "#d9822b", "#6a9a3b", "#9a5fb0")  # WA, UA, WF1, macro-F1
DPI = 200
FRAME_SECONDS = FRAME_HOP / SAMPLE_RATE


def confusion(
    matrix: Sequence[Sequence[int]],
    labels: Sequence[str],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draw a confusion matrix.

    A row is a true label. A cell's colour and percentage are its share of the
    row; below stands its count. Bars at the right show each class's recall.

    Arguments
    ---------
    matrix : sequence of sequence of int
        [C, C] counts, a row for a true label.
    labels : sequence of str
        The C label texts.
    path : path-like
        The image; its suffix (.png, .pdf, .svg) says the format.
    title : str
        Stands above the scores, which are always there.

    Raises
    ------
    ValueError
        If the matrix is not as wide and as high as there are labels.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "confusion.png"
    ...     confusion([[8, 2], [1, 9]], ["neutral", "angry"], path)
    ...     path.read_bytes()[1:4]
    b'PNG'
    """
    figure, grid, counts = _draw_confusion(matrix, labels)
    _draw_heading(grid, title, _headline(counts))
    _save(figure, path)


def cross_validation(
    scores: Mapping[str, Mapping[int, Sequence[float]]],
    matrix: Sequence[Sequence[int]],
    labels: Sequence[str],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draw the scores of all folds and the confusions of all runs together.

    Above, a column a fold: a small dot is a seed, a large one their mean. The
    last column is the mean over folds; its bar is the sample standard
    deviation over folds. Below, the matrix as ``confusion`` draws it.

    Arguments
    ---------
    scores : mapping
        Name of the score → fold → a value a seed.
    matrix : sequence of sequence of int
        [C, C] counts, a row for a true label.
    labels : sequence of str
        The C label texts.
    path : path-like
        The image; its suffix says the format.
    title : str
        Stands on top.

    Raises
    ------
    ValueError
        If the matrix is not as wide and as high as there are labels.

    Example
    -------
    >>> path = getfixture("tmp_path") / "cv.png"
    >>> scores = {"WA": {1: [0.8, 0.7], 2: [0.6]}}
    >>> cross_validation(scores, [[8, 2], [1, 9]], ["neu", "ang"], path)
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    figure, grid, counts = _draw_confusion(matrix, labels)
    _draw_heading(grid, "All runs' answers together", _headline(counts))
    # In units of the grid's height, above it and its heading.
    height, above = 3.0 / (len(labels) * CELL), 1 + 1.3 / (len(labels) * CELL)
    folds = sorted({fold for values in scores.values() for fold in values})
    width = max(1.0, 0.75 * (len(folds) + 1) / (len(labels) * CELL))
    panel = figure.add_axes((0, above, width, height))
    _draw_folds(panel, scores, folds)
    if title:
        _draw_title(panel, title)
    _save(figure, path)


def steps(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | os.PathLike,
    title: str | None = None,
    axis: str = "block",
) -> None:
    """Draw scores step by step: of blocks, or of clips that were heard.

    A line joins the means over folds of what is called by a number; a dot is
    a fold. Sets of blocks, whose names are none, stand by themselves.

    Arguments
    ---------
    scores : mapping
        Name of the score → number, or name of the set → a value a fold.
    path : path-like
        The image; its suffix says the format.
    title : str
        Stands on top.
    axis : str
        What the numbers are.

    Example
    -------
    >>> path = getfixture("tmp_path") / "steps.png"
    >>> steps({"WA": {"0": [0.5, 0.6], "1": [0.7, 0.8]}}, path)
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    from matplotlib.figure import Figure

    names = list(next(iter(scores.values())))
    single = [place for place, name in enumerate(names) if name.isdigit()]
    figure = Figure(figsize=(1.8 + 0.75 * len(names), 3.6))
    axes = figure.add_axes((0, 0, 1, 1))
    for series, (name, values) in enumerate(scores.items()):
        shift = _shift(series, len(scores))
        means = [float(np.mean(values[block])) for block in names]
        axes.plot(
            [place + shift for place in single],
            [means[place] for place in single],
            color=SERIES[series],
            linewidth=1,
            alpha=0.5,
        )
        for place, block in enumerate(names):
            _draw_group(axes, place + shift, values[block], series, name)
    folds = max(len(own) for row in scores.values() for own in row.values())
    spread = "; mean ± sample deviation over folds" if folds > 1 else ""
    _name_columns(axes, [_wrap(name) for name in names], f"{axis}{spread}")
    _draw_legend(axes)
    if title:
        _draw_title(axes, title)
    _save(figure, path)


def comparison(
    rows: Mapping[str, Mapping[int, float]],
    path: str | os.PathLike,
    score: str = "WA",
    title: str | None = None,
) -> None:
    """Draw one score of several configurations, a row each.

    A small dot is a fold; the large one is the mean over folds, its bar the
    sample standard deviation over folds. A line goes through the first row's
    mean, which the others are compared with.

    Arguments
    ---------
    rows : mapping
        Name → fold → mean over seeds.
    path : path-like
        The image; its suffix says the format.
    score : str
        Name of the score.
    title : str
        Stands on top.

    Example
    -------
    >>> path = getfixture("tmp_path") / "ablation.png"
    >>> comparison({"whole": {1: 0.8, 2: 0.7}, "no MMF": {1: 0.7}}, path)
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 0.6 + 0.36 * len(rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    first = float(np.mean(list(next(iter(rows.values())).values())))
    axes.axvline(first, color=GREY, linewidth=0.8, linestyle=":")
    for place, by_fold in enumerate(rows.values()):
        values = list(by_fold.values())
        mean, deviation = float(np.mean(values)), _deviation(values)
        at = {"color": SERIES[0], "zorder": 3}
        axes.plot(values, [place] * len(values), "o", alpha=0.35, ms=3.5, **at)
        axes.errorbar(
            mean, place, xerr=deviation, fmt="o", ms=7, capsize=3, **at
        )
        axes.annotate(
            f"{mean:.3f}",
            (1, place),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            size=9,
            color=INK,
        )
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"{score}, mean ± sample deviation over folds", color=GREY)
    axes.grid(axis="x", color=EMPTY)
    _bare(axes)
    if title:
        _draw_title(axes, title)
    _save(figure, path)


def _draw_confusion(matrix, labels) -> tuple[Figure, Axes, np.ndarray]:
    """A figure with the matrix, and the counts."""
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    size = len(labels)
    if counts.shape != (size, size):
        raise ValueError(f"A matrix {counts.shape} for {size} labels.")
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)

    figure = Figure(figsize=(size * CELL, size * CELL))
    grid = figure.add_axes((0, 0, 1, 1))  # labels stand outside: see _save
    bars = grid.inset_axes((1, 0, 1.3 / size, 1), sharey=grid)
    _draw_cells(grid, counts, shares)
    _draw_recalls(bars, shares.diagonal(), totals[:, 0])
    _name_axes(grid, labels, totals[:, 0])
    return figure, grid, counts


def _draw_folds(axes: Axes, scores: Mapping, folds: Sequence[int]) -> None:
    """A column a fold, and one for their mean."""
    for series, (name, by_fold) in enumerate(scores.items()):
        shift = _shift(series, len(scores))
        means = []
        for place, fold in enumerate(folds):
            if fold in by_fold:
                means.append(float(np.mean(by_fold[fold])))
                at = axes, place + shift, by_fold[fold], series, name
                _draw_group(*at, deviation=False)
        _draw_group(axes, len(folds) + shift, means, series, name, dots=False)
    axes.axvline(len(folds) - 0.5, color=GREY, linewidth=0.8)
    _name_columns(axes, [*map(str, folds), "mean ±\nover folds"], "fold")
    _draw_legend(axes)


def _draw_group(axes, x, values, series, name, dots=True, deviation=True):
    """A mean, the values that it is made of, and their deviation."""
    at = {"color": SERIES[series], "zorder": 3}
    if dots and len(values) > 1:
        axes.plot([x] * len(values), values, "o", ms=3, alpha=0.35, **at)
    bar = _deviation(values) if deviation else None
    axes.errorbar(
        x, np.mean(values), yerr=bar, fmt="o", ms=6, capsize=2, label=name, **at
    )


def _deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _shift(series: int, count: int) -> float:
    """Where a series stands beside the middle of a column."""
    return 0.15 * (series - (count - 1) / 2)


def _wrap(name: str) -> str:
    """A name of a set in two lines: "blocks 2, 3" is wide."""
    return name.replace(" ", "\n", 1)


def _name_columns(axes: Axes, names: Sequence[str], what: str) -> None:
    """Names below, values at the left, thin lines behind."""
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(what, color=GREY)
    axes.grid(axis="y", color=EMPTY)
    _bare(axes)


def _bare(axes: Axes) -> None:
    """No frame, no ticks, lines behind what is drawn."""
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_legend(axes: Axes) -> None:
    """Each score's name once, at the right."""
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    axes.legend(
        unique.values(),
        unique,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        frameon=False,
    )


def _draw_title(axes: Axes, title: str) -> None:
    """In bold, above, at the left."""
    axes.set_title(title, loc="left", size=12, weight="bold", color=INK, pad=10)


def _draw_cells(grid: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """The squares, their percentages and their counts."""
    image = np.ma.masked_array(shares, mask=False)
    image[counts.sum(axis=1) == 0] = np.ma.masked
    grid.set_facecolor(EMPTY)
    grid.imshow(image, cmap=COLOURS, vmin=0, vmax=1, aspect="equal")
    for (row, column), count in np.ndenumerate(counts):
        if image.mask[row, column]:
            continue
        share = shares[row, column]
        ink = "white" if share > 0.55 else INK if count else GREY
        at = {"ha": "center", "color": ink}
        weight = "bold" if row == column else "normal"
        grid.text(column, row, f"{share:.0%}", va="bottom", weight=weight, **at)
        grid.text(column, row + 0.06, f"{count}", va="top", size=7.5, **at)


def _draw_recalls(bars: Axes, recalls: np.ndarray, totals: np.ndarray) -> None:
    """One bar a class, as long as its recall."""
    rows = np.arange(len(recalls))
    bars.barh(rows, np.ones(len(rows)), height=0.2, color=EMPTY)
    bars.barh(rows, recalls, height=0.2, color="#2a6aad")
    for row, recall, total in zip(rows, recalls, totals, strict=True):
        text = f"{recall:.1%}" if total else "none"
        bars.text(0, row - 0.16, text, va="bottom", size=9, color=INK)
    bars.text(0, len(rows) - 0.42, "recall", va="top", color=GREY)
    bars.set_xlim(-0.15, 1)
    bars.axis("off")


def _name_axes(grid: Axes, labels: Sequence[str], totals: np.ndarray) -> None:
    """Labels at the left and below, no frame, thin white lines between."""
    size = len(labels)
    names = [f"{x} ({n})" for x, n in zip(labels, totals, strict=True)]
    slant = max(map(len, labels)) > 8
    grid.set_yticks(range(size), names)
    grid.set_xticks(
        range(size),
        labels,
        rotation=35 if slant else 0,
        ha="right" if slant else "center",
        rotation_mode="anchor",
    )
    grid.set_xlabel("predicted", color=GREY, labelpad=8)
    grid.set_ylabel("true", color=GREY, labelpad=8)
    grid.tick_params(length=0, which="both")
    grid.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    grid.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    grid.grid(which="minor", color="white", linewidth=2)
    grid.spines[:].set_visible(False)


def _headline(counts: np.ndarray) -> str:
    """WA, UA and the number of utterances, in words."""
    totals = counts.sum(axis=1)
    total = int(totals.sum())
    if total == 0:
        return "no utterances"
    spoken = totals > 0
    wa = counts.trace() / total
    ua = (counts.diagonal()[spoken] / totals[spoken]).mean()
    noun = "utterance" if total == 1 else "utterances"
    return f"WA {wa:.1%}   UA {ua:.1%}   {total} {noun}"


def _draw_heading(grid: Axes, title: str | None, headline: str) -> None:
    """The title in bold, the scores below it, both at the left."""
    at = {"xycoords": "axes fraction", "textcoords": "offset points"}
    grid.annotate(headline, (0, 1), (0, 10), size=9.5, color=INK, **at)
    if title:
        grid.annotate(
            title, (0, 1), (0, 27), size=12, weight="bold", color=INK, **at
        )


def ppg(
    wav: Sequence[float],
    posteriors: Sequence[Sequence[float]],
    tokens: Sequence[str],
    path: str | os.PathLike,
    spans: Sequence[tuple[int, int, int, float]] = (),
    emotions: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Draw what is said and how, under the sound itself.

    From above: the waveform, the posteriorgram of the tokens that are said
    at all, the aligned tokens, and the emotion of the second around each
    frame.

    Arguments
    ---------
    wav : sequence of float
        [S] at 16 kHz.
    posteriors : sequence of sequence of float
        [T, V] probabilities of 20 ms frames.
    tokens : sequence of str
        V names; the first is the blank's, which is not drawn.
    path : path-like
        The image; its suffix says the format.
    spans : sequence of tuple
        What `qieemo_sb.lobes.ppg.align` gives: token, first frame, frame
        after the last, score.
    emotions : sequence of sequence of float or None
        [T, C] probabilities of each frame's surroundings.
    labels : sequence of str
        C emotions.
    title : str or None
        Above all.

    Raises
    ------
    ValueError
        The sizes do not fit together.
    """
    from matplotlib.figure import Figure

    frames = np.asarray(posteriors, dtype=float)
    if frames.ndim != 2 or frames.shape[1] != len(tokens):
        raise ValueError(f"A PPG {frames.shape} for {len(tokens)} tokens.")
    moods = None if emotions is None else np.asarray(emotions, dtype=float)
    if moods is not None and moods.shape != (len(frames), len(labels)):
        raise ValueError(
            f"Emotions {moods.shape} for {len(frames)} frames and "
            f"{len(labels)} labels."
        )
    seconds = len(wav) / SAMPLE_RATE
    said = [v for v in range(1, len(tokens)) if frames[:, v].max() > 0.05]
    said = said or list(range(1, min(len(tokens), 3)))
    heights = [1.0, max(1.2, 0.16 * len(said)), 0.35, 1.6]
    rows = 4 if moods is not None else 3
    width = min(16.0, max(7.0, 3.0 * seconds))
    figure = Figure(figsize=(width, 1.3 * sum(heights[:rows])))
    axes = figure.subplots(
        rows, sharex=True, height_ratios=heights[:rows], squeeze=True
    )
    _draw_wave(axes[0], wav, title)
    _draw_posteriors(axes[1], frames[:, said], [tokens[v] for v in said])
    _draw_spans(axes[2], spans, tokens)
    if moods is not None:
        _draw_emotions(axes[3], moods, labels)
    axes[-1].set_xlim(0, seconds)
    axes[-1].set_xlabel("seconds", color=GREY)
    figure.subplots_adjust(hspace=0.12)
    _save(figure, path)


def _draw_wave(axes: Axes, wav: Sequence[float], title: str | None) -> None:
    """The samples, with the title above."""
    samples = np.asarray(wav, dtype=float)
    times = np.arange(len(samples)) / SAMPLE_RATE
    axes.plot(times, samples, color=GREY, linewidth=0.4)
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-3)
    axes.set_ylim(-1.1 * peak, 1.1 * peak)
    axes.set_yticks([])
    axes.set_ylabel("wave", color=GREY)
    if title:
        axes.set_title(title, loc="left", size=12, weight="bold", color=INK)
    _plain(axes)


def _draw_posteriors(axes: Axes, frames: np.ndarray, names: list[str]) -> None:
    """A row a token, darker where it is likelier."""
    end = len(frames) * FRAME_SECONDS
    axes.imshow(
        frames.T,
        aspect="auto",
        origin="upper",
        interpolation="nearest",
        extent=(0, end, len(names) - 0.5, -0.5),
        cmap=COLOURS,
        vmin=0,
        vmax=1,
    )
    axes.set_yticks(range(len(names)), [display_name(n) for n in names])
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.set_ylabel("PPG", color=GREY)
    _plain(axes)


def _draw_spans(axes: Axes, spans: Sequence[tuple], names: Sequence[str]):
    """Each aligned token where it is said."""
    for token, start, end, _ in spans:
        left, right = start * FRAME_SECONDS, end * FRAME_SECONDS
        axes.axvspan(left, right, color="#2a6aad", alpha=0.18, linewidth=0)
        text = {" ": "·"}.get(names[token], names[token])
        axes.text((left + right) / 2, 0.5, text, ha="center", va="center")
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("said", color=GREY)
    _plain(axes)


def _draw_emotions(
    axes: Axes, moods: np.ndarray, labels: Sequence[str]
) -> None:
    """Probabilities one upon the other; they add up to one."""
    from matplotlib import colormaps

    palette = colormaps["tab20" if len(labels) > 10 else "tab10"].colors
    times = (np.arange(len(moods)) + 0.5) * FRAME_SECONDS
    axes.stackplot(times, moods.T, labels=labels, colors=palette, alpha=0.75)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1])
    axes.set_ylabel("emotion", color=GREY)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        names[::-1],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=9,
    )
    _plain(axes)


def _plain(axes: Axes) -> None:
    """No frame, no ticks but those that say something."""
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _save(figure: Figure, path: str | os.PathLike) -> None:
    """Write beside the file, then rename: a reader never sees half of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    kind = Path(path).suffix.removeprefix(".") or "png"
    with replacing(path) as partial:
        figure.savefig(
            partial, format=kind, dpi=DPI, bbox_inches="tight", pad_inches=0.15
        )
