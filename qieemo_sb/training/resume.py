"""Options, data and tokens of a run, kept where its checkpoints are.

Trained on with another fold, other lists or another network, a run would be
tested on speakers that it was trained on, or stop at weights that do not fit.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qieemo_sb.corpora.manifest import Utterance, write_text
from qieemo_sb.errors import CorpusError
from qieemo_sb.lobes.tokens import Tokenizer, load_tokenizer
from qieemo_sb.training.hparams import plain_options

# What may change while a run goes on, and the value that stands for it here:
# places, how long to train, and how; what follows the training.
FREE = {
    "output_folder": ".",
    "cache_folder": ".",
    "data_folder": ".",
    "number_of_epochs": 1,
    "epochs_without_gain": 1,
    "num_workers": 0,
    "gradient_checkpointing": False,
    "skip_prep": False,
    "calibrate": False,
}
# A cache may move, but with and without one other frames are cropped.
IGNORED = {*FREE, "dynamic_batch_sampler"} - {"cache_folder"}


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
        The command line's options, as ``sb.parse_arguments`` returns them.

    Raises
    ------
    CorpusError
        The checkpoints were trained with other options; names them.
    """
    options = plain_options(hparams_file, overrides, **FREE)
    options = {k: v for k, v in options.items() if k not in IGNORED}
    _keep(Path(folder) / "options.json", options, "options")


def keep_data(
    folder: str | Path, datasets: Mapping[str, Iterable[Utterance]]
) -> None:
    """Keep digests of a run's utterances, or compare them.

    Arguments
    ---------
    folder : str or Path
        Of the checkpoints.
    datasets : mapping
        Split → utterances.

    Raises
    ------
    CorpusError
        The checkpoints were trained with other lists; names the splits.
    """
    digests = {}
    for split, utterances in datasets.items():
        # Audio alone decides its length: manifests may have it or not.
        same = [dataclasses.replace(u, length=0.0) for u in utterances]
        digests[split] = hashlib.sha256(repr(same).encode()).hexdigest()
    what = "lists of utterances, so that trained speakers may be in the test"
    _keep(Path(folder) / "data.json", digests, what, _changed)


def keep_tokens(folder: str | Path, tokens: Tokenizer) -> None:
    """Keep the tokens of a run's PPG, or compare them.

    Arguments
    ---------
    folder : str or Path
        Of the checkpoints.
    tokens : Tokenizer
        Of the run.

    Raises
    ------
    CorpusError
        The checkpoints have a PPG of other tokens.
    """
    path = Path(folder) / "tokens.json"

    def compare(facts, _):
        before = load_tokenizer(facts, str(path))
        return [] if before == tokens else [f"{before} before, now {tokens}"]

    _keep(path, tokens.facts, "tokens of the PPG", compare)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options that changed, a line each.

    Arguments
    ---------
    before, now : mapping of str to object
        Of ``plain_options``.

    Returns
    -------
    list of str
        An object changes with each option that it is made of: those are
        named; objects themselves only if they became others.

    Example
    -------
    >>> before = {"fold": 1, "mmf": ["!new:MMF", {"width": 8}]}
    >>> differences(before, {"fold": 2, "mmf": ["!new:MMF", {"width": 9}]})
    ['fold: 1 before, now 2']
    """
    keys = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    pairs = {k: (_short(before.get(k)), _short(now.get(k))) for k in keys}
    return [
        f"{key}: {old} before, now {new}"
        for key, (old, new) in pairs.items()
        if old != new and "objects" not in (old, new)
    ] or keys


def _changed(before, now):
    """Splits whose digest changed, a line each."""
    return [f"{key} changed" for key in now if before.get(key) != now[key]]


def _keep(path, now, what, compare=differences):
    """Write a run's facts beside its checkpoints, or compare them."""
    begun = path.exists() and any(path.parent.glob("CKPT*"))
    before = json.loads(path.read_text("utf-8")) if begun else now
    if changed := compare(before, now):
        raise CorpusError(
            f"The checkpoints in {path.parent} were trained with other {what}:"
            + "".join(f"\n  {line}" for line in changed)
            + "\nChoose another output_folder."
        )
    write_text(path, json.dumps(now, indent=1))


def _short(value):
    """A value as messages show it: an object by its tag alone."""
    if isinstance(value, list) and value and str(value[0]).startswith("!"):
        return value[0]
    return "objects" if '"!' in json.dumps(value) else value
