"""Start and end of a recipe's run."""

import time
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import infer_device, run_on_main

from qieemo_sb.corpora.manifest import SPLITS
from qieemo_sb.errors import CorpusError
from qieemo_sb.training.hparams import check_corpus, load_part, resolve
from qieemo_sb.training.resume import keep_options

# A thread of gloo needs far less; no process notices it.
SECONDS = 0.1


def start(
    hparams_file: str | Path,
    run_opts: Mapping[str, Any],
    overrides: str,
    check_data: bool = False,
) -> dict[str, Any]:
    """Load a recipe's yaml and keep its options beside the checkpoints.

    A run that is refused leaves the folder as it was.

    Arguments
    ---------
    hparams_file, run_opts, overrides
        As ``sb.parse_arguments`` returns them.
    check_data : bool
        Before anything is built, say how to get a corpus that is not there.

    Returns
    -------
    dict
        Key of the yaml → value or object.

    Raises
    ------
    QieemoError
        The options cannot be used, the parts of the model do not fit together,
        or the folder holds a run with other options.
    """
    if run_opts["jit"] or run_opts["jit_module_keys"]:
        raise CorpusError(
            "--jit: TorchScript cannot compile Qieemo; use --compile."
        )
    resolve(hparams_file, overrides)  # names an option that there is not
    if check_data:
        check_corpus(hparams_file, overrides)
    try:
        with open(hparams_file, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides)
    except (ValueError, OSError) as error:  # parts that do not fit, or lack
        raise CorpusError(str(error)) from error
    starts = hparams.get("probe_c") is not None
    if hparams["number_of_epochs"] == 0 and not starts:
        raise CorpusError(
            "number_of_epochs is 0, which leaves the probe that training "
            "starts from, and there is none: set probe_c, or train."
        )
    run_on_main(
        keep_options, args=[hparams["save_folder"], hparams_file, overrides]
    )
    return hparams


def choose_epochs(
    train: Callable[..., tuple],
    hparams_file: str | Path,
    run_opts: Mapping[str, Any],
    overrides: str,
) -> str:
    """With ``refit``, choose how long to train by a run that tests nothing.

    That run is in the folder "selection" of the output folder. With
    ``skip_prep`` it has the manifests of the run that follows. It is also the
    one that is calibrated: the final run trains on the validation clips.

    Arguments
    ---------
    train : callable
        hparams, run_opts → Brain, which is trained, and more.
    hparams_file, run_opts, overrides
        As ``sb.parse_arguments`` returns them.

    Returns
    -------
    str
        The overrides, with the number of epochs and, where ``calibrate`` is
        True, the file that the final run is calibrated by; without ``refit``
        as given.
    """
    check_corpus(hparams_file, overrides)
    files = [f"{split}_annotation" for split in SPLITS]
    keys = ("refit", "calibrate", "skip_prep", "output_folder", *files)
    part = load_part(hparams_file, overrides, *keys)
    if not part["refit"]:
        return overrides
    kept = {file: part[file] for file in files} if part["skip_prep"] else {}
    folder = f"{part['output_folder']}/selection"
    options = _override(overrides, output_folder=folder, refit=False, **kept)
    brain, *_ = train(start(hparams_file, run_opts, options), run_opts)
    chosen = brain.checkpointer.find_checkpoint(**brain.best)
    found = {"number_of_epochs": chosen.meta["epoch"]}
    if part["calibrate"] is True:
        brain.on_evaluate_start(**brain.best)
        found["calibrate"] = f"{folder}/calibration.json"
    return _override(overrides, **found)


def _override(overrides, **more):
    """Options in the form of ``sb.parse_arguments``, some of them changed."""
    yaml, text = ruamel.yaml.YAML(), StringIO()
    yaml.dump({**(yaml.load(overrides) or {}), **more}, text)
    return text.getvalue()


def move_to_device(model: torch.nn.Module, run_opts: Mapping[str, Any]) -> str:
    """Move a model to the device of the Brain that there will be; name it."""
    device = run_opts["device"] or infer_device()
    model.to(device)
    return device


def leave_process_group() -> None:
    """Leave the group that ``ddp_init_group`` made, if it made one.

    Gloo's threads drop a collective's tensors after it has ended, and need
    Python's lock for that. Python being shut down by then, the process would
    abort although all went well (github.com/pytorch/pytorch/issues/190489, one
    short run in ten). Sleeping gives them the lock; a barrier does not, nor
    leaving the group, whose threads DDP keeps alive.
    """
    if torch.distributed.is_initialized():
        time.sleep(SECONDS)
        torch.distributed.destroy_process_group()
