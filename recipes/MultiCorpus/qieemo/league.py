#!/usr/bin/env python3
"""The league: EmoBox's official folds of several corpora in one table.

To use it, do the following (every other option of train.py may follow):
> python league.py hparams/emobox.yaml --emobox_folder DIR --data_root DIR \
      --corpora "[ravdess, emodb]" --seeds 1986,1987,1988

Qieemo, a linear probe of the same blocks, and EmoBox's published scores of
larger encoders. Options of a corpus stand in league.yaml. The table is
league.json and league.md in the output folder, renewed after every corpus;
each corpus's own is in its folder, as cross_validate.py leaves it. What is
finished is not run again; with --ray, runs go side by side.

Authors
 * The Qieemo-SB authors 2026
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import command_line
from qieemo_sb.corpora.named import find_entry
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import (
    ablation,
    cross_validation as cv,
    probes,
    tables,
)

import speechbrain as sb

TRAIN = Path(__file__).absolute().with_name("train.py")
PARTS = {"options", "logistic_c", "published"}
DEFAULT_C = 0.003  # of a probe whose corpus has no logistic_c
SHOWN = ("weighted_accuracy", "unweighted_accuracy")


def main(arguments):
    """Probe, run what is not finished → exit status, 1 if a run failed."""
    parser = command_line.make_parser(__doc__, "yaml of train.py")
    command_line.add_run_options(parser)
    parser.set_defaults(output_folder=Path("results/league"))
    add = parser.add_argument
    add("--corpora", type=names, required=True, help="'[ravdess, emodb]'")
    add("--data_root", type=Path, required=True, help="a folder for each")
    add("--league", type=Path, help="another league.yaml")
    options, rest = parser.parse_known_args(arguments)
    yaml, command = options.hparams, ["league.py", *arguments]
    path = options.league or TRAIN.with_name("league.yaml")
    table = read_league(path)
    title = "EmoBox's official folds"
    every = command_line.configure(
        options, TRAIN, yaml, rest, command, title=title
    )
    own = options.data_root.absolute(), table["options"]
    rows = make_rows(options.corpora, *own)
    planned = ablation.plan_rows(rows, every)
    device = sb.parse_arguments([str(yaml), *rest])[1]["device"]
    probed = {}
    for row in rows:
        print(f"Probe of {row.name}", flush=True)
        alone = ablation.row_configuration(row, every)
        place = dataclasses.replace(alone, folder=alone.folder / "probe")
        c = table["logistic_c"].get(row.name, DEFAULT_C)
        probed[row.name] = probe(place, c, device)
    executor = command_line.make_executor(options)
    published, folder = table["published"], every.folder
    result = play(planned, probed, published, folder, executor, every.about)
    print(f"\n{describe(result)}\nIn {folder}: league.json, league.md")
    # Published rows and probes have no runs.
    runs = [row for row in result["rows"] if "planned" in row]
    return any(row["finished"] < row["planned"] for row in runs)


def names(text):
    """Names between commas, in brackets or not."""
    return [part.strip() for part in text.strip("[] ").split(",")]


def read_league(path: str | Path) -> dict[str, dict]:
    """Read ``options``, ``logistic_c`` of probes and ``published`` scores.

    Arguments
    ---------
    path : str or Path
        The yaml.

    Returns
    -------
    dict

    Raises
    ------
    EvaluationError
        It is no such yaml.
    """
    found = ablation.read_yaml(path)
    if not isinstance(found, dict) or set(found) != PARTS:
        raise EvaluationError(f"{path}: a league has {sorted(PARTS)}.")
    return found


def make_rows(
    corpora: Sequence[str],
    data_root: str | Path,
    options: Mapping[str, Mapping[str, Any]],
) -> list[ablation.Row]:
    """Make a row a corpus, which ``ablation.plan_rows`` plans.

    Arguments
    ---------
    corpora : sequence of str
        As EmoBox spells them.
    data_root : str or Path
        Holds a folder for each.
    options : mapping
        Corpus → options of train.py.

    Returns
    -------
    list of Row

    Raises
    ------
    EvaluationError
        A corpus is named twice or has no folder.
    """
    if len(set(corpora)) < len(corpora):
        raise EvaluationError(f"--corpora: one is twice in {list(corpora)}.")
    rows = []
    for corpus in corpora:
        entry = find_entry(corpus)
        names = dict.fromkeys(entry.names if entry else [corpus])
        there = [
            Path(data_root, x) for x in names if Path(data_root, x).is_dir()
        ]
        if not there:
            raise EvaluationError(
                f"{data_root} has no folder {' or '.join(names)}: leave "
                f"{corpus} out of --corpora, or give another --data_root."
            )
        own = {"corpus": corpus, "data_folder": str(there[0])}
        rows.append(
            ablation.make_row(corpus, {**own, **options.get(corpus, {})})
        )
    return rows


def probe(
    configuration: cv.Configuration, c: float, device: str | None = None
) -> dict:
    """Probe the official folds of a corpus, with Qieemo's blocks.

    Arguments
    ---------
    configuration : Configuration
        Of train.py on that corpus; the folder gets manifests.
    c : float
        Inverse strength of the penalty of scikit-learn's logistic regression.
    device : str or None
        Runs the encoder; None: the CPU.

    Returns
    -------
    dict
        See ``probes.probe_folds``; ``trained`` parameters and ``total`` ones.
    """
    yaml, overrides = configuration.hparams_file, configuration.overrides
    folds = probes.read_folds(configuration)
    clips = [clip for fold in folds.values() for half in fold for clip in half]
    statistics, part = probes.pooled_statistics(
        yaml, overrides, clips, configuration.folder, device
    )
    blocks = part["emotional_blocks"]
    features = {i: x[blocks].ravel() for i, x in statistics.items()}
    found = probes.probe_folds(features, folds, part["emotions"], c)
    width = len(next(iter(features.values())))
    trained = (width + 1) * len(part["emotions"])
    total = trained + sum(x.numel() for x in part["encoder"].parameters())
    return {**found, "parameters": {"trained": trained, "total": total}}


def play(
    planned: Sequence[ablation.PlannedRow],
    probed: Mapping[str, Mapping[str, Any]],
    published: Mapping[str, Mapping[str, Any]],
    folder: Path,
    executor: cv.Executor = cv.one_by_one,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run all corpora; write the table after each.

    Arguments
    ---------
    planned : sequence of tuple
        Of ``ablation.plan_rows`` for ``make_rows``.
    probed : mapping
        Corpus → result of ``probe``.
    published : mapping
        Of ``read_league``.
    folder : Path
        Gets ``league.json`` and ``league.md``, and a folder a corpus as
        ``cross_validate`` leaves it.
    executor : callable
        See ``cross_validate``.
    about : mapping or None
        What else the table shall hold: ``title``, ``command``.

    Returns
    -------
    dict
        Content of ``league.json``: ``rows`` of ``compare``.
    """
    result: dict[str, Any] = {**(about or {}), "rows": []}
    for row, size, runs in planned:
        print(f"\n{row.name}", flush=True)
        title = {"title": row.name, "options": row.arguments}
        found = cv.cross_validate(runs, folder / row.folder, executor, title)
        progress = {"planned": len(runs), "finished": len(found["runs"])}
        qieemo = {**progress, "parameters": size, "runs": found["runs"]}
        others = probed[row.name], published
        result["rows"] += compare(row.name, qieemo, *others)
        tables.write(folder / "league", result, describe(result))
    return result


def compare(
    corpus: str,
    qieemo: Mapping[str, Any],
    probed: Mapping[str, Any],
    published: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Make the rows of a corpus.

    Arguments
    ---------
    corpus : str
        As EmoBox spells it.
    qieemo : mapping
        ``parameters``, ``runs`` (metrics), ``planned`` and ``finished``.
    probed, published
        See ``play``.

    Returns
    -------
    list of dict
        ``corpus``, ``model``, ``parameters``, and of WA and UA: mean over
        folds, sample deviation over seeds (``_std``) and difference to the
        probe (``_difference``); ``standard_error`` of WA, by the number of
        test clips of all folds. Unknown values are None.
    """
    runs, rows = qieemo["runs"], []
    summary = tables.aggregate(runs) if runs else {}
    # Every fold once, whatever the number of seeds.
    sizes = {run["fold"]: run["num_utterances"] for run in runs}
    own = {"corpus": corpus, "model": "Qieemo", "published": False}
    own |= {key: qieemo[key] for key in ("parameters", "planned", "finished")}
    rows.append({**own, **_scores(summary, probed, sum(sizes.values()))})
    own = {"corpus": corpus, "model": "probe", "published": False}
    own["parameters"] = probed["parameters"]
    rows.append({**own, **_scores(probed, probed, sum(sizes.values()))})
    for model, scores in published.items():
        if corpus in scores:
            ua, wa = scores[corpus]
            row = {"corpus": corpus, "model": model, "published": True}
            row["parameters"] = {"total": int(scores["parameters"] * 1e6)}
            means = zip(SHOWN, (wa, ua), strict=True)
            found = {x: {"mean": v, "std_over_seeds": None} for x, v in means}
            rows.append({**row, **_scores(found, probed, 0)})
    return rows


def _scores(summary, probed, clips):
    """Means, deviations and differences of a model; see ``compare``."""
    found = {}
    for metric in SHOWN:
        spread = summary.get(metric) or {"mean": None, "std_over_seeds": None}
        mean, against = spread["mean"], probed[metric]["mean"]
        found[metric] = mean
        found[f"{metric}_std"] = spread["std_over_seeds"]
        known = mean is not None
        found[f"{metric}_difference"] = mean - against if known else None
    wa = found["weighted_accuracy"]
    known = clips and wa is not None
    error = math.sqrt(wa * (1 - wa) / clips) if known else None
    return {**found, "standard_error": error}


def describe(result: Mapping[str, Any]) -> str:
    """Format the table of ``league.md``.

    Arguments
    ---------
    result : mapping
        Of ``play``.

    Returns
    -------
    str
        Markdown.
    """
    head = ["corpus", "model", "parameters [M]", "WA", "against the probe"]
    head += ["standard error", "UA", "against the probe", "runs"]
    lines = []
    for row in result["rows"]:
        million = f"{(row['parameters'] or {}).get('total', 0) / 1e6:.1f}"
        name = row["model"] + (", published" if row["published"] else "")
        cells = {}
        for metric in SHOWN:
            mean, deviation = row[metric], row[f"{metric}_std"]
            spread = {"mean": mean, "std_over_folds": deviation}
            difference = row[f"{metric}_difference"]
            signed = None if difference is None else f"{difference:+.3f}"
            cells[metric] = [tables.plus_minus(spread), signed]
        wa, ua = cells.values()
        runs = (
            f"{row['finished']} of {row['planned']}"
            if "planned" in row
            else None
        )
        error = row["standard_error"]
        lines.append([row["corpus"], name, million, *wa, error, *ua, runs])
    return (
        f"{tables.heading(result)}\n{tables.markdown_table(head, lines)}\n"
        "Fractions: mean over folds ± sample standard deviation over seeds of "
        "the means over folds. Standard error: of WA, by the number of test "
        "clips. Probe: logistic regression on mean and deviation of the same "
        "blocks, trained on all that is not tested. Published: by EmoBox, "
        "arXiv 2406.07162, last layer of a frozen encoder. Parameters in "
        "millions [M], encoder included.\n"
    )


if __name__ == "__main__":
    command_line.run(main)
