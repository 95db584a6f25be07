"""A recipe's yaml with its command line, read without building anything."""

import inspect
import io
import pydoc
import sys
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import (
    Comment,
    CommentedBase,
    CommentedMap,
    CommentedSeq,
)
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from speechbrain.utils.run_opts import RunOptions

from qieemo_sb.errors import EvaluationError

SEEDS = ("seed", "__set_seed")
# Where things are kept and how a run is shown: no result depends on them,
# though it does on whether there is a cache, of whose frames crops are cut.
PLACES = ("output_folder", "cache_folder")
LISTS = ("csv_file", "train_manifest", "valid_manifest", "test_manifest")
DISPLAY = {"noprogressbar", "tqdm_colored_bar", "log_config", "param_file"}


class Recipe:
    """What a yaml and options of train.py say.

    Arguments
    ---------
    path : str or Path
        The yaml.
    arguments : iterable of str
        Of train.py's command line, after the yaml: ``--key=value`` or
        ``--key value``.

    Raises
    ------
    EvaluationError
        The yaml cannot be read, has no such key, or lacks a value.

    Example
    -------
    >>> path = getfixture("tmp_path") / "recipe.yaml"
    >>> _ = path.write_text("{width: 96, size: !ref 2 * <width>}")
    >>> Recipe(path, ["--width=10"]).tree["size"]
    20
    """

    def __init__(self, path: str | Path, arguments: Iterable[str] = ()):
        self.path = Path(path)
        self.arguments = list(arguments)
        _, self.run_options, self.overrides = RunOptions.from_command_line_args(
            [str(path), *self.arguments]
        )
        self.tree = _resolve(self.path, self.overrides)

    def build(self, *names: str) -> dict[str, Any]:
        """Build some of the yaml's objects, seeded as train.py seeds them.

        Arguments
        ---------
        *names : str
            Top-level keys; those that the yaml lacks are passed over.

        Returns
        -------
        dict
            Key → value or object.
        """
        kept = (*SEEDS, *names)
        part = {k: v for k, v in self.tree.items() if k in kept}
        return load_hyperpyyaml(one_line(part))

    def decisive(self) -> dict[str, Any]:
        """All that decides the result of a run: equal options, equal runs.

        Returns
        -------
        dict
            Top-level key of the yaml, or run option of the command line, →
            a value as JSON has them, and what one's own lists hold. Not in
            it: where results and caches go.
        """
        places = dict.fromkeys(PLACES, ".")
        told = self.run_options.overridden_args - DISPLAY
        return {
            **plain_options(self.path, self.overrides, places),
            **{key: self.run_options[key] for key in sorted(told)},
            **self._lists(),
        }

    def _lists(self):
        """What the lists that are named hold, as digests."""
        named = {key: self.tree.get(key) for key in LISTS}
        return {
            f"contents of {key}": sha256(Path(file).read_bytes()).hexdigest()
            for key, file in named.items()
            if file and Path(file).is_file()
        }

    def folds(self) -> list[int] | None:
        """All folds of the corpus under the yaml's protocol.

        Returns
        -------
        list of int or None
            None: the corpus is divided once and has no folds.
        """
        prepare, options = self._prepare()
        numbers = getattr(sys.modules[prepare.__module__], "fold_numbers", None)
        if numbers is None:
            return None
        wanted = inspect.signature(numbers).parameters
        return numbers(**{k: options[k] for k in wanted if k in options})

    def check_folds(self, folds: Sequence[int] | None) -> list[int]:
        """The folds that are asked for.

        Arguments
        ---------
        folds : sequence of int or None
            None: all that there are.

        Returns
        -------
        list of int

        Raises
        ------
        EvaluationError
            There is none, none like that, or one is named twice.
        """
        known = self.folds()
        if known is None:
            if folds is None or len(folds) != 1:
                raise EvaluationError(
                    f"{self.path}: this corpus is divided once and has no "
                    "folds. Name that division, --folds 1, to train it with "
                    "several seeds."
                )
            return list(folds)
        folds = known if folds is None else list(folds)
        wrong = [fold for fold in folds if fold not in known]
        if wrong:
            raise EvaluationError(
                f"There is no fold {', '.join(map(str, wrong))}: there are "
                f"{', '.join(map(str, known))}."
            )
        check_distinct("folds", folds)
        return folds

    def folder(self, name: str) -> Path:
        """Where results over folds and seeds go unless told otherwise.

        Arguments
        ---------
        name : str
            Of the folder.

        Returns
        -------
        Path
            Beside the folders that train.py makes for folds and seeds.
        """
        own = Path(self.tree["output_folder"])
        run = (f"fold_{self.tree['fold']}", str(self.tree["seed"]))
        return (own.parents[1] if own.parts[-2:] == run else own) / name

    def check_data(self) -> None:
        """Raise CorpusError, which says how to get it, without a corpus."""
        lacking = self.tree.get("data_folder") is None
        if lacking and not self.tree.get("skip_prep"):
            prepare, _ = self._prepare()
            prepare(data_folder=None, output_folder=None)

    def _prepare(self):
        """The function that prepares the corpus, and its options."""
        node = self.tree["prepare"]
        name = node.tag.value.removeprefix("!name:")
        return pydoc.locate(name), node


def plain_options(
    path: Path, overrides: str, others: Mapping[str, Any]
) -> dict[str, Any]:
    """A yaml's top level as JSON has it, references filled in.

    Arguments
    ---------
    path : Path
        The yaml.
    overrides : str
        What the command line changes of it.
    others : mapping of str to object
        What takes the place of both, for keys that the yaml has and that are
        not null.

    Returns
    -------
    dict
        Key → value; an object's tag stands before its arguments.

    Raises
    ------
    EvaluationError
        As ``Recipe``.
    """
    tree = _resolve(path, overrides, others)
    return {key: _plain(value) for key, value in tree.items()}


def check_distinct(name: str, values: Sequence[int]) -> None:
    """Raise EvaluationError for no values, or for one given twice.

    Arguments
    ---------
    name : str
        Of the option.
    values : sequence of int
        What it was given.
    """
    if not values or len(set(values)) < len(values):
        raise EvaluationError(
            f"--{name}: different numbers are needed, not {list(values)}."
        )


def one_line(node: Any) -> str:
    """A yaml node as text without line breaks and comments.

    Arguments
    ---------
    node : object
        As ruamel.yaml loads it, or plain.

    Returns
    -------
    str

    Example
    -------
    >>> one_line(YAML().load("{a: !new:dict {b: 1}, c: [null]}"))
    '{a: !new:dict {b: 1}, c: [null]}'
    """
    yaml, stream = YAML(), io.StringIO()
    yaml.default_flow_style = True
    yaml.width = 10**6
    # As a key's value: alone, a scalar would bring an end-of-document mark.
    yaml.dump({"x": _flowing(node)}, stream)
    return stream.getvalue().strip().removeprefix("{x: ").removesuffix("}")


def _flowing(node):
    """Make a node, and what is in it, print in one line."""
    if isinstance(node, CommentedBase):
        if hasattr(node, Comment.attrib):
            delattr(node, Comment.attrib)
    if isinstance(node, CommentedMap | CommentedSeq):
        node.fa.set_flow_style()
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            _flowing(child)
    return node


def _resolve(path, overrides, others=None):
    """The yaml's tree, options and references filled in.

    ``others`` are options that take the place of the command line's, for keys
    that the yaml has and that are not null.
    """
    try:
        wanted = YAML().load(overrides) or {}
        if not isinstance(wanted, dict):
            raise ValueError(f"options are --key=value, not {wanted!r}.")
        with open(path, encoding="utf-8") as file:
            there = YAML().load(file)
            given = {**there, **wanted}
            also = {
                key: value
                for key, value in (others or {}).items()
                if key in there and given[key] is not None
            }
            file.seek(0)
            resolved = resolve_references(
                file, {**wanted, **also}, overrides_must_match=True
            )
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    except DuplicateKeyError as error:
        raise EvaluationError(f"Given twice: {error.problem}.") from error
    except (KeyError, ValueError, YAMLError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise EvaluationError(f"{path}: {reason}") from error
    return YAML().load(resolved)


def _plain(node):
    """A yaml node as JSON has it; its tag, if any, goes first."""
    tag = getattr(getattr(node, "tag", None), "value", None)
    if isinstance(node, dict):
        plain = {str(key): _plain(value) for key, value in node.items()}
    elif isinstance(node, list):
        plain = [_plain(value) for value in node]
    elif tag is not None:  # a tagged scalar
        plain = node.value
    else:
        return node
    return plain if tag is None else [tag, plain]
