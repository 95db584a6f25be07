"""Reading a stranger's yaml: only what is on a short list is ever built.

HyperPyYAML builds whatever a yaml names: ``!apply:`` calls any function,
``!new:`` any class, a plain ``(…)`` is parsed by a loader that runs Python
tags, and references are filled in as text, so that harmless pieces can add up
to any of these. A stranger's yaml is therefore checked node by node and built
here, by a loader that knows plain values, whole references and trusted names,
and never reaches HyperPyYAML. It is still HyperPyYAML, which SpeechBrain's
own classes read.
"""

import io
import pydoc
import re
from collections.abc import Collection
from typing import Any

import ruamel.yaml
from ruamel.yaml import events, nodes

# Exact names: a package prefix would let speechbrain's own shell runner in.
# None of these runs code that its arguments bring.
TRUSTED = frozenset(
    {
        "qieemo_sb.serving.bundle.BundleLoader",
        "qieemo_sb.encoders.ssl.SSLEncoder",
        "qieemo_sb.encoders.whisper.WhisperEncoder",
        "qieemo_sb.serving.speechbrain.Embedding",
        "qieemo_sb.serving.speechbrain.PassThrough",
        "qieemo_sb.lobes.pooling.AveragePooling",
        "qieemo_sb.lobes.pooling.BlockStatistics",
        "qieemo_sb.lobes.classifier.Classifier",
        "qieemo_sb.lobes.fusion.CMA",
        "qieemo_sb.lobes.fusion.CMAFirst",
        "qieemo_sb.lobes.fusion.Concatenation",
        "qieemo_sb.lobes.blocks.BlockMixer",
        "qieemo_sb.lobes.fusion.MMF",
        "qieemo_sb.lobes.pooling.AttentiveStatisticsPooling",
        "qieemo_sb.lobes.pooling.StatisticsPooling",
        "qieemo_sb.lobes.ppg.PPGHead",
        "qieemo_sb.lobes.ppg.PretrainedPPGHead",
        "qieemo_sb.lobes.fusion.Projection",
        "qieemo_sb.lobes.speaker.SpeakerModel",
        "qieemo_sb.lobes.blocks.WeightedSum",
        "qieemo_sb.model.Qieemo",
        "qieemo_sb.lobes.tokens.Characters",
        "qieemo_sb.lobes.tokens.Phonemes",
        "qieemo_sb.lobes.tokens.Pieces",
        "qieemo_sb.lobes.tokens.Vocabulary",
        "speechbrain.dataio.encoder.CategoricalEncoder",
    }
)
REFERENCE = re.compile(r"<(\w+)>")
NEW = "!new:"
MAX_CHARACTERS = 100_000  # a bundle's yaml has three thousand
MAX_DEPTH = 20  # and nests four deep


class UntrustedYaml(ValueError):
    """A yaml asks for something that is not on the list, or is no bundle's."""


def load_trusted_yaml(
    text: str,
    name: str,
    overrides: dict[str, Any] | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """Load a bundle's yaml, whoever wrote it.

    Arguments
    ---------
    text : str
        The yaml.
    name : str
        Where it comes from, for messages.
    overrides : dict or None
        Plain values in place of the yaml's own.
    only : collection of str or None
        Top-level keys to build; None: all of them. All are checked.

    Returns
    -------
    dict
        Top-level key → value or object, as HyperPyYAML would build it.

    Raises
    ------
    UntrustedYaml
        With the offending line.

    Example
    -------
    >>> load_trusted_yaml("{a: 1, b: !ref <a>}", "here")["b"]
    1
    >>> load_trusted_yaml("a: !apply:os.getcwd", "there")
    Traceback (most recent call last):
    ...
    qieemo_sb.trust.UntrustedYaml: there, line 1: '!apply:os.getcwd' is not
    on the list of what a bundle may build. Nothing was run.
    """
    check_yaml(text, name)
    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        root = yaml.compose(io.StringIO(text))
        if not isinstance(root, nodes.MappingNode):
            raise UntrustedYaml(f"{name} is no mapping of names to values.")
        _override(root, dict(overrides or {}), yaml.representer)
        _resolve(root, {key.value: value for key, value in root.value}, set())
        if only is not None:
            root.value = [pair for pair in root.value if pair[0].value in only]
        return yaml.constructor.construct_document(root)
    except UntrustedYaml:
        raise
    except (ruamel.yaml.error.YAMLError, LookupError, TypeError) as error:
        raise UntrustedYaml(f"{name} cannot be loaded: {error}") from error
    except (ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UntrustedYaml(f"{name} cannot be built: {error}") from error


def check_yaml(text: str, name: str) -> None:
    """Raise UntrustedYaml at the first node that is not allowed.

    Allowed are plain values, whole references such as ``<model>`` and
    ``!new:`` of an exact name in ``TRUSTED``.

    Arguments
    ---------
    text : str
        The yaml.
    name : str
        Where it comes from, for messages.
    """
    if len(text) > MAX_CHARACTERS:
        raise UntrustedYaml(
            f"{name} has {len(text)} characters; a bundle's yaml has at most "
            f"{MAX_CHARACTERS}."
        )
    depth = documents = 0
    try:
        yaml = ruamel.yaml.YAML(typ="safe", pure=True)
        for event in yaml.parse(io.StringIO(text)):
            depth += isinstance(event, events.CollectionStartEvent)
            depth -= isinstance(event, events.CollectionEndEvent)
            documents += isinstance(event, events.DocumentStartEvent)
            problem = _problem(event)
            if depth > MAX_DEPTH:
                problem = f"Values nest deeper than {MAX_DEPTH}."
            if documents > 1:
                problem = "A second document is not allowed."
            if problem:
                line = event.start_mark.line + 1
                raise UntrustedYaml(
                    f"{name}, line {line}: {problem} Nothing was run."
                )
    except ruamel.yaml.error.YAMLError as error:
        raise UntrustedYaml(f"{name} is no yaml: {error}") from error


def _problem(event):
    """What is wrong with a yaml event, or None."""
    if isinstance(event, events.DocumentStartEvent):
        if event.version or event.tags:
            return "Directives (%YAML, %TAG) are not allowed."
    if isinstance(event, events.AliasEvent):
        return "Aliases are not allowed."  # few of them make a huge document
    tag, value = getattr(event, "tag", None), getattr(event, "value", None)
    if tag is not None:
        return _tag_problem(str(tag), value, event)
    if value == "source":
        return "'source' is not allowed: a bundle brings its own weights."
    # Harmless here, not so where SpeechBrain's class reads the same file.
    if isinstance(value, str) and value.startswith("("):
        return f"{value!r} would be parsed as a Python tuple."
    if isinstance(value, str) and "<" in value:
        return f"{value!r} would be filled in by HyperPyYAML."
    return None


def _tag_problem(tag, value, event):
    """What is wrong with a tagged node, or None."""
    if tag == "!ref":
        if value is None or not REFERENCE.fullmatch(value):
            return f"!ref {value!r} is more than a whole reference."
        return None
    if tag[: len(NEW)] != NEW or tag[len(NEW) :] not in TRUSTED:
        return f"'{tag}' is not on the list of what a bundle may build."
    # By position, an argument would escape the look at its name.
    if not isinstance(event, events.MappingStartEvent) and value != "":
        return f"'{tag}' needs its arguments by name."
    return None


class _Constructor(ruamel.yaml.SafeConstructor):
    """Knows plain values and ``!new:`` of a trusted name; nothing else."""


def _build(constructor, name, node):
    """Build the object that a ``!new:`` node names."""
    if name not in TRUSTED:
        raise UntrustedYaml(f"'{NEW}{name}' is not on the list.")
    arguments = {}
    if isinstance(node, nodes.MappingNode):
        arguments = constructor.construct_mapping(node, deep=True)
    return pydoc.locate(name)(**arguments)


_Constructor.add_multi_constructor(NEW, _build)


def _override(node, overrides, representer):
    """Put the caller's plain values into the tree."""
    places = {key.value: i for i, (key, _) in enumerate(node.value)}
    for key, value in overrides.items():
        if key not in places:
            raise KeyError(f"override '{key}' is none of {list(places)}")
        old_key, old = node.value[places[key]]
        if isinstance(value, dict) and isinstance(old, nodes.MappingNode):
            _override(old, value, representer)
        else:
            new = representer.represent_data(value)
            node.value[places[key]] = (old_key, new)


def _resolve(node, top, done):
    """Put the top-level node that a ``!ref <name>`` names in its place."""
    if id(node) in done or isinstance(node, nodes.ScalarNode):
        return
    done.add(id(node))
    if isinstance(node, nodes.MappingNode):
        node.value = [(key, _target(item, top)) for key, item in node.value]
        children = [item for _, item in node.value]
    else:
        node.value = children = [_target(item, top) for item in node.value]
    for child in children:
        _resolve(child, top, done)


def _target(node, top):
    """Follow references to the node that they lead to."""
    seen = set()
    while str(node.tag) == "!ref":
        key = REFERENCE.fullmatch(node.value)[1]
        if key in seen or key not in top:
            raise KeyError(f"!ref <{key}> leads nowhere")
        seen.add(key)
        node = top[key]
    return node
