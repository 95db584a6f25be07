"""All folds and seeds of a configuration: plan, run, resume, add up.

A run is one call of train.py (or of a script with the same command line and
the same ``metrics.json``) as a process of its own, in a folder of its own:

    OUTPUT/fold_1/1986/run.json     its options and whether it is finished
    OUTPUT/fold_1/1986/console.txt  all that it printed
    OUTPUT/fold_1/1986/...          what train.py leaves
    OUTPUT/cv.json, cv.md           the table, rewritten after every run
    OUTPUT/cv.png                   its picture, drawn at the end

Whether a run is finished is read from its folder alone, so one that was
stopped goes on where it was. A folder that belongs to other options is an
error before anything is run, not a folder to go on with and not a reason to
make a second one: a table whose rows silently differ is worse than none.
"""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from qieemo_sb.corpora.files import write_text
from qieemo_sb.corpora.manifest import read_json, write_json
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import plots
from qieemo_sb.evaluation.adaptation import HEARD, HOW
from qieemo_sb.evaluation.recipe import Recipe, check_distinct
from qieemo_sb.evaluation.tables import (
    METRICS,
    aggregate,
    cell,
    markdown_table,
    plus_minus,
    spread,
    to_json,
)
from qieemo_sb.training.resume import differences

STATE = "run.json"
CONSOLE = "console.txt"
RESULT = "metrics.json"
TAIL = 15  # lines of a failed run's console that are shown
OURS = ("fold", "seed", "output_folder")  # options that a run gets from here


@dataclasses.dataclass(frozen=True)
class Run:
    """One fold and seed of a configuration.

    Arguments
    ---------
    fold : int
        What is tested.
    seed : int
        Of the training.
    folder : Path
        Gets the results.
    command : tuple of str
        The process.
    cwd : Path
        Where it runs.
    options : dict
        All else that decides its result; see ``Recipe.decisive``.
    """

    fold: int
    seed: int
    folder: Path
    command: tuple[str, ...]
    cwd: Path
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The run in words."""
        return f"fold {self.fold}, seed {self.seed}"

    def state(self) -> dict[str, Any]:
        """What ``run.json`` says, or that nothing has been run."""
        path = self.folder / STATE
        if path.exists():
            return read_json(path)
        return {"options": self.options, "finished": False, "seconds": 0.0}

    def metrics(self) -> dict[str, Any] | None:
        """What the finished run measured; None before that."""
        path = self.folder / RESULT
        if not (self.state()["finished"] and path.exists()):
            return None
        return read_json(path)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Arguments
    ---------
    run : Run
        Which one.
    metrics : dict or None
        What it measured; None: it failed.
    seconds : float
        It took, over all the times that it was started.
    skipped : bool
        Whether it had been finished before.
    """

    run: Run
    metrics: dict[str, Any] | None
    seconds: float
    skipped: bool = False

    def tail(self) -> str:
        """The last lines that the run printed."""
        path = self.run.folder / CONSOLE
        text = path.read_bytes().decode(errors="replace")
        # A progress bar rewrites its line: only the last state matters.
        lines = [line.rpartition("\r")[2] for line in text.split("\n")]
        return "\n".join([line for line in lines if line.strip()][-TAIL:])


def plan(
    script: str | Path,
    recipe: Recipe,
    output_folder: str | Path,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] = (1986,),
) -> list[Run]:
    """The runs of a cross-validation, seed after seed within a fold.

    Arguments
    ---------
    script : str or Path
        train.py.
    recipe : Recipe
        The yaml and its options, without fold, seed and output_folder.
    output_folder : str or Path
        Of the cross-validation.
    folds : sequence of int or None
        None: all that the corpus has.
    seeds : sequence of int
        At least one.

    Returns
    -------
    list of Run

    Raises
    ------
    EvaluationError
        A fold that does not exist, a fold or seed given twice or as an option
        of train.py, or a folder that belongs to a run with other options.
    """
    folds = recipe.check_folds(folds)
    check_distinct("seeds", seeds)
    for option in OURS:
        if any(a.split("=")[0] == f"--{option}" for a in recipe.arguments):
            raise EvaluationError(
                f"--{option} differs from run to run: it is set here. Give "
                "--folds, --seeds and --output_folder, each once."
            )
    # Absolute: on Ray, a worker may stand elsewhere.
    script, folder = Path(script), Path(output_folder).absolute()
    options = {"script": script.name, **recipe.decisive()}
    for option in ("fold", "seed"):  # a run's folder tells them
        options.pop(option, None)
    runs = [
        _make_run(script, recipe, options, place, fold, seed)
        for fold in folds
        for seed in seeds
        for place in [folder / f"fold_{fold}" / str(seed)]
    ]
    for run in runs:
        _check_options(run)
    return runs


def execute(run: Run) -> Outcome:
    """Run a process to its end, unless it got there before.

    Arguments
    ---------
    run : Run
        Which one.

    Returns
    -------
    Outcome
    """
    state, metrics = run.state(), run.metrics()
    if metrics is not None:
        return Outcome(run, metrics, state["seconds"], skipped=True)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(state, run.folder / STATE)
    started = time.monotonic()
    with open(run.folder / CONSOLE, "w", encoding="utf-8") as console:
        done = subprocess.run(
            run.command,
            cwd=run.cwd,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            check=False,
        )
    state["seconds"] += round(time.monotonic() - started, 1)
    state["finished"] = done.returncode == 0
    write_json(state, run.folder / STATE)
    return Outcome(run, run.metrics(), state["seconds"])


def one_by_one(runs: Iterable[Run]) -> Iterator[Outcome]:
    """Execute runs one after another.

    Arguments
    ---------
    runs : iterable of Run
        In this order.

    Yields
    ------
    Outcome
    """
    for run in runs:
        yield execute(run)


def on_ray(
    runs: Iterable[Run], num_cpus: int, num_gpus: float = 0
) -> Iterator[Outcome]:
    """Execute runs side by side, as tasks of a Ray cluster.

    Ray's own settings say which cluster (RAY_ADDRESS); without one, Ray starts
    on this machine. All nodes must see the same files.

    Arguments
    ---------
    runs : iterable of Run
        In any order.
    num_cpus : int
        Cores of a run.
    num_gpus : float
        GPUs of a run.

    Yields
    ------
    Outcome
        As they end.

    Raises
    ------
    EvaluationError
        Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise EvaluationError(
            "Ray is not installed: pip install 'qieemo-sb[ray]'"
        ) from error
    if not ray.is_initialized():
        # Ray would give its workers threads of its own choice, and sums of
        # another number of threads differ in the last digit.
        ray.init(runtime_env={"env_vars": {"OMP_NUM_THREADS": str(num_cpus)}})
    task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus)(execute)
    waiting = [task.remote(run) for run in runs]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done)


def say(line: str) -> None:
    """Print a line at once, also where the output is a file."""
    print(line, flush=True)


def cross_validate(
    runs: Sequence[Run],
    output_folder: str | Path,
    executor: Callable[[Sequence[Run]], Iterable[Outcome]] = one_by_one,
    report: Callable[[str], None] = say,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Execute runs; write the table after each and draw it in the end.

    Arguments
    ---------
    runs : sequence of Run
        Of ``plan``.
    output_folder : str or Path
        Gets ``cv.json``, ``cv.md`` and ``cv.png``.
    executor : callable
        Runs → outcomes, in any order.
    report : callable
        Gets a line a run.
    about : dict or None
        What else ``cv.json`` and ``cv.md`` shall say.

    Returns
    -------
    dict
        What ``cv.json`` holds; ``failed`` names what did not end well.
    """
    outcomes, result = [], {}
    left = sum(run.metrics() is None for run in runs)
    started, done = time.monotonic(), 0
    for outcome in executor(runs):
        outcomes.append(outcome)
        done, left = done + (not outcome.skipped), left - (not outcome.skipped)
        ahead = left * (time.monotonic() - started) / done if done else 0
        report(f"[{len(outcomes)}/{len(runs)}] {_line(outcome, ahead)}")
        result = summarise(runs, outcomes, about)
        write_tables(result, output_folder)
    if result.get("summary"):
        draw(result, Path(output_folder) / "cv.png")
    return result


def summarise(
    runs: Sequence[Run],
    outcomes: Iterable[Outcome],
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``cv.json`` holds.

    Arguments
    ---------
    runs : sequence of Run
        All that were planned.
    outcomes : iterable of Outcome
        Those that have ended.
    about : dict or None
        Put first.

    Returns
    -------
    dict
        ``planned`` runs, ``runs`` with what each measured and its minutes,
        ``failed`` ones with their last lines, and ``summary`` (None while no
        run has succeeded; see ``aggregate``). For runs with
        ``adapt_speakers``, else None: ``adaptation``, clips heard before →
        ``spread`` of WA; ``few_emotions``, each of ``adaptation.HOW`` → how
        many emotions a speaker shows → the same.
    """
    outcomes = sorted(outcomes, key=lambda o: (o.run.fold, o.run.seed))
    good = [o for o in outcomes if o.metrics is not None]
    metrics = [o.metrics for o in good]
    return {
        **(about or {}),
        "planned": len(runs),
        "failed": [
            {"fold": o.run.fold, "seed": o.run.seed, "console": o.tail()}
            for o in outcomes
            if o.metrics is None
        ],
        "summary": aggregate(metrics) if good else None,
        "adaptation": _adaptation(metrics),
        "few_emotions": {
            how: _adaptation(metrics, "emotions", how) for how in HOW
        },
        "runs": [
            {**o.metrics, "minutes": round(o.seconds / 60, 2)} for o in good
        ],
    }


def _adaptation(measured, places="clips", values="weighted_accuracy"):
    """Clips that were heard before, or the like → spread of WA, or None."""
    found = {}
    for run in measured:
        curve = run.get("adaptation", {})
        pairs = zip(curve.get(places, ()), curve.get(values, ()), strict=True)
        for place, accuracy in pairs:
            row = run["fold"], run["seed"], accuracy
            found.setdefault(place, []).append(row)
    return {place: spread(rows) for place, rows in found.items()} or None


def write_tables(result: dict[str, Any], folder: str | Path) -> None:
    """Write ``cv.json`` and ``cv.md``, each whole or not at all.

    Arguments
    ---------
    result : dict
        Of ``summarise``.
    folder : str or Path
        Made if need be.
    """
    folder = Path(folder)
    write_text(folder / "cv.json", to_json(result))
    write_text(folder / "cv.md", describe(result))


def draw(result: dict[str, Any], path: str | Path) -> None:
    """Draw the scores of the folds and the confusions of all runs.

    Beside it, ``adaptation.png`` of runs that adapted to speakers.

    Arguments
    ---------
    result : dict
        Of ``summarise``.
    path : str or Path
        The picture.
    """
    pooled, scores = result["summary"]["pooled"], {}
    for metric, name in METRICS.items():
        scores[name] = {}
        for run in result["runs"]:
            scores[name].setdefault(run["fold"], []).append(run[metric])
    plots.cross_validation(
        scores,
        pooled["confusion_matrix"],
        pooled["labels"],
        path,
        title=result.get("title"),
    )
    if result["adaptation"]:
        scores = {
            str(clips): list(found["by_fold"].values())
            for clips, found in result["adaptation"].items()
        }
        place = Path(path).with_name("adaptation.png")
        plots.steps({"WA": scores}, place, result.get("title"), HEARD)


def describe(result: dict[str, Any]) -> str:
    """The tables of ``cv.md``.

    Arguments
    ---------
    result : dict
        Of ``summarise``.

    Returns
    -------
    str
        Markdown.
    """
    parts = [f"# {result.get('title', 'Cross-validation')}\n"]
    if "command" in result:
        parts.append(f"```sh\n{result['command']}\n```\n")
    done, planned = len(result["runs"]), result["planned"]
    if done < planned:
        parts.append(f"Incomplete: {done} of {planned} runs.\n")
    for failure in result["failed"]:
        where = "fold {fold}, seed {seed}".format(**failure)
        parts.append(f"Failed: {where}:\n\n```\n{failure['console']}\n```\n")
    if result["summary"] is not None:
        parts += [_overall_table(result), _fold_table(result)]
        if result["adaptation"]:
            parts.append(_adaptation_table(result["adaptation"]))
        if result["few_emotions"]["adapted"]:
            parts.append(_few_emotions_table(result["few_emotions"]))
        parts.append(_confusion_table(result["summary"]["pooled"]))
    return "\n".join(parts)


def _overall_table(result):
    """Means and both deviations of every score."""
    rows = [
        [
            name,
            result["summary"][metric]["mean"],
            result["summary"][metric]["std_over_folds"],
            result["summary"][metric]["std_over_seeds"],
        ]
        for metric, name in METRICS.items()
    ]
    head = ["score", "mean", "± over folds", "± over seeds"]
    seeds = sorted({run["seed"] for run in result["runs"]})
    return (
        markdown_table(head, rows) + "\nFractions. Over folds: sample standard "
        "deviation of the folds' means over seeds. Over seeds: of the seeds' "
        f"means over folds. Seeds: {', '.join(map(str, seeds))}.\n"
    )


def _fold_table(result):
    """A row a fold: scores, mean over seeds; utterances; minutes a run."""
    rows = []
    for fold in result["summary"]["weighted_accuracy"]["by_fold"]:
        own = [run for run in result["runs"] if run["fold"] == fold]
        minutes = sum(run["minutes"] for run in own) / len(own)
        rows.append(
            [
                fold,
                *(result["summary"][m]["by_fold"][fold] for m in METRICS),
                own[0]["num_utterances"],
                len(own),
                f"{minutes:.1f}",
            ]
        )
    head = ["fold", *METRICS.values(), "utterances", "seeds", "minutes a run"]
    return markdown_table(head, rows)


def _adaptation_table(adaptation):
    """A column for so many clips of the speaker that were heard before."""
    head = [HEARD, *adaptation]
    row = ["WA", *(plus_minus(found) for found in adaptation.values())]
    return (
        f"{markdown_table(head, [row])}\nThe scores above are of speakers who "
        "were adapted to by all of their test clips, without labels; here, by "
        "so many others of them, drawn at random.\n"
    )


def _few_emotions_table(few):
    """A column for so many emotions that a speaker shows."""
    head = ["emotions that a speaker shows", *few["adapted"]]
    rows = [
        [
            f"WA, {how.replace('_', ' ')}",
            *(plus_minus(found) for found in few[how].values()),
        ]
        for how in HOW
    ]
    return (
        f"{markdown_table(head, rows)}\nEach speaker's utterances of so many "
        "emotions, drawn at random, and adapted to those alone: all that they "
        "have in common taken for the voice, or told apart.\n"
    )


def _confusion_table(pooled):
    """Counts of all runs together, a row a true label."""
    labels = pooled["labels"]
    rows = [
        [f"**{label}**", *counts, f"{counts[i] / sum(counts):.3f}"]
        if sum(counts)
        else [f"**{label}**", *counts, None]
        for i, (label, counts) in enumerate(
            zip(labels, pooled["confusion_matrix"], strict=True)
        )
    ]
    table = markdown_table(["true \\ predicted", *labels, "recall"], rows)
    return f"All runs' answers together:\n\n{table}"


def _line(outcome, ahead):
    """A run in a line, and how many seconds the others will take."""
    name, rest = outcome.run.name, ""
    if ahead:
        rest = f"; about {_duration(ahead)} left"
    if outcome.metrics is None:
        console = outcome.run.folder / CONSOLE
        return f"{name}: FAILED, see {console}{rest}\n{outcome.tail()}"
    scores = ", ".join(
        f"{METRICS[metric]} {cell(outcome.metrics[metric])}"
        for metric in ("weighted_accuracy", "unweighted_accuracy")
    )
    how = "was finished" if outcome.skipped else _duration(outcome.seconds)
    return f"{name}: {scores} ({how}){rest}"


def _duration(seconds):
    """Seconds, minutes or hours in words."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _make_run(script, recipe, options, folder, fold, seed):
    """The command of a fold and seed, and what decides its result."""
    command = (
        sys.executable,
        str(script.absolute()),
        str(recipe.path),
        *recipe.arguments,
        f"--fold={fold}",
        f"--seed={seed}",
        f"--output_folder={folder}",
        "--noprogressbar",
    )
    return Run(fold, seed, folder, command, Path.cwd(), options)


def _check_options(run):
    """Raise EvaluationError if a run's folder belongs to other options."""
    if (run.folder / RESULT).exists() and not (run.folder / STATE).exists():
        raise EvaluationError(
            f"{run.folder} holds results, but not the options that they were "
            f"made with ({STATE}). Choose another --output_folder."
        )
    before, now = run.state()["options"], run.options
    changes = differences(before, now)
    if changes:
        raise EvaluationError(
            f"{run.folder} belongs to a run with other options:\n  "
            + "\n  ".join(changes)
            + "\nChoose another --output_folder, or delete that one."
        )
