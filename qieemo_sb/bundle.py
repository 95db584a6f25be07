"""A trained model as one folder: save it, load it, check that it is whole.

    hyperparams.yaml     the parts and how they are served
    model.safetensors    every weight
    label_encoder.txt    emotions in the order of the classifier's outputs
    tokens.txt           tokens in the order of the PPG, if it reads
    README.md            the model card

Authors
 * The Qieemo-SB authors 2026
"""

from __future__ import annotations

import importlib.resources
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ruamel.yaml
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from qieemo_sb.files import replacing_folder
from qieemo_sb.folder import (
    CARD,
    HYPERPARAMS,
    LABELS,
    TOKENS,
    WEIGHTS,
    BundleError,
    read_labels,
)
from qieemo_sb.model import Qieemo
from qieemo_sb.rebuild import Rebuildable
from qieemo_sb.trust import load_trusted_yaml

if TYPE_CHECKING:  # who only loads a model need not wait for SpeechBrain
    from speechbrain.dataio.encoder import CategoricalEncoder, CTCTextEncoder

PARTS = (
    "encoder",
    "mixer",
    "ppg_head",
    "mmf",
    "cma",
    "pooling",
    "classifier",
)


def save_bundle(
    folder: str | Path,
    model: Qieemo,
    label_encoder: CategoricalEncoder,
    card: str,
    tokens: CTCTextEncoder | None = None,
) -> Path:
    """Write a bundle; the folder appears when it is whole.

    Arguments
    ---------
    folder : str or Path
        Replaced if it is there.
    model : Qieemo
        Its weights are written in float32.
    label_encoder : CategoricalEncoder
        Index → emotion.
    card : str
        The model card, in Markdown.
    tokens : CTCTextEncoder or None
        Index → token of the PPG.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    BundleError
        ``folder`` is a file, or an encoder has more or fewer names than the
        model has outputs.
    """
    folder = Path(folder)
    if folder.is_file():
        raise BundleError(f"{folder} is a file; a bundle is a folder.")
    _check_names(label_encoder, model.classifier.n_classes, "label_encoder")
    if tokens is not None:
        _check_names(tokens, model.ppg_head.n_tokens, "tokens")
    weights = {
        name: value.detach().float().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    with replacing_folder(folder) as unfinished:
        (unfinished / HYPERPARAMS).write_text(
            describe(model, tokens), encoding="utf-8"
        )
        save_file(weights, unfinished / WEIGHTS)
        label_encoder.save(unfinished / LABELS)
        if tokens is not None:
            tokens.save(unfinished / TOKENS)
        (unfinished / CARD).write_text(card, encoding="utf-8")
    return folder


def describe(model: Qieemo, tokens: CTCTextEncoder | None = None) -> str:
    """The yaml that builds a model of this shape and serves it.

    Arguments
    ---------
    model : Qieemo
        Any.
    tokens : CTCTextEncoder or None
        Whether the PPG's tokens travel along.

    Returns
    -------
    str
        ``hparams/inference.yaml`` with its placeholders filled.
    """
    template = importlib.resources.files("qieemo_sb") / "hparams/inference.yaml"
    yaml = ruamel.yaml.YAML()
    yaml.indent(mapping=4, sequence=6, offset=4)
    tree = yaml.load(template.read_text(encoding="utf-8"))
    parts = model.rebuild_config()
    for name in PARTS:
        tree[name] = _node(parts[name])
    tree["tokens"] = None
    if tokens is not None:
        from speechbrain.dataio.encoder import CTCTextEncoder

        tree["tokens"] = _new(CTCTextEncoder, {})
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def _node(value: Any) -> Any:
    """A constructor argument as a yaml node."""
    if isinstance(value, Rebuildable):
        config = value.rebuild_config()
        return _new(type(value), {k: _node(v) for k, v in config.items()})
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {key: _node(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_node(item) for item in value]
    raise TypeError(f"A bundle cannot describe {value!r}.")


def _new(kind, arguments):
    """A ``!new:`` node."""
    node = ruamel.yaml.comments.CommentedMap(arguments)
    tag = f"!new:{kind.__module__}.{kind.__qualname__}"
    node.yaml_set_ctag(ruamel.yaml.Tag(suffix=tag))
    return node


def load_model(folder: str | Path) -> tuple[Qieemo, list[str]]:
    """Load a bundle's model and labels, and nothing that serves them.

    Arguments
    ---------
    folder : str or Path
        A bundle's.

    Returns
    -------
    model : Qieemo
        In eval mode; nothing of it trains.
    labels : list of str
        Emotions in the order of its outputs.

    Raises
    ------
    BundleError
        The bundle is not whole.
    UntrustedYaml
        The yaml names something that a bundle may not build.
    """
    path = Path(folder) / HYPERPARAMS
    loaded = load_trusted_yaml(read_yaml(path), str(path), only=["model"])
    model = loaded.get("model")
    if not isinstance(model, Qieemo):
        raise BundleError(f"{path} has no Qieemo as model.")
    load_weights(model, Path(folder) / WEIGHTS)
    labels = read_labels(Path(folder) / LABELS, model.classifier.n_classes)
    return model.eval().requires_grad_(False), labels


def read_yaml(path: Path) -> str:
    """The text of a bundle's yaml.

    Arguments
    ---------
    path : Path
        ``hyperparams.yaml`` in the bundle's folder.

    Returns
    -------
    str

    Raises
    ------
    BundleError
        The file is missing, or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{path.parent} is no bundle: no {path.name}."
        ) from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is no text: {error}") from error


class BundleLoader:
    """Fetches a bundle's files and loads them, every key checked.

    Stands where SpeechBrain's ``Pretrainer`` stands, which reads pickles and
    passes over missing keys.

    Arguments
    ---------
    model : Qieemo
        Gets the weights.
    label_encoder : CategoricalEncoder
        Gets the emotions.
    tokens : CTCTextEncoder or None
        Gets the PPG's tokens.
    """

    def __init__(
        self,
        model: Qieemo,
        label_encoder: CategoricalEncoder,
        tokens: CTCTextEncoder | None = None,
    ):
        self.model = model
        self.label_encoder = label_encoder
        self.tokens = tokens
        self.collect_in = None
        self.files = {}

    def set_collect_in(self, path: str | Path | None) -> None:
        """Say where to link or download files; None: use them in place."""
        self.collect_in = None if path is None else Path(path)

    def collect_files(self, default_source=None, **options) -> dict[str, str]:
        """Fetch the files from a folder or a hub.

        Arguments
        ---------
        default_source : str, Path or FetchSource
            Where the bundle is.
        **options
            Passed to ``speechbrain.utils.fetching.fetch``.

        Returns
        -------
        dict of str to str
            Name → local path.
        """
        from speechbrain.utils.fetching import fetch

        names = [WEIGHTS, LABELS] + (
            [TOKENS] if self.tokens is not None else []
        )
        for name in names:
            path = fetch(name, default_source, self.collect_in, **options)
            self.files[name] = str(path)
        return self.files

    def load_collected(self) -> None:
        """Fill the model and the encoders.

        Raises
        ------
        BundleError
            A file is missing or damaged, keys do not match, or the labels are
            not as many as the classifier's outputs.
        """
        load_weights(self.model, self.files[WEIGHTS])
        self._load_names(
            self.label_encoder, LABELS, self.model.classifier.n_classes
        )
        if self.tokens is not None:
            n_tokens = self.model.ppg_head.n_tokens
            self._load_names(self.tokens, TOKENS, n_tokens)

    def _load_names(self, encoder, name, expected):
        """Load index → name and check that each output has one."""
        path = self.files[name]
        if not Path(path).is_file():
            raise BundleError(f"{path} is missing from the bundle.")
        try:
            encoder.load(path)
        except (ValueError, LookupError, SyntaxError) as error:
            raise BundleError(f"{path} is damaged: {error}") from error
        _check_names(encoder, expected, path)
        encoder.expect_len(expected)


def _check_names(encoder, expected, where):
    """Raise BundleError unless each of the model's outputs has one name."""
    named = sorted(encoder.ind2lab) == list(range(expected))
    if not named or len(encoder.lab2ind) != expected:
        raise BundleError(
            f"{where} has {len(encoder.lab2ind)} names, the model has "
            f"{expected} outputs: they do not belong together."
        )


def load_weights(model: torch.nn.Module, path: str | Path) -> None:
    """Load weights into a model; every key must arrive.

    Arguments
    ---------
    model : torch.nn.Module
        Gets the weights.
    path : str or Path
        A safetensors file.

    Raises
    ------
    BundleError
        The file is missing or damaged, or its keys or shapes are others.
    """
    if not Path(path).is_file():
        raise BundleError(f"{path} is missing from the bundle.")
    try:
        weights = load_file(path)
        model.load_state_dict(weights, strict=True)
    except SafetensorError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    except RuntimeError as error:
        raise BundleError(
            f"{path} does not fit the model of {HYPERPARAMS}: {error}"
        ) from error
