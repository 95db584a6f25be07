#!/usr/bin/env python3
"""What each part brings: every row of a grid on all folds with every seed.

To use it, do the following (every option of train.py may follow):
> python ablate.py hparams/ablation.yaml --data_folder DIR --seeds 1986,1987

The table is ablation.json, ablation.md and ablation.png in the output folder,
renewed after every row; each row's own is in its folder, as cross_validate.py
leaves it. What is finished is not run again; `--row NAME`, which may be given
several times, takes some rows only. A grid of one's own is a yaml with
["hparams"], ["axes"] and ["rows"]: see hparams/ablation.yaml.

Authors
 * The Qieemo-SB authors 2026
"""

import signal
import sys
from pathlib import Path

from qieemo_sb.errors import CorpusError, EvaluationError
from qieemo_sb.evaluation import ablation, command
from qieemo_sb.evaluation.recipe import Recipe

TRAIN = Path(__file__).absolute().with_name("train.py")


def main(arguments):
    """Run what is not finished → exit status, 1 if a run has failed."""
    parser = command.make_parser(__doc__.split("\n")[0], "yaml of the grid")
    command.add_run_options(parser)
    parser.add_argument(
        "--row",
        action="append",
        metavar="NAME",
        help="as the table names it, e.g. 'fusion: MMF' (all)",
    )
    options, rest = parser.parse_known_args(arguments)
    hparams, _ = ablation.read_grid(options.hparams)
    recipe = Recipe(hparams, rest)
    folder = options.output_folder or recipe.folder("ablation")
    planned = ablation.plan_rows(
        TRAIN,
        options.hparams,
        rest,
        folder,
        options.folds,
        options.seeds,
        options.row,
    )
    about = {
        "title": f"{recipe.tree['corpus']}, {options.hparams.name}",
        "command": command.shown("ablate.py", arguments),
    }
    result = ablation.ablate(
        planned, folder, command.executor(options), about=about
    )
    print(
        f"\n{ablation.describe(result)}\nIn {folder}: ablation.json, .md, .png"
    )
    return any(row["finished"] < row["planned"] for row in result["rows"])


if __name__ == "__main__":
    # As Ctrl-C does: else the run that is going on would outlive this one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except (CorpusError, EvaluationError) as error:
        sys.exit(f"\n{error}")
