#!/usr/bin/env python3
"""Classify audio files with a finished run's model, as an application would.

To use it on the run that train.py left in a folder, do the following:
> python classify.py results/demo            # a held-out file of each emotion
> python classify.py results/demo speech.wav

The model is loaded by SpeechBrain's own EncoderClassifier. A program that
loads models from others should use qieemo_sb.load_model: it evaluates no yaml.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import sys
from pathlib import Path

from qieemo_sb.audio import check_file
from qieemo_sb.corpora.manifest import read_json, read_manifest
from qieemo_sb.errors import QieemoError

from speechbrain.inference.classifiers import EncoderClassifier

FILES = "train_log.txt, metrics.json, predictions.csv, confusion.png, model"


def held_out_files(run):
    """One file of each emotion that the run was tested on → {path: emotion}."""
    if not (run / "prepare.json").exists():
        sys.exit(f"{run} prepared no corpus: name audio files to classify.")
    folder = Path(read_json(run / "prepare.json")["data_folder"])
    chosen = {}
    for utterance in read_manifest(run / "test.json", ("wav", "emo")):
        chosen.setdefault(utterance.emo, str(folder / utterance.wav))
    return {wav: emotion for emotion, wav in chosen.items()}


def main(run, wavs):
    """Classify files and list what the run left."""
    if not (run / "model").is_dir():
        sys.exit(f"{run} has no model: run train.py to its end first.")
    labels = dict.fromkeys(wavs) or held_out_files(run)
    for wav in labels:
        check_file(wav)
    options = {"device": "cpu"}
    folder = str(run / "model")
    classifier = EncoderClassifier.from_hparams(folder, run_opts=options)
    print("\nPredictions of SpeechBrain's EncoderClassifier:")
    for wav, emotion in labels.items():
        _, score, _, text_lab = classifier.classify_file(wav)
        truth = f", labelled {emotion}" if emotion else ""
        print(f"  {wav}: {text_lab[0]} ({score.exp().item():.2f}{truth})")
    print(f"\nIn {run}: {FILES}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="output_folder of train.py")
    parser.add_argument("wavs", nargs="*", help="audio files")
    options = parser.parse_args()
    try:
        main(options.run, options.wavs)
    except QieemoError as error:
        sys.exit(str(error))
