"""A trained model as one folder: save it, load it, check that it is whole.

One of stage 1, which reads and knows no emotion, has no label_encoder.txt.

    hyperparams.yaml     the parts and how they are served
    model.safetensors    every weight
    label_encoder.txt    emotions in the order of the classifier's outputs
    tokens.json          tokens in the order of the PPG, if it reads
    tokens.model         of sentencepiece, if the tokens are its pieces
    README.md            the model card
"""

from __future__ import annotations

import importlib.resources
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ruamel.yaml
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from qieemo_sb.corpora.files import replacing_folder
from qieemo_sb.errors import ModelFolderError, TokenError
from qieemo_sb.lobes.tokens import Tokenizer
from qieemo_sb.model import Qieemo
from qieemo_sb.rebuild import Remembering
from qieemo_sb.serving.folder import (
    CARD,
    HYPERPARAMS,
    LABELS,
    TOKENS,
    WEIGHTS,
    read_labels,
)
from qieemo_sb.trust import load_trusted_yaml

if TYPE_CHECKING:  # who only loads a model need not wait for SpeechBrain
    from speechbrain.dataio.encoder import CategoricalEncoder

NO_EMOTION = (
    "This model reads and knows no emotion: it is of train_ppg.py. Give it to "
    "train.py as ppg_source."
)
PARTS = (
    "encoder",
    "mixer",
    "ppg_head",
    "mmf",
    "cma",
    "block_statistics",
    "pooling",
    "classifier",
    "speaker_model",
)


def save_bundle(
    folder: str | Path,
    model: Qieemo,
    label_encoder: CategoricalEncoder | None,
    card: str,
    tokens: Tokenizer | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a bundle; the folder appears when it is whole.

    Arguments
    ---------
    folder : str or Path
        Replaced if it is there.
    model : Qieemo
        Its weights are written in ``dtype``, whatever they are.
    label_encoder : CategoricalEncoder or None
        Index → emotion; None for a model that only reads.
    card : str
        The model card, in Markdown.
    tokens : Tokenizer or None
        Index → token of the PPG.
    dtype : torch.dtype
        Of the parameters in the file: float16 halves it. Statistics, which
        may be larger than it can hold, stay in float32, and all is computed
        in float32 once it is loaded.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ModelFolderError
        ``folder`` is a file, or an encoder has more or fewer names than the
        model has outputs.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ModelFolderError(f"{folder} is a file; a bundle is a folder.")
    if model.classifier is not None:
        _check_labels(label_encoder, model, "label_encoder")
    if tokens is not None:
        _check_tokens(tokens, model, "tokens")
    learned, weights = dict(model.named_parameters()), {}
    for name, value in model.state_dict().items():
        kind = dtype if name in learned else torch.float32
        weights[name] = value.detach().to(kind).cpu().contiguous()
    with replacing_folder(folder) as unfinished:
        (unfinished / HYPERPARAMS).write_text(
            describe(model, tokens), encoding="utf-8"
        )
        save_file(weights, unfinished / WEIGHTS)
        if model.classifier is not None:
            label_encoder.save(unfinished / LABELS)
        if tokens is not None:
            tokens.save(unfinished)
        (unfinished / CARD).write_text(card, encoding="utf-8")
    return folder


def describe(model: Qieemo, tokens: Tokenizer | None = None) -> str:
    """The yaml that builds a model of this shape and serves it.

    Arguments
    ---------
    model : Qieemo
        Any.
    tokens : Tokenizer or None
        Whether the PPG's tokens travel along.

    Returns
    -------
    str
        ``hyperparams.yaml`` with its placeholders filled.
    """
    template = (
        importlib.resources.files("qieemo_sb.serving") / "hyperparams.yaml"
    )
    yaml = ruamel.yaml.YAML()
    yaml.indent(mapping=4, sequence=6, offset=4)
    tree = yaml.load(template.read_text(encoding="utf-8"))
    parts = model.rebuild_config()
    for name in PARTS:
        tree[name] = _node(parts[name])
    tree["tokens"] = None if tokens is None else _node(tokens)
    if model.classifier is None:
        tree["label_encoder"] = None
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def _node(value: Any) -> Any:
    """A constructor argument as a yaml node."""
    if isinstance(value, Remembering):
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


class BundleLoader:
    """Fetches a bundle's files and loads them, every key checked.

    Stands where SpeechBrain's ``Pretrainer`` stands, which reads pickles and
    passes over missing keys.

    Arguments
    ---------
    model : Qieemo
        Gets the weights.
    label_encoder : CategoricalEncoder or None
        Gets the emotions; None for a model that only reads.
    tokens : Tokenizer or None
        Gets the PPG's tokens.
    """

    def __init__(
        self,
        model: Qieemo,
        label_encoder: CategoricalEncoder | None = None,
        tokens: Tokenizer | None = None,
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

        names = [WEIGHTS]
        if self.label_encoder is not None:
            names.append(LABELS)
        if self.tokens is not None:
            names += self.tokens.FILES
        for name in names:
            path = fetch(name, default_source, self.collect_in, **options)
            self.files[name] = str(path)
        return self.files

    def load_collected(self) -> None:
        """Fill the model, the label encoder and the tokenizer.

        Raises
        ------
        ModelFolderError
            A file is missing or damaged, keys do not match, or there are not
            as many labels or tokens as the model has outputs for.
        """
        load_weights(self.model, self.files[WEIGHTS])
        if self.label_encoder is not None:
            self._load_labels(self.files[LABELS])
        if self.tokens is not None:
            self._load_tokens(Path(self.files[TOKENS]))

    def _load_labels(self, path):
        """Load index → emotion and check that each output has one."""
        if not Path(path).is_file():
            raise ModelFolderError(f"{path} is missing from the bundle.")
        try:
            self.label_encoder.load(path)
        except (ValueError, LookupError, SyntaxError) as error:
            raise ModelFolderError(f"{path} is damaged: {error}") from error
        _check_labels(self.label_encoder, self.model, path)
        self.label_encoder.expect_len(self.model.classifier.n_classes)

    def _load_tokens(self, path):
        """Load index → token and check that each output has one."""
        try:
            self.tokens.load(path.parent)
        except TokenError as error:
            raise ModelFolderError(str(error)) from error
        _check_tokens(self.tokens, self.model, path)


def _check_labels(encoder, model, where):
    """Raise ModelFolderError unless each output has a name."""
    expected = model.classifier.n_classes
    named = sorted(encoder.ind2lab) == list(range(expected))
    if not named or len(encoder.lab2ind) != expected:
        _do_not_fit(where, len(encoder.lab2ind), expected)


def _check_tokens(tokens, model, where):
    """Raise ModelFolderError unless each output of the PPG head has a name."""
    if len(tokens) != model.ppg_head.n_tokens:
        _do_not_fit(where, len(tokens), model.ppg_head.n_tokens)


def _do_not_fit(where, names, outputs):
    raise ModelFolderError(
        f"{where} has {names} names, the model has {outputs} outputs: they do "
        "not belong together."
    )


def load_bundle(
    source: str | Path,
    hparams_file: str = HYPERPARAMS,
    overrides: dict[str, Any] | None = None,
    savedir: str | Path | None = None,
    **where,
) -> dict[str, Any]:
    """Build a bundle's parts and fill them; nothing that it brings is run.

    Arguments
    ---------
    source : str or Path
        A bundle's folder (the network is not used) or a hub id.
    hparams_file : str
        Name of its yaml.
    overrides : dict or None
        Changes to the yaml.
    savedir : str, Path or None
        Where to link or download files, a folder for each model: what is
        there already is used. None: use them where they are.
    **where
        Passed to ``speechbrain.utils.fetching.fetch``.

    Returns
    -------
    dict
        Top-level key of the yaml → value: ``model``, ``tokens``, …

    Raises
    ------
    UntrustedYaml
        The yaml names something that a bundle may not build.
    ModelFolderError
        The bundle is not whole.
    """
    from speechbrain.utils.fetching import fetch

    _check_source(source)
    source = str(source)
    try:
        path = Path(fetch(hparams_file, source, savedir, **where))
    except OSError as error:
        if Path(source).is_dir():  # then it is savedir that cannot be used
            raise
        raise ModelFolderError(
            f"There is no folder {source} here, and the hub does not give "
            f"{hparams_file} of a model of that name: {error}"
        ) from error
    hparams = load_trusted_yaml(_read_yaml(path), str(path), overrides)
    loader = hparams.get("pretrainer")
    if not isinstance(loader, BundleLoader):
        raise ModelFolderError(f"{path} has no BundleLoader as pretrainer.")
    loader.set_collect_in(savedir)
    loader.collect_files(default_source=source, **where)
    loader.load_collected()
    return hparams


def _check_source(source):
    """Raise ModelFolderError for what is neither a folder nor a hub id."""
    text = str(source)
    hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text)
    if Path(text).is_file():
        raise ModelFolderError(f"{text} is a file; a bundle is a folder.")
    if not Path(text).is_dir() and (isinstance(source, Path) or not hub_id):
        raise ModelFolderError(f"{text} is neither a folder nor a hub id.")


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
    ModelFolderError
        The bundle is not whole, or its model only reads.
    UntrustedYaml
        The yaml names something that a bundle may not build.
    """
    path = Path(folder) / HYPERPARAMS
    loaded = load_trusted_yaml(_read_yaml(path), str(path), only=["model"])
    model = loaded.get("model")
    if not isinstance(model, Qieemo):
        raise ModelFolderError(f"{path} has no Qieemo as model.")
    if model.classifier is None:
        raise ModelFolderError(NO_EMOTION)
    load_weights(model, Path(folder) / WEIGHTS)
    labels = read_labels(Path(folder) / LABELS, model.classifier.n_classes)
    return model.eval().requires_grad_(False), labels


def _read_yaml(path):
    """The text of a bundle's yaml."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFolderError(
            f"{path.parent} is no bundle: no {path.name}."
        ) from error
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ModelFolderError(f"{path} is no text: {error}") from error


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
    ModelFolderError
        The file is missing or damaged, or its keys or shapes are others.
    """
    if not Path(path).is_file():
        raise ModelFolderError(f"{path} is missing from the bundle.")
    try:
        weights = load_file(path)
        model.load_state_dict(weights, strict=True)
    except SafetensorError as error:
        raise ModelFolderError(f"{path} is damaged: {error}") from error
    except RuntimeError as error:
        raise ModelFolderError(
            f"{path} does not fit the model of {HYPERPARAMS}: {error}"
        ) from error
