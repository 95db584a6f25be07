"""Start and end of a recipe's run."""

import contextlib
import errno
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import IO, Any

import ruamel.yaml
import torch
from hyperpyyaml import load_hyperpyyaml
from safetensors import SafetensorError
from speechbrain.utils.distributed import (
    if_main_process,
    infer_device,
    run_on_main,
)

from qieemo_sb.corpora.manifest import SPLITS
from qieemo_sb.errors import CorpusError, QieemoError
from qieemo_sb.serving.models import check_device
from qieemo_sb.training.hparams import check_corpus, load_part, resolve
from qieemo_sb.training.resume import keep_options

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of torch (two), NumPy and safetensors, which do not give the number.
FULL_TEXTS = r"failed writing file|unexpected pos|\d written|os error (27|28)"

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
        or the folder holds a run with other options or one that is going on.
    """
    if run_opts["jit"] or run_opts["jit_module_keys"]:
        raise CorpusError(
            "--jit: TorchScript cannot compile Qieemo; use --compile."
        )
    if run_opts["device"]:
        check_device(run_opts["device"])
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
    if if_main_process():  # until the process ends
        hparams["lock"] = lock_folder(hparams["save_folder"])
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


def lock_folder(folder: str | Path) -> IO[str]:
    """Keep other processes from training in a folder, where files have locks.

    Arguments
    ---------
    folder : str or Path
        Of the checkpoints; made if need be.

    Returns
    -------
    file
        The lock lasts until this is closed or the process ends, however that
        may be; processes that load data do not hold it.

    Raises
    ------
    CorpusError
        Another process trains here.
    """
    path = Path(folder) / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w", encoding="utf-8")
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise CorpusError(
            f"Another training is going on in {folder}: wait for it, or choose "
            "another output_folder."
        ) from error
    except OSError:  # some disks of networks have no locks
        pass
    return file


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """End the process with one line where the user can mend what is wrong.

    That is a QieemoError, or a full disk.
    """
    try:
        yield
    except QieemoError as error:
        sys.exit(f"\n{error}")
    except (OSError, RuntimeError, SafetensorError) as error:
        full = getattr(error, "errno", None) in FULL
        if not full and not re.search(FULL_TEXTS, str(error)):
            raise
        sys.exit(
            f"\nThe disk is full ({error}): make room and run the same command "
            "again, which goes on from the last checkpoint."
        )


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
