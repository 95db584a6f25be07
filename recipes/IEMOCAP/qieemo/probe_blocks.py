#!/usr/bin/env python3
"""Which block of an encoder carries emotion: a linear probe on each.

To use it, do the following (options of train.py may follow):
> python probe_blocks.py hparams/qieemo.yaml --data_folder DIR

The encoder reads the corpus once; mean and standard deviation of each block's
frames are kept in the yaml's cache_folder, so a second call takes as long as
the probes do. The table is probe.json, probe.md and probe.png in the output
folder. With --speaker_normalise a second table has each speaker's own mean and
scale removed, which takes unlabelled speech of those who are tested.

Authors
 * The Qieemo-SB authors 2026
"""

import sys

from qieemo_sb.errors import AudioError, CorpusError, EvaluationError
from qieemo_sb.evaluation import (
    command,
    probes as probing,
)
from qieemo_sb.evaluation.recipe import Recipe


def main(arguments):
    """Encode, probe, write."""
    parser = command.make_parser(__doc__.split("\n")[0], "yaml of train.py")
    parser.add_argument(
        "--C",
        type=float,
        default=0.01,
        help="of the logistic regression on one block (0.01)",
    )
    parser.add_argument(
        "--speaker_normalise",
        action="store_true",
        help="probe what is left without each speaker's mean and scale, too",
    )
    options, rest = parser.parse_known_args(arguments)
    recipe = Recipe(options.hparams, rest)
    recipe.check_data()
    folder = options.output_folder or recipe.folder("probe")
    folds = recipe.check_folds(options.folds)
    folds = probing.read_folds(recipe, folds, folder)
    statistics = probing.pooled_statistics(recipe, folds, folder)
    result = {
        "title": f"{recipe.tree['corpus']}, {options.hparams.name}: probes",
        "command": command.shown("probe_blocks.py", arguments),
        "C": options.C,
        "tables": probing.probe_tables(
            recipe, statistics, folds, options.C, options.speaker_normalise
        ),
    }
    probing.write_probe(result, folder)
    print(f"\n{probing.describe(result)}")
    print(f"In {folder}: probe.json, probe.md, probe.png")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (CorpusError, AudioError, EvaluationError) as error:
        sys.exit(f"\n{error}")
