"""Reading a stranger's yaml: only what is on a short list is ever built.

HyperPyYAML builds whatever a yaml names: ``!apply:`` calls any function,
``!new:`` any class, and a plain ``(…)`` is parsed by a loader that runs
Python tags. Here the text is checked, node by node, before HyperPyYAML sees
it, and once more after its references are resolved, since pieces that are
harmless apart can be joined by a reference.

Authors
 * The Qieemo-SB authors 2026
"""

import io
import re
from typing import Any

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references

# Exact names: a package prefix would let speechbrain's own shell runner in.
# None of these runs code that its arguments bring.
TRUSTED = frozenset(
    {
        "qieemo_sb.bundle.BundleLoader",
        "qieemo_sb.encoders.whisper.WhisperEncoder",
        "qieemo_sb.inference.Embedding",
        "qieemo_sb.inference.PassThrough",
        "qieemo_sb.lobes.classifier.Classifier",
        "qieemo_sb.lobes.cma.CMA",
        "qieemo_sb.lobes.mixer.BlockMixer",
        "qieemo_sb.lobes.mmf.MMF",
        "qieemo_sb.lobes.pooling.AttentiveStatisticsPooling",
        "qieemo_sb.lobes.ppg.PPGHead",
        "qieemo_sb.model.Qieemo",
        "speechbrain.dataio.encoder.CTCTextEncoder",
        "speechbrain.dataio.encoder.CategoricalEncoder",
    }
)
PLAIN_REFERENCE = re.compile(r"<\w+(\[\w+\])*>")
NEW = "!new:"


class UntrustedYaml(ValueError):
    """A yaml asks for something that is not on the list."""


def load_trusted_yaml(
    text: str, name: str, overrides: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Load HyperPyYAML of unknown origin.

    Arguments
    ---------
    text : str
        The yaml.
    name : str
        Where it comes from, for messages.
    overrides : dict or None
        The caller's own changes. They are checked too.

    Returns
    -------
    dict
        What ``hyperpyyaml.load_hyperpyyaml`` makes of it.

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
    resolved = resolve_references(
        io.StringIO(text), overrides, overrides_must_match=True
    ).getvalue()
    check_yaml(resolved, f"{name} (references resolved)")
    return load_hyperpyyaml(io.StringIO(resolved))


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
    try:
        for event in ruamel.yaml.YAML(pure=True).parse(io.StringIO(text)):
            problem = _problem(event)
            if problem:
                line = event.start_mark.line + 1
                raise UntrustedYaml(
                    f"{name}, line {line}: {problem} Nothing was run."
                )
    except ruamel.yaml.error.YAMLError as error:
        raise UntrustedYaml(f"{name} is no yaml: {error}") from error


def _problem(event):
    """What is wrong with a yaml event, or None."""
    if isinstance(event, ruamel.yaml.events.DocumentStartEvent):
        if event.version or event.tags:
            return "Directives (%YAML, %TAG) are not allowed."
    tag = getattr(event, "tag", None)
    tag = str(tag) if tag is not None else None
    value = getattr(event, "value", None)
    if tag == "!ref":
        if value is None or not PLAIN_REFERENCE.fullmatch(value):
            return f"!ref {value!r} is more than a whole reference."
    elif tag and not (tag.startswith(NEW) and tag[len(NEW) :] in TRUSTED):
        return f"'{tag}' is not on the list of what a bundle may build."
    elif isinstance(value, str) and value.startswith("("):
        return f"{value!r} would be parsed as a Python tuple."
    elif value == "source":
        return "'source' is not allowed: a bundle brings its own weights."
    return None
