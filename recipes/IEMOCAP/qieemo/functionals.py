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

import sys
from pathlib import Path

import numpy as np
import torch
from qieemo_sb.errors import AudioError, CorpusError, EvaluationError
from qieemo_sb.evaluation.functionals import functionals, svm
from qieemo_sb.evaluation.probes import class_indices, read_fold
from qieemo_sb.evaluation.recipe import Recipe
from qieemo_sb.evaluation.scores import score, write_metrics


def main(recipe):
    """Extract, fit, score."""
    recipe.check_data()
    tree, folder = recipe.tree, Path(recipe.tree["output_folder"])
    emotions = recipe.build("emotions", "n_classes")["emotions"]
    train, test = read_fold(recipe, tree["fold"], folder)
    x, x_test = (
        np.stack(
            functionals(
                [Path(tree["data_folder"], u.wav) for u in part],
                tree["cache_folder"] or folder,
            )
        )
        for part in (train, test)
    )
    predictions = svm(x, class_indices(train, emotions), x_test)
    summary = score(
        torch.from_numpy(class_indices(test, emotions)),
        torch.from_numpy(predictions),
        emotions,
    )
    write_metrics(
        folder / "metrics.json",
        summary,
        corpus=tree["corpus"],
        fold=tree["fold"],
        seed=tree["seed"],
    )
    print(f"WA {summary['weighted_accuracy']:.4f}")


if __name__ == "__main__":
    try:
        main(Recipe(sys.argv[1], sys.argv[2:]))
    except (CorpusError, AudioError, EvaluationError) as error:
        sys.exit(f"\n{error}")
