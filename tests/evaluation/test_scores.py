"""WA, UA and F1 worked out by hand; files that are read back."""

import csv
import json
import math
import warnings

import pytest
import torch

from qieemo_sb.evaluation.scores import (
    Scores,
    score,
    write_metrics,
    write_predictions,
)

LABELS = ["neu", "hap", "sad"]

# true       neu neu neu neu hap hap sad sad sad sad
# predicted  neu neu neu hap hap sad sad sad neu sad
TARGETS = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
PREDICTIONS = [0, 0, 0, 1, 1, 2, 2, 2, 0, 2]


def scored(targets, predictions, labels=LABELS):
    return score(torch.tensor(targets), torch.tensor(predictions), labels)


def log_probs_for(predictions, classes=3):
    """Log-probabilities whose largest is where it should be."""
    one_hot = torch.nn.functional.one_hot(torch.tensor(predictions), classes)
    return (one_hot * 2.0).log_softmax(dim=-1)


def ten_utterances():
    scores = Scores()
    ids = [f"utt{i}" for i in range(10)]
    scores.append(ids, log_probs_for(PREDICTIONS), torch.tensor(TARGETS))
    return scores


def test_rows_of_the_confusion_matrix_are_true_labels():
    confusion = scored(TARGETS, PREDICTIONS)["confusion_matrix"]
    assert confusion == [[3, 1, 0], [0, 1, 1], [1, 0, 3]]


def test_weighted_accuracy_is_plain_accuracy():
    assert scored(TARGETS, PREDICTIONS)["weighted_accuracy"] == pytest.approx(
        7 / 10
    )


def test_fractions_are_as_short_as_float32_allows():
    assert scored(TARGETS, PREDICTIONS)["weighted_accuracy"] == 0.7
    assert scored([0, 1, 1], [0, 1, 0])["weighted_accuracy"] == 0.6666667


def test_unweighted_accuracy_is_the_mean_recall():
    assert scored(TARGETS, PREDICTIONS)["unweighted_accuracy"] == pytest.approx(
        (3 / 4 + 1 / 2 + 3 / 4) / 3
    )


def test_f1_is_averaged_by_class_or_by_target():
    # F1 = 2 TP / (targets + predictions): neu 6/8, hap 2/4, sad 6/8
    scores = scored(TARGETS, PREDICTIONS)
    assert scores["macro_f1"] == pytest.approx((0.75 + 0.5 + 0.75) / 3)
    assert scores["weighted_f1"] == pytest.approx(
        0.4 * 0.75 + 0.2 * 0.5 + 0.4 * 0.75
    )


def test_a_class_that_nobody_spoke_does_not_count_in_ua():
    scores = scored([0, 0, 1, 1], [0, 2, 1, 1])
    assert scores["unweighted_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    # neu 2/3, hap 1, sad 0: it was predicted, so F1 counts it
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_a_class_that_is_neither_spoken_nor_predicted_changes_nothing():
    two = scored([0, 0, 1], [0, 1, 1], LABELS[:2])
    three = scored([0, 0, 1], [0, 1, 1], LABELS)
    for name in ("unweighted_accuracy", "macro_f1", "weighted_f1"):
        assert two[name] == three[name]


def test_a_class_that_is_never_predicted_scores_zero_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scored([0, 1, 2], [0, 0, 0])
    assert scores["unweighted_accuracy"] == pytest.approx(1 / 3)
    assert scores["macro_f1"] == pytest.approx((2 * 1 / (1 + 3)) / 3)


@pytest.mark.parametrize(("predicted", "expected"), [(1, 1.0), (0, 0.0)])
def test_one_utterance_is_right_or_wrong(predicted, expected):
    scores = scored([1], [predicted])
    assert scores["num_utterances"] == 1
    for name in ("weighted_accuracy", "unweighted_accuracy", "weighted_f1"):
        assert scores[name] == expected


def test_no_utterance_is_an_error():
    with pytest.raises(ValueError, match="No utterance"):
        Scores().summary(LABELS)


def test_an_index_without_a_label_is_an_error():
    with pytest.raises(RuntimeError, match="3"):
        scored([0, 3], [0, 0])


def test_corpora_count_alike_whatever_their_size():
    """Ann's four are all right; of Bob's six, 3 of 4 and 0 of 2 are."""
    scores = Scores()
    ids = ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4", "b5", "b6"]
    targets, predictions = [0, 0, 2, 2, *[0] * 4, 1, 1], [0, 0, 2, 2, *[0] * 6]
    predictions[4] = 1
    scores.append(ids, log_probs_for(predictions), torch.tensor(targets))
    corpora = {utt_id: {"a": "Ann", "b": "Bob"}[utt_id[0]] for utt_id in ids}
    summary = scores.summary(LABELS, {**corpora, "b9": "Bob", "c1": "Cem"})
    assert list(summary["by_corpus"]) == ["Ann", "Bob"]
    ann, bob = summary["by_corpus"].values()
    assert ann == scored(targets[:4], predictions[:4])
    assert bob == scored(targets[4:], predictions[4:])
    assert ann["unweighted_accuracy"] == 1.0
    assert bob["unweighted_accuracy"] == pytest.approx(3 / 8)
    assert summary["unweighted_accuracy"] == pytest.approx((1 + 3 / 8) / 2)
    assert summary["weighted_accuracy"] == pytest.approx((1 + 3 / 6) / 2)
    # Counts are of all utterances.
    everything = scored(targets, predictions)
    for name in ("confusion_matrix", "num_utterances", "labels"):
        assert summary[name] == everything[name]


def test_of_one_corpus_there_is_one_score():
    corpora = {f"utt{i}": "Ann" for i in range(10)} | {"other": "Bob"}
    expected = ten_utterances().summary(LABELS)
    assert ten_utterances().summary(LABELS, corpora) == expected


def test_batch_size_and_order_do_not_matter():
    expected = ten_utterances().summary(LABELS)
    log_probs = log_probs_for(PREDICTIONS)
    scores = Scores()
    for i in reversed(range(10)):
        scores.append([f"utt{i}"], log_probs[[i]], torch.tensor([[TARGETS[i]]]))
    assert scores.summary(LABELS) == expected


def test_the_first_of_two_results_for_an_utterance_is_kept():
    scores = Scores()
    scores.append(["a", "b"], log_probs_for([0, 1]), torch.tensor([0, 1]))
    scores.append(["a"], log_probs_for([2]), torch.tensor([0]))
    assert len(scores.rows()) == 2
    assert scores.summary(LABELS)["weighted_accuracy"] == 1.0


def test_nan_is_an_error_that_names_the_utterance():
    log_probs = log_probs_for([0, 1])
    log_probs[1, 2] = math.nan
    with pytest.raises(ValueError, match="Ses01F: .*NaN"):
        Scores().append(["x", "Ses01F"], log_probs, torch.tensor([0, 1]))


def test_a_batch_of_mixed_sizes_is_an_error():
    with pytest.raises(ValueError, match="shorter|longer"):
        Scores().append(["a"], log_probs_for([0, 1]), torch.tensor([0, 1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_accepted(dtype):
    scores = Scores()
    scores.append(["a"], log_probs_for([2]).to(dtype), torch.tensor([2]))
    assert scores.summary(LABELS)["weighted_accuracy"] == 1.0


def test_metrics_json_keeps_its_contract(tmp_path):
    path = tmp_path / "metrics.json"
    summary = ten_utterances().summary(LABELS)
    facts = {"corpus": "iemocap", "fold": 5, "seed": 1986}
    write_metrics(path, {**summary, **facts})
    metrics = json.loads(path.read_text())
    assert set(metrics) == {
        "weighted_accuracy",
        "unweighted_accuracy",
        "weighted_f1",
        "macro_f1",
        "num_utterances",
        "labels",
        "confusion_matrix",
        "corpus",
        "fold",
        "seed",
    }
    assert metrics == {**summary, **facts}


def test_predictions_are_sorted_and_read_back_exactly(tmp_path):
    path = tmp_path / "predictions.csv"
    log_probs = torch.randn(3, 3).log_softmax(-1)
    scores = Scores()
    scores.append(["c", "a", "b,1"], log_probs, torch.tensor([0, 1, 2]))
    write_predictions(path, scores, LABELS)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["utt_id"] for row in rows] == ["a", "b,1", "c"]
    assert [row["target"] for row in rows] == ["hap", "sad", "neu"]
    assert rows[2]["predicted"] == LABELS[log_probs[0].argmax()]
    read = [[float(row[f"log_prob_{x}"]) for x in LABELS] for row in rows]
    assert torch.equal(torch.tensor(read), log_probs[[1, 2, 0]])


def test_a_label_that_cannot_be_is_read_back_as_such(tmp_path):
    """A corpus that lacks a label gives it no probability at all."""
    scores = Scores()
    row = torch.tensor([[0.5, 0.5, 0.0]]).log()
    scores.append(["a"], row, torch.tensor([0]))
    write_predictions(tmp_path / "predictions.csv", scores, LABELS)
    with open(tmp_path / "predictions.csv", newline="") as file:
        (read,) = csv.DictReader(file)
    assert float(read["log_prob_sad"]) == -math.inf


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_metrics(path, {"x": math.nan})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
