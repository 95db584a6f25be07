"""Which block carries emotion: a linear probe on each, over a corpus's folds.

One pass of a frozen encoder; mean and standard deviation of each channel over
an utterance's frames; multinomial logistic regression on standardised
features. A probe chooses nothing, so it trains on all that is not tested,
validation utterances included.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from qieemo_sb.corpora.files import write_text
from qieemo_sb.corpora.manifest import SPLITS, Utterance, read_manifest
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import plots
from qieemo_sb.evaluation.recipe import Recipe
from qieemo_sb.evaluation.scores import score
from qieemo_sb.evaluation.tables import (
    METRICS,
    aggregate,
    markdown_table,
    plus_minus,
    to_json,
)
from qieemo_sb.training.cache import PooledCache

SHOWN = {
    metric: METRICS[metric] for metric in METRICS if metric != "weighted_f1"
}
UNADAPTED = "Unknown speakers"
ADAPTED = "Adapted: each speaker's own mean and scale removed, without labels"
Fold = tuple[list[Utterance], list[Utterance]]  # to train on, to test


def read_fold(recipe: Recipe, fold: int, folder: str | Path) -> Fold:
    """Prepare a fold of a corpus.

    Arguments
    ---------
    recipe : Recipe
        Names the function that prepares it.
    fold : int
        Which one.
    folder : str or Path
        Gets the manifests.

    Returns
    -------
    tuple
        Utterances to train on (train and valid), utterances to test.
    """
    built = recipe.build("prepare", "make_corpus")
    if built.get("make_corpus"):
        built["make_corpus"]()
    prepare = built["prepare"]
    which = {"fold": fold, "output_folder": str(folder)}
    if "fold" not in inspect.signature(prepare).parameters:  # has no folds
        del which["fold"]
    prepare(**which)
    train, valid, test = (
        read_manifest(Path(folder) / f"{split}.json") for split in SPLITS
    )
    return train + valid, test


def read_folds(
    recipe: Recipe, folds: Iterable[int], folder: str | Path
) -> dict[int, Fold]:
    """Prepare some folds of a corpus.

    Arguments
    ---------
    recipe : Recipe
        See ``read_fold``.
    folds : iterable of int
        Which ones.
    folder : str or Path
        Gets a folder a fold.

    Returns
    -------
    dict
        Fold → utterances to train on, utterances to test.
    """
    return {
        fold: read_fold(recipe, fold, Path(folder) / f"fold_{fold}")
        for fold in folds
    }


def pooled_statistics(
    recipe: Recipe, folds: Mapping[int, Fold], folder: str | Path
) -> dict[str, np.ndarray]:
    """Run the yaml's encoder over a corpus, frozen whatever the yaml says.

    Arguments
    ---------
    recipe : Recipe
        Its ``encoder``, ``data_folder``, ``cache_folder`` and device.
    folds : mapping
        Of ``read_folds``.
    folder : str or Path
        Keeps the statistics if ``cache_folder`` is null.

    Returns
    -------
    dict
        utt_id → [L + 1, 2 D]: mean and standard deviation over frames of
        blocks 0 (the input of block 1) to L.

    Raises
    ------
    AudioError
        A file cannot be used; names it.
    """
    encoder = recipe.build("encoder")["encoder"].requires_grad_(False)
    encoder.to(recipe.run_options["device"] or "cpu")
    place = recipe.tree["cache_folder"] or Path(folder) / "cache"
    cache = PooledCache(place, encoder, range(encoder.n_blocks + 1))
    root = Path(recipe.tree["data_folder"])
    wavs = {
        u.utt_id: root / u.wav
        for parts in folds.values()
        for part in parts
        for u in part
    }
    cache.fill(wavs.values())
    return {utt_id: cache.load(wav) for utt_id, wav in wavs.items()}


def linear_probe(
    train: np.ndarray, targets: np.ndarray, test: np.ndarray, c: float = 0.01
) -> np.ndarray:
    """Fit logistic regression to standardised features and answer.

    Arguments
    ---------
    train : numpy.ndarray
        [N, F].
    targets : numpy.ndarray
        [N] class indices.
    test : numpy.ndarray
        [M, F].
    c : float
        Inverse strength of the L2 penalty, scikit-learn's C.

    Returns
    -------
    numpy.ndarray
        [M] class indices.

    Raises
    ------
    EvaluationError
        scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise EvaluationError(
            "A probe needs scikit-learn: pip install 'qieemo-sb[probe]'"
        ) from error
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=c, max_iter=5_000)
    )
    return model.fit(train, targets).predict(test)


def normalise_speakers(
    features: Mapping[str, np.ndarray], speakers: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Remove each speaker's own mean and scale, over all of their utterances.

    It takes no label, but all that a speaker said, also of those who are
    tested: a protocol of its own.

    Arguments
    ---------
    features : mapping of str to numpy.ndarray
        utt_id → any shape.
    speakers : mapping of str to str
        utt_id → name.

    Returns
    -------
    dict
        utt_id → the same shape: mean 0 and deviation 1 for each speaker; 0
        where a feature of theirs never changes.

    Raises
    ------
    EvaluationError
        An utterance has no speaker.

    Example
    -------
    >>> features = {"a": np.zeros(1), "b": np.ones(1), "c": np.ones(1)}
    >>> found = normalise_speakers(features, {"a": "x", "b": "x", "c": "y"})
    >>> [float(found[utt_id][0]) for utt_id in "abc"]
    [-1.0, 1.0, 0.0]
    """
    said = {}
    for utt_id in features:
        said.setdefault(speakers[utt_id], []).append(utt_id)
    if "" in said:
        raise EvaluationError(f"{said[''][0]} has no speaker to normalise by.")
    normalised = {}
    for utt_ids in said.values():
        own = np.stack([features[utt_id] for utt_id in utt_ids])
        scale = own.std(axis=0)
        scale[scale == 0] = 1
        own = (own - own.mean(axis=0)) / scale
        normalised.update(zip(utt_ids, own, strict=True))
    return normalised


def probe_folds(
    features: Mapping[str, np.ndarray],
    folds: Mapping[int, Fold],
    emotions: Sequence[str],
    c: float = 0.01,
) -> dict:
    """Probe the same features on every fold.

    Arguments
    ---------
    features : mapping of str to numpy.ndarray
        utt_id → [F].
    folds : mapping
        Of ``read_folds``.
    emotions : sequence of str
        The classes.
    c : float
        See ``linear_probe``.

    Returns
    -------
    dict
        A ``spread`` for each of ``METRICS``; a probe has no seed.

    Raises
    ------
    EvaluationError
        An utterance's label is none of ``emotions``.
    """
    runs = []
    for fold, parts in folds.items():
        (train, y_train), (test, y_test) = (
            (
                np.stack([features[u.utt_id] for u in part]),
                class_indices(part, emotions),
            )
            for part in parts
        )
        predictions = linear_probe(train, y_train, test, c)
        scores = score(
            torch.from_numpy(y_test), torch.from_numpy(predictions), emotions
        )
        runs.append({**scores, "fold": fold, "seed": 0})
    found = aggregate(runs)
    return {metric: found[metric] for metric in METRICS}


def probe_blocks(
    statistics: Mapping[str, np.ndarray],
    folds: Mapping[int, Fold],
    emotions: Sequence[str],
    c: float = 0.01,
    middle: Sequence[int] = (),
) -> dict[str, dict]:
    """Probe every block, all of them together, and a choice of them.

    Arguments
    ---------
    statistics : mapping of str to numpy.ndarray
        utt_id → [L + 1, 2 D] of blocks 0 (the input of block 1) to L.
    folds : mapping
        Of ``read_folds``.
    emotions : sequence of str
        The classes.
    c : float
        Of one block; K blocks together have ``c / K``, since they give K
        times as many features of variance one.
    middle : sequence of int
        Blocks to be probed together, too.

    Returns
    -------
    dict
        Name → result of ``probe_folds``. A block's name is its number; sets
        are called as in "blocks 2, 3, 4, 5" and "all blocks".
    """
    n_blocks = len(next(iter(statistics.values())))
    sets = {str(k): [k] for k in range(n_blocks)}
    if len(middle) > 1:
        sets[f"blocks {', '.join(map(str, middle))}"] = list(middle)
    sets["all blocks"] = list(range(n_blocks))
    return {
        name: probe_folds(
            {utt_id: x[blocks].ravel() for utt_id, x in statistics.items()},
            folds,
            emotions,
            c / len(blocks),
        )
        for name, blocks in sets.items()
    }


def probe_tables(
    recipe: Recipe,
    statistics: Mapping[str, np.ndarray],
    folds: Mapping[int, Fold],
    c: float = 0.01,
    speaker_normalise: bool = False,
) -> dict[str, dict]:
    """Probe the yaml's encoder: unknown speakers, and adapted ones if wanted.

    Arguments
    ---------
    recipe : Recipe
        Its ``emotions`` and ``emotional_blocks``.
    statistics : mapping of str to numpy.ndarray
        Of ``pooled_statistics``.
    folds : mapping
        Of ``read_folds``.
    c : float
        See ``probe_blocks``.
    speaker_normalise : bool
        Whether to probe without each speaker's mean and scale, too.

    Returns
    -------
    dict
        Protocol → result of ``probe_blocks``.
    """
    emotions = recipe.build("emotions", "n_classes")["emotions"]
    rest = folds, emotions, c, recipe.tree["emotional_blocks"]
    tables = {UNADAPTED: probe_blocks(statistics, *rest)}
    if speaker_normalise:
        parts = [part for parts in folds.values() for part in parts]
        speakers = {u.utt_id: u.spk_id for part in parts for u in part}
        statistics = normalise_speakers(statistics, speakers)
        tables[ADAPTED] = probe_blocks(statistics, *rest)
    return tables


def describe(result: Mapping) -> str:
    """The tables of ``probe.md``.

    Arguments
    ---------
    result : mapping
        ``title``, ``command``, ``C`` and ``tables`` of ``probe_tables``.

    Returns
    -------
    str
        Markdown.
    """
    parts = [
        f"# {result['title']}\n",
        f"```sh\n{result['command']}\n```\n",
        "Logistic regression on the mean and standard deviation of a block's "
        f"frames, standardised; C = {result['C']} for one block, C / K for K "
        "blocks. Trained on all that is not tested. Mean ± sample standard "
        "deviation over folds.\n",
    ]
    for protocol, results in result["tables"].items():
        parts += [f"{protocol}:\n", probe_table(results)]
    return "\n".join(parts)


def probe_table(results: Mapping[str, Mapping]) -> str:
    """The results of ``probe_blocks`` as a Markdown table.

    Arguments
    ---------
    results : mapping
        Name → result.

    Returns
    -------
    str
        Mean ± sample standard deviation over folds; then WA of each fold.
    """
    folds = next(iter(results.values()))["weighted_accuracy"]["by_fold"]
    head = ["block", *SHOWN.values(), *(f"WA, fold {k}" for k in folds)]
    rows = [
        [
            name,
            *(plus_minus(result[metric]) for metric in SHOWN),
            *result["weighted_accuracy"]["by_fold"].values(),
        ]
        for name, result in results.items()
    ]
    return markdown_table(head, rows)


def write_probe(result: Mapping, folder: str | Path) -> None:
    """Write ``probe.json``, ``probe.md`` and a picture a protocol.

    Arguments
    ---------
    result : mapping
        See ``describe``.
    folder : str or Path
        Made if need be.
    """
    folder = Path(folder)
    write_text(folder / "probe.json", to_json(result))
    write_text(folder / "probe.md", describe(result))
    names = {UNADAPTED: "probe.png", ADAPTED: "probe_adapted.png"}
    for protocol, results in result["tables"].items():
        scores = {
            name: {
                block: list(found[metric]["by_fold"].values())
                for block, found in results.items()
            }
            for metric, name in SHOWN.items()
        }
        title = f"{result['title']}\n{protocol}"
        plots.steps(scores, folder / names[protocol], title)


def class_indices(
    part: Iterable[Utterance], emotions: Sequence[str]
) -> np.ndarray:
    """Labels of utterances as places in a list.

    Arguments
    ---------
    part : iterable of Utterance
        N of them.
    emotions : sequence of str
        The classes.

    Returns
    -------
    numpy.ndarray
        [N] int64.

    Raises
    ------
    EvaluationError
        A label is none of the classes.
    """
    places = {emotion: i for i, emotion in enumerate(emotions)}
    labels = [utterance.emo for utterance in part]
    unknown = sorted(set(labels) - set(places))
    if unknown:
        raise EvaluationError(
            f"Labels that are not in emotions {list(emotions)}: "
            f"{', '.join(unknown)}."
        )
    return np.array([places[label] for label in labels])
