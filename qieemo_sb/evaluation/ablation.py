"""What each part brings: rows of a grid, each a cross-validation.

A grid is a yaml beside the one that its rows start from::

    hparams: qieemo.yaml
    axes:                      # the first choice of each is what that has
        fusion:
            MMF + CMA: {}
            MMF: {cma: null}
        head:
            attentive statistics: {}
            average:
                pooling: !new:qieemo_sb.lobes.pooling.AveragePooling
                    [!ref <width>]
                classifier: {width: !ref <width>}
    rows:                      # anything else, by name
        eGeMAPS + SVM: {script: functionals.py}

The table's first row changes nothing; every other row changes one axis, or is
one of ``rows``. A choice is a set of options of train.py, as they stand on
its command line: HyperPyYAML merges a mapping into the one that is there, so
an object of another class has its arguments in a list.
"""

import dataclasses
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from qieemo_sb.corpora.files import write_text
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import plots
from qieemo_sb.evaluation.cross_validation import (
    Outcome,
    Run,
    cross_validate,
    one_by_one,
    plan,
    say,
)
from qieemo_sb.evaluation.recipe import Recipe, one_line
from qieemo_sb.evaluation.tables import (
    METRICS,
    markdown_table,
    plus_minus,
    spread,
    to_json,
)

DEFAULT = "default"
GRID_KEYS = {"hparams", "axes", "rows"}
SCRIPT = "script"  # a row's option: what is run instead of train.py


@dataclasses.dataclass(frozen=True)
class Row:
    """A configuration of the table.

    Arguments
    ---------
    name : str
        As the table shows it.
    arguments : tuple of str
        Options of train.py that it changes.
    script : str or None
        What is run instead of train.py, beside it.
    """

    name: str
    arguments: tuple[str, ...] = ()
    script: str | None = None

    @property
    def folder(self) -> str:
        """The name as a folder's name."""
        return re.sub(r"\W+", "_", self.name).strip("_")


def read_grid(path: str | Path) -> tuple[Path, list[Row]]:
    """Read a grid.

    Arguments
    ---------
    path : str or Path
        The yaml.

    Returns
    -------
    Path
        The yaml that its rows start from.
    list of Row
        In the table's order.

    Raises
    ------
    EvaluationError
        It is no such yaml; the message names the row.
    """
    try:
        grid = YAML().load(Path(path).read_text(encoding="utf-8"))
    except (OSError, YAMLError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    if not isinstance(grid, dict) or set(grid) - GRID_KEYS:
        raise EvaluationError(f"{path}: a grid has {', '.join(GRID_KEYS)}.")
    changes = {DEFAULT: {}}
    for axis, choices in (grid.get("axes") or {}).items():
        default, *others = choices
        if choices[default]:
            raise EvaluationError(
                f"{path}: {axis}: the first choice, {default}, is what "
                f"{grid['hparams']} has: {{}}."
            )
        changes.update({f"{axis}: {x}": choices[x] for x in others})
    changes.update({str(k): v for k, v in (grid.get("rows") or {}).items()})
    rows = [_make_row(name, options) for name, options in changes.items()]
    folders = [row.folder for row in rows]
    if len(set(folders)) < len(rows):
        raise EvaluationError(f"{path}: rows have names too alike: {folders}.")
    return Path(path).with_name(grid["hparams"]), rows


def count_parameters(recipe: Recipe) -> dict[str, int]:
    """Build the yaml's model, to see that it can be, and count.

    Arguments
    ---------
    recipe : Recipe
        With the row's options.

    Returns
    -------
    dict
        ``trained`` and ``total`` parameters.

    Raises
    ------
    EvaluationError
        The model cannot be built.
    """
    try:
        model = recipe.build("model")["model"]
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"The model cannot be built: {error}") from error
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "trained": sum(size for size, trained in sizes if trained),
        "total": sum(size for size, _ in sizes),
    }


def plan_rows(
    train: Path,
    path: str | Path,
    arguments: Iterable[str],
    output_folder: Path,
    folds: Sequence[int] | None,
    seeds: Sequence[int],
    names: Sequence[str] | None = None,
) -> list[tuple[Row, dict[str, int] | None, list[Run]]]:
    """Plan all rows before any is run: a misfit shows at once.

    Arguments
    ---------
    train : Path
        train.py.
    path : str or Path
        The grid.
    arguments : iterable of str
        Options of train.py for all rows; what a row sets itself is the row's.
    output_folder : Path
        Gets a folder a row.
    folds, seeds
        See ``crossval.plan``.
    names : sequence of str or None
        Of the rows that are wanted; None: all.

    Returns
    -------
    list of tuple
        Row, its parameters (None for another script), its runs.

    Raises
    ------
    EvaluationError
        Names the row that cannot be run, or that the grid does not have.
    """
    hparams, rows = read_grid(path)
    if names is not None:
        known = {row.name: row for row in rows}
        if unknown := [name for name in names if name not in known]:
            raise EvaluationError(
                f"{path} has no row {unknown}: it has {list(known)}."
            )
        rows = [row for row in rows if row.name in names]
    planned = []
    for row in rows:
        try:
            recipe = Recipe(hparams, _joined(row.arguments, arguments))
            recipe.check_data()
            script = train if row.script is None else Path(row.script)
            runs = plan(
                train.with_name(script.name),
                recipe,
                output_folder / row.folder,
                folds,
                seeds,
            )
            size = None if row.script else count_parameters(recipe)
        except EvaluationError as error:
            raise EvaluationError(f"Row '{row.name}': {error}") from error
        planned.append((row, size, runs))
    return planned


def ablate(
    planned: Sequence[tuple[Row, dict[str, int] | None, list[Run]]],
    output_folder: Path,
    executor: Callable[[Sequence[Run]], Iterable[Outcome]] = one_by_one,
    report: Callable[[str], None] = say,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run rows and write the table after each.

    Arguments
    ---------
    planned : sequence of tuple
        Of ``plan_rows``.
    output_folder : Path
        Gets ``ablation.json``, ``ablation.md``, ``ablation.png``, and a folder
        a row as ``cross_validate`` leaves it.
    executor : callable
        See ``cross_validate``.
    report : callable
        Gets a line a run.
    about : dict or None
        What else the table shall say: ``title``, ``command``.

    Returns
    -------
    dict
        What ``ablation.json`` holds.
    """
    result = {**(about or {}), "rows": []}
    first = None
    for row, size, runs in planned:
        report(f"\n{row.name}")
        title = {"title": row.name, "options": list(row.arguments)}
        folder = output_folder / row.folder
        found = cross_validate(runs, folder, executor, report, title)
        first = found if first is None else first
        result["rows"].append(_summarise(row, size, found, first))
        write_ablation(result, output_folder)
    return result


def _joined(own, common):
    """Options of a row, and of the common ones those that it does not set."""
    names, joined = {option.split("=")[0] for option in own}, list(own)
    taken = True  # whether what follows, the value of an option, is taken
    for word in common:
        if word.startswith("--"):
            taken = word.split("=")[0] not in names
        if taken:
            joined.append(word)
    return joined


def write_ablation(result: Mapping[str, Any], folder: Path) -> None:
    """Write ``ablation.json``, ``ablation.md`` and ``ablation.png``.

    Arguments
    ---------
    result : mapping
        Of ``ablate``.
    folder : Path
        Made if need be.
    """
    write_text(folder / "ablation.json", to_json(result))
    write_text(folder / "ablation.md", describe(result))
    scores = {
        row["name"]: row["weighted_accuracy"]["by_fold"]
        for row in result["rows"]
        if row["finished"]
    }
    if scores:
        path = folder / "ablation.png"
        plots.comparison(scores, path, title=result.get("title"))


def describe(result: Mapping[str, Any]) -> str:
    """The table of ``ablation.md``.

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
    parts = [
        f"# {result.get('title', 'Ablation')}\n",
        f"```sh\n{result['command']}\n```\n" if "command" in result else "",
        markdown_table(head, map(_table_row, result["rows"])),
        "Fractions, mean ± sample standard deviation over folds of the means "
        "over seeds; the other ± is over seeds, of the means over folds. "
        "Against first: differences of the same folds and seeds. Parameters "
        "in millions [M]. Minutes: median, with loading and testing.\n",
    ]
    return "\n".join(part for part in parts if part)


def _table_row(row):
    """A row's cells."""
    size = row["parameters"] or {"trained": None, "total": None}
    runs = f"{row['finished']} of {row['planned']}"
    name = row["name"]
    if not row["finished"]:
        return [name, *map(_millions, size.values()), *[None] * 6, runs]
    difference = row["difference"]
    return [
        name,
        *map(_millions, size.values()),
        plus_minus(row["weighted_accuracy"]),
        row["weighted_accuracy"]["std_over_seeds"],
        difference and plus_minus(difference),
        plus_minus(row["unweighted_accuracy"]),
        plus_minus(row["macro_f1"]),
        f"{row['minutes']:.1f}",
        runs,
    ]


def _millions(number):
    """Parameters as tables show them."""
    return None if number is None else f"{number / 1e6:.2f}"


def _summarise(row, size, found, first):
    """What ``ablation.json`` holds of a row."""
    summary = found["summary"] or {}
    minutes = [run["minutes"] for run in found["runs"]]
    return {
        "name": row.name,
        "script": row.script,
        "options": list(row.arguments),
        "parameters": size,
        "planned": found["planned"],
        "finished": len(found["runs"]),
        "minutes": statistics.median(minutes) if minutes else None,
        **{metric: summary.get(metric) for metric in METRICS},
        "difference": None if found is first else _difference(found, first),
    }


def _difference(found, first):
    """Spread of WA against the first row's, run by run; None if none match."""
    metric = "weighted_accuracy"
    before = {(run["fold"], run["seed"]): run[metric] for run in first["runs"]}
    pairs = [
        (run["fold"], run["seed"], run[metric] - before[place])
        for run in found["runs"]
        if (place := (run["fold"], run["seed"])) in before
    ]
    return spread(pairs) if pairs else None


def _make_row(name, options):
    """A row of the grid's names and options."""
    options = dict(options or {})
    script = options.pop(SCRIPT, None)
    arguments = []
    for key, value in options.items():
        tag = getattr(getattr(value, "tag", None), "value", None)
        if isinstance(value, dict) and tag:
            raise EvaluationError(
                f"Row '{name}': {key} has its arguments by name, which would "
                f"be merged into the object that is there: {tag} needs them "
                "in a list, in the order of its constructor."
            )
        text = one_line(value)
        if "=" in text:  # train.py would take what follows for an option
            raise EvaluationError(f"Row '{name}': {key} cannot hold a '='.")
        arguments.append(f"--{key}={text}")
    return Row(name, tuple(arguments), script)
