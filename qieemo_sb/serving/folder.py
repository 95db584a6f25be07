"""A model folder: a trained model on disk, as data.

    config.json         parts, their arguments, checksums of these and of files
    model.safetensors   weights
    label_encoder.txt   emotions in the order of the outputs, for SpeechBrain
    tokens.json         tokens of the PPG, if it was trained to transcribe
    hyperparams.yaml    for SpeechBrain's class, the same in every folder
    README.md           the model card

Nothing in it is evaluated: ``config.json`` names classes out of the
dictionaries of ``model.PARTS`` and their arguments.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qieemo_sb.errors import ModelFolderError, TokenError

if TYPE_CHECKING:  # an export is read without torch
    import torch

    from qieemo_sb.lobes.tokens import Tokenizer
    from qieemo_sb.model import PPGModel, Qieemo

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
LABELS = "label_encoder.txt"
TOKENS = "tokens.json"
HYPERPARAMS = "hyperparams.yaml"
CARD = "README.md"

FORMAT = 1  # raised when the meaning of config.json changes
MAX_BYTES = 10_000_000  # of a JSON or text file; a config has two thousand
LINE = 1000  # characters; a label needs a dozen
LARGEST = 1e9  # number in a config
SPARE = 1_000_000  # numbers that a model may make and not keep as weights


@dataclasses.dataclass
class LoadedModel:
    """The contents of a model folder.

    Arguments
    ---------
    model : Qieemo or PPGModel
        With its weights, in training mode.
    labels : list of str or None
        Emotions in the order of the outputs; None for a PPGModel.
    tokens : Tokenizer or None
        Of the PPG, if it was trained to transcribe.
    """

    model: Qieemo | PPGModel
    labels: list[str] | None
    tokens: Tokenizer | None


def save_model(
    folder: str | Path,
    model: Qieemo | PPGModel,
    card: str,
    labels: Sequence[str] | None = None,
    tokens: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a model folder; it appears when it is complete.

    Arguments
    ---------
    folder : str or Path
        Replaced if it is there.
    model : Qieemo or PPGModel
        Any.
    card : str
        The model card, in Markdown.
    labels : sequence of str or None
        Emotions in the order of the outputs; None for a PPGModel.
    tokens : Tokenizer or None
        Tokens in the order of the PPG's outputs.
    dtype : torch.dtype or None
        Of the parameters in the file: float16 halves it; None: float32.
        Buffers, which may exceed float16, stay in float32, and all is
        computed in float32 once it is loaded.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ModelFolderError
        ``folder`` is a file, or ``load_folder`` would not load it: a part is
        in no dictionary of ``model.PARTS``, or there are more or fewer names
        than outputs.
    """
    import torch
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.is_file():
        raise ModelFolderError(f"{folder} is a file; a model is a folder.")
    head = getattr(model, "classifier", None)
    check_labels(labels or [], head.n_classes if head else 0, "labels")
    if tokens is not None:
        _check_names(tokens.names, model.n_tokens, "tokens")
    trained = dict(model.named_parameters())
    weights = {}
    for name, value in model.state_dict().items():
        kind = (name in trained and dtype) or torch.float32
        weights[name] = value.detach().to(kind).cpu().contiguous()
    _check_shapes(model.config, weights)
    with replacing_folder(folder) as unfinished:
        save_file(weights, unfinished / WEIGHTS)
        if labels is not None:
            write_labels(unfinished / LABELS, labels)
        if tokens is not None:
            write_json(unfinished / TOKENS, tokens.facts)
        write_facts(unfinished / CONFIG, {"format": FORMAT, **model.config})
        (unfinished / CARD).write_text(card, encoding="utf-8")
        yaml = Path(__file__).with_name(HYPERPARAMS)
        shutil.copyfile(yaml, unfinished / HYPERPARAMS)
    return folder


def load_folder(folder: str | Path) -> LoadedModel:
    """Load a model folder.

    Arguments
    ---------
    folder : str or Path
        Of ``save_model``.

    Returns
    -------
    LoadedModel

    Raises
    ------
    ModelFolderError
        A file is missing, damaged or a link to some other folder, or the
        files do not belong together; the message names the file.
    """
    from qieemo_sb.lobes.tokens import load_tokenizer
    from qieemo_sb.model import Qieemo, build_model

    folder = Path(folder)
    config = read_config(folder)
    files = config.pop("sha256")
    check_files(folder, files)
    weights = _read_weights(folder / WEIGHTS)
    try:
        _check_shapes(config, weights)
        with _without_drawing():
            model = build_model(config)
    except ModelFolderError as error:
        raise ModelFolderError(f"{folder / CONFIG}: {error}") from error
    model.load_state_dict(weights)
    labels = tokens = None
    if isinstance(model, Qieemo):
        labels = read_labels(folder / LABELS, model.classifier.n_classes)
    if TOKENS in files:
        path = folder / TOKENS
        try:
            tokens = load_tokenizer(read_json(path), str(path))
        except TokenError as error:
            raise ModelFolderError(str(error)) from error
        _check_names(tokens.names, model.n_tokens, str(path))
    return LoadedModel(model, labels, tokens)


def is_model_folder(path: str | Path) -> bool:
    """True for a model folder; transformers' have a config.json as well."""
    return (Path(path) / HYPERPARAMS).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check ``config.json``, as far as possible without torch.

    Returns
    -------
    dict
        Of ``model.build_model``, and under "sha256" the folder's files.

    Raises
    ------
    ModelFolderError
        The folder has none, one of another format, or values out of bounds.
    """
    path = folder / CONFIG
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is no folder; a model is one.")
    if not path.is_file() and (folder / HYPERPARAMS).is_file():
        raise ModelFolderError(
            f"{folder} has no {CONFIG}: older releases kept models as yaml. "
            "Train the model again, or use the release that saved it."
        )
    if not path.is_file():
        raise ModelFolderError(f"{folder} is no model folder: no {CONFIG}.")
    config = read_json(path)
    if isinstance(config, dict) and "model_type" in config:
        raise ModelFolderError(
            f"{folder} is a Hugging Face checkpoint ({config['model_type']}), "
            "not a trained model: give it to train.py as its encoder."
        )
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelFolderError(
            f"{path} is not of format {FORMAT}: this release cannot read it."
        )
    check_facts(path, config, {WEIGHTS}, {LABELS, TOKENS})
    del config["format"]
    return config


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON, with checksums of all files beside, and its own."""
    sums = {p.name: sha256(p) for p in sorted(path.parent.iterdir())}
    facts = {**facts, "sha256": sums}
    sums[path.name] = _sha256_of(facts)
    write_json(path, facts)


def check_facts(
    path: Path, facts: dict[str, Any], needed: set[str], others: set[str]
) -> None:
    """Check the checksum of facts, and take it out of them.

    Arguments
    ---------
    path : Path
        Of ``write_facts``.
    facts : dict
        Read from it.
    needed, others : set of str
        Files whose checksums must be there, and may be there.

    Raises
    ------
    ModelFolderError
        The facts were changed, or lack checksums of the files.
    """
    sums = facts.get("sha256")
    own = sums.pop(path.name, None) if isinstance(sums, dict) else None
    if not isinstance(sums, dict) or not needed <= {*sums} <= needed | others:
        raise ModelFolderError(f"{path} has no checksums of the model's files.")
    if own not in (None, _sha256_of(facts)):  # older folders have none
        raise ModelFolderError(
            f"{path} is damaged: its checksum is not that of its values. Copy "
            "or download the folder again."
        )


def _sha256_of(facts):
    """Checksum of JSON values, whatever their order and layout."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_files(
    folder: Path, checksums: Mapping[str, str], source: str = CONFIG
) -> None:
    """Raise ModelFolderError for a file that is missing or was changed.

    Links may lead to one folder that has all files, as in the hub's cache and
    in a ``savedir``; not to a file of some other place, which would be read
    for whoever made the folder, and published with an export.
    """
    # realpath follows a link that leads to itself as well.
    home = os.path.dirname(os.path.realpath(folder / source))
    for path in (folder / name for name in (*checksums, LABELS, CARD)):
        target = os.path.realpath(path)
        if path.is_symlink() and os.path.dirname(target) != home:
            raise ModelFolderError(
                f"{path} is a link to {target}, which is not where "
                f"{source} is: if that is meant, copy the folder with cp -rL."
            )
    for name, expected in checksums.items():
        if not (folder / name).is_file():
            raise ModelFolderError(f"{folder / name} is missing, or no file.")
        if sha256(folder / name) != expected:
            raise ModelFolderError(
                f"{folder / name} is damaged: its checksum is not that of "
                f"{source}. Copy or download the folder again."
            )


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write labels as SpeechBrain's ``CategoricalEncoder`` keeps them."""
    lines = [f"{label!r} => {i}" for i, label in enumerate(labels)]
    lines += ["================", "'starting_index' => 0"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_labels(path: Path, expected: int) -> list[str]:
    r"""Read the names of a model's outputs, in their order.

    Arguments
    ---------
    path : Path
        Of ``write_labels`` or SpeechBrain's ``CategoricalEncoder.save``.
    expected : int
        C, the model's outputs.

    Returns
    -------
    list of str

    Raises
    ------
    ModelFolderError
        The file is missing or damaged, or does not name each output once.

    Example
    -------
    >>> path = getfixture("tmp_path") / "label_encoder.txt"
    >>> write_labels(path, ["happy", "sad"])
    >>> read_labels(path, expected=2)
    ['happy', 'sad']
    """
    names = {}
    try:
        for line in read_text(path).splitlines():
            if line.startswith("="):  # what follows is SpeechBrain's own
                break
            name, index = line[:LINE].rsplit(" => ", maxsplit=1)
            names[int(index)] = ast.literal_eval(name)
        labels: list[Any] = [names.get(i) for i in range(len(names))]
    except (ValueError, TypeError, SyntaxError, RecursionError) as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    check_labels(labels, expected, str(path))
    return labels


def check_labels(labels: Sequence[str], expected: int, where: str) -> None:
    """Raise ModelFolderError unless each output has a name of its own.

    Names are printed in tables of lines and tabs: control characters would
    break them, and halves of characters cannot be printed.
    """
    _check_names(labels, expected, where)
    for label in labels:
        if {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(c) for c in label}:
            raise ModelFolderError(
                f"{where}: the label {label!r} has control characters."
            )


@contextlib.contextmanager
def replacing_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Write a folder completely or not at all.

    Arguments
    ---------
    folder : path-like
        The folder to write or replace.

    Yields
    ------
    Path
        An empty folder beside it to write to; it takes the place of
        ``folder`` when the block ends, and goes away if the block raises.
    """
    folder = Path(folder).resolve()  # a link stays one
    unfinished = folder.with_name(folder.name + ".unfinished")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.replace(old)
        try:
            unfinished.replace(folder)
        except OSError:
            if old.exists():
                old.replace(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON, lists on one line each."""
    text = json.dumps(values, ensure_ascii=False, indent=2)
    for whole in set(re.findall(r"\[\n[^\[\]{}]*\]", text)):
        items = re.sub(r"\n *", " ", whole[1:-1]).strip()
        text = text.replace(whole, f"[{items}]")
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; ModelFolderError if it is missing or damaged."""
    text = read_text(path)
    try:
        values = json.loads(text)
        json.dumps(values, ensure_ascii=False).encode()  # can be written
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    return values


def read_text(path: str | Path) -> str:
    """Read a text file; ModelFolderError if it is missing or damaged."""
    path = Path(path)
    if not path.is_file():  # reading a pipe or a device may never end
        raise ModelFolderError(f"{path} is missing, or no file.")
    if path.stat().st_size > MAX_BYTES:
        raise ModelFolderError(f"{path} has more than {MAX_BYTES} bytes.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error


def sha256(path: Path) -> str:
    """Checksum of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _read_weights(path):
    """Weights by name, mapped from the disk; all are finite numbers."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    for name, value in weights.items():
        is_usable = value.is_floating_point() and value.itemsize > 1
        # A value that is not finite leaves no sum finite, and to look at each
        # takes four times as long.
        if not (is_usable and value.sum(dtype=torch.float64).isfinite()):
            raise ModelFolderError(
                f"{path} is damaged: {name} is no float16 or float32, or has "
                "values that are NaN or infinite."
            )
    return weights


def _without_drawing():
    """Leave fresh weights as they are: loaded ones take their place.

    To draw them takes as long as the rest of loading a model.
    """
    from torch.overrides import TorchFunctionMode

    class WithoutDrawing(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if function.__name__.endswith(("normal_", "uniform_")):
                return [*args, *kwargs.values()][0]
            return function(*args, **kwargs)

    return WithoutDrawing()


def _check_shapes(config: dict, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise ModelFolderError unless the weights are those of the config.

    Nothing is allocated, whatever sizes the config has.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    from qieemo_sb.model import build_model

    class WithoutMemory(TorchFunctionMode):
        # As torch.device("meta"), which needs torch's compiler for random
        # draws and the like, and a second to import that.
        numbers_left = SPARE + 2 * sum(x.numel() for x in weights.values())

        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if function.__name__ == "eye":
                function, args = torch.empty, (args[0], args[0])
            if function.__name__ in ("normal_", "__set__"):  # of weights
                return [*args, *kwargs.values()][0]
            if function.__name__ not in ("empty", "zeros", "ones", "full"):
                return function(*args, **kwargs)
            made = function(*args, **{**kwargs, "device": "meta"})
            self.numbers_left -= 1 + made.numel()
            if self.numbers_left < 0:
                raise ModelFolderError(f"it is larger than {WEIGHTS}.")
            return made

    for name, arguments in config.items():
        if not _is_modest(arguments):
            raise ModelFolderError(f"{name} has values of no model.")
    with WithoutMemory():
        model = build_model(config)
    expected = {k: list(v.shape) for k, v in model.state_dict().items()}
    found = {k: list(v.shape) for k, v in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ModelFolderError(
                f"the weight {name} is {found.get(name)} in {WEIGHTS} where "
                f"{expected.get(name)} is needed: they do not belong together."
            )


def _is_modest(value, depth=0):
    """True for plain values, neither deep nor long nor large."""
    if isinstance(value, dict | list) and depth < 6 and len(value) < 1000:
        values = value.values() if isinstance(value, dict) else value
        return all(_is_modest(item, depth + 1) for item in values)
    if isinstance(value, int | float):
        return abs(value) <= LARGEST
    return value is None or (isinstance(value, str) and len(value) < 1000)


def _check_names(names, expected, where):
    """Raise ModelFolderError unless each output has a name of its own."""
    texts = {name for name in names if isinstance(name, str)}
    if not len(names) == len(texts) == expected:
        raise ModelFolderError(
            f"{where} has {len(texts)} names, the model has {expected} "
            "outputs: they do not belong together."
        )
