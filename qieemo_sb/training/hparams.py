"""A recipe's yaml and command line, read without building all of it."""

import difflib
import json
from io import StringIO
from pathlib import Path
from typing import Any

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from qieemo_sb.corpora.manifest import regular_file
from qieemo_sb.errors import CorpusError

SEED = ("seed", "__set_seed")  # built with each part of a yaml


def resolve(path: str | Path, overrides: str = "", **more: Any) -> StringIO:
    """Read a yaml, with all options and references filled in.

    Arguments
    ---------
    path : str or Path
        The yaml.
    overrides : str
        Options as ``sb.parse_arguments`` returns them.
    **more : object
        Options that take the place of the yaml's and of those.

    Returns
    -------
    StringIO
        Yaml; objects are still tags with arguments.

    Raises
    ------
    CorpusError
        The yaml cannot be read, lacks a value, or has no such option.
    """
    regular_file(path)
    yaml = ruamel.yaml.YAML()
    try:
        options = yaml.load(overrides) or {}
        if not isinstance(options, dict):
            raise ValueError(f"options are --key=value, not {options!r}.")
        with open(path, encoding="utf-8") as file:
            known = list(map(str, yaml.load(file))) if options else []
            wrong = [_hint(x, known) for x in options if x not in known]
            if wrong:
                raise ValueError(", and ".join(wrong))
            file.seek(0)
            return resolve_references(
                file, {**options, **more}, overrides_must_match=True
            )
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    except DuplicateKeyError as error:
        raise CorpusError(f"Given twice: {error.problem}.") from error
    except (KeyError, ValueError, YAMLError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise CorpusError(f"{path}: {reason}") from error


def _hint(name, known):
    """A sentence on an option that there is not."""
    near = "".join(difflib.get_close_matches(str(name), known, n=1))
    return f"there is no option {name}" + (near and f"; is {near} meant?")


def load_part(
    path: str | Path, overrides: str, *keys: str, **more: Any
) -> dict[str, Any]:
    """Build a part of a yaml, seeded as the whole is.

    Arguments
    ---------
    path, overrides, **more
        See ``resolve``.
    *keys : str
        Top-level keys; one that the yaml lacks is missing in the result.

    Returns
    -------
    dict
        Key → value or object.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("{seed: 1, width: 96, size: !ref 2 * <width>}")
    >>> load_part(path, "width: 10", "size")
    {'seed': 1, 'size': 20}
    """

    class PartLoader(ruamel.yaml.Loader):
        def get_single_node(self):
            node, kept = super().get_single_node(), {*keys, *SEED}
            node.value = [pair for pair in node.value if pair[0].value in kept]
            return node

    return load_hyperpyyaml(resolve(path, overrides, **more), loader=PartLoader)


def plain_options(
    path: str | Path, overrides: str = "", **more: Any
) -> dict[str, Any]:
    """Read a yaml as plain data, which can be compared and kept as JSON.

    Arguments
    ---------
    path, overrides, **more
        See ``resolve``. ``more`` may have keys that the yaml lacks or has as
        null: these stay as they are.

    Returns
    -------
    dict
        Key → value; an object is its tag followed by its arguments.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("{size: 2, part: !new:torch.nn.ReLU [true]}")
    >>> plain_options(path)
    {'size': 2, 'part': ['!new:torch.nn.ReLU', [True]]}
    """
    yaml = ruamel.yaml.YAML(typ="safe", pure=True)
    yaml.Constructor = _PlainConstructor
    options = yaml.load(resolve(path, overrides))
    more = {k: v for k, v in more.items() if options.get(k) is not None}
    options = yaml.load(resolve(path, overrides, **more))
    return json.loads(json.dumps(options, default=str))


def check_corpus(path: str | Path, overrides: str = "") -> None:
    """Raise CorpusError, with how to get the corpus, where there is none.

    Arguments
    ---------
    path, overrides
        See ``resolve``.
    """
    keys = ("data_folder", "skip_prep", "prepare")
    part = load_part(path, overrides, *keys)
    if part.get("data_folder") is None and not part.get("skip_prep"):
        part["prepare"]()


class _PlainConstructor(ruamel.yaml.SafeConstructor):
    """Makes a list of tag and arguments where others make an object."""

    def construct_tagged(self, suffix, node):
        if isinstance(node, ruamel.yaml.MappingNode):
            arguments = self.construct_mapping(node, deep=True)
        elif isinstance(node, ruamel.yaml.SequenceNode):
            arguments = self.construct_sequence(node, deep=True)
        else:
            arguments = self.construct_scalar(node)
        return [f"!{suffix}", arguments]


_PlainConstructor.add_multi_constructor("!", _PlainConstructor.construct_tagged)
