#!/usr/bin/env python3
"""Prepare RAVDESS, or another corpus whose labels stand in file names.

Run by train.py, or alone:
> python ravdess_prepare.py DATA_FOLDER OUT_FOLDER --fold 1

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import sys

from qieemo_sb.corpora.entries import CORPORA
from qieemo_sb.corpora.manifest import prepare_and_report
from qieemo_sb.corpora.named import APART, prepare_named


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        description="Write the manifests of a fold.", allow_abbrev=False
    )
    parser.add_argument("data_folder", help="holds the clips")
    parser.add_argument("output_folder", help="where the manifests go")
    parser.add_argument(
        "--corpus", choices=list(CORPORA), default="RAVDESS", help="(RAVDESS)"
    )
    parser.add_argument(
        "--fold", type=int, default=1, help="speakers or sentences to test (1)"
    )
    parser.add_argument(
        "--apart",
        choices=APART,
        default="speakers",
        help="what no two parts share (speakers)",
    )
    parser.add_argument(
        "--valid-fraction",
        type=float,
        default=0.2,
        help="of the other speakers' clips, to validate (0.2)",
    )
    parser.add_argument(
        "--seed", type=int, default=1986, help="of validation clips"
    )
    options = parser.parse_args(arguments)
    return prepare_and_report(prepare_named, **vars(options))


if __name__ == "__main__":
    sys.exit(main())
