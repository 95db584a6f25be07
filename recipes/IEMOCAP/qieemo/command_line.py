"""Command line of cross_validate.py, ablate.py and probe_blocks.py.

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import dataclasses
import functools
import re
import shlex
import signal
import sys
from pathlib import Path

import torch
from qieemo_sb.errors import QieemoError
from qieemo_sb.evaluation import cross_validation as cv
from qieemo_sb.training.hparams import plain_options


def make_parser(description, hparams):
    """Parser of a yaml (described by ``hparams``), folds and output folder.

    Options that it does not know are train.py's: use parse_known_args.
    """
    parser = argparse.ArgumentParser(
        description=description.split("\n")[0],
        epilog="All other options are train.py's.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("hparams", type=Path, help=hparams)
    add("--folds", type=numbers, metavar="1,2,3", help="all of the corpus")
    add("--output_folder", type=Path, help="beside the yaml's")
    parser.set_defaults(seeds=[1986])
    return parser


def add_run_options(parser):
    """Adds seeds, and what a Ray cluster needs to know."""
    add, cores = parser.add_argument, torch.get_num_threads()
    add("--seeds", type=numbers, help="a run each (1986)")
    add("--ray", action="store_true", help="side by side on a Ray cluster")
    add("--num_cpus", type=int, default=cores, help="a run's, with --ray")
    add("--num_gpus", type=float, default=0, help="a run's, with --ray")


def make_executor(options):
    """Executor for ``cross_validate``, by options of ``add_run_options``."""
    if not options.ray:
        return cv.one_by_one
    resources = {"num_cpus": options.num_cpus, "num_gpus": options.num_gpus}
    return functools.partial(cv.on_ray, **resources)


def configure(
    options, script, hparams_file, rest, command, name="", title=None
):
    """Configuration of the runs of ``script``, with a folder and a heading.

    Unless the options have a folder, it is called ``name`` and lies beside
    those that train.py makes for folds and seeds. The heading shows absolute
    paths of the command by their last part, and names corpus and yaml if it
    has no ``title``.
    """
    given = cv.Configuration(
        script, hparams_file, rest, Path(), options.folds, options.seeds
    )
    plain = plain_options(hparams_file, given.overrides)
    folder = Path(plain["output_folder"])
    if folder.parts[-2:] == (f"fold_{plain['fold']}", str(plain["seed"])):
        folder = folder.parents[1]
    words = [re.sub("(^|=)/.*?([^/]+)/?$", r"\1\2", word) for word in command]
    about = {
        "title": title or f"{plain['corpus']}, {options.hparams.name}",
        "command": shlex.join(["python", *words]),
    }
    folder = options.output_folder or folder / name
    return dataclasses.replace(given, folder=folder, about=about)


def numbers(text):
    """Integers between commas."""
    return [int(part) for part in text.split(",")]


def run(main):
    """Runs a script's main on the command line, to its exit status."""
    # As Ctrl-C does: else the run that is going on would outlive this one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except QieemoError as error:
        sys.exit(f"\n{error}")
