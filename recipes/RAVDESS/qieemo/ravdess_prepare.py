#!/usr/bin/env python3
"""Prepare RAVDESS: write train.json, valid.json and test.json.

Run by train.py, or alone:
> python ravdess_prepare.py DATA_FOLDER OUT_FOLDER --fold 1

Authors
 * The Qieemo-SB authors 2026
"""

import sys

from qieemo_sb.corpora import command
from qieemo_sb.corpora.ravdess import TEST_ACTORS, prepare_ravdess


def main(arguments=None) -> int:
    parser = command.make_parser("Write the manifests of a RAVDESS fold.")
    parser.add_argument(
        "--fold",
        type=int,
        choices=list(TEST_ACTORS),
        default=1,
        help="EmoBox fold: which four actors to test (1)",
    )
    parser.add_argument(
        "--valid-fraction",
        type=float,
        default=0.2,
        help="of the other actors' clips, to validate (0.2)",
    )
    return command.run(prepare_ravdess, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
