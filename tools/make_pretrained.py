#!/usr/bin/env python3
"""Make the model that ships of a finished run on RAVDESS.

> python tools/make_pretrained.py RUN DATA_FOLDER pretrained/qieemo-tiny.en

RUN is the output folder of recipes/RAVDESS/qieemo/train.py. Parameters are
stored in float16, which halves the folder; what is then left of the run's
accuracy is measured on the run's own test part, from the audio files to the
answers, and stands in the card.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import json
from pathlib import Path

import torch

from qieemo_sb.errors import AudioError
from qieemo_sb.evaluation.model_card import model_card
from qieemo_sb.evaluation.scores import Scores
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.folder import CARD, load_folder, save_model

ABOUT = """
## Training data and licence

These weights: **CC BY-NC-SA 4.0**, not for commercial use. They were trained
on RAVDESS (S. R. Livingstone and F. A. Russo, 2018, doi
[10.5281/zenodo.1188976](https://doi.org/10.5281/zenodo.1188976), CC BY-NC-SA
4.0), on the {num_trained} training clips of fold {fold}: actors in a studio,
North American English, two sentences. The encoder is that of Whisper {whisper}
(OpenAI, MIT licence), frozen. The PPG head has learned to read from synthetic
speech alone. All parameters are rounded to float16. The code that made them is
under the Apache License 2.0.
"""


def main():
    """Save, test, write the card."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="output folder of train.py")
    parser.add_argument("data_folder", help="RAVDESS")
    parser.add_argument("folder", type=Path, help="where the model is put")
    parser.add_argument(
        "--whisper", default="tiny.en", help="name for the card"
    )
    options = parser.parse_args()
    metrics = json.loads((options.run / "metrics.json").read_text())
    save(options.run / "model", options.folder, "")
    scores = test(
        options.folder, options.run / "test.json", options.data_folder
    )
    facts = {**metrics, **scores.summary(metrics["labels"])}
    trained = json.loads((options.run / "train.json").read_text())
    about = ABOUT.format(
        num_trained=len(trained), fold=facts["fold"], whisper=options.whisper
    )
    card = options.folder / CARD
    card.write_text(model_card(facts) + about, encoding="utf-8")
    size = sum(p.stat().st_size for p in options.folder.iterdir()) / 1e6
    for name in ("weighted_accuracy", "unweighted_accuracy"):
        print(f"{name}: {facts[name]:.4f}, of the run: {metrics[name]:.4f}")
    print(f"{options.folder}: {size:.1f} MB")


def save(source, folder, card):
    """Copy a model folder with its parameters in float16."""
    loaded = load_folder(source)
    save_model(
        folder,
        loaded.model,
        card,
        loaded.labels,
        loaded.tokens,
        dtype=torch.float16,
    )


def test(folder, manifest, data_folder):
    """Scores of a model on a manifest's files."""
    classifier = load_model(folder)
    entries = json.loads(manifest.read_text())
    wavs = [
        entry["wav"].replace("{data_root}", data_folder)
        for entry in entries.values()
    ]
    scores = Scores()
    files = classifier.embed_files(wavs)
    for (utt_id, entry), (_, row) in zip(entries.items(), files, strict=True):
        if isinstance(row, AudioError):
            raise row
        target = torch.tensor([classifier.labels.index(entry["emo"])])
        scores.append([utt_id], classifier.log_probs(row), target)
    return scores


if __name__ == "__main__":
    main()
