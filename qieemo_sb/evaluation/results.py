"""Files that a test of a model leaves: scores, predictions, pictures."""

from collections.abc import Mapping
from pathlib import Path

from qieemo_sb.evaluation import plots
from qieemo_sb.evaluation.scores import Scores, write_metrics, write_predictions


def write_results(folder: Path, metrics: Mapping, scores: Scores) -> None:
    """Write metrics.json, predictions.csv and pictures.

    Arguments
    ---------
    folder : Path
        Gets the files.
    metrics : mapping
        ``Scores.summary`` with ``risk_coverage``, the run's ``corpus``,
        ``fold`` and ``seed``, and ``adaptation`` if there was any.
    scores : Scores
        Of the test.
    """
    title = "{corpus}, fold {fold}, seed {seed}".format(**metrics)
    write_metrics(folder / "metrics.json", metrics)
    write_predictions(folder / "predictions.csv", scores, metrics["labels"])
    plots.confusion(metrics, folder / "confusion.png", title)
    curve, picture = metrics["risk_coverage"], folder / "risk_coverage.png"
    plots.risk_coverage(curve, picture, title)
    if "adaptation" in metrics:
        curve, picture = metrics["adaptation"], folder / "adaptation.png"
        plots.adaptation(curve, picture, title)
