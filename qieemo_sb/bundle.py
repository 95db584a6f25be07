"""A trained model as one folder: save it, load it, check that it is whole.

    hyperparams.yaml     the parts and how they are served
    model.safetensors    every weight
    label_encoder.txt    emotions in the order of the classifier's outputs
    tokens.txt           tokens in the order of the PPG, if it reads
    README.md            the model card

Authors
 * The Qieemo-SB authors 2026
"""

import importlib.resources
import io
import shutil
from pathlib import Path
from typing import Any

import ruamel.yaml
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from speechbrain.dataio.encoder import CategoricalEncoder, CTCTextEncoder
from speechbrain.utils.fetching import fetch
from speechbrain.utils.parameter_transfer import Pretrainer

from qieemo_sb.model import Qieemo
from qieemo_sb.rebuild import Rebuildable

HYPERPARAMS = "hyperparams.yaml"
WEIGHTS = "model.safetensors"
LABELS = "label_encoder.txt"
TOKENS = "tokens.txt"
CARD = "README.md"
PARTS = (
    "encoder",
    "mixer",
    "ppg_head",
    "mmf",
    "cma",
    "pooling",
    "classifier",
)


class BundleError(ValueError):
    """A bundle is not whole, or not of one piece."""


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
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / HYPERPARAMS).write_text(
        describe(model, tokens), encoding="utf-8"
    )
    weights = {
        name: value.detach().float().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, unfinished / WEIGHTS)
    label_encoder.save(unfinished / LABELS)
    if tokens is not None:
        tokens.save(unfinished / TOKENS)
    (unfinished / CARD).write_text(card, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)
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


class BundleLoader(Pretrainer):
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
        super().__init__()
        self.model = model
        self.label_encoder = label_encoder
        self.tokens = tokens
        self.files = {}

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
