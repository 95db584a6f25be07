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

from qieemo_sb.corpora.files import replacing


def score(
    targets: torch.Tensor, predictions: torch.Tensor, labels: Sequence[str]
) -> dict:
    """The scores of an evaluation.

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
    ValueError
        If there is no utterance, or an index that has no label.

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
        raise ValueError("No utterance to score.")
    _check_indices(targets, labels)
    _check_indices(predictions, labels)
    args = predictions, targets, len(labels)
    confusion = multiclass_confusion_matrix(*args)
    occurs = confusion.sum(dim=1) > 0
    recall = multiclass_recall(*args, average="none")[occurs]
    return {
        "weighted_accuracy": _fraction(
            multiclass_accuracy(*args, average="micro")
        ),
        "unweighted_accuracy": _fraction(recall.mean()),
        "weighted_f1": _fraction(
            multiclass_f1_score(*args, average="weighted")
        ),
        "macro_f1": _fraction(multiclass_f1_score(*args, average="macro")),
        "num_utterances": len(targets),
        "labels": list(labels),
        "confusion_matrix": confusion.tolist(),
    }


class Scores:
    """What an evaluation said about each utterance, batch after batch.

    Batches may have any size and come in any order. A second result for the
    same utterance is dropped: distributed samplers repeat utterances to fill
    their last batch.

    Example
    -------
    >>> scores = Scores()
    >>> log_probs = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    >>> scores.append(["a", "b"], log_probs, torch.tensor([0, 0]))
    >>> len(scores)
    2
    >>> scores.summary(["neu", "ang"])["weighted_accuracy"]
    0.5
    """

    def __init__(self):
        self._rows: dict[str, tuple[int, list[float]]] = {}

    def __len__(self) -> int:
        return len(self._rows)

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
        ValueError
            If the sizes differ, or a log-probability is not a number.
        """
        indices = targets.reshape(-1).tolist()
        rows = log_probs.detach().double().cpu()
        if rows.dim() != 2 or not len(ids) == len(rows) == len(indices):
            raise ValueError(
                f"{len(ids)} ids, log-probabilities {tuple(log_probs.shape)} "
                f"and targets {tuple(targets.shape)} are not one batch."
            )
        broken = rows.isnan().any(dim=1).tolist()
        if any(broken):
            raise ValueError(
                f"{ids[broken.index(True)]}: a log-probability is NaN."
            )
        for utt_id, target, row in zip(ids, indices, rows, strict=True):
            self._rows.setdefault(utt_id, (int(target), row.tolist()))

    def summary(self, labels: Sequence[str]) -> dict:
        """The scores of all utterances added.

        Arguments
        ---------
        labels : sequence of str
            The C label texts, in the order of the class indices.

        Returns
        -------
        dict
            As of ``score``.

        Raises
        ------
        ValueError
            If there is no utterance, or the number of classes differs.
        """
        rows = self._sorted_rows(labels)
        targets = torch.tensor([target for _, target, _ in rows])
        predictions = torch.tensor([_argmax(row) for _, _, row in rows])
        return score(targets, predictions, labels)

    def _sorted_rows(
        self, labels: Sequence[str]
    ) -> list[tuple[str, int, list[float]]]:
        """``(utt_id, target, log-probabilities)``, by utterance id."""
        rows = [(utt_id, *self._rows[utt_id]) for utt_id in sorted(self._rows)]
        for utt_id, _, row in rows:
            if len(row) != len(labels):
                raise ValueError(
                    f"{utt_id}: {len(row)} log-probabilities for "
                    f"{len(labels)} labels."
                )
        return rows


def write_metrics(
    path: str | os.PathLike,
    summary: Mapping,
    *,
    corpus: str,
    fold: int | str,
    seed: int,
) -> None:
    """Write ``metrics.json``, whole or not at all.

    Arguments
    ---------
    path : path-like
        The file.
    summary : mapping
        What ``Scores.summary`` returned.
    corpus : str
        Name of the corpus.
    fold : int or str
        The fold whose test part was scored.
    seed : int
        The seed of the training run.

    Example
    -------
    >>> import tempfile
    >>> from pathlib import Path
    >>> right = torch.tensor([0, 1])
    >>> summary = score(right, right, ["neu", "ang"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "metrics.json"
    ...     write_metrics(path, summary, corpus="ravdess", fold=1, seed=7)
    ...     json.loads(path.read_text())["weighted_accuracy"]
    1.0
    """
    metrics = {**summary, "corpus": corpus, "fold": fold, "seed": seed}
    _write(path, json.dumps(metrics, indent=2, allow_nan=False) + "\n")


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
        What the evaluation said.
    labels : sequence of str
        The C label texts, in the order of the class indices.

    Raises
    ------
    ValueError
        If a class index has no label.
    """
    rows = scores._sorted_rows(labels)
    _check_indices(torch.tensor([target for _, target, _ in rows]), labels)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = [f"log_prob_{label}" for label in labels]
    table.writerow(["utt_id", "target", "predicted", *names])
    for utt_id, target, row in rows:
        table.writerow([utt_id, labels[target], labels[_argmax(row)], *row])
    _write(path, text.getvalue())


def _argmax(row: Sequence[float]) -> int:
    """The place of the largest value; of the first one, if there are ties."""
    return max(range(len(row)), key=row.__getitem__)


def _fraction(value: torch.Tensor) -> float:
    """A float32 as a float: 0.7 instead of 0.699999988079071."""
    return round(value.item(), 7)


def _check_indices(indices: torch.Tensor, labels: Sequence[str]) -> None:
    """Refuse a class index that has no label."""
    for index in indices.unique().tolist():
        if not 0 <= index < len(labels):
            raise ValueError(f"No label {index}: there are {len(labels)}.")


def _write(path: str | os.PathLike, text: str) -> None:
    """Write text, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
