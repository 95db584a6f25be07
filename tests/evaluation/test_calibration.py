"""Probabilities say how often a model is right."""

import math

import pytest
import torch

from qieemo_sb.errors import CorpusError
from qieemo_sb.evaluation.calibration import (
    apply_file,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    measure_calibration,
    reliability,
    risk_coverage,
)
from qieemo_sb.evaluation.scores import Scores
from qieemo_sb.lobes.classifier import Classifier

# Probabilities in twentieths, and as many utterances of each label: a model
# that says them is calibrated.
HONEST = [[10, 6, 4], [2, 14, 4], [1, 3, 16], [5, 5, 10]]


def honest(times=20):
    """Log-probabilities [N, 3] and targets [N] of a calibrated model."""
    rows = [(row, k) for row in HONEST for k in range(3) for _ in range(row[k])]
    log_probs = torch.tensor([row for row, _ in rows]).div(20).log()
    targets = torch.tensor([k for _, k in rows])
    return log_probs.repeat(times, 1), targets.repeat(times)


def test_a_calibrated_model_stays_as_it_is():
    assert fit_temperature(*honest()) == pytest.approx(1, abs=1e-3)


def test_logits_scaled_by_three_need_a_temperature_of_three():
    log_probs, targets = honest()
    sure = (3 * log_probs).log_softmax(dim=1)
    assert fit_temperature(sure, targets) == pytest.approx(3, rel=0.01)


def test_a_label_that_a_corpus_lacks_is_left_out():
    # The second half cannot have label 2, and is right among 0 and 1.
    log_probs, targets = honest()
    rows = targets != 2
    some = log_probs[rows].clone()
    some[:, 2] = -torch.inf
    both = torch.cat([log_probs, some.log_softmax(dim=1)])
    temperature = fit_temperature(both, torch.cat([targets, targets[rows]]))
    assert temperature == pytest.approx(1, abs=1e-3)


def test_utterances_count_by_their_weights():
    # One is right in 9 of 10 utterances, one in 6 of 10, 0.75 on average.
    log_probs = torch.tensor([[0.8, 0.2]] * 1100).log()
    targets = torch.tensor(([0] * 9 + [1]) * 100 + ([0] * 6 + [1] * 4) * 10)
    weights = torch.tensor([1.0] * 1000 + [10.0] * 100)  # corpora alike
    temperature = fit_temperature(log_probs, targets, weights)
    found = (log_probs / temperature).softmax(dim=1)
    assert found[0, 0] == pytest.approx(0.75, abs=0.005)


def test_utterances_that_are_all_recognised_give_a_finite_temperature():
    log_probs = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()
    temperature = fit_temperature(log_probs, torch.tensor([0, 1]))
    assert 0.1 < temperature < 1


def test_the_linear_layer_gives_calibrated_log_probabilities():
    classifier = Classifier(width=5, n_classes=3).eval()
    torch.nn.init.normal_(classifier.linear.weight)
    torch.nn.init.normal_(classifier.linear.bias)
    x = torch.randn(4, 5)
    before = classifier(x)
    calibrate(classifier, 2.0)
    expected = (before / 2).log_softmax(dim=1)
    assert torch.allclose(classifier(x), expected, atol=1e-6)


def test_calibration_error_worked_out_by_hand():
    # 0.95 is right in 6 of 8: 0.2 away. 0.6 is right in 2 of 2: 0.4 away.
    probabilities = torch.tensor([[0.95, 0.05]] * 8 + [[0.4, 0.6]] * 2)
    targets = torch.tensor([0] * 6 + [1] * 2 + [1, 1])
    error = expected_calibration_error(probabilities, targets)
    assert error == pytest.approx(0.8 * 0.2 + 0.2 * 0.4, abs=1e-6)


def test_what_a_calibration_brings_is_measured():
    log_probs = torch.tensor([[0.95, 0.05]] * 200).log()
    targets = torch.tensor([0] * 150 + [1] * 50)
    fit = measure_calibration(log_probs, targets)
    assert fit["ece_before"] == pytest.approx(0.2, abs=1e-4)
    assert fit["ece_after"] == pytest.approx(0.0, abs=0.005)


def test_accuracy_of_the_answers_that_a_threshold_leaves():
    best = [0.9, 0.8, 0.6, 0.5]  # right, right, wrong, right
    log_probs = torch.tensor([[p, 1 - p] for p in best]).log()
    curve = risk_coverage(
        log_probs, torch.tensor([0, 0, 1, 0]), [0.0, 0.55, 0.7, 0.95]
    )
    assert curve == [
        {"threshold": 0.0, "coverage": 1.0, "accuracy": 0.75},
        {"threshold": 0.55, "coverage": 0.75, "accuracy": round(2 / 3, 7)},
        {"threshold": 0.7, "coverage": 0.5, "accuracy": 1.0},
    ]


def test_error_and_curve_of_an_evaluation():
    scores = Scores()
    rows = torch.tensor([[0.75, 0.25]] * 4 + [[0.95, 0.05]]).log()
    scores.append(list("abcde"), rows, torch.tensor([0, 0, 0, 1, 0]))
    found = reliability(scores)
    assert found["ece"] == pytest.approx(0.2 * 0.05, abs=1e-6)
    last = {"threshold": 0.9, "coverage": 0.2, "accuracy": 1.0}
    assert found["risk_coverage"][-1] == last


@pytest.mark.parametrize("text", ['{"bias": [0]}', '{"temperature": -2.0}'])
def test_a_file_that_is_no_calibration_is_named(text, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(CorpusError, match="calibration.json is no calibration"):
        apply_file(Classifier(width=3, n_classes=2), path)


def test_a_file_is_applied(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text('{"temperature": 2.0, "ece_after": 0.1}')
    classifier = Classifier(width=3, n_classes=2).eval()
    classifier.linear.bias.data = torch.tensor([1.0, -1.0])
    assert apply_file(classifier, path)["ece_after"] == 0.1
    log_probs = classifier(torch.zeros(1, 3))[0]
    odds = (log_probs[0] - log_probs[1]).item()
    assert odds == pytest.approx(1.0, abs=1e-6)
    assert log_probs[0].exp().item() == pytest.approx(1 / (1 + math.exp(-1)))
