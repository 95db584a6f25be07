"""Means and spreads, against numbers worked out by hand."""

import json

import pytest

from qieemo_sb.evaluation.tables import (
    METRICS,
    aggregate,
    cell,
    markdown_table,
    plus_minus,
    spread,
    to_json,
)

# fold, seed, score
FOUR = [(1, 7, 0.5), (1, 8, 0.7), (2, 7, 0.6), (2, 8, 1.0)]


def run(fold, seed, confusion):
    right = confusion[0][0] + confusion[1][1]
    total = sum(map(sum, confusion))
    return {
        **dict.fromkeys(METRICS, 0.5),
        "weighted_accuracy": right / total,
        "labels": ["a", "b"],
        "confusion_matrix": confusion,
        "fold": fold,
        "seed": seed,
    }


def test_deviation_over_folds_is_of_the_means_over_seeds():
    found = spread(FOUR)
    assert found["by_fold"] == pytest.approx({1: 0.6, 2: 0.8})
    assert found["mean"] == pytest.approx(0.7)
    # 0.6 and 0.8: each 0.1 from the mean; sqrt((0.01 + 0.01) / (2 - 1)).
    assert found["std_over_folds"] == pytest.approx(0.02**0.5)


def test_deviation_over_seeds_is_of_the_means_over_folds():
    found = spread(FOUR)
    assert found["by_seed"] == pytest.approx({7: 0.55, 8: 0.85})
    # 0.15 from the mean: sqrt(2 * 0.0225).
    assert found["std_over_seeds"] == pytest.approx(0.045**0.5)


def test_folds_weigh_the_same_however_many_seeds_they_have():
    runs = [(1, 7, 0.5), (1, 8, 0.7), (2, 7, 0.9)]
    assert spread(runs)["mean"] == pytest.approx((0.6 + 0.9) / 2)


def test_a_seed_that_lacks_a_fold_is_not_compared_with_others():
    found = spread(FOUR[:3])
    assert found["by_seed"] == pytest.approx({7: 0.55})
    assert found["std_over_seeds"] is None


def test_one_run_has_no_deviation():
    found = spread(FOUR[:1])
    assert found["mean"] == 0.5
    assert found["std_over_folds"] is found["std_over_seeds"] is None


def test_order_of_runs_does_not_matter():
    assert spread(FOUR[::-1]) == spread(FOUR)


def test_answers_of_all_runs_are_pooled():
    runs = [run(1, 7, [[3, 1], [0, 0]]), run(2, 7, [[0, 0], [4, 8]])]
    found = aggregate(runs)
    assert found["weighted_accuracy"]["mean"] == pytest.approx(
        (3 / 4 + 8 / 12) / 2
    )
    pooled = found["pooled"]
    assert pooled["confusion_matrix"] == [[3, 1], [4, 8]]
    assert pooled["num_utterances"] == 16
    assert pooled["weighted_accuracy"] == pytest.approx(11 / 16)
    assert pooled["unweighted_accuracy"] == pytest.approx(
        (3 / 4 + 8 / 12) / 2, abs=1e-6
    )


def test_cells():
    assert [cell(x) for x in (0.12345, None, 3, "x")] == [
        "0.123",
        "–",
        "3",
        "x",
    ]
    both = {"mean": 0.5, "std_over_folds": 0.25, "std_over_seeds": None}
    assert plus_minus(both) == "0.500 ± 0.250"
    assert plus_minus({**both, "std_over_folds": None}) == "0.500"


def test_a_table_with_negative_numbers_is_a_table():
    text = markdown_table(["a", "b"], [[-0.5, "x - y"]])
    assert text.splitlines()[2] == "| -0.500 | x - y |"


def test_json_reads_back_the_same_and_has_short_lists_on_a_line():
    value = {"a": [1, 2.5], "b": ["x, [y", "]"], "c": [{"d": []}], "e": [[]]}
    text = to_json(value)
    assert json.loads(text) == value
    assert '"a": [1, 2.5]' in text
