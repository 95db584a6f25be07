"""Pictures are drawn from any matrix and never half written."""

import sys
import warnings

import numpy as np
import pytest

from qieemo_sb.evaluation import plots

DPI = 200
FOUR = [[8, 2, 0, 0], [1, 9, 0, 0], [0, 0, 5, 5], [0, 0, 0, 10]]


def picture(path):
    """[height, width, channel] of an image file."""
    from matplotlib.image import imread

    return imread(path)


def scores(matrix, labels="abcd"):
    """What a confusion matrix shows."""
    counts = np.array(matrix)
    return {
        "confusion_matrix": counts.tolist(),
        "labels": list(labels),
        "weighted_accuracy": 0.8,
        "unweighted_accuracy": 0.75,
    }


def test_scores_stand_above_the_matrix(monkeypatch, tmp_path):
    figures = drawn(monkeypatch, tmp_path)
    plots.confusion(scores(FOUR), "x.png")
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert "WA 80.0%   UA 75.0%   40 utterances" in texts


@pytest.mark.parametrize(
    ("matrix", "labels"),
    [
        (FOUR, ["neu", "hap", "ang", "sad"]),
        (np.eye(8, dtype=int), [f"a long emotion {i}" for i in range(8)]),
        ([[3, 1], [0, 0]], ["spoken", "never spoken"]),
        ([[0, 0], [0, 0]], ["nothing", "at all"]),
        ([[7]], ["one"]),
    ],
    ids=["4", "8", "empty row", "empty", "1"],
)
def test_every_matrix_is_drawn_without_a_warning(matrix, labels, tmp_path):
    path = tmp_path / "confusion.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion(scores(matrix, labels), path, title="A title")
    assert min(picture(path).shape[:2]) > len(labels) * plots.CELL * DPI
    assert list(tmp_path.iterdir()) == [path]


def test_risk_and_coverage_by_threshold(monkeypatch, tmp_path):
    figures = drawn(monkeypatch, tmp_path)
    points = [(0.0, 1.0, 0.7), (0.5, 0.6, 0.9)]
    names = ("threshold", "coverage", "accuracy")
    curve = [dict(zip(names, point, strict=True)) for point in points]
    plots.risk_coverage(curve, "x.png")
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.5"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "coverage",
        "accuracy",
    ]
    heights = [line.get_ydata().tolist() for line in axes.lines]
    assert [1.0, 0.6] in heights and [0.7, 0.9] in heights


def test_the_suffix_names_the_format(tmp_path):
    plots.confusion(scores(np.eye(2, dtype=int), "ab"), tmp_path / "x.svg")
    assert "<svg" in (tmp_path / "x.svg").read_text()


def test_the_same_matrix_gives_the_same_file(tmp_path):
    for name in ("1.png", "2.png"):
        plots.confusion(scores(FOUR), tmp_path / name)
    assert (tmp_path / "1.png").read_bytes() == (
        tmp_path / "2.png"
    ).read_bytes()


def test_pyplot_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    plots.confusion(scores(np.eye(2, dtype=int), "ab"), tmp_path / "x.png")


# -- Posteriorgrams

TOKENS = ["<blank>", " ", "a", "b"]
POSTERIORS = [[0.1, 0.0, 0.9, 0.0], [0.9, 0.0, 0.1, 0.0], [0.0, 0.0, 0.0, 1.0]]
EMOTIONS = [[0.7, 0.3], [0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize("emotions", [None, EMOTIONS])
@pytest.mark.parametrize("spans", [(), [(2, 0, 1, 0.9), (3, 2, 3, 1.0)]])
def test_a_posteriorgram_is_drawn(emotions, spans, tmp_path):
    labels = ["calm", "upset"] if emotions else []
    path = tmp_path / "ppg.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.ppg(
            np.sin(np.arange(960)),
            POSTERIORS,
            TOKENS,
            path,
            spans,
            emotions,
            labels,
        )
    assert picture(path).min() < 0.5  # something is there


def test_silence_without_a_token_is_drawn(tmp_path):
    plots.ppg(
        np.zeros(640), [[1.0, 0.0]] * 2, ["<blank>", "a"], tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").exists()


# -- Over folds


FOLDS = {
    "WA": {
        "fold 1": [0.7, 0.8],
        "fold 2": [0.6],
        "fold 10": [0.5],
        "mean ± over folds": [0.75, 0.6, 0.5],
    },
    "UA": dict.fromkeys(["fold 1", "fold 2", "fold 10", "mean"], [0.6]),
}


@pytest.mark.parametrize("by_fold", [FOLDS, {"WA": {"fold 3": [0.5]}}])
def test_every_cross_validation_is_drawn_without_a_warning(by_fold, tmp_path):
    path = tmp_path / "cv.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.columns(by_fold, path, title="A title")
    assert picture(path).shape[0] > 3.6 * DPI


def drawn(monkeypatch, tmp_path):
    """Keep the axes of a picture instead of saving it."""
    kept = []

    def save(figure, path, **_):
        kept.append(figure)
        path.touch()

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)
    monkeypatch.chdir(tmp_path)
    return kept


def test_a_column_a_fold_and_one_for_their_mean(monkeypatch, tmp_path):
    figures = drawn(monkeypatch, tmp_path)
    plots.columns(FOLDS, "x.png")
    panel = figures[0].axes[0]
    names = [text.get_text() for text in panel.get_xticklabels()]
    assert names == ["fold\n1", "fold\n2", "fold\n10", "mean\n± over folds"]
    assert panel.lines[-1].get_xdata().size == 0  # no line joins folds
    # Means 0.75, 0.6, 0.5 of the folds; their mean, and no dot but it.
    means, _, (bars,) = panel.containers[0]
    assert means.get_ydata() == pytest.approx([0.75, 0.6, 0.5, 1.85 / 3])
    low, high = bars.get_segments()[3][:, 1]
    # Sample deviation: sqrt((0.1333² + 0.0167² + 0.1167²) / 2).
    assert high - low == pytest.approx(2 * 0.125831, abs=1e-5)


def test_blocks_are_joined_and_sets_stand_apart(monkeypatch, tmp_path):
    figures = drawn(monkeypatch, tmp_path)
    values = {"0": [0.5, 0.7], "1": [0.7, 0.8], "all blocks": [0.8, 0.9]}
    plots.columns({"WA": values}, "x.png")
    line = figures[0].axes[0].lines[-1]
    assert line.get_xydata().tolist() == pytest.approx(
        np.array([[0, 0.6], [1, 0.75]])
    )


def test_rows_are_drawn_from_the_top_with_the_first_as_a_line(
    monkeypatch, tmp_path
):
    figures = drawn(monkeypatch, tmp_path)
    plots.comparison({"whole": [0.8, 0.7], "less": [0.7]}, "x.png")
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "whole",
        "less",
    ]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert axes.lines[0].get_xdata() == pytest.approx([0.75, 0.75])
    (right,) = axes.child_axes
    means = [text.get_text() for text in right.get_yticklabels()]
    assert means == ["0.750", "0.700"]
