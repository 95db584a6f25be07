#!/usr/bin/env python3
"""Prepare IEMOCAP: write train.json, valid.json and test.json.

Run by train.py, or alone:
> python iemocap_prepare.py DATA_FOLDER OUT_FOLDER --protocol loso --fold 5

Authors
 * The Qieemo-SB authors 2026
"""

import sys

from qieemo_sb.corpora import command
from qieemo_sb.corpora.iemocap import LABEL_SETS, PROTOCOLS, prepare_iemocap


def main(arguments=None) -> int:
    parser = command.make_parser("Write the manifests of an IEMOCAP fold.")
    parser.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
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
    parser.add_argument(
        "--expected-counts",
        metavar="JSON",
        help="turns by session and label of a tree other than IEMOCAP's own",
    )
    return command.run(prepare_iemocap, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
