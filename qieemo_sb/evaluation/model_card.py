"""The model card of a model folder: what it is, its scores, its use."""

from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent
ADAPTED = """\
Each speaker was adapted to, by all of their test clips, without labels: see
`predict_conversation` and `adapt` of `qieemo_sb.load_model`. A new speaker,
without adaptation: WA {:.4f}.
"""


def model_card(metrics: Mapping) -> str:
    """Write the card of an emotion model.

    Arguments
    ---------
    metrics : mapping
        Content of ``metrics.json``.

    Returns
    -------
    str
        Markdown.
    """
    labels = metrics["labels"]
    recalls = [
        f"{labels[i]} {row[i] / sum(row):.2f} of {sum(row)}"
        for i, row in enumerate(metrics["confusion_matrix"])
        if sum(row)
    ]
    # The curve of adaptation begins without any clip.
    curve = metrics.get("adaptation")
    protocol = ADAPTED.format(curve["weighted_accuracy"][0]) if curve else ""
    facts = {**metrics, "n_labels": len(labels), "protocol": protocol}
    facts |= {"emotions": ", ".join(labels), "recalls": ", ".join(recalls)}
    return (FOLDER / "model_card.md").read_text("utf-8").format(**facts)


def ppg_card(metrics: Mapping) -> str:
    """Write the card of a PPG model, stage 1.

    Arguments
    ---------
    metrics : mapping
        Content of ``metrics.json`` of ``train_ppg.py``.

    Returns
    -------
    str
        Markdown.
    """
    return (FOLDER / "ppg_card.md").read_text("utf-8").format(**metrics)
