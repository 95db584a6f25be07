"""All folds and seeds of a configuration: a loop over runs, then a table.

A run is one process of train.py (or of a script with the same command line
and the same ``metrics.json``), in a folder of its own:

    OUTPUT/fold_1/1986/metrics.json  its result: with it, the run is finished
    OUTPUT/fold_1/1986/run.json      its options and the seconds that it took
    OUTPUT/fold_1/1986/console.txt   all that it printed
    OUTPUT/cv.json, cv.md            the table, rewritten after every run
    OUTPUT/cv.png, confusion.png     its pictures, drawn at the end

A finished run is not run again, and one that was stopped goes on. A folder of
other options is an error before anything is run: a table whose rows silently
differ is worse than none.
"""

import dataclasses
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any

import speechbrain as sb

from qieemo_sb.corpora.manifest import digest, read_json, write_json
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import plots, tables
from qieemo_sb.evaluation.adaptation import ADAPTATIONS, CLIPS_AXIS
from qieemo_sb.evaluation.scores import METRICS
from qieemo_sb.evaluation.tables import markdown_table, plus_minus
from qieemo_sb.training.hparams import check_corpus, load_part, plain_options
from qieemo_sb.training.resume import differences

Executor = Callable[[Sequence["Run"]], Iterable["Run"]]
TAIL = 15  # lines of a failed run's console that are shown
# Run options that change how a run is shown, not its result.
DISPLAY = {"noprogressbar", "tqdm_colored_bar", "log_config", "param_file"}
LISTS = ("csv_file", "train_manifest", "valid_manifest", "test_manifest")


@dataclasses.dataclass(frozen=True)
class Run:
    """One fold and seed of a configuration; its folder holds its progress.

    Arguments
    ---------
    fold : int
        The fold that is tested.
    seed : int
        Of the training.
    folder : Path
        Gets the results.
    command : tuple of str
        The process.
    cwd : Path
        Where it runs.
    options : dict
        All else that decides its result.
    """

    fold: int
    seed: int
    folder: Path
    command: tuple[str, ...]
    cwd: Path
    options: dict[str, Any]

    def metrics(self) -> dict[str, Any] | None:
        """Content of ``metrics.json``; None: the run is not finished."""
        path = self.folder / "metrics.json"
        return read_json(path) if path.exists() else None

    def state(self) -> dict[str, Any]:
        """Content of ``run.json``; without one, that of a new run."""
        path = self.folder / "run.json"
        new = {"options": self.options, "seconds": 0.0}
        return read_json(path) if path.exists() else new

    def tail(self) -> str:
        """The last lines that the run printed."""
        console = (self.folder / "console.txt").read_bytes()
        lines = console.decode(errors="replace").split("\n")
        # A progress bar rewrites its line: only the last state matters.
        lines = [line.rpartition("\r")[2] for line in lines]
        return "\n".join([line for line in lines if line.strip()][-TAIL:])


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A script with its options, and the folds and seeds that it is run on.

    Arguments
    ---------
    script : Path
        train.py, or one with the same command line and ``metrics.json``.
    hparams_file : str or Path
        Its yaml.
    arguments : sequence of str
        Its other options, without fold, seed and output_folder.
    folder : Path
        Gets the results.
    folds : sequence of int or None
        None: all that the corpus has.
    seeds : sequence of int
        At least one.
    about : mapping
        ``title`` and ``command`` of its table.
    """

    script: Path
    hparams_file: str | Path
    arguments: Sequence[str]
    folder: Path
    folds: Sequence[int] | None = None
    seeds: Sequence[int] = (1986,)
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def overrides(self) -> str:
        """Options of train.py that change its yaml, as yaml."""
        words = [str(self.hparams_file), *self.arguments]
        return sb.parse_arguments(words)[2]


def plan(configuration: Configuration) -> list[Run]:
    """Plan the runs of a cross-validation, seed after seed within a fold.

    Arguments
    ---------
    configuration : Configuration
        Of all runs.

    Returns
    -------
    list of Run

    Raises
    ------
    CorpusError
        The corpus is missing, or the yaml has no such option.
    EvaluationError
        A fold that does not exist, a fold or seed given twice, or a folder
        that belongs to a run with other options.
    """
    folds, seeds = choose_folds(configuration), configuration.seeds
    _check_distinct("seeds", seeds)
    # Absolute: on Ray, a worker may stand elsewhere.
    script = configuration.script.absolute()
    given = [str(configuration.hparams_file), *configuration.arguments]
    options = {"script": script.name, **_decisive_options(given)}
    runs = []
    for fold, seed in itertools.product(folds, seeds):
        place = configuration.folder.absolute() / f"fold_{fold}" / str(seed)
        words = [sys.executable, str(script), *given, f"--fold={fold}"]
        words += [f"--seed={seed}", f"--output_folder={place}"]
        command = (*words, "--noprogressbar")
        runs.append(Run(fold, seed, place, command, Path.cwd(), options))
        _check_folder(runs[-1])
    return runs


def choose_folds(configuration: Configuration) -> list[int]:
    """Compare the folds that are asked for with those of the yaml.

    Arguments
    ---------
    configuration : Configuration
        See ``plan``, also for what is raised.

    Returns
    -------
    list of int
    """
    yaml, overrides = configuration.hparams_file, configuration.overrides
    check_corpus(yaml, overrides)
    known: Any = load_part(yaml, overrides, "folds").get("folds")
    asked = configuration.folds
    if known is None and (asked is None or len(asked) != 1):
        raise EvaluationError(
            f"{yaml}: this corpus is divided once and has no folds. "
            "Name that division, --folds 1, to train it with several seeds."
        )
    folds = list(known if asked is None else asked)
    if wrong := ", ".join(str(k) for k in folds if k not in (known or folds)):
        raise EvaluationError(f"There is no fold {wrong}: there are {known}.")
    _check_distinct("folds", folds)
    return folds


def _check_distinct(name, values):
    """Raise EvaluationError for no values, or for one given twice."""
    if not values or len(set(values)) < len(values):
        raise EvaluationError(
            f"--{name}: different numbers are needed, not {list(values)}."
        )


def _check_folder(run):
    """Raise EvaluationError if a run's folder belongs to other options."""
    if run.metrics() and not (run.folder / "run.json").exists():
        raise EvaluationError(
            f"{run.folder} holds results, but not the options that they were "
            "made with (run.json). Choose another --output_folder."
        )
    if changed := differences(run.state()["options"], run.options):
        raise EvaluationError(
            f"{run.folder} belongs to a run with other options:\n  "
            + "\n  ".join(changed)
            + "\nChoose another --output_folder, or delete that one."
        )


def _decisive_options(words):
    """All that decides the result of a run, but for its fold and seed."""
    # Given here, too, so that one in the words is an error: given twice.
    words = [*words, "--fold=0", "--seed=0", "--output_folder=."]
    hparams_file, run_options, overrides = sb.parse_arguments(words)
    # No result depends on where a cache is, but on whether there is one.
    options = plain_options(hparams_file, overrides, cache_folder=".")
    for key in LISTS:
        if options.get(key) and Path(options[key]).is_file():
            options[f"contents of {key}"] = digest(options[key])
    for key in sorted(run_options.overridden_args - DISPLAY):
        options[key] = run_options[key]
    return options


def execute(run: Run) -> Run:
    """Run a process to its end.

    Arguments
    ---------
    run : Run
        One of ``plan``.

    Returns
    -------
    Run
        The same: its folder has the result.
    """
    state, started = run.state(), time.monotonic()
    write_json(state, run.folder / "run.json")
    with open(run.folder / "console.txt", "wb") as console:
        streams: Any = {"stdin": DEVNULL, "stdout": console, "stderr": STDOUT}
        done = subprocess.run(run.command, cwd=run.cwd, check=False, **streams)
    if done.returncode:  # it is not finished, however far it came
        (run.folder / "metrics.json").unlink(missing_ok=True)
    state["seconds"] += round(time.monotonic() - started, 1)
    write_json(state, run.folder / "run.json")
    return run


def one_by_one(runs: Iterable[Run]) -> Iterable[Run]:
    """Execute runs here, one after the other."""
    return map(execute, runs)


def on_ray(
    runs: Iterable[Run], num_cpus: int, num_gpus: float = 0
) -> Iterator[Run]:
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
    Run
        As they end.

    Raises
    ------
    EvaluationError
        Ray is not installed.
    """
    ray = tables.import_extra("ray", "ray")
    if not ray.is_initialized():
        # Ray would give its workers threads of its own choice, and sums of
        # another number of threads differ in the last digit.
        ray.init(runtime_env={"env_vars": {"OMP_NUM_THREADS": str(num_cpus)}})
    task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus)(execute)
    waiting = [task.remote(run) for run in runs]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done)


def cross_validate(
    runs: Sequence[Run],
    folder: Path,
    executor: Executor = one_by_one,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Execute runs; print a line and write the table after each.

    Arguments
    ---------
    runs : sequence of Run
        Of ``plan``. Those that are finished are not executed again.
    folder : Path
        Gets ``cv.json``, ``cv.md``, ``cv.png``, ``confusion.png`` of all
        predictions together, and ``adaptation.png`` of runs that adapted to
        speakers.
    executor : callable
        Runs → runs that have ended, in any order.
    about : mapping or None
        What else ``cv.json`` and ``cv.md`` shall hold.

    Returns
    -------
    dict
        Content of ``cv.json``: see ``summarise``; ``planned`` runs, and
        ``failed`` ones with their last lines.
    """
    ended, result = [], {}
    for _, outcome in finish(runs, executor):
        ended.append(outcome)
        facts = {**(about or {}), "planned": len(runs)}
        result = {**facts, **summarise(ended)}
        tables.write(folder / "cv", result, describe(result))
    if result.get("summary"):
        _draw(result, folder)
    return result


def finish(
    runs: Sequence[Run],
    executor: Executor = one_by_one,
    name: Callable[[Run], str] = lambda x: f"fold {x.fold}, seed {x.seed}",
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Execute the runs that are not finished; print a line after each.

    Arguments
    ---------
    runs : sequence of Run
        Of ``plan``.
    executor : callable
        See ``cross_validate``.
    name : callable
        Run → its name in the line.

    Yields
    ------
    Run
        One that has ended; those that were finished come first.
    dict
        Its ``metrics.json`` and ``minutes``; of a failed one, ``fold``,
        ``seed`` and the last lines on its ``console``.
    """
    tables.make_frame([])  # better missing now than after the first run
    finished = [run for run in runs if run.metrics()]
    new = [run for run in runs if run not in finished]
    started = time.monotonic()
    for n, run in enumerate(itertools.chain(finished, executor(new)), 1):
        outcome = _outcome(run)
        line = _line(name(run), run, outcome, run in finished)
        line = f"[{n}/{len(runs)}] {line}"
        if len(finished) < n < len(runs):
            pace = (time.monotonic() - started) / (n - len(finished)) / 60
            line += f"; about {pace * (len(runs) - n):.1f} min left"
        print(line, flush=True)
        yield run, outcome


def _outcome(run):
    """Metrics and minutes of a run; of a failed one, its last lines."""
    if metrics := run.metrics():
        return {**metrics, "minutes": round(run.state()["seconds"] / 60, 2)}
    return {"fold": run.fold, "seed": run.seed, "console": run.tail()}


def _line(name, run, outcome, finished):
    """A run that has ended, in words."""
    if "console" in outcome:
        console = run.folder / "console.txt"
        return f"{name}: FAILED, see {console}\n{outcome['console']}\n"
    took = "was finished" if finished else f"{outcome['minutes']:.1f} min"
    wa, ua = outcome["weighted_accuracy"], outcome["unweighted_accuracy"]
    return f"{name}: WA {wa:.3f}, UA {ua:.3f} ({took})"


def summarise(ended: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up runs.

    Arguments
    ---------
    ended : iterable of mapping
        ``metrics.json`` of each, or ``fold``, ``seed`` and the last lines on
        the ``console`` of a run that failed; in any order.

    Returns
    -------
    dict
        ``runs`` and ``failed`` ones, sorted, and the ``summary`` of the former
        (None without one; see ``aggregate``). For runs with
        ``adapt_to`` speaker, else None: ``adaptation``, earlier clips →
        ``spread`` of WA; ``few_emotions``, each of ``ADAPTATIONS`` → how many
        emotions a speaker shows → the same.
    """
    ended = sorted(ended, key=lambda run: (run["fold"], run["seed"]))
    runs = [run for run in ended if "console" not in run]
    few = {name: _curve(runs, "emotions", name) for name in ADAPTATIONS}
    return {
        "failed": [run for run in ended if "console" in run],
        "summary": tables.aggregate(runs) if runs else None,
        "adaptation": _curve(runs, "clips", "weighted_accuracy"),
        "few_emotions": few,
        "runs": runs,
    }


def _curve(runs, x, y):
    """Points of the runs' adaptation curves → spread of WA, or None."""
    points = {}
    for run in runs:
        curve = run.get("adaptation", {x: [], y: []})
        for place, accuracy in zip(curve[x], curve[y], strict=True):
            row = (run["fold"], run["seed"], accuracy)
            points.setdefault(place, []).append(row)
    return {x: tables.spread(rows) for x, rows in points.items()} or None


def _draw(result, folder):
    """Draw the folds, the confusions and, of runs that adapted, the curve."""
    runs, title = tables.make_frame(result["runs"]), result.get("title")
    folds = {f"fold {fold}": rows for fold, rows in runs.groupby("fold")}
    scores = {}
    for metric, name in METRICS.items():
        means = result["summary"][metric]["by_fold"].values()
        scores[name] = {fold: rows[metric] for fold, rows in folds.items()}
        scores[name]["mean ± over folds"] = list(means)
    plots.columns(scores, folder / "cv.png", title)
    pooled = result["summary"]["pooled"]
    plots.confusion(pooled, folder / "confusion.png", title)
    if clips := result["adaptation"]:
        curve = {str(n): list(x["by_fold"].values()) for n, x in clips.items()}
        axis, path = f"{CLIPS_AXIS}; {plots.SPREAD}", folder / "adaptation.png"
        plots.columns({"WA": curve}, path, title, axis)


def describe(result: dict[str, Any]) -> str:
    """Format the tables of ``cv.md``.

    Arguments
    ---------
    result : dict
        Of ``summarise``.

    Returns
    -------
    str
        Markdown.
    """
    parts = [tables.heading(result)]
    done, planned = len(result["runs"]), result["planned"]
    if done < planned:
        parts.append(f"Incomplete: {done} of {planned} runs.\n")
    failure = "Failed: fold {fold}, seed {seed}:\n\n```\n{console}\n```\n"
    parts += [failure.format(**failed) for failed in result["failed"]]
    if result["summary"] is not None:
        parts.append(_score_tables(result))
        if result["adaptation"]:
            parts.append(_adaptation_tables(result))
        parts.append(_confusion_table(result["summary"]["pooled"]))
    return "\n".join(parts)


def _score_tables(result):
    """Means and deviations of every score, then a row a fold."""
    keys = ("mean", "std_over_folds", "std_over_seeds")
    overall = [
        [name, *(result["summary"][metric][key] for key in keys)]
        for metric, name in METRICS.items()
    ]
    head = ["score", "mean", "± over folds", "± over seeds"]
    runs = tables.make_frame(result["runs"])
    more = {"num_utterances": "first", "seed": "count", "minutes": "mean"}
    folds = runs.groupby("fold").agg({**dict.fromkeys(METRICS, "mean"), **more})
    folds["minutes"] = folds["minutes"].map("{:.1f}".format)
    fold_head = ["fold", *METRICS.values(), "utterances", "seeds"]
    return (
        f"{markdown_table(head, overall)}\nFractions. Over folds: sample "
        "standard deviation of the folds' means over seeds. Over seeds: of "
        "the seeds' means over folds. Seeds: "
        f"{', '.join(map(str, sorted(set(runs['seed']))))}.\n\n"
        + markdown_table([*fold_head, "minutes a run"], folds.itertuples())
    )


def _adaptation_tables(result):
    """A column for so many clips, or emotions, of a speaker."""
    clips, few = result["adaptation"], result["few_emotions"]
    row = ["WA", *map(plus_minus, clips.values())]
    rows = [
        [f"WA, {name.replace('_', ' ')}", *map(plus_minus, few[name].values())]
        for name in ADAPTATIONS
    ]
    head = ["emotions that a speaker shows", *few["adapted"]]
    return (
        f"{markdown_table([CLIPS_AXIS, *clips], [row])}\nThe scores above are "
        "of speakers who were adapted to by all of their test clips, without "
        "labels; here, by so many others of them, drawn at random.\n\n"
        f"{markdown_table(head, rows)}\nEach speaker's utterances of so many "
        "emotions, drawn at random, and adapted to those alone: all that they "
        "have in common taken for the voice, or told apart.\n"
    )


def _confusion_table(pooled):
    """Counts of all runs together, a row a true label."""
    labels, rows = pooled["labels"], []
    for i, counts in enumerate(pooled["confusion_matrix"]):
        recall = counts[i] / sum(counts) if any(counts) else None
        rows.append([f"**{labels[i]}**", *counts, recall])
    table = markdown_table(["true \\ predicted", *labels, "recall"], rows)
    return f"All runs' predictions together:\n\n{table}"
