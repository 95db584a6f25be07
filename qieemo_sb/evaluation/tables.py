"""Many runs, one table: means and spreads over folds and seeds."""

import importlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from qieemo_sb.corpora.manifest import write_text
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation.scores import METRICS, score


def import_extra(name: str, extra: str) -> ModuleType:
    """Import a package that only some experiments need.

    Arguments
    ---------
    name : str
        Of the package or of a module of it.
    extra : str
        Of ``qieemo-sb``, that installs it.

    Returns
    -------
    module

    Raises
    ------
    EvaluationError
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EvaluationError(
            f"This needs {name}: pip install 'qieemo-sb[{extra}]'"
        ) from error


def make_frame(rows: Iterable, columns: Sequence[str] | None = None) -> Any:
    """Make a pandas.DataFrame of rows, which only tables need."""
    import_extra("tabulate", "tables")  # pandas writes Markdown by it
    return import_extra("pandas", "tables").DataFrame(rows, columns=columns)


def spread(values: Iterable[tuple[int, int, float]]) -> dict:
    """Mean and spread of a score over folds and seeds.

    Arguments
    ---------
    values : iterable of tuple
        (fold, seed, score) of every run.

    Returns
    -------
    dict
        ``by_fold``: fold → mean over its seeds. ``by_seed``: seed → mean over
        the folds; only seeds that have all folds. ``mean``: of ``by_fold``.
        ``std_over_folds``, ``std_over_seeds``: sample standard deviations
        (n - 1) of ``by_fold`` and of ``by_seed``; None for fewer than two.

    Example
    -------
    >>> runs = [(1, 0, 0.50), (2, 0, 0.70), (1, 1, 0.54), (2, 1, 0.74)]
    >>> found = spread(runs)
    >>> {key: round(found[key], 4) for key in ("mean", "std_over_seeds")}
    {'mean': 0.62, 'std_over_seeds': 0.0283}
    """
    frame = make_frame(sorted(values), ["fold", "seed", "score"])
    grid = frame.pivot(index="fold", columns="seed", values="score")
    by_fold, by_seed = grid.mean(axis=1), grid.dropna(axis=1).mean()
    return {
        "mean": float(by_fold.mean()),
        "std_over_folds": float(by_fold.std()) if len(by_fold) > 1 else None,
        "std_over_seeds": float(by_seed.std()) if len(by_seed) > 1 else None,
        "by_fold": by_fold.to_dict(),
        "by_seed": by_seed.to_dict(),
    }


def aggregate(runs: Sequence[Mapping]) -> dict:
    """Scores of all runs of a configuration.

    Arguments
    ---------
    runs : sequence of mapping
        One or more, of the same labels, as in ``metrics.json``: at least
        ``fold``, ``seed``, ``labels``, ``confusion_matrix`` and the scores of
        ``METRICS``.

    Returns
    -------
    dict
        A ``spread`` for each of ``METRICS``, and ``pooled``: the scores of all
        runs' predictions together, where an utterance counts once a seed.
    """
    summary = {
        metric: spread((run["fold"], run["seed"], run[metric]) for run in runs)
        for metric in METRICS
    }
    counts = torch.tensor([run["confusion_matrix"] for run in runs]).sum(dim=0)
    cells = torch.ones_like(counts).nonzero()  # (target, prediction)
    targets, predictions = cells.repeat_interleave(counts.flatten(), dim=0).T
    pooled = score(targets, predictions, runs[0]["labels"])
    return {**summary, "pooled": pooled}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A Markdown table.

    Arguments
    ---------
    head : sequence of str
        Names of the columns.
    rows : iterable of sequence
        Their cells; see ``cell``.

    Returns
    -------
    str
        Ends with a line break.

    Example
    -------
    >>> print(markdown_table(["fold", "WA"], [[1, 0.75], [2, None]]), end="")
    | fold   | WA    |
    |:-------|:------|
    | 1      | 0.750 |
    | 2      | –     |
    """
    cells = [[cell(value) for value in row] for row in rows]
    table = make_frame(cells, head)
    return table.to_markdown(index=False, disable_numparse=True) + "\n"


def heading(result: Mapping) -> str:
    """Format title and command of a table.

    Arguments
    ---------
    result : mapping
        May have ``title`` and ``command``.

    Returns
    -------
    str
        Markdown.
    """
    text = f"# {result.get('title', 'Results')}\n"
    if "command" in result:
        text += f"\n```sh\n{result['command']}\n```\n"
    return text


def cell(value: object) -> str:
    """Format a value for a table: a float with three decimals, None a dash.

    Arguments
    ---------
    value : object
        A number, a text or None.

    Returns
    -------
    str
    """
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def plus_minus(spread: Mapping | None) -> str:
    """Format mean ± standard deviation over folds.

    Arguments
    ---------
    spread : mapping or None
        Of ``spread``.

    Returns
    -------
    str
        "0.750 ± 0.031", the mean alone where there is no deviation, or a dash.
    """
    if spread is None:
        return cell(None)
    mean, deviation = spread["mean"], spread["std_over_folds"]
    return cell(mean) + ("" if deviation is None else f" ± {cell(deviation)}")


def write(path: Path, result: Mapping, text: str) -> None:
    """Write a table as JSON and as Markdown, each whole or not at all.

    Arguments
    ---------
    path : Path
        Of both files, without ``.json`` and ``.md``.
    result : mapping
        For the JSON.
    text : str
        Markdown.
    """
    write_text(path.with_suffix(".json"), to_json(result))
    write_text(path.with_suffix(".md"), text)


def to_json(value: object) -> str:
    """JSON for people: indented, but a list of numbers or names on a line.

    Arguments
    ---------
    value : object
        Anything `json` can write.

    Returns
    -------
    str
        Ends with a line break.

    Example
    -------
    >>> print(to_json({"a": [[1, 2], [3, 4]]}), end="")
    {
      "a": [
        [1, 2],
        [3, 4]
      ]
    }
    """

    def join(match):
        return "[" + re.sub(r"\n\s*", " ", match[0][1:-1].strip()) + "]"

    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[\n[^][{}]*\]", join, text) + "\n"
