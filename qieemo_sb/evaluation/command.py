"""The command line that the scripts of all tables share."""

import argparse
import functools
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from qieemo_sb.evaluation.cross_validation import (
    Outcome,
    Run,
    on_ray,
    one_by_one,
)

SEED = 1986


def make_parser(description: str, hparams: str) -> argparse.ArgumentParser:
    """Parser with the yaml, --folds and --output_folder.

    Arguments
    ---------
    description : str
        First line of the help.
    hparams : str
        What the yaml is, for the help.

    Returns
    -------
    argparse.ArgumentParser
        Options that it does not know are train.py's: use parse_known_args.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog="All other options are train.py's.",
        allow_abbrev=False,
    )
    parser.add_argument("hparams", type=Path, help=hparams)
    parser.add_argument(
        "--folds", type=numbers, metavar="1,2,3", help="all of the corpus"
    )
    parser.add_argument(
        "--output_folder", type=Path, help="beside the yaml's own"
    )
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which seeds are run, and how.

    Arguments
    ---------
    parser : argparse.ArgumentParser
        Of ``make_parser``.
    """
    parser.add_argument(
        "--seeds",
        type=numbers,
        default=[SEED],
        metavar="1986,1987",
        help=f"a run each ({SEED})",
    )
    parser.add_argument(
        "--ray", action="store_true", help="run side by side on a Ray cluster"
    )
    parser.add_argument(
        "--num_cpus",
        type=int,
        default=torch.get_num_threads(),
        help="with --ray, cores of a run (as many as it takes without)",
    )
    parser.add_argument(
        "--num_gpus", type=float, default=0, help="with --ray, GPUs of a run"
    )


def executor(
    options: argparse.Namespace,
) -> Callable[[Iterable[Run]], Iterable[Outcome]]:
    """How the runs are to be executed.

    Arguments
    ---------
    options : argparse.Namespace
        Of a parser with ``add_run_options``.

    Returns
    -------
    callable
        For ``cross_validate``.
    """
    if not options.ray:
        return one_by_one
    return functools.partial(
        on_ray, num_cpus=options.num_cpus, num_gpus=options.num_gpus
    )


def numbers(text: str) -> list[int]:
    """Integers between commas.

    Arguments
    ---------
    text : str
        As typed.

    Returns
    -------
    list of int

    Example
    -------
    >>> numbers("1,2,3")
    [1, 2, 3]
    """
    return [int(part) for part in text.split(",")]


def shown(script: str, arguments: Iterable[str]) -> str:
    """A command as tables show it: absolute paths by their last part.

    Arguments
    ---------
    script : str
        Of the command.
    arguments : iterable of str
        Behind it.

    Returns
    -------
    str

    Example
    -------
    >>> shown("train.py", ["a.yaml", "--data_folder=/home/ann/RAVDESS"])
    'python train.py a.yaml --data_folder=RAVDESS'
    """
    words = []
    for argument in arguments:
        head, equals, value = argument.rpartition("=")
        if Path(value).is_absolute():
            value = Path(value).name
        words.append(f"{head}{equals}{value}")
    return shlex.join(["python", script, *words])
