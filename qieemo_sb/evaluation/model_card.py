"""The model card of a model folder: what it is, its scores, its use.

At its top stands metadata, in YAML, by which the Hugging Face hub describes a
model. Its author is to state a licence there: that of the weights does not
follow from those of the corpora.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCardData

FOLDER = Path(__file__).parent
ADAPTED = """\
Each speaker was adapted to, by all of their test clips, without labels: see
`predict_conversation` and `adapt` of `qieemo_sb.load_model`. A new speaker,
without adaptation: WA {:.4f}.
"""
CALIBRATED = """\

A temperature ({temperature:.2f}) was fitted on validation speakers. There, the
expected calibration error was {ece_before:.3f} and is now {ece_after:.3f}.
"""
RELIABILITY = """\

On test data, probabilities differ from accuracy by {ece:.3f} (expected
calibration error, 15 bins). With `load_model(folder, threshold=...)`, less
probable predictions come out as `unknown`:

| threshold | answered | accuracy of the answers |
|---|---|---|
{rows}
"""
ROW = "| {threshold:.2f} | {coverage:.2f} | {accuracy:.3f} |"


def model_card(metrics: Mapping, **metadata) -> str:
    """Write the card of an emotion model.

    Arguments
    ---------
    metrics : mapping
        Content of ``metrics.json``.
    **metadata
        Of the hub, such as ``license``, in place of the usual.

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
    facts["reliability"] = _reliability(metrics)
    text = (FOLDER / "model_card.md").read_text("utf-8").format(**facts)
    metadata = {"tags": ["emotion-recognition", "qieemo"], **metadata}
    scores = ["accuracy", "recall", "f1"]
    return _metadata(metrics, "audio-classification", scores, metadata) + text


def _reliability(metrics):
    """Calibration and risk-coverage table, where they were measured."""
    fit, curve = metrics.get("calibration"), metrics.get("risk_coverage")
    text = CALIBRATED.format(**fit) if fit else ""
    if curve:
        rows = "\n".join(ROW.format(**row) for row in curve)
        text += RELIABILITY.format(ece=metrics["ece"], rows=rows)
    return text


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
    text = (FOLDER / "ppg_card.md").read_text("utf-8").format(**metrics)
    task, scores = "automatic-speech-recognition", ["cer", "wer"]
    return _metadata(metrics, task, scores, {"tags": ["qieemo"]}) + text


def _metadata(metrics, task, scores, others):
    """The top of a card, for the hub."""
    corpora = metrics.get("corpora", [metrics["corpus"]])
    corpora = [*corpora, *metrics.get("read_speech", [])]
    facts = {
        "license": "other",
        "license_name": "of-the-training-data",
        "library_name": "speechbrain",
        "pipeline_tag": task,
        "datasets": [_identifier(corpus) for corpus in corpora],
        "metrics": scores,
    }
    data = ModelCardData(**{**facts, **others})
    return f"---\n{data.to_yaml()}\n---\n\n"


def _identifier(corpus):
    """A corpus's name in the characters that the hub takes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", corpus).strip("-")
