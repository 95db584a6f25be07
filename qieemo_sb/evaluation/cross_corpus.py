"""Emotion across corpora: train on some, test on others.

All others → each corpus, which is left out in turn; and, for the matrix, each
corpus alone → all others. A cell's labels are those that both sides have.

Three protocols: plain; adapted to the corpus, whose clips are standardised by
their own moments; adapted to the speaker likewise. Neither takes labels.
Beside Qieemo stands a linear probe of block statistics in every cell, and,
where it is adapted, the probe after ``self_train``.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qieemo_sb.corpora.manifest import Utterance
from qieemo_sb.corpora.multi import corpus_emotions
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import cross_validation as cv
from qieemo_sb.evaluation import plots, tables
from qieemo_sb.evaluation.probes import normalise_speakers
from qieemo_sb.evaluation.scores import score
from qieemo_sb.evaluation.self_training import SHARPNESS, self_train

PROTOCOLS = {  # value of adapt_to → name in tables
    None: "plain",
    "corpus": "adapted to the corpus",
    "speaker": "adapted to the speaker",
}
OTHERS = "all others"
MODELS = ("probe", "probe, self-trained", "Qieemo")
PENALTY = 1.0  # of the probe's squared weights; those of clips sum to one


class Experiment(NamedTuple):
    """Corpora that are trained on, and others that are tested.

    Arguments
    ---------
    name : str
        Of what is trained on: ``OTHERS`` or a corpus.
    trained, tested : tuple of str
        Corpora as they are called in manifests.
    adapt_to : str or None
        A key of ``PROTOCOLS``.
    """

    name: str
    trained: tuple[str, ...]
    tested: tuple[str, ...]
    adapt_to: str | None


Planned = list[tuple[Experiment, cv.Run]]


def experiments(corpora: Sequence[str], matrix: bool) -> list[Experiment]:
    """List the experiments of a table.

    Arguments
    ---------
    corpora : sequence of str
        See ``Experiment``.
    matrix : bool
        Train on each corpus alone, too.

    Returns
    -------
    list of Experiment

    Raises
    ------
    EvaluationError
        There are fewer than two corpora, or one is named twice.

    Example
    -------
    >>> found = experiments(["a", "b", "c"], matrix=True)
    >>> [x[:3] for x in found if x.adapt_to is None][::3]
    [('all others', ('b', 'c'), ('a',)), ('a', ('a',), ('b', 'c'))]
    """
    if len(set(corpora)) < max(2, len(corpora)):
        raise EvaluationError(
            f"--corpora: two different ones are needed, not {list(corpora)}."
        )
    found = []
    for adapt_to in PROTOCOLS:
        for corpus in corpora:
            others = tuple(other for other in corpora if other != corpus)
            found.append(Experiment(OTHERS, others, (corpus,), adapt_to))
    for adapt_to in PROTOCOLS if matrix else ():
        for corpus in corpora:
            others = tuple(other for other in corpora if other != corpus)
            found.append(Experiment(corpus, (corpus,), others, adapt_to))
    return found


def plan(
    configuration: cv.Configuration,
    wanted: Sequence[Experiment],
    emotions: Sequence[str],
    label_map: Mapping[str, str] | None = None,
) -> Planned:
    """Plan a run for each experiment and seed.

    Arguments
    ---------
    configuration : Configuration
        Of train.py, without corpora, emotions and protocol.
    wanted : sequence of Experiment
        Of ``experiments``.
    emotions : sequence of str
        Labels of the task. A run has those of the corpora it trains on.
    label_map : mapping of str to str or None
        See ``corpora.multi.corpus_emotions``.

    Returns
    -------
    list of tuple
        Experiment and run.

    Raises
    ------
    QieemoError
        See ``cross_validation.plan``.
    """
    planned = []
    for experiment in wanted:
        known = corpus_emotions(experiment.trained, emotions, label_map)
        taught = {label for labels in known.values() for label in labels}
        options = {
            "corpora": experiment.trained,
            "test_corpora": experiment.tested,
            "emotions": [label for label in emotions if label in taught],
            "adapt_to": experiment.adapt_to,
        }
        given = [f"--{k}={json.dumps(value)}" for k, value in options.items()]
        part = f"only_{experiment.name}"
        if experiment.name == OTHERS:
            part = f"without_{experiment.tested[0]}"
        protocol = experiment.adapt_to or "plain"
        own = dataclasses.replace(
            configuration,
            arguments=[*configuration.arguments, *given],
            folder=configuration.folder / protocol / part,
            folds=[1],
        )
        planned += [(experiment, run) for run in cv.plan(own)]
    return planned


class Moments(NamedTuple):
    """Moments of a corpus's features and labels, its emotions counted alike.

    Arguments
    ---------
    mean : torch.Tensor
        [F] of the features.
    second : torch.Tensor
        [F, F] means of their products.
    cross : torch.Tensor
        [C, F] means of labels (0 or 1) times features.
    shares : torch.Tensor
        [C] of the labels.
    """

    mean: Tensor
    second: Tensor
    cross: Tensor
    shares: Tensor

    @classmethod
    def of(cls, x: Tensor, labels: Tensor, n_classes: int) -> "Moments":
        """Compute them of features [N, F] and class indices [N]."""
        targets = torch.eye(n_classes)[labels]
        counts = targets.sum(dim=0)
        weights = 1 / (counts[labels] * (counts > 0).sum())
        weighted = targets * weights[:, None]
        second = x.T @ (x * weights[:, None])
        return cls(weights @ x, second, weighted.T @ x, weighted.sum(dim=0))


def fit_ridge(corpora: Sequence[Moments]) -> tuple[Tensor, Tensor]:
    """Fit a ridge regression of labels on features, corpora counted alike.

    Features are standardised over these corpora, by the same weights.

    Arguments
    ---------
    corpora : sequence of Moments
        Of those that are trained on.

    Returns
    -------
    torch.Tensor
        [C, F] weights.
    torch.Tensor
        [C] biases.
    """
    columns = zip(*corpora, strict=True)
    mean, second, cross, shares = (sum(x) / len(corpora) for x in columns)
    covariance = second - torch.outer(mean, mean)
    scale = covariance.diagonal().clamp(min=0).sqrt()
    scale[scale == 0] = 1
    covariance = covariance / torch.outer(scale, scale)
    covariance.diagonal().add_(PENALTY)
    targets = (cross - torch.outer(shares, mean)) / scale
    weight = torch.linalg.solve(covariance, targets.T).T / scale
    return weight, shares - weight @ mean


def probe(
    features: Mapping[str, np.ndarray],
    clips: Sequence[Utterance],
    emotions: Sequence[str],
    wanted: Sequence[Experiment],
) -> list[dict[str, Any]]:
    """Probe every cell of the table.

    Each clip is predicted among the labels that its corpus has and that are
    trained on.

    Arguments
    ---------
    features : mapping of str to numpy.ndarray
        utt_id → [F].
    clips : sequence of Utterance
        All of all corpora, with labels among the emotions.
    emotions : sequence of str
        The C labels.
    wanted : sequence of Experiment
        Of ``experiments``.

    Returns
    -------
    list of dict
        A cell each; see ``cross_corpora``.
    """
    places = torch.tensor([list(emotions).index(clip.emo) for clip in clips])
    rows: dict[str, list[int]] = {}
    for n, clip in enumerate(clips):
        rows.setdefault(clip.corpus, []).append(n)
    labels = {corpus: places[part] for corpus, part in rows.items()}
    cells = []
    for adapt_to in dict.fromkeys(x.adapt_to for x in wanted):
        matrix = torch.from_numpy(_standardised(features, clips, adapt_to))
        x = {corpus: matrix[part] for corpus, part in rows.items()}
        moments = {
            corpus: Moments.of(x[corpus], labels[corpus], len(emotions))
            for corpus in rows
        }
        for experiment in [x for x in wanted if x.adapt_to == adapt_to]:
            started = time.monotonic()
            trained = [moments[corpus] for corpus in experiment.trained]
            weight, bias = fit_ridge(trained)
            taught = sum(part.shares for part in trained) > 0
            scores = {
                corpus: x[corpus] @ weight.T + bias
                for corpus in experiment.tested
            }
            seconds = time.monotonic() - started
            found = {
                corpus: _test(s, labels[corpus], taught, emotions)
                for corpus, s in scores.items()
            }
            cells += _cells(experiment, "probe", None, found, seconds)
            if adapt_to is None:
                continue
            for corpus, s in scores.items():
                known = taught & moments[corpus].shares.bool()
                revised = s.masked_fill(~known, -torch.inf)
                revised = self_train(
                    x[corpus], (SHARPNESS * revised).softmax(1)
                )
                found[corpus] = _test(revised, labels[corpus], taught, emotions)
            seconds = time.monotonic() - started
            cells += _cells(experiment, MODELS[1], None, found, seconds)
    return cells


def _standardised(features, clips, adapt_to):
    """Features [N, F] in the order of clips, adapted or to one scale.

    One scale for all changes no result, but keeps sums of products precise.
    """
    kinds = {"corpus": lambda x: x.corpus, "speaker": lambda x: x.spk_id}
    group = kinds.get(adapt_to, lambda _: "all")
    groups = {clip.utt_id: group(clip) for clip in clips}
    chosen = {utt_id: features[utt_id] for utt_id in groups}
    return np.stack(list(normalise_speakers(chosen, groups).values()))


def _test(scores, labels, taught, emotions):
    """Score clips of a corpus whose labels are trained on."""
    allowed = taught & (torch.eye(len(emotions))[labels].sum(dim=0) > 0)
    kept = allowed[labels]
    masked = scores[kept].masked_fill(~allowed, -torch.inf)
    return score(labels[kept], masked.argmax(dim=1), emotions)


def _cells(experiment, model, seed, found, seconds):
    """Cells of an experiment from the scores of each tested corpus."""
    return [
        {
            "trained_on": experiment.name,
            "protocol": PROTOCOLS[experiment.adapt_to],
            "model": model,
            "tested_on": corpus,
            "seed": seed,
            "unweighted_accuracy": scores["unweighted_accuracy"],
            "num_utterances": scores["num_utterances"],
            "seconds": round(seconds, 1),
        }
        for corpus, scores in found.items()
    ]


def cross_corpora(
    planned: Planned,
    probed: Sequence[Mapping[str, Any]],
    folder: Path,
    executor: cv.Executor = cv.one_by_one,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Execute runs that are not finished; write the table after each.

    Arguments
    ---------
    planned : list of tuple
        Of ``plan``.
    probed : sequence of mapping
        Of ``probe``.
    folder : Path
        Gets ``cross_corpus.json``, ``.md`` and, at the end, ``.png``.
    executor : callable
        See ``cross_validation.cross_validate``.
    about : mapping or None
        What else the table shall hold: ``title``, ``command``.

    Returns
    -------
    dict
        Numbers of ``planned`` and ``finished`` runs, and ``failed`` ones;
        ``cells``: UA of a ``model`` by what it was ``trained_on`` and
        ``tested_on``, and ``seconds`` of its run; ``rows``: see ``make_rows``.
    """
    facts = {**(about or {}), "planned": len(planned), "finished": 0}
    result: dict[str, Any] = {**facts, "failed": [], "cells": [*probed]}

    def name(run):
        return str(run.folder.relative_to(folder.absolute()))

    def write():
        result["rows"] = make_rows(result["cells"])
        tables.write(folder / "cross_corpus", result, describe(result))

    write()
    by_folder = {run.folder: experiment for experiment, run in planned}
    runs = [run for _, run in planned]
    for run, outcome in cv.finish(runs, executor, name):
        if "console" in outcome:
            failure = {"run": name(run), "console": outcome["console"]}
            result["failed"].append(failure)
        else:
            experiment = by_folder[run.folder]
            result["finished"] += 1
            result["cells"] += _cells(
                experiment,
                "Qieemo",
                run.seed,
                outcome.get("by_corpus", {experiment.tested[0]: outcome}),
                run.state()["seconds"],
            )
        write()
    rows = {_name(row): [*row["scores"].values()] for row in result["rows"]}
    if rows:
        columns = list(result["rows"][0]["scores"])
        path = folder / "cross_corpus.png"
        plots.heat_map(rows, columns, path, result.get("title"))
    return result


def make_rows(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make rows of the table: all that is tested with one way to train.

    Arguments
    ---------
    cells : sequence of mapping
        See ``cross_corpora``.

    Returns
    -------
    list of dict
        ``trained_on``, ``protocol``, ``model``; ``scores``: tested corpus →
        mean UA over seeds (None: no such cell), and their "mean", None while
        one is missing; ``seconds`` of each cell likewise.
    """
    corpora = list(dict.fromkeys(cell["tested_on"] for cell in cells))
    trained = [OTHERS, *corpora, *(cell["trained_on"] for cell in cells)]
    order = dict.fromkeys(trained), PROTOCOLS.values(), MODELS
    rows = []
    for key in itertools.product(*order):
        row = dict(zip(("trained_on", "protocol", "model"), key, strict=True))
        found = [cell for cell in cells if row.items() <= cell.items()]
        if not found:
            continue
        scores = _by_corpus(found, corpora, "unweighted_accuracy")
        seconds = _by_corpus(found, corpora, "seconds")
        values = [scores[x] for x in corpora if x != row["trained_on"]]
        scores["mean"] = None if None in values else float(np.mean(values))
        rows.append({**row, "scores": scores, "seconds": seconds})
    return rows


def _by_corpus(cells, corpora, key):
    """Mean of a cell's value over seeds, by tested corpus; or None."""
    found = {
        corpus: [cell[key] for cell in cells if cell["tested_on"] == corpus]
        for corpus in corpora
    }
    return {x: float(np.mean(row)) if row else None for x, row in found.items()}


def _name(row):
    """A row in words."""
    return f"{row['trained_on']}: {row['protocol']}, {row['model']}"


def describe(result: Mapping[str, Any]) -> str:
    """Format the tables of ``cross_corpus.md``.

    Arguments
    ---------
    result : mapping
        Of ``cross_corpora``.

    Returns
    -------
    str
        Markdown.
    """
    parts, rows = [tables.heading(result)], result["rows"]
    done, planned = result["finished"], result["planned"]
    if done < planned:
        parts.append(f"Incomplete: {done} of {planned} runs.\n")
    failure = "Failed: {run}:\n\n```\n{console}\n```\n"
    parts += [failure.format(**failed) for failed in result["failed"]]
    if rows:
        parts += [
            _table(rows, "scores"),
            "UA by tested corpus, mean over seeds, and their mean. Adapted: "
            "each corpus, or speaker, standardised by itself, without "
            "labels; self-trained: on the tested corpus, without labels, "
            "which takes emotions to be about equally frequent.\n",
            "Seconds of a run, or of a probe's fit:\n",
            _table(rows, "seconds"),
        ]
    return "\n".join(parts)


def _table(rows, key):
    """Markdown of all rows' scores or seconds."""
    keys = ("trained_on", "protocol", "model")
    head = [*(x.replace("_", " ") for x in keys), *rows[0][key]]
    lines = [[*(row[x] for x in keys), *row[key].values()] for row in rows]
    return tables.markdown_table(head, lines)
