#!/usr/bin/env python3
"""The contribution of each part: every row of a grid on all folds and seeds.

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

from qieemo_sb.errors import QieemoError
from qieemo_sb.evaluation import (
    ablation,
    cross_validation as cv,
)

TRAIN = Path(__file__).absolute().with_name("train.py")


def main(arguments):
    """Run what is not finished → exit status, 1 if a run has failed."""
    parser = cv.make_parser(__doc__.split("\n")[0], "yaml of the grid")
    parser.add_argument("--row", action="append", help="'fusion: MMF' (all)")
    options, rest = parser.parse_known_args(arguments)
    yaml, rows = ablation.read_grid(options.hparams, options.row)
    command = ["ablate.py", *arguments]
    all_rows = cv.configure(options, TRAIN, yaml, rest, "ablation", command)
    planned = ablation.plan_rows(rows, all_rows)
    executor, folder = cv.make_executor(options), all_rows.folder
    result = ablation.ablate(planned, folder, executor, all_rows.about)
    print(f"\n{ablation.describe(result)}\nIn {folder}:", end=" ")
    print("ablation.json, ablation.md, ablation.png")
    return any(row["finished"] < row["planned"] for row in result["rows"])


if __name__ == "__main__":
    # As Ctrl-C does: else the run that is going on would outlive this one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except QieemoError as error:
        sys.exit(f"\n{error}")
