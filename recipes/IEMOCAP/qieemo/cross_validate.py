#!/usr/bin/env python3
"""Train and test every fold with every seed, and summarise.

To use it, do the following (every option of train.py may follow):
> python cross_validate.py hparams/qieemo.yaml --data_folder DIR
> python cross_validate.py hparams/qieemo.yaml --data_folder DIR \
      --folds 1,2 --seeds 1986,1987,1988 --mmf null --output_folder results/x

The table is cv.json and cv.md in the output folder, renewed after every run,
and the pictures cv.png and confusion.png, drawn at the end. A run that is
finished is not run again, and one that was stopped goes on; runs with other
options need another output folder.
With --ray, runs go side by side on a Ray cluster, or on this machine's cores.

Authors
 * The Qieemo-SB authors 2026
"""

from pathlib import Path

import command_line
from qieemo_sb.evaluation import cross_validation as cv

TRAIN = Path(__file__).with_name("train.py")


def main(arguments):
    """Run what is not finished → exit status, 1 if a run has failed."""
    parser = command_line.make_parser(__doc__, "yaml of train.py")
    command_line.add_run_options(parser)
    parser.add_argument(
        "--script", type=Path, default=TRAIN, help="e.g. functionals.py"
    )
    options, rest = parser.parse_known_args(arguments)
    given = options.script, options.hparams, rest
    command = ["cross_validate.py", *arguments]
    planned = command_line.configure(options, *given, command, "cv")
    runs, folder, about = cv.plan(planned), planned.folder, planned.about
    executor = command_line.make_executor(options)
    result = cv.cross_validate(runs, folder, executor, about)
    pictures = ", cv.png, confusion.png" if result["summary"] else ""
    print(f"\n{cv.describe(result)}\nIn {folder}: cv.json, cv.md{pictures}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    command_line.run(main)
