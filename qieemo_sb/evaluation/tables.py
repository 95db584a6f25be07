"""Many runs, one table: means and spreads over folds and seeds."""

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

import torch

from qieemo_sb.evaluation.scores import score

METRICS = {
    "weighted_accuracy": "WA",
    "unweighted_accuracy": "UA",
    "weighted_f1": "WF1",
    "macro_f1": "macro-F1",
}
NEW_LINE = re.compile(r"\n\s*")  # none is inside a JSON text


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
    values = sorted(values)
    by_fold = _means((fold, value) for fold, _, value in values)
    by_seed = _means((seed, value) for _, seed, value in values)
    folds_of = {s: {f for f, t, _ in values if t == s} for s in by_seed}
    by_seed = {s: m for s, m in by_seed.items() if folds_of[s] == set(by_fold)}
    return {
        "mean": statistics.fmean(by_fold.values()),
        "std_over_folds": _deviation(by_fold.values()),
        "std_over_seeds": _deviation(by_seed.values()),
        "by_fold": by_fold,
        "by_seed": by_seed,
    }


def aggregate(runs: Sequence[Mapping]) -> dict:
    """Scores of all runs of a configuration.

    Arguments
    ---------
    runs : sequence of mapping
        As ``metrics.json`` has them: at least ``fold``, ``seed``, ``labels``,
        ``confusion_matrix`` and the scores of ``METRICS``.

    Returns
    -------
    dict
        A ``spread`` for each of ``METRICS``, and ``pooled``: the scores of all
        runs' answers together, where an utterance counts once a seed.

    Raises
    ------
    ValueError
        There is no run, or the runs' labels differ.
    """
    if not runs:
        raise ValueError("No run to aggregate.")
    labels = runs[0]["labels"]
    other = [run["labels"] for run in runs if run["labels"] != labels]
    if other:
        raise ValueError(f"Runs of labels {labels} and of {other[0]}.")
    summary = {
        metric: spread((run["fold"], run["seed"], run[metric]) for run in runs)
        for metric in METRICS
    }
    pooled = sum(torch.tensor(run["confusion_matrix"]) for run in runs)
    return {**summary, "pooled": score(*_answers(pooled), labels)}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A Markdown table.

    Arguments
    ---------
    head : sequence of str
        Names of the columns.
    rows : iterable of sequence
        Their cells; a float gets three decimals, None a dash.

    Returns
    -------
    str
        Ends with a line break.

    Example
    -------
    >>> print(markdown_table(["fold", "WA"], [[1, 0.75], [2, None]]), end="")
    | fold | WA |
    |---|---|
    | 1 | 0.750 |
    | 2 | – |
    """
    lines = [head, ["---"] * len(head), *rows]
    text = ["| " + " | ".join(map(cell, line)) + " |" for line in lines]
    text[1] = text[1].replace(" ", "")
    return "\n".join(text) + "\n"


def cell(value: object) -> str:
    """A value as tables show it.

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
        return f"[{re.sub(NEW_LINE, ' ', match[0][1:-1].strip())}]"

    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[\n[^][{}]*\]", join, text) + "\n"


def plus_minus(spread: Mapping, over: str = "folds") -> str:
    """Mean ± standard deviation.

    Arguments
    ---------
    spread : mapping
        Of ``spread``.
    over : str
        "folds" or "seeds".

    Returns
    -------
    str
        "0.750 ± 0.031", or the mean alone where there is no deviation.
    """
    deviation = spread[f"std_over_{over}"]
    mean = cell(spread["mean"])
    return mean if deviation is None else f"{mean} ± {cell(deviation)}"


def _means(pairs):
    """(key, value) pairs → key → mean value."""
    groups = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {k: statistics.fmean(v) for k, v in sorted(groups.items())}


def _deviation(values):
    """Sample standard deviation, or None."""
    values = list(values)
    return statistics.stdev(values) if len(values) > 1 else None


def _answers(confusion):
    """A confusion matrix → the targets and predictions that it counts."""
    size = len(confusion)
    targets = torch.arange(size).repeat_interleave(size)
    predictions = torch.arange(size).repeat(size)
    counts = confusion.flatten()
    return (
        targets.repeat_interleave(counts),
        predictions.repeat_interleave(counts),
    )
