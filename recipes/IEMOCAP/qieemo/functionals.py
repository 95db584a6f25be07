#!/usr/bin/env python3
"""The classical baseline on a fold: eGeMAPS functionals and an SVM.

Has train.py's command line and leaves its metrics.json, so cross_validate.py
and ablate.py run it as they run train.py:
> python functionals.py hparams/qieemo.yaml --data_folder DIR --fold 1
> python cross_validate.py hparams/qieemo.yaml --data_folder DIR \
      --script functionals.py --output_folder results/functionals

It chooses nothing on validation data and trains on them, too.

Authors
 * The Qieemo-SB authors 2026
"""

from pathlib import Path

import command_line
from qieemo_sb.evaluation.probes import functionals, read_fold, score_fold, svm
from qieemo_sb.evaluation.scores import write_metrics
from qieemo_sb.training.hparams import check_corpus, load_part

import speechbrain as sb

KEYS = ("corpus", "fold", "emotions", "data_folder")


def main(arguments):
    """Extract, fit, score."""
    yaml, _, overrides = sb.parse_arguments(arguments)
    check_corpus(yaml, overrides)
    parts = read_fold(yaml, overrides)
    hparams = load_part(yaml, overrides, *KEYS, "output_folder", "cache_folder")
    output, root = Path(hparams["output_folder"]), Path(hparams["data_folder"])
    wavs = {utt.utt_id: root / utt.wav for part in parts for utt in part}
    features = functionals(wavs, hparams["cache_folder"] or output)
    summary = score_fold(svm(), features, parts, hparams["emotions"])
    facts = {key: hparams[key] for key in ("corpus", "fold", "seed")}
    write_metrics(output / "metrics.json", {**summary, **facts})
    accuracy = summary["weighted_accuracy"]
    print(f"WA {accuracy:.4f}\nIn {output}: metrics.json")


if __name__ == "__main__":
    command_line.run(main)
