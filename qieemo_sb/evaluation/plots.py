"""Every picture: numbers in, an image file out, styled by qieemo.mplstyle."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qieemo_sb.corpora.manifest import replacing
from qieemo_sb.evaluation.adaptation import CLIPS_AXIS
from qieemo_sb.frames import FRAME_SECONDS, SAMPLE_RATE
from qieemo_sb.lobes.tokens import display_name
from qieemo_sb.serving.picture import emotion_colours

SPREAD = "mean ± sample deviation over folds"
STYLE = Path(__file__).with_name("qieemo.mplstyle")
CELL = 0.78  # inches: room for "100%" above a count
INK = "#1a1a1a"
GREY = "#6e6e6e"
EMPTY = "#f0f0f0"  # the row of a class without utterances


def confusion(
    scores: Mapping[str, Any], path: str | os.PathLike, title: str | None = None
) -> None:
    """Draw a confusion matrix.

    A row is a true label. A cell's colour and percentage are its share of the
    row, on the diagonal a class's recall; below stands its count.

    Arguments
    ---------
    scores : mapping
        Of ``scores.score``, C labels.
    path : path-like
        The image; its suffix (.png, .pdf, .svg) names the format.
    title : str or None
        Stands above the scores, which are always there.

    Example
    -------
    >>> from qieemo_sb.evaluation.scores import score
    >>> import torch
    >>> path = getfixture("tmp_path") / "confusion.png"
    >>> right = torch.tensor([0, 1])
    >>> confusion(score(right, right, ["neutral", "angry"]), path)
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    labels, counts = scores["labels"], np.asarray(scores["confusion_matrix"])
    size, totals = len(labels), counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    with _picture(path, CELL * size, CELL * size) as figure:
        image = np.where(totals[:, None] > 0, shares, np.nan)
        grid = _draw_grid(figure, image)
        for (row, column), share in np.ndenumerate(shares):
            if totals[row]:
                count = counts[row, column]
                ink = "white" if share > 0.55 else INK if count else GREY
                at = {"ha": "center", "color": ink}
                weight = "bold" if row == column else "normal"
                text = f"{share:.0%}"
                grid.text(column, row, text, va="bottom", weight=weight, **at)
                below = column, row + 0.06, f"{count}"
                grid.text(*below, va="top", size=7.5, **at)
        slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
        slanted = slanted if max(map(len, labels)) > 8 else {}
        grid.set_xticks(range(size), labels, **slanted)
        names = [f"{x} ({n})" for x, n in zip(labels, totals, strict=True)]
        grid.set_yticks(range(size), names)
        grid.set_xlabel("predicted", labelpad=8)
        grid.set_ylabel("true", labelpad=8)
        wa, ua = scores["weighted_accuracy"], scores["unweighted_accuracy"]
        text = f"WA {wa:.1%}   UA {ua:.1%}   {totals.sum()} utterances"
        at = {"xycoords": "axes fraction", "textcoords": "offset points"}
        grid.annotate(text, (0, 1), (0, 10), size=9.5, **at)
        grid.set_title(title or "", pad=27)


def columns(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | os.PathLike,
    title: str | None = None,
    axis: str = "",
) -> None:
    """Draw scores over folds, over blocks, or over a speaker's earlier clips.

    A small dot is a value; the large one is their mean, its bar the sample
    standard deviation. A line joins the columns that are named by a number.

    Arguments
    ---------
    scores : mapping
        Name of the score → name of a column → its values.
    path : path-like
        The image; its suffix names the format.
    title : str or None
        Stands on top.
    axis : str
        What the columns are.
    """
    names = list(next(iter(scores.values())))
    with _picture(path, 1.8 + 0.75 * len(names), 3.6) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        for place, (score, values) in enumerate(scores.items()):
            x = np.arange(len(names)) + 0.15 * (place - (len(scores) - 1) / 2)
            _draw_means(axes, x, values, "y", color=f"C{place}", label=score)
            points = zip(names, x, _means(values), strict=True)
            joined = [
                point
                for name, *point in points
                if name.replace(".", "", 1).isdigit()
            ]
            style = {"color": f"C{place}", "linewidth": 1, "alpha": 0.5}
            axes.plot(*np.reshape(joined, (-1, 2)).T, **style)
        labels = [name.replace(" ", "\n", 1) for name in names]  # some are wide
        axes.set_xticks(range(len(names)), labels)
        axes.set(xlim=(-0.5, len(names) - 0.5), xlabel=axis, title=title or "")
        axes.grid(axis="y")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def adaptation(
    curve: Mapping[str, Sequence[float]],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draw WA after so many clips of a speaker.

    Arguments
    ---------
    curve : mapping
        Of ``SpeakerEmbeddings.curve``.
    path, title
        See ``columns``.
    """
    pairs = zip(curve["clips"], curve["weighted_accuracy"], strict=True)
    steps = {str(clips): [accuracy] for clips, accuracy in pairs}
    columns({"WA": steps}, path, title, CLIPS_AXIS)


def risk_coverage(
    curve: Sequence[Mapping[str, float]],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draw accuracy and coverage of the predictions above thresholds.

    Arguments
    ---------
    curve : sequence of mapping
        Of ``calibration.risk_coverage``.
    path, title
        See ``columns``.
    """
    scores = {
        name: {f"{row['threshold']:.2g}": [row[name]] for row in curve}
        for name in ("coverage", "accuracy")
    }
    columns(scores, path, title, "least probability of an answer")


def comparison(
    rows: Mapping[str, Sequence[float]],
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
        Name → a mean over seeds for each fold.
    path : path-like
        The image; its suffix names the format.
    title : str
        Stands on top.
    """
    with _picture(path, 5.5, 0.6 + 0.36 * len(rows)) as figure:
        axes, places = figure.add_axes((0, 0, 1, 1)), range(len(rows))
        axes.axvline(_means(rows)[0], color=GREY, linewidth=0.8, linestyle=":")
        _draw_means(axes, places, rows, "x", color="C0")
        means = [f"{mean:.3f}" for mean in _means(rows)]
        right = axes.secondary_yaxis("right")
        right.set_yticks(places, means, size=9)
        right.spines[:].set_visible(False)
        axes.set_yticks(places, rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(title=title or "", xlabel=f"WA, {SPREAD}")
        axes.grid(axis="x")


def heat_map(
    rows: Mapping[str, Sequence[float | None]],
    names: Sequence[str],
    path: str | os.PathLike,
    title: str | None = None,
) -> None:
    """Draw fractions as a grid of colours with numbers.

    Arguments
    ---------
    rows : mapping
        Name → a fraction, or None, for each column.
    names : sequence of str
        Of the columns.
    path : path-like
        The image; its suffix names the format.
    title : str or None
        Stands on top.
    """
    with _picture(path, CELL * len(names), CELL / 2 * len(rows)) as figure:
        values = np.array(list(rows.values()), float)
        axes = _draw_grid(figure, values)
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.2f}"
            style = {"color": "white" if value > 0.55 else INK, "size": 9}
            axes.text(column, row, text, ha="center", va="center", **style)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
        axes.set_title(title or "")


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
    frames, seconds = np.asarray(posteriors, float), len(wav) / SAMPLE_RATE
    likely = [v for v in range(1, len(tokens)) if frames[:, v].max() > 0.05]
    likely = likely or list(range(1, min(len(tokens), 3)))
    parts = {"wave": 1.0, "PPG": max(1.2, 0.16 * len(likely)), "tokens": 0.35}
    if emotions is not None:
        parts["emotion"] = 1.6
    heights, width = list(parts.values()), min(16.0, max(7.0, 3.0 * seconds))
    with _picture(path, width, 1.3 * sum(heights)) as figure:
        axes = figure.subplots(len(parts), sharex=True, height_ratios=heights)
        _draw_wave(axes[0], np.asarray(wav, float))
        axes[0].set_title(title or "")
        box = (0, len(frames) * FRAME_SECONDS, len(likely) - 0.5, -0.5)
        picture = {"aspect": "auto", "interpolation": "nearest"}
        axes[1].imshow(frames[:, likely].T, extent=box, vmax=1, **picture)
        names = [display_name(tokens[v]) for v in likely]
        axes[1].set_yticks(range(len(names)), names, size=8)
        _draw_spans(axes[2], spans, tokens)
        if emotions is not None:
            _draw_emotions(axes[3], np.asarray(emotions, float), labels)
        for part, name in zip(axes, parts, strict=True):
            part.set_ylabel(name)
        axes[-1].set(xlim=(0, seconds), xlabel="seconds")
        figure.subplots_adjust(hspace=0.12)


def _draw_wave(axes, samples):
    """A waveform, as high as its peak."""
    times = np.arange(len(samples)) / SAMPLE_RATE
    axes.plot(times, samples, color=GREY, linewidth=0.4)
    peak = 1.1 * max(float(np.abs(samples).max(initial=0.0)), 1e-3)
    axes.set(ylim=(-peak, peak), yticks=[])


def _draw_spans(axes, spans, tokens):
    """Draw each aligned token over its frames."""
    for token, start, end, _ in spans:
        left, right = start * FRAME_SECONDS, end * FRAME_SECONDS
        axes.axvspan(left, right, color="C0", alpha=0.18, linewidth=0)
        text = "·" if tokens[token] == " " else tokens[token]
        axes.text((left + right) / 2, 0.5, text, ha="center", va="center")
    axes.set(ylim=(0, 1), yticks=[])


def _draw_emotions(axes, emotions, labels):
    """Probabilities one upon the other; they add up to one."""
    colours = emotion_colours(labels)
    palette = [colours[label] for label in labels]
    times = (np.arange(len(emotions)) + 0.5) * FRAME_SECONDS
    axes.stackplot(times, emotions.T, labels=labels, colors=palette, alpha=0.75)
    axes.set(ylim=(0, 1), yticks=[0, 1])
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    axes.legend(reverse=True, fontsize=9, **place)


def _draw_grid(figure, shares):
    """Fractions [rows, columns] as colours; labels are to stand outside."""
    grid = figure.add_axes((0, 0, 1, 1))
    grid.set_facecolor(EMPTY)
    lines = {"edgecolors": "white", "linewidth": 2}
    edges = [np.arange(size + 1) - 0.5 for size in shares.shape[::-1]]
    grid.pcolormesh(*edges, shares, vmin=0, vmax=1, **lines)
    grid.set(xlim=edges[0][[0, -1]], ylim=edges[1][[-1, 0]])
    return grid


def _draw_means(axes, places, values, along, **style):
    """Values as dots; their mean ± sample deviation, along an axis."""
    for place, row in zip(places, values.values(), strict=True):
        points = {"x": [place] * len(row), "y": [place] * len(row), along: row}
        size = {"s": 9, "alpha": 0.35, "linewidth": 0, "zorder": 3}
        axes.scatter(**points, **size, color=style["color"])
    deviations = [
        np.std(row, ddof=1) if len(row) > 1 else np.nan
        for row in values.values()
    ]
    means = {"x": places, "y": places, along: _means(values)}
    means[f"{along}err"] = deviations
    axes.errorbar(**means, fmt="o", markersize=6, zorder=3, **style)


def _means(values):
    """Mean of each row."""
    return [float(np.mean(row)) for row in values.values()]


@contextlib.contextmanager
def _picture(path: str | os.PathLike, width: float, height: float) -> Iterator:
    """An empty figure, which is saved when all is drawn, whole or not at all.

    matplotlib is imported when something is drawn.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(fname=STYLE), replacing(path) as partial:
        figure = Figure(figsize=(width, height))
        yield figure
        kind = Path(path).suffix.removeprefix(".") or "png"
        figure.savefig(partial, format=kind)
