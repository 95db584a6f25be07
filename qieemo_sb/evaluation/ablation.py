"""The contribution of each part: rows of a grid, each a cross-validation.

A grid is a yaml beside the one that its rows start from::

    hparams: qieemo.yaml
    axes:                      # the first choice of each is what that has
        fusion:
            MMF + CMA: {}
            MMF: {cma: null}
        head:
            attentive statistics: {}
            average:
                pooling: "!new:qieemo_sb.lobes.pooling.AveragePooling [96]"
                classifier: "{width: !ref <width>}"
    rows:                      # anything else, by name
        eGeMAPS + SVM: {script: functionals.py}

The table's first row changes nothing; every other row changes one axis, or is
one of ``rows``. A choice is a set of options of train.py, those with tags in
quotes, as on its command line: HyperPyYAML merges a mapping into the one that
is there, so an object of another class has its arguments in a list.
"""

import dataclasses
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from qieemo_sb.corpora.manifest import read_text
from qieemo_sb.errors import CorpusError, EvaluationError, QieemoError
from qieemo_sb.evaluation import cross_validation as cv
from qieemo_sb.evaluation import plots, tables
from qieemo_sb.evaluation.scores import METRICS
from qieemo_sb.evaluation.tables import plus_minus
from qieemo_sb.training.hparams import load_part


class Row(NamedTuple):
    """A configuration of the table.

    Arguments
    ---------
    name : str
        As the table shows it.
    folder : str
        The same as a folder's name.
    arguments : list of str
        Options of train.py that it changes.
    script : str or None
        A script beside train.py that runs in its place.
    """

    name: str
    folder: str
    arguments: list[str]
    script: str | None


PlannedRow = tuple[Row, dict[str, int] | None, list[cv.Run]]


def read_grid(
    path: str | Path, names: Sequence[str] | None = None
) -> tuple[Path, list[Row]]:
    """Read a grid.

    Arguments
    ---------
    path : str or Path
        The yaml.
    names : sequence of str or None
        Of the rows that are wanted; None: all.

    Returns
    -------
    Path
        The yaml that its rows start from.
    list of Row
        In the table's order.

    Raises
    ------
    EvaluationError
        It is no such yaml, or has no such row; the message names the row.
    """
    grid = read_yaml(path)
    if not isinstance(grid, dict) or set(grid) - {"hparams", "axes", "rows"}:
        raise EvaluationError(f"{path}: a grid has hparams, axes and rows.")
    options: dict[str, Any] = {"default": {}}
    for axis, choices in (grid.get("axes") or {}).items():
        first, *others = choices
        if choices[first]:
            raise EvaluationError(
                f"{path}: {axis}: the first choice, {first}, is what "
                f"{grid['hparams']} has: {{}}."
            )
        options.update({f"{axis}: {name}": choices[name] for name in others})
    options.update(grid.get("rows") or {})
    rows = {str(name): make_row(str(name), options[name]) for name in options}
    folders = [row.folder for row in rows.values()]
    if len(set(folders)) < len(options):
        raise EvaluationError(f"{path}: rows have names too alike: {folders}.")
    if unknown := [name for name in names or [] if name not in rows]:
        raise EvaluationError(
            f"{path} has no row {unknown}: it has {list(rows)}."
        )
    chosen = [row for name, row in rows.items() if name in (names or rows)]
    return Path(path).with_name(grid["hparams"]), chosen


def read_yaml(path: str | Path) -> Any:
    """Read a yaml of options; EvaluationError if it cannot be read."""
    try:
        return YAML(typ="safe").load(read_text(path))
    except (CorpusError, YAMLError) as error:
        raise EvaluationError(
            f"{path} cannot be read; options with tags stand in quotes: {error}"
        ) from error


def make_row(name: str, options: Mapping[str, Any] | None) -> Row:
    """Make a row whose options are those of a command line.

    Arguments
    ---------
    name : str
        Of the row.
    options : mapping or None
        Option of train.py → value; ``script``: another script.

    Returns
    -------
    Row

    Raises
    ------
    EvaluationError
        An option cannot be given on a command line.
    """
    arguments, options = [], dict(options or {})
    script = options.pop("script", None)
    for key, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if re.match(r"!\S+\s*{", text):
            raise EvaluationError(
                f"Row '{name}': {key} has its arguments by name, which would "
                "be merged into the object that is there: it needs them in a "
                "list, in the order of its constructor."
            )
        if "=" in text:  # train.py would take what follows for an option
            raise EvaluationError(f"Row '{name}': {key} cannot hold a '='.")
        arguments.append(f"--{key}={text}")
    folder = re.sub(r"\W+", "_", name).strip("_")
    return Row(name, folder, arguments, script)


def plan_rows(
    rows: Iterable[Row], configuration: cv.Configuration
) -> list[PlannedRow]:
    """Plan all rows before any is run: a misfit shows at once.

    Arguments
    ---------
    rows : iterable of Row
        Of ``read_grid``.
    configuration : Configuration
        Of train.py; a row's arguments replace its arguments, and each row has
        a folder in its folder.

    Returns
    -------
    list of tuple
        Row, its parameters (None for another script), its runs.

    Raises
    ------
    EvaluationError
        Names the row that cannot be run.
    """
    planned = []
    for row in rows:
        own = row_configuration(row, configuration)
        try:
            runs = cv.plan(own)
            size = None if row.script else count_parameters(own)
        except QieemoError as error:
            raise EvaluationError(f"Row '{row.name}': {error}") from error
        planned.append((row, size, runs))
    return planned


def row_configuration(
    row: Row, configuration: cv.Configuration
) -> cv.Configuration:
    """Configuration of a row, which changes that of all; see ``plan_rows``."""
    others = _without(configuration.arguments, row.arguments)
    train = configuration.script
    return dataclasses.replace(
        configuration,
        script=train.with_name(row.script or train.name),
        arguments=[*row.arguments, *others],
        folder=configuration.folder / row.folder,
    )


def _without(words, options):
    """Words of a command line, but for options and their values."""
    names, kept = {option.split("=")[0] for option in options}, True
    for word in words:
        if word.startswith("--"):
            kept = word.split("=")[0] not in names
        if kept:
            yield word


def count_parameters(configuration: cv.Configuration) -> dict[str, int]:
    """Build the yaml's model and count its parameters.

    Arguments
    ---------
    configuration : Configuration
        Of train.py.

    Returns
    -------
    dict
        ``trained`` and ``total`` parameters.

    Raises
    ------
    EvaluationError
        The model cannot be built.
    """
    yaml, overrides = configuration.hparams_file, configuration.overrides
    try:
        model = load_part(yaml, overrides, "model")["model"]
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"The model cannot be built: {error}") from error
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return {"trained": trained, "total": sum(p.numel() for p in parameters)}


def ablate(
    planned: Sequence[PlannedRow],
    folder: Path,
    executor: cv.Executor = cv.one_by_one,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run rows and write the table after each.

    Arguments
    ---------
    planned : sequence of tuple
        Of ``plan_rows``.
    folder : Path
        Gets ``ablation.json``, ``ablation.md``, ``ablation.png``, and a folder
        a row as ``cross_validate`` leaves it.
    executor : callable
        See ``cross_validate``.
    about : mapping or None
        What else the table shall hold: ``title``, ``command``.

    Returns
    -------
    dict
        Content of ``ablation.json``.
    """
    result: dict[str, Any] = {**(about or {}), "rows": []}
    first: list[dict] = []
    for row, size, runs in planned:
        print(f"\n{row.name}", flush=True)
        title = {"title": row.name, "options": row.arguments}
        found = cv.cross_validate(runs, folder / row.folder, executor, title)
        minutes = [run["minutes"] for run in found["runs"]]
        summary = found["summary"] or dict.fromkeys(METRICS)
        result["rows"].append(
            {
                **{"name": row.name, "script": row.script},
                **{"options": row.arguments, "parameters": size},
                **{"planned": len(runs), "finished": len(minutes)},
                "minutes": statistics.median(minutes) if minutes else None,
                **{metric: summary[metric] for metric in METRICS},
                "difference": _difference(found["runs"], first),
            }
        )
        if row is planned[0][0]:
            first = found["runs"]
        tables.write(folder / "ablation", result, describe(result))
        scores = {
            row["name"]: list(row["weighted_accuracy"]["by_fold"].values())
            for row in result["rows"]
            if row["finished"]
        }
        if scores:
            path = folder / "ablation.png"
            plots.comparison(scores, path, result.get("title"))
    return result


def _difference(runs, first):
    """Spread of WA against the first row's, over folds and seeds of both."""
    wa = {(x["fold"], x["seed"]): x["weighted_accuracy"] for x in first}
    pairs = [
        (*place, run["weighted_accuracy"] - wa[place])
        for run in runs
        if (place := (run["fold"], run["seed"])) in wa
    ]
    return tables.spread(pairs) if pairs else None


def describe(result: Mapping[str, Any]) -> str:
    """Format the table of ``ablation.md``.

    Arguments
    ---------
    result : mapping
        Of ``ablate``.

    Returns
    -------
    str
        Markdown.
    """
    head = ["row", "trained [M]", "total [M]", "WA", "± over seeds"]
    head += ["WA against first", "UA", "macro-F1", "minutes a run", "runs"]
    lines = []
    for row in result["rows"]:
        wa, sizes = row["weighted_accuracy"], row["parameters"] or {}
        millions = [sizes.get(key) for key in ("trained", "total")]
        cells = [n and f"{n / 1e6:.2f}" for n in millions]
        cells += [plus_minus(wa), wa and wa["std_over_seeds"]]
        for key in ("difference", "unweighted_accuracy", "macro_f1"):
            cells.append(plus_minus(row[key]))
        cells.append(f"{row['minutes']:.1f}" if row["finished"] else None)
        runs = f"{row['finished']} of {row['planned']}"
        lines.append([row["name"], *cells, runs])
    return (
        f"{tables.heading(result)}\n{tables.markdown_table(head, lines)}\n"
        "Fractions, mean ± sample standard deviation over folds of the means "
        "over seeds; the other ± is over seeds, of the means over folds. "
        "Against first: differences of the same folds and seeds. Parameters "
        "in millions [M]. Minutes: median, with loading and testing.\n"
    )
