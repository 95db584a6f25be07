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

from pathlib import Path

import command_line
from qieemo_sb.evaluation import ablation

TRAIN = Path(__file__).absolute().with_name("train.py")


def main(arguments):
    """Run what is not finished → exit status, 1 if a run has failed."""
    parser = command_line.make_parser(__doc__, "yaml of the grid")
    command_line.add_run_options(parser)
    parser.add_argument("--row", action="append", help="'fusion: MMF' (all)")
    options, rest = parser.parse_known_args(arguments)
    yaml, rows = ablation.read_grid(options.hparams, options.row)
    given, command = (TRAIN, yaml, rest), ["ablate.py", *arguments]
    all_rows = command_line.configure(options, *given, command, "ablation")
    planned, folder = ablation.plan_rows(rows, all_rows), all_rows.folder
    executor = command_line.make_executor(options)
    result = ablation.ablate(planned, folder, executor, all_rows.about)
    print(f"\n{ablation.describe(result)}\nIn {folder}:", end=" ")
    print("ablation.json, ablation.md, ablation.png")
    return any(row["finished"] < row["planned"] for row in result["rows"])


if __name__ == "__main__":
    command_line.run(main)
