"""Scores: utterances and log-probabilities → WA, UA, F1, confusion → files.

Every score is a fraction between 0 and 1, not a percentage.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence

import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_recall,
)

from qieemo_sb.corpora.manifest import write_text
from qieemo_sb.errors import EvaluationError

METRICS = {
    "weighted_accuracy": "WA",
    "unweighted_accuracy": "UA",
    "weighted_f1": "WF1",
    "macro_f1": "macro-F1",
}


def score(
    targets: torch.Tensor, predictions: torch.Tensor, labels: Sequence[str]
) -> dict:
    """Score predictions.

    Arguments
    ---------
    targets : torch.Tensor
        [N] true class indices.
    predictions : torch.Tensor
        [N] predicted class indices.
    labels : sequence of str
        The C label texts; a class index is a place in it.

    Returns
    -------
    dict
        ``weighted_accuracy``: plain accuracy, every utterance counts the same.
        ``unweighted_accuracy``: recall, averaged over the classes that occur
        in the targets. ``weighted_f1``: F1 averaged by the number of targets.
        ``macro_f1``: F1 averaged over the classes that occur in the targets or
        in the predictions. ``num_utterances``, ``labels``, and
        ``confusion_matrix``: C lists of C counts, a row for a true label.

    Raises
    ------
    EvaluationError
        There is no utterance.
    RuntimeError
        An index has no label.

    Example
    -------
    >>> targets, predictions = torch.tensor([0, 0, 0, 1]), torch.tensor([0] * 4)
    >>> scores = score(targets, predictions, ["neu", "ang"])
    >>> scores["weighted_accuracy"], scores["unweighted_accuracy"]
    (0.75, 0.5)
    >>> scores["confusion_matrix"]
    [[3, 0], [1, 0]]
    """
    if len(targets) == 0:
        raise EvaluationError("No utterance to score.")
    args = predictions, targets, len(labels)
    confusion = multiclass_confusion_matrix(*args)
    occurs = confusion.sum(dim=1) > 0
    recall = multiclass_recall(*args, average="none")[occurs]
    fractions = (
        multiclass_accuracy(*args, average="micro"),
        recall.mean(),
        multiclass_f1_score(*args, average="weighted"),
        multiclass_f1_score(*args, average="macro"),
    )
    return {
        # As short as float32 allows: 0.7, not 0.699999988079071.
        **{
            name: round(x.item(), 7)
            for name, x in zip(METRICS, fractions, strict=True)
        },
        "num_utterances": len(targets),
        "labels": list(labels),
        "confusion_matrix": confusion.tolist(),
    }


class Scores:
    """Log-probabilities and targets of an evaluation, batch after batch.

    Batches may have any size and come in any order. A second result for the
    same utterance is dropped: distributed samplers repeat utterances to fill
    their last batch.

    Example
    -------
    >>> scores = Scores()
    >>> log_probs = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    >>> scores.append(["a", "b"], log_probs, torch.tensor([0, 0]))
    >>> scores.summary(["neu", "ang"])["weighted_accuracy"]
    0.5
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, list[float]]] = {}

    def append(
        self,
        ids: Sequence[str],
        log_probs: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Add a batch.

        Arguments
        ---------
        ids : sequence of str
            B utterance ids.
        log_probs : torch.Tensor
            [B, C] log-probabilities.
        targets : torch.Tensor
            [B] or [B, 1] true class indices.

        Raises
        ------
        EvaluationError
            A log-probability is not a number.
        ValueError
            The sizes differ.
        """
        rows = log_probs.detach().double().cpu()
        indices = targets.reshape(-1).tolist()
        for utt_id, target, row in zip(ids, indices, rows, strict=True):
            if row.isnan().any():
                raise EvaluationError(f"{utt_id}: a log-probability is NaN.")
            self._rows.setdefault(utt_id, (target, row.tolist()))

    def rows(self) -> list[tuple[str, int, int, list[float]]]:
        """All utterances added, sorted by id.

        Returns
        -------
        list of tuple
            (utterance id, target, prediction, C log-probabilities); of equal
            log-probabilities the first is predicted.
        """
        return [
            (utt_id, target, row.index(max(row)), row)
            for utt_id, (target, row) in sorted(self._rows.items())
        ]

    def summary(
        self, labels: Sequence[str], corpora: Mapping[str, str] | None = None
    ) -> dict:
        """Score all utterances added.

        Arguments
        ---------
        labels : sequence of str
            The C label texts, in the order of the class indices.
        corpora : mapping of str to str or None
            utt_id → corpus. If they are of several corpora, every fraction is
            the mean over corpora, and ``by_corpus`` has the scores of each.

        Returns
        -------
        dict
            See ``score``, also for the errors.
        """
        rows: dict[str, list] = {}
        for row in self.rows():
            corpus = corpora[row[0]] if corpora else ""
            rows.setdefault(corpus, []).append(row)
        each = {
            corpus: _score_rows(part, labels) for corpus, part in rows.items()
        }
        summary = _score_rows(self.rows(), labels)
        if len(each) > 1:
            for metric in METRICS:
                values = [scores[metric] for scores in each.values()]
                summary[metric] = round(sum(values) / len(values), 7)
            summary["by_corpus"] = dict(sorted(each.items()))
        return summary


def _score_rows(rows, labels):
    """Score rows of ``Scores.rows``."""
    targets = torch.tensor([row[1] for row in rows])
    return score(targets, torch.tensor([row[2] for row in rows]), labels)


def write_metrics(path: str | os.PathLike, metrics: Mapping) -> None:
    """Write ``metrics.json``, whole or not at all.

    Arguments
    ---------
    path : path-like
        The file.
    metrics : mapping
        ``Scores.summary`` and the run's ``corpus``, ``fold`` and ``seed``.
    """
    write_text(path, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


def write_predictions(
    path: str | os.PathLike, scores: Scores, labels: Sequence[str]
) -> None:
    """Write ``predictions.csv``, whole or not at all.

    The columns are ``utt_id``, ``target``, ``predicted`` and, for each label,
    ``log_prob_<label>``, written so that reading it gives the same number.
    Rows are sorted by utterance id.

    Arguments
    ---------
    path : path-like
        The file.
    scores : Scores
        Of the evaluation.
    labels : sequence of str
        The C label texts, in the order of the class indices.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = [f"log_prob_{label}" for label in labels]
    table.writerow(["utt_id", "target", "predicted", *names])
    for utt_id, target, predicted, row in scores.rows():
        table.writerow([utt_id, labels[target], labels[predicted], *row])
    write_text(path, text.getvalue())
