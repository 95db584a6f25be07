"""The command line that the prepare scripts of all recipes share."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from qieemo_sb.corpora.manifest import SPLITS, read_manifest
from qieemo_sb.corpora.table import table
from qieemo_sb.errors import CorpusError


def make_parser(description: str) -> argparse.ArgumentParser:
    """Parser with DATA_FOLDER, OUT_FOLDER and --seed.

    Arguments
    ---------
    description : str
        First line of the help.

    Returns
    -------
    argparse.ArgumentParser
        Add the corpus's own options to it.
    """
    parser = argparse.ArgumentParser(
        description=description, allow_abbrev=False
    )
    parser.add_argument("data_folder", metavar="DATA_FOLDER", help="the corpus")
    parser.add_argument(
        "output_folder",
        metavar="OUT_FOLDER",
        help="where train.json, valid.json and test.json go",
    )
    parser.add_argument(
        "--seed", type=int, default=1986, help="of random choices (1986)"
    )
    return parser


def run(prepare: Callable[..., None], options: argparse.Namespace) -> int:
    """Prepare a corpus and print what came out.

    Arguments
    ---------
    prepare : callable
        ``prepare(**options)``; writes manifests to ``output_folder``.
    options : argparse.Namespace
        From a parser of `make_parser`.

    Returns
    -------
    int
        Exit status: 0, or 1 when the corpus or a folder is at fault, which
        is then said on stderr without a traceback.
    """
    try:
        prepare(**vars(options))
        print(summary(options.output_folder))
    except (CorpusError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def summary(output_folder: str | Path) -> str:
    """Tell the size of each split of a prepared folder.

    Arguments
    ---------
    output_folder : str or Path
        Holds train.json, valid.json and test.json.

    Returns
    -------
    str
        A table: utterances, speakers, hours and label counts, a split a row.
    """
    splits = {
        name: read_manifest(Path(output_folder) / f"{name}.json", ())
        for name in SPLITS
    }
    labels = sorted({u.emo for part in splits.values() for u in part})
    rows = [["split", "utterances", "speakers", "hours", *labels]]
    for name, part in splits.items():
        counts = Counter(u.emo for u in part)
        rows.append(
            [
                name,
                len(part),
                len({u.spk_id for u in part}),
                f"{sum(u.length for u in part) / 3600:.2f}",
                *(counts[label] for label in labels),
            ]
        )
    return table(rows)
