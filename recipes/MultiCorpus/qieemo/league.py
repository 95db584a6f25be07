#!/usr/bin/env python3
"""The league: EmoBox's official folds of several corpora in one table.

To use it, do the following (every other option of train.py may follow):
> python league.py hparams/emobox.yaml --emobox_folder DIR --data_root DIR \
      --corpora "[ravdess, emodb]" --seeds 1986,1987,1988

Qieemo, a linear probe of the same blocks, and EmoBox's published scores of
larger encoders. Options of a corpus stand in league.yaml. The table is
league.json and league.md in the output folder, renewed after every corpus;
each corpus's own is in its folder, as cross_validate.py leaves it. What is
finished is not run again; with --ray, runs go side by side.

Authors
 * The Qieemo-SB authors 2026
"""

import dataclasses
from pathlib import Path

import command_line
from qieemo_sb.evaluation import ablation, league

import speechbrain as sb

TRAIN = Path(__file__).absolute().with_name("train.py")


def main(arguments):
    """Probe, run what is not finished → exit status, 1 if a run failed."""
    parser = command_line.make_parser(__doc__, "yaml of train.py")
    command_line.add_run_options(parser)
    add = parser.add_argument
    add("--corpora", type=names, required=True, help="'[ravdess, emodb]'")
    add("--data_root", type=Path, required=True, help="a folder for each")
    add("--league", type=Path, help="another league.yaml")
    options, rest = parser.parse_known_args(arguments)
    yaml, command = options.hparams, ["league.py", *arguments]
    path = options.league or TRAIN.with_name("league.yaml")
    table = league.read_league(path)
    found = command_line.configure(options, TRAIN, yaml, rest, "", command)
    folder = options.output_folder or Path("results/league")
    about = {**found.about, "title": "EmoBox's official folds"}
    every = dataclasses.replace(found, folder=folder, about=about)
    own = options.data_root.absolute(), table["options"]
    rows = league.make_rows(options.corpora, *own)
    planned = ablation.plan_rows(rows, every)
    device = sb.parse_arguments([str(yaml), *rest])[1]["device"] or "cpu"
    probed = {}
    for row in rows:
        print(f"Probe of {row.name}", flush=True)
        alone = ablation.row_configuration(row, every)
        place = dataclasses.replace(alone, folder=alone.folder / "probe")
        probed[row.name] = league.probe(place, device)
    executor = command_line.make_executor(options)
    published = table["published"]
    result = league.play(planned, probed, published, folder, executor, about)
    print(f"\n{league.describe(result)}\nIn {folder}: league.json, league.md")
    # Published rows and probes have no runs.
    runs = [row for row in result["rows"] if "planned" in row]
    return any(row["finished"] < row["planned"] for row in runs)


def names(text):
    """Names between commas, in brackets or not."""
    return [part.strip() for part in text.strip("[] ").split(",")]


if __name__ == "__main__":
    command_line.run(main)
