#!/usr/bin/env python3
"""Prepare IEMOCAP: write train.json, valid.json and test.json.

Run by train.py, or alone:
> python iemocap_prepare.py DATA_FOLDER OUT_FOLDER --protocol loso --fold 5

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import sys

from qieemo_sb.corpora.iemocap import LABEL_SETS, NUM_FOLDS, prepare_iemocap
from qieemo_sb.corpora.manifest import prepare_and_report


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        description="Write the manifests of an IEMOCAP fold.",
        allow_abbrev=False,
    )
    parser.add_argument("data_folder", help="holds Session1 to Session5")
    parser.add_argument("output_folder", help="where the manifests go")
    parser.add_argument(
        "--protocol",
        choices=list(NUM_FOLDS),
        default="loso",
        help="leave a session out, a speaker out, or split at random (loso)",
    )
    parser.add_argument(
        "--fold",
        type=int,
        default=1,
        help="what to test: session 1-5, speaker 1-10 or tenth 1-10 (1)",
    )
    parser.add_argument(
        "--labels",
        type=int,
        choices=list(LABEL_SETS),
        default=4,
        help="number of emotions (4)",
    )
    parser.add_argument("--seed", type=int, default=1986, help="of random")
    parser.add_argument(
        "--expected-counts",
        metavar="JSON",
        help="turns by session and label of a tree other than IEMOCAP's own",
    )
    options = parser.parse_args(arguments)
    return prepare_and_report(prepare_iemocap, **vars(options))


if __name__ == "__main__":
    sys.exit(main())
