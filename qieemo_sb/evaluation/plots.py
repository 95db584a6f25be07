"""Every picture: numbers in, an image file out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qieemo_sb.corpora.manifest import replacing
from qieemo_sb.errors import EvaluationError
from qieemo_sb.frames import FRAME_HOP, SAMPLE_RATE
from qieemo_sb.lobes.tokens import display_name

CELL = 0.78  # inches: room for "100%" above a count
INK = "#1a1a1a"
GREY = "#6e6e6e"
EMPTY = "#f0f0f0"  # the row of a class without utterances
SERIES = ("#2a6aad", "#d9822b", "#6a9a3b", "#9a5fb0")  # WA, UA, WF1, macro-F1
BOLD = {"size": 12, "weight": "bold", "color": INK}
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
        The image; its suffix (.png, .pdf, .svg) names the format.
    title : str or None
        Stands above the scores, which are always there.

    Raises
    ------
    EvaluationError
        The matrix is not as wide and as high as there are labels.

    Example
    -------
    >>> path = getfixture("tmp_path") / "confusion.png"
    >>> confusion([[8, 2], [1, 9]], ["neutral", "angry"], path)
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    _save(_draw_confusion(matrix, labels, title), path)


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
        The image; its suffix names the format.
    title : str
        Stands on top.

    Raises
    ------
    EvaluationError
        The matrix is not as wide and as high as there are labels.
    """
    figure = _draw_confusion(matrix, labels, "All runs' predictions together")
    # In units of the matrix' height, above it and its heading.
    unit = 1 / (len(labels) * CELL)
    folds = sorted({fold for values in scores.values() for fold in values})
    width = max(1.0, 0.75 * (len(folds) + 1) * unit)
    axes = figure.add_axes((0, 1 + 1.3 * unit, width, 3.0 * unit))
    for name, by_fold, shift, color in _series(scores):
        for fold, values in by_fold.items():
            x = folds.index(fold) + shift
            _draw_mean(axes, x, values, color, name, bar=False)
        means = [np.mean(by_fold[fold]) for fold in sorted(by_fold)]
        _draw_mean(axes, len(folds) + shift, means, color, name, dots=False)
    axes.axvline(len(folds) - 0.5, color=GREY, linewidth=0.8)
    _finish_columns(axes, [*folds, "mean ±\nover folds"], "fold", title)
    _save(figure, path)


def steps(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | os.PathLike,
    title: str | None = None,
    axis: str = "block",
) -> None:
    """Draw scores over blocks, or over a speaker's earlier clips.

    A line joins the means over folds of what is named by a number; a dot is
    a fold. Sets of blocks stand by themselves.

    Arguments
    ---------
    scores : mapping
        Name of the score → number, or name of the set → a value a fold.
    path : path-like
        The image; its suffix names the format.
    title : str
        Stands on top.
    axis : str
        Name of the numbers.
    """
    names = list(next(iter(scores.values())))
    single = [place for place, name in enumerate(names) if name.isdigit()]
    figure = _make_figure(1.8 + 0.75 * len(names), 3.6)
    axes = figure.add_axes((0, 0, 1, 1))
    for name, values, shift, color in _series(scores):
        means = [np.mean(values[names[place]]) for place in single]
        x = [place + shift for place in single]
        axes.plot(x, means, color=color, linewidth=1, alpha=0.5)
        for place, block in enumerate(names):
            _draw_mean(axes, place + shift, values[block], color, name)
    folds = max(len(x) for row in scores.values() for x in row.values())
    spread = "; mean ± sample deviation over folds" if folds > 1 else ""
    names = [name.replace(" ", "\n", 1) for name in names]  # sets are wide
    _finish_columns(axes, names, f"{axis}{spread}", title)
    _save(figure, path)


def comparison(
    rows: Mapping[str, Mapping[int, float]],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draw the weighted accuracy of several configurations, a row each.

    A small dot is a fold; the large one is the mean over folds, its bar the
    sample standard deviation over folds. A line goes through the first row's
    mean, which the others are compared with.

    Arguments
    ---------
    rows : mapping
        Name → fold → mean over seeds.
    path : path-like
        The image; its suffix names the format.
    title : str
        Stands on top.
    """
    figure = _make_figure(5.5, 0.6 + 0.36 * len(rows))
    axes = figure.add_axes((0, 0, 1, 1))
    first = np.mean(list(next(iter(rows.values())).values()))
    axes.axvline(first, color=GREY, linewidth=0.8, linestyle=":")
    at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    dot = {"fmt": "o", "ms": 7, "capsize": 3, "color": SERIES[0], "zorder": 3}
    for place, by_fold in enumerate(rows.values()):
        x = list(by_fold.values())
        light = {"alpha": 0.35, "ms": 3.5, "zorder": 3, "color": SERIES[0]}
        axes.plot(x, [place] * len(x), "o", **light)
        axes.errorbar(np.mean(x), place, xerr=_deviation(x), **dot)
        text, style = f"{np.mean(x):.3f}", {"va": "center", "size": 9}
        axes.annotate(text, (1, place), (6, 0), color=INK, **style, **at)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("WA, mean ± sample deviation over folds", color=GREY)
    axes.grid(axis="x", color=EMPTY)
    _strip(axes, title)
    _save(figure, path)


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
    """Draw a posteriorgram and emotions under their waveform.

    From above: the waveform, the posteriorgram of the tokens that are likely
    anywhere, the aligned tokens, and the emotion of the second around each
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
        The image; its suffix names the format.
    spans : sequence of tuple
        Of `qieemo_sb.lobes.ppg.align`: token, first frame, frame
        after the last, score.
    emotions : sequence of sequence of float or None
        [T, C] probabilities of each frame's surroundings.
    labels : sequence of str
        C emotions.
    title : str or None
        Above all.
    """
    frames, samples = np.asarray(posteriors, float), np.asarray(wav, float)
    seconds = len(samples) / SAMPLE_RATE
    likely = [v for v in range(1, len(tokens)) if frames[:, v].max() > 0.05]
    likely = likely or list(range(1, min(len(tokens), 3)))
    heights = [1.0, max(1.2, 0.16 * len(likely)), 0.35, 1.6]
    heights = heights[: 3 if emotions is None else 4]
    width = min(16.0, max(7.0, 3.0 * seconds))
    figure = _make_figure(width, 1.3 * sum(heights))
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    times = np.arange(len(samples)) / SAMPLE_RATE
    axes[0].plot(times, samples, color=GREY, linewidth=0.4)
    peak = 1.1 * max(float(np.abs(samples).max(initial=0.0)), 1e-3)
    axes[0].set(ylim=(-peak, peak), yticks=[])
    axes[0].set_title(title or "", loc="left", **BOLD)
    box = (0, len(frames) * FRAME_SECONDS, len(likely) - 0.5, -0.5)
    picture = {"aspect": "auto", "interpolation": "nearest", "cmap": "Blues"}
    axes[1].imshow(frames[:, likely].T, extent=box, vmin=0, vmax=1, **picture)
    names = [display_name(tokens[v]) for v in likely]
    axes[1].set_yticks(range(len(names)), names)
    axes[1].tick_params(axis="y", length=0, labelsize=8)
    _draw_spans(axes[2], spans, tokens)
    if emotions is not None:
        _draw_emotions(axes[3], np.asarray(emotions, float), labels)
    names = ["wave", "PPG", "tokens", "emotion"][: len(heights)]
    for part, name in zip(axes, names, strict=True):
        part.set_ylabel(name, color=GREY)
        part.spines[:].set_visible(False)
        part.tick_params(axis="x", length=0)
    axes[-1].set_xlim(0, seconds)
    axes[-1].set_xlabel("seconds", color=GREY)
    figure.subplots_adjust(hspace=0.12)
    _save(figure, path)


def _draw_spans(axes, spans, tokens):
    """Draw each aligned token over its frames."""
    for token, start, end, _ in spans:
        left, right = start * FRAME_SECONDS, end * FRAME_SECONDS
        axes.axvspan(left, right, color=SERIES[0], alpha=0.18, linewidth=0)
        text = "·" if tokens[token] == " " else tokens[token]
        axes.text((left + right) / 2, 0.5, text, ha="center", va="center")
    axes.set(ylim=(0, 1), yticks=[])


def _draw_emotions(axes, emotions, labels):
    """Probabilities one upon the other; they add up to one."""
    from matplotlib import colormaps

    palette = colormaps["tab20" if len(labels) > 10 else "tab10"].colors
    times = (np.arange(len(emotions)) + 0.5) * FRAME_SECONDS
    axes.stackplot(times, emotions.T, labels=labels, colors=palette, alpha=0.75)
    axes.set(ylim=(0, 1), yticks=[0, 1])
    handles, names = (x[::-1] for x in axes.get_legend_handles_labels())
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    axes.legend(handles, names, frameon=False, fontsize=9, **place)


def _draw_confusion(matrix, labels, title):
    """A figure of the matrix, recalls at the right, scores above."""
    counts, size = np.asarray(matrix), len(labels)
    if counts.shape != (size, size):
        raise EvaluationError(f"A matrix {counts.shape} for {size} labels.")
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    figure = _make_figure(size * CELL, size * CELL)
    grid = figure.add_axes((0, 0, 1, 1))  # labels stand outside: see _save
    bars = grid.inset_axes((1, 0, 1.3 / size, 1), sharey=grid)
    grid.set_facecolor(EMPTY)
    image = np.ma.masked_array(shares, mask=shares * 0 + (totals == 0)[:, None])
    grid.imshow(image, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for (row, column), share in np.ndenumerate(shares):
        if totals[row]:
            count = counts[row, column]
            ink = "white" if share > 0.55 else INK if count else GREY
            at = {"ha": "center", "color": ink}
            weight = {"weight": "bold" if row == column else "normal"}
            grid.text(column, row, f"{share:.0%}", va="bottom", **weight, **at)
            grid.text(column, row + 0.06, f"{count}", va="top", size=7.5, **at)
    bars.barh(range(size), 1, height=0.2, color=EMPTY)
    bars.barh(range(size), shares.diagonal(), height=0.2, color=SERIES[0])
    for row, recall in enumerate(shares.diagonal()):
        text = f"{recall:.1%}" if totals[row] else "none"
        bars.text(0, row - 0.16, text, va="bottom", size=9, color=INK)
    bars.text(0, size - 0.42, "recall", va="top", color=GREY)
    bars.set_xlim(-0.15, 1)
    bars.axis("off")
    _name_classes(grid, labels, totals)
    at = {"xycoords": "axes fraction", "textcoords": "offset points"}
    text = _headline(counts)
    grid.annotate(text, (0, 1), (0, 10), size=9.5, color=INK, **at)
    grid.annotate(title or "", (0, 1), (0, 27), **BOLD, **at)
    return figure


def _name_classes(grid, labels, totals):
    """Labels at the left and below, no frame, thin white lines between."""
    places = range(len(labels))
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    slanted = slanted if max(map(len, labels)) > 8 else {}
    grid.set_xticks(places, labels, **slanted)
    names = [f"{x} ({n})" for x, n in zip(labels, totals, strict=True)]
    grid.set_yticks(places, names)
    grid.set_xlabel("predicted", color=GREY, labelpad=8)
    grid.set_ylabel("true", color=GREY, labelpad=8)
    grid.tick_params(length=0, which="both")
    grid.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    grid.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    grid.grid(which="minor", color="white", linewidth=2)
    grid.spines[:].set_visible(False)


def _headline(counts):
    """WA, UA and the number of utterances, in words."""
    totals, total = counts.sum(axis=1), counts.sum()
    if total == 0:
        return "no utterances"
    wa = counts.trace() / total
    ua = (counts.diagonal() / np.maximum(totals, 1))[totals > 0].mean()
    noun = "utterance" if total == 1 else "utterances"
    return f"WA {wa:.1%}   UA {ua:.1%}   {total} {noun}"


def _series(scores):
    """Name, values, shift to the side and colour of each score."""
    for place, (name, values) in enumerate(scores.items()):
        yield (
            name,
            values,
            0.15 * (place - (len(scores) - 1) / 2),
            SERIES[place],
        )


def _draw_mean(axes, x, values, color, name, dots=True, bar=True):
    """A mean, the values that it is made of, and their deviation."""
    style = {"color": color, "zorder": 3}
    if dots and len(values) > 1:
        axes.plot([x] * len(values), values, "o", ms=3, alpha=0.35, **style)
    style |= {"fmt": "o", "ms": 6, "capsize": 2, "label": name}
    deviation = _deviation(values) if bar else None
    axes.errorbar(x, np.mean(values), yerr=deviation, **style)


def _deviation(values):
    """Sample standard deviation; None for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _finish_columns(axes, names, label, title):
    """Names below, lines behind, each score once in a legend at the right."""
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(label, color=GREY)
    axes.grid(axis="y", color=EMPTY)
    handles, series = axes.get_legend_handles_labels()
    unique = dict(zip(series, handles, strict=True))
    place = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    axes.legend(unique.values(), unique, frameon=False, **place)
    _strip(axes, title)


def _strip(axes, title):
    """No frame, no ticks, lines behind what is drawn; the title above."""
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, loc="left", pad=10, **BOLD)


def _make_figure(width, height):
    """An empty figure; matplotlib is imported when something is drawn."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _save(figure, path):
    """Write beside the file, then rename: a reader never sees half of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    kind = Path(path).suffix.removeprefix(".") or "png"
    whole = {"bbox_inches": "tight", "pad_inches": 0.15}
    with replacing(path) as partial:
        figure.savefig(partial, format=kind, dpi=DPI, **whole)
