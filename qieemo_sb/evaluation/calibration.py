"""Calibration: probabilities that say how often the model is right.

A temperature (Guo et al., 2017, arXiv 1706.04599) is fitted on validation
utterances and folded into the classifier's linear layer: whatever
runs the model then gives calibrated log-probabilities.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from qieemo_sb.corpora.manifest import read_json
from qieemo_sb.errors import CorpusError
from qieemo_sb.evaluation.scores import Scores
from qieemo_sb.lobes.classifier import Classifier
from qieemo_sb.training.probe import minimise

BINS = 15  # of probability, as usual for this error
THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def fit_temperature(
    log_probs: Tensor, targets: Tensor, weights: Tensor | None = None
) -> float:
    """Fit temperature T: calibrated are softmax(z / T).

    It minimises the negative log-likelihood. log T has a normal prior of mean 0
    and deviation 1, which counts little: few utterances, all of them
    recognised, give no T of zero. A bias of emotions would be fitted to how
    frequent they are among actors, where neutral is rare.

    Arguments
    ---------
    log_probs : torch.Tensor
        [N, C]; -inf for a label that an utterance's corpus lacks.
    targets : torch.Tensor
        [N] class indices.
    weights : torch.Tensor or None
        [N], how much each counts. None: all alike.

    Returns
    -------
    float
        T, above 0: more than 1 where the model is too sure.

    Example
    -------
    >>> sure = torch.tensor([[0.9, 0.1]] * 400).log()
    >>> right = torch.tensor([0] * 300 + [1] * 100)  # and in fact, 0.75
    >>> temperature = fit_temperature(sure, right)
    >>> (sure / temperature).softmax(dim=1)[0].round(decimals=2)
    tensor([0.7500, 0.2500])
    """
    z, targets = log_probs.detach().double().cpu(), targets.cpu()
    weights = z.new_ones(len(z)) if weights is None else weights.cpu().double()
    log_t = z.new_zeros(())
    known = z.isfinite()
    z = z.masked_fill(~known, 0.0)  # the gradient of -inf is not a number

    def cost():
        outputs = (z / log_t.exp()).masked_fill(~known, -torch.inf)
        likelihoods = outputs.log_softmax(dim=1)[range(len(z)), targets]
        mean = (weights * likelihoods).sum() / weights.sum()
        return log_t.square() / (2 * len(z)) - mean

    minimise(cost, log_t)
    return log_t.exp().item()


@torch.no_grad()
def calibrate(classifier: Classifier, temperature: float) -> None:
    """Fold a temperature into a classifier's linear layer.

    Arguments
    ---------
    classifier : Classifier
        Its log-probabilities are calibrated from now on.
    temperature : float
        Of ``fit_temperature``.
    """
    classifier.linear.bias.div_(temperature)
    classifier.linear.weight.div_(temperature)


def apply_file(classifier: Classifier, path: str | Path) -> dict[str, Any]:
    """Calibrate as ``calibration.json`` says → what that file holds.

    Raises
    ------
    CorpusError
        The file cannot be read, or has no temperature.
    """
    fit = read_json(path)
    temperature = fit.get("temperature")
    if not isinstance(temperature, float) or temperature <= 0:
        raise CorpusError(
            f"{path} is no calibration: it has no temperature. Set calibrate "
            "to True to fit one."
        )
    calibrate(classifier, temperature)
    return fit


def measure_calibration(
    log_probs: Tensor, targets: Tensor, weights: Tensor | None = None
) -> dict[str, float]:
    """Fit on validation utterances, and measure what it brings on them.

    Arguments
    ---------
    log_probs, targets, weights
        See ``fit_temperature``.

    Returns
    -------
    dict
        ``temperature``, ``ece_before`` and ``ece_after``.
    """
    log_probs, targets = log_probs.detach().cpu(), targets.cpu()
    temperature = fit_temperature(log_probs, targets, weights)
    after = (log_probs / temperature).softmax(dim=1)
    return {
        "temperature": temperature,
        "ece_before": expected_calibration_error(log_probs.exp(), targets),
        "ece_after": expected_calibration_error(after, targets),
    }


def expected_calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """Distance of the highest probability from the accuracy, mean over bins.

    Bins of probability have equal width and count by their utterances.

    Arguments
    ---------
    probabilities : torch.Tensor
        [N, C].
    targets : torch.Tensor
        [N] class indices.

    Returns
    -------
    float
        0 to 1.

    Example
    -------
    >>> probabilities = torch.tensor([[0.9, 0.1]] * 10)
    >>> targets = torch.tensor([0] * 7 + [1] * 3)
    >>> round(expected_calibration_error(probabilities, targets), 4)
    0.2
    """
    error = multiclass_calibration_error(
        probabilities, targets, probabilities.shape[1], n_bins=BINS
    )
    return round(error.item(), 7)


def risk_coverage(
    log_probs: Tensor,
    targets: Tensor,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[dict[str, float]]:
    """Accuracy of the predictions that a threshold leaves.

    Arguments
    ---------
    log_probs : torch.Tensor
        [N, C].
    targets : torch.Tensor
        [N] class indices.
    thresholds : sequence of float
        Probabilities; a prediction below is no answer.

    Returns
    -------
    list of dict
        For each ``threshold`` that leaves any: ``coverage``, the share of
        utterances that are answered, and ``accuracy`` of the answers.
    """
    best, predictions = log_probs.exp().max(dim=1)
    right = (predictions == targets).double()
    kept = {threshold: best >= threshold for threshold in thresholds}
    return [
        {
            "threshold": threshold,
            "coverage": round(rows.double().mean().item(), 7),
            "accuracy": round(right[rows].mean().item(), 7),
        }
        for threshold, rows in kept.items()
        if rows.any()
    ]


def reliability(scores: Scores) -> dict[str, Any]:
    """Calibration error and risk-coverage curve of an evaluation.

    Arguments
    ---------
    scores : Scores
        Of all utterances.

    Returns
    -------
    dict
        ``ece`` and ``risk_coverage``.
    """
    rows = scores.rows()
    log_probs = torch.tensor([row[-1] for row in rows])
    targets = torch.tensor([target for _, target, *_ in rows])
    return {
        "ece": expected_calibration_error(log_probs.exp(), targets),
        "risk_coverage": risk_coverage(log_probs, targets),
    }
