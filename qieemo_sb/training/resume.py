"""The options and the data of a run, kept where its checkpoints are.

Trained on with another fold, other lists or another network, a run would be
tested on speakers that it has heard, or stop at weights that do not fit.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qieemo_sb.corpora.files import write_text
from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.errors import CorpusError
from qieemo_sb.evaluation.recipe import plain_options

FILE = "options.json"
DATA = "data.json"
# What may change while a run goes on, and what takes its place here: places,
# how long to train, and how.
FREE = {
    "output_folder": ".",
    "cache_folder": ".",
    "data_folder": ".",
    "number_of_epochs": 1,
    "epochs_without_gain": 1,
    "num_workers": 0,
    "gradient_checkpointing": False,
    "skip_prep": False,
}
BATCHES = "dynamic_batch_sampler"
CACHE = "cache_folder"  # where it is does not matter, but whether there is one


def keep_options(
    folder: str | Path, hparams_file: str | Path, overrides: str
) -> None:
    """Keep a run's options, or compare them with those of its checkpoints.

    Arguments
    ---------
    folder : str or Path
        Of the checkpoints.
    hparams_file : str or Path
        The recipe's yaml.
    overrides : str
        What the command line changes of it, as ``sb.parse_arguments`` tells.

    Raises
    ------
    CorpusError
        The checkpoints were trained with other options; names them.
    """
    path = Path(folder) / FILE
    now = plain_options(Path(hparams_file), overrides, FREE)
    free = {*FREE, BATCHES} - {CACHE}
    now = {k: v for k, v in now.items() if k not in free}
    if path.exists() and any(path.parent.glob("CKPT*")):
        changes = differences(json.loads(path.read_text("utf-8")), now)
        if changes:
            raise CorpusError(
                f"The checkpoints in {path.parent} were trained with other "
                "options:\n  "
                + "\n  ".join(changes)
                + "\nChoose another output_folder."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(now, indent=1))


def keep_data(folder: str | Path, manifests: Mapping[str, str | Path]) -> None:
    """Keep what a run is trained and tested on, or compare it.

    Arguments
    ---------
    folder : str or Path
        Of the checkpoints.
    manifests : mapping of str to (str or Path)
        Split → manifest.

    Raises
    ------
    CorpusError
        The checkpoints were trained with other lists; names the splits.
    """
    path = Path(folder) / DATA
    now = {split: _digest(file) for split, file in manifests.items()}
    if path.exists() and any(path.parent.glob("CKPT*")):
        before = json.loads(path.read_text("utf-8"))
        changed = [split for split in now if before.get(split) != now[split]]
        if changed:
            raise CorpusError(
                f"The checkpoints in {path.parent} were trained with other "
                f"lists of utterances: {', '.join(changed)} changed, and "
                "speakers that they have heard may be in the test. Choose "
                "another output_folder."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(now, indent=1))


def _digest(manifest):
    """Of a manifest, but for the lengths, which audio alone decides."""
    utterances = [
        dataclasses.replace(utterance, length=0.0)
        for utterance in read_manifest(manifest, required=("wav",))
    ]
    return hashlib.sha256(repr(utterances).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options that changed, a line each.

    Arguments
    ---------
    before, now : mapping of str to object
        Of ``plain_options``.

    Returns
    -------
    list of str
        Objects that are made of others are left out where those tell it.

    Example
    -------
    >>> before = {"fold": 1, "mmf": ["!new:MMF", {"width": 8}]}
    >>> differences(before, {"fold": 2, "mmf": ["!new:MMF", {"width": 9}]})
    ['fold: 1 before, now 2']
    """
    keys = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    told = [_difference(key, before, now) for key in keys]
    return [line for line in told if line] or keys


def _difference(key, before, now):
    """An option that changed, in words; None for an object made of others."""
    pair = before.get(key), now.get(key)
    if any(_is_object(value) for value in pair):
        if None not in pair and _tag(pair[0]) == _tag(pair[1]):
            return None
        pair = tuple(_tag(value) for value in pair)
    elif any(_holds_object(value) for value in pair):
        return None
    return f"{key}: {pair[0]} before, now {pair[1]}"


def _holds_object(value):
    """Whether something in a dict or list is an object."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return any(_is_object(item) or _holds_object(item) for item in value)


def _is_object(value):
    """Whether a value is an object's tag with its arguments."""
    return str(_tag(value)).startswith("!")


def _tag(value):
    """An object's tag; any other value as it is."""
    tagged = isinstance(value, list) and value and isinstance(value[0], str)
    return value[0] if tagged and value[0].startswith("!") else value
