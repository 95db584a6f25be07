"""A model folder: a trained model on disk, as data.

    config.json         parts, their arguments, and checksums of the files below
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
import shutil
from collections.abc import Iterator, Sequence
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
LARGEST = 1_000_000  # of a number in a config


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
        ``folder`` is a file, or there are more or fewer labels or tokens than
        outputs.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.is_file():
        raise ModelFolderError(f"{folder} is a file; a model is a folder.")
    _check_outputs("labels", labels, getattr(model, "classifier", None))
    _check_outputs("tokens", tokens, tokens and model.ppg_head)
    with replacing_folder(folder) as unfinished:
        save_file(_weights(model, dtype), unfinished / WEIGHTS)
        if labels is not None:
            write_labels(unfinished / LABELS, labels)
        if tokens is not None:
            text = json.dumps(tokens.facts, ensure_ascii=False, indent=1)
            (unfinished / TOKENS).write_text(text + "\n", encoding="utf-8")
        config = {
            "format": FORMAT,
            **model.config,
            "sha256": {p.name: sha256(p) for p in sorted(unfinished.iterdir())},
        }
        text = json.dumps(config, ensure_ascii=False, indent=1)
        (unfinished / CONFIG).write_text(text + "\n", encoding="utf-8")
        (unfinished / CARD).write_text(card, encoding="utf-8")
        shutil.copyfile(
            Path(__file__).with_name(HYPERPARAMS), unfinished / HYPERPARAMS
        )
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
        A file is missing or damaged, or the files do not belong together; the
        message names the file.
    """
    from qieemo_sb.lobes.tokens import load_tokenizer
    from qieemo_sb.model import build_model

    folder = Path(folder)
    config = read_config(folder)
    config.pop("format")
    files = config.pop("sha256")
    check_files(folder, files)
    try:
        _check_shapes(config, folder / WEIGHTS)
        model = build_model(config)
    except ModelFolderError as error:
        raise ModelFolderError(f"{folder / CONFIG}: {error}") from error
    load_weights(model, folder / WEIGHTS)
    labels = tokens = None
    if hasattr(model, "classifier"):
        labels = read_labels(folder / LABELS, model.classifier.n_classes)
    if TOKENS in files:
        path = folder / TOKENS
        try:
            tokens = load_tokenizer(read_json(path), str(path))
        except TokenError as error:
            raise ModelFolderError(str(error)) from error
        _check_outputs(str(path), tokens, model.ppg_head)
    return LoadedModel(model, labels, tokens)


def is_model_folder(path: str | Path) -> bool:
    """True for a model folder; transformers' have a config.json as well."""
    return (Path(path) / HYPERPARAMS).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check ``config.json``, as far as possible without torch.

    Raises
    ------
    ModelFolderError
        The folder has none, one of another format, or values out of bounds.
    """
    path = folder / CONFIG
    if not path.is_file() and (folder / HYPERPARAMS).is_file():
        raise ModelFolderError(
            f"{folder} was saved by an older release, which kept models as "
            "yaml: train it again, or use the release that saved it."
        )
    if not path.is_file():
        raise ModelFolderError(f"{folder} is no model folder: no {CONFIG}.")
    config = read_json(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelFolderError(
            f"{path} is not of format {FORMAT}: this release cannot read it."
        )
    files = config.get("sha256")
    if not isinstance(files, dict) or set(files) - {WEIGHTS, LABELS, TOKENS}:
        raise ModelFolderError(f"{path} has no checksums of its files.")
    if WEIGHTS not in files:
        raise ModelFolderError(f"{path} names no {WEIGHTS}.")
    for name, arguments in config.items():
        if name not in ("format", "sha256", "model"):
            if not isinstance(arguments, dict) or not _bounded(arguments):
                raise ModelFolderError(
                    f"{path}: {name} has values that no model has."
                )
    return config


def check_files(
    folder: Path, checksums: dict[str, str], source: str = CONFIG
) -> None:
    """Raise ModelFolderError for a file that is missing or was changed."""
    for name, expected in checksums.items():
        path = folder / name
        if not path.is_file():
            raise ModelFolderError(f"{path} is missing.")
        if sha256(path) != expected:
            raise ModelFolderError(
                f"{path} is damaged: its checksum is not that of {source}. "
                "Copy or download the folder again."
            )


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load weights into a model; every key must arrive, every one be finite.

    Raises
    ------
    ModelFolderError
        The file is damaged, or its keys or shapes are others.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
        model.load_state_dict(weights, strict=True)
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    except RuntimeError as error:
        raise ModelFolderError(
            f"{path} does not fit the model of {CONFIG}: {error}"
        ) from error
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ModelFolderError(
                f"{path} is damaged: {name} has values that are NaN or "
                "infinite."
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
            name, index = line.rsplit(" => ", maxsplit=1)
            names[int(index)] = ast.literal_eval(name)
        labels = [names[index] for index in sorted(names)]
        titles = {label for label in labels if isinstance(label, str)}
    except (ValueError, SyntaxError, TypeError, MemoryError) as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    whole = sorted(names) == list(range(expected))
    if not whole or len(titles) != expected:
        raise ModelFolderError(
            f"{path} has {len(titles)} names, the model has {expected} "
            "outputs: they do not belong together."
        )
    return labels


def read_json(path: Path) -> Any:
    """Read a JSON file; ModelFolderError if it is missing or damaged."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error


def read_text(path: Path) -> str:
    """Read a text file; ModelFolderError if it is missing or damaged."""
    if not path.is_file():
        raise ModelFolderError(f"{path} is missing.")
    if path.stat().st_size > MAX_BYTES:
        raise ModelFolderError(f"{path} has more than {MAX_BYTES} bytes.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{path} cannot be read: {error}") from error


def sha256(path: Path) -> str:
    """Checksum of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


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


def _weights(model, dtype):
    """Weights to write: parameters in ``dtype``, buffers in float32."""
    import torch

    parameters = dict(model.named_parameters())
    return {
        name: value.detach()
        .to((dtype if name in parameters else None) or torch.float32)
        .cpu()
        .contiguous()
        for name, value in model.state_dict().items()
    }


def _check_shapes(config, path):
    """Raise ModelFolderError unless the weights are those of the config.

    Read from the header of the file: nothing large is allocated before.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    from qieemo_sb.model import build_model

    try:
        with safe_open(path, "pt") as file:
            found = {k: file.get_slice(k).get_shape() for k in file.keys()}
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    blocks = config.get("encoder", {}).get("dims", {})
    for name in ("n_blocks", "num_hidden_layers"):
        if isinstance(blocks, dict) and blocks.get(name, 0) > len(found):
            raise ModelFolderError(f"encoder has {blocks[name]} blocks.")
    with torch.device("meta"):
        model = build_model(config)
    expected = {k: list(v.shape) for k, v in model.state_dict().items()}
    if expected != found:
        names = sorted(
            name
            for name in {**expected, **found}
            if expected.get(name) != found.get(name)
        )
        raise ModelFolderError(
            f"{path.name} has other weights: {len(names)} differ, the first is "
            f"{names[0]} ({found.get(names[0])} where {expected.get(names[0])} "
            "is needed)."
        )


def _bounded(value, depth=0):
    """True for plain values of modest size, modestly nested."""
    if isinstance(value, dict | list) and depth < 5:
        values = value.values() if isinstance(value, dict) else value
        return all(_bounded(item, depth + 1) for item in values)
    if isinstance(value, int | float):
        return abs(value) <= LARGEST
    return value is None or (isinstance(value, str) and len(value) < 1000)


def _check_outputs(what, names, part):
    """Raise ModelFolderError unless each output of a part has a name."""
    outputs = 0
    if part is not None:
        outputs = getattr(part, "n_classes", None) or part.n_tokens
    if (0 if names is None else len(names)) != outputs:
        raise ModelFolderError(
            f"{what} has {0 if names is None else len(names)} names, the model "
            f"has {outputs} outputs: they do not belong together."
        )
