"""Linear probes: which block of an encoder carries emotion.

One pass of a frozen encoder; mean and standard deviation of each channel over
an utterance's frames; multinomial logistic regression on standardised
features. A probe chooses nothing, so it trains on all that is not tested,
validation utterances included.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qieemo_sb.corpora import manifest
from qieemo_sb.corpora.manifest import Utterance, write_text
from qieemo_sb.encoders.base import SpeechEncoder
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import plots, tables
from qieemo_sb.evaluation.scores import fit_predict, score
from qieemo_sb.evaluation.tables import METRICS, plus_minus
from qieemo_sb.training.cache import EncoderCache
from qieemo_sb.training.hparams import load_part

SHOWN = ("weighted_accuracy", "unweighted_accuracy", "macro_f1")
UNADAPTED = "Unknown speakers"
ADAPTED = "Adapted: each speaker's own mean and scale removed, without labels"
PICTURES = {UNADAPTED: "probe.png", ADAPTED: "probe_adapted.png"}
Fold = tuple[list[Utterance], list[Utterance]]  # to train on, to test


def read_fold(
    hparams_file: str | Path, overrides: str = "", **more: Any
) -> Fold:
    """Prepare a fold of a corpus as train.py does.

    Arguments
    ---------
    hparams_file : str or Path
        The yaml of train.py.
    overrides, **more
        See ``training.hparams.resolve``; ``fold`` and ``output_folder``, which
        gets the manifests, are usually among ``more``.

    Returns
    -------
    tuple
        Utterances to train on (train and valid), utterances to test.
    """
    files = [f"{split}_annotation" for split in manifest.SPLITS]
    keys = ("make_corpus", "prepare", "skip_prep", *files)
    part = load_part(hparams_file, overrides, *keys, **more)
    if not part["skip_prep"]:
        if part.get("make_corpus"):
            part["make_corpus"]()
        part["prepare"]()
    splits = [
        manifest.read_manifest(part[file], ("wav", "emo")) for file in files
    ]
    return splits[0] + splits[1], splits[2]


def pooled_statistics(
    encoder: SpeechEncoder, wavs: Mapping[str, Path], folder: str | Path
) -> dict[str, np.ndarray]:
    """Run an encoder over a corpus, frozen.

    Arguments
    ---------
    encoder : SpeechEncoder
        On its device.
    wavs : mapping of str to Path
        utt_id → audio file.
    folder : str or Path
        Keeps the statistics.

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
    blocks = range(encoder.n_blocks + 1)
    encoder = encoder.requires_grad_(False)
    cache = EncoderCache(folder, encoder, blocks, pooled=True)
    cache.fill(wavs.values())
    return {utt_id: cache.load(wav).numpy() for utt_id, wav in wavs.items()}


def linear_probe(
    train: np.ndarray, targets: np.ndarray, test: np.ndarray, c: float = 0.01
) -> np.ndarray:
    """Fit logistic regression to standardised features and predict.

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
    linear_model = tables.import_extra("sklearn.linear_model", "probe")
    regression = linear_model.LogisticRegression(C=c, max_iter=5_000)
    return fit_predict(regression, train, targets, test)


def normalise_speakers(
    features: Mapping[str, np.ndarray], speakers: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Remove each speaker's mean and scale over all of their utterances.

    It takes no label, but all utterances of a speaker, also of a tested one:
    another protocol.

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
    names = np.array([speakers[utt_id] for utt_id in features])
    for utt_id, name in zip(features, names, strict=True):
        if not name:
            raise EvaluationError(f"{utt_id} has no speaker to normalise by.")
    x = np.stack(list(features.values()))
    for name in set(names):
        part = x[names == name]
        scale = part.std(axis=0)
        scale[scale == 0] = 1
        x[names == name] = (part - part.mean(axis=0)) / scale
    return dict(zip(features, x, strict=True))


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
        Number → result of ``read_fold``.
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
        x, x_test = (
            np.stack([features[u.utt_id] for u in part]) for part in parts
        )
        y, y_test = (class_indices(part, emotions) for part in parts)
        predictions = torch.from_numpy(linear_probe(x, y, x_test, c))
        scores = score(torch.from_numpy(y_test), predictions, emotions)
        runs.append({**scores, "fold": fold, "seed": 0})
    found = tables.aggregate(runs)
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
    folds, emotions
        See ``probe_folds``.
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


def write_probe(result: Mapping, folder: str | Path) -> None:
    """Write ``probe.json``, ``probe.md`` and a picture a protocol.

    Arguments
    ---------
    result : mapping
        ``title``, ``command``, ``C``, and ``tables``: protocol → result of
        ``probe_blocks``.
    folder : str or Path
        Made if need be.
    """
    folder = Path(folder)
    write_text(folder / "probe.json", tables.to_json(result))
    write_text(folder / "probe.md", describe(result))
    for protocol, results in result["tables"].items():
        scores: dict[str, dict] = {METRICS[metric]: {} for metric in SHOWN}
        for block, found in results.items():
            for metric in SHOWN:
                values = list(found[metric]["by_fold"].values())
                scores[METRICS[metric]][block] = values
        title = f"{result['title']}\n{protocol}"
        plots.steps(scores, folder / PICTURES[protocol], title)


def describe(result: Mapping) -> str:
    """Format the tables of ``probe.md``.

    Arguments
    ---------
    result : mapping
        See ``write_probe``.

    Returns
    -------
    str
        Markdown.
    """
    parts = [
        tables.heading(result),
        "Logistic regression on the mean and standard deviation of a block's "
        f"frames, standardised; C = {result['C']} for one block, C / K for K "
        "blocks. Trained on all that is not tested. Mean ± sample standard "
        "deviation over folds.\n",
    ]
    for protocol, results in result["tables"].items():
        rows = [
            [block, *(plus_minus(found[metric]) for metric in SHOWN)]
            + list(found["weighted_accuracy"]["by_fold"].values())
            for block, found in results.items()
        ]
        folds = next(iter(results.values()))["weighted_accuracy"]["by_fold"]
        head = ["block", *(METRICS[metric] for metric in SHOWN)]
        head += [f"WA, fold {fold}" for fold in folds]
        parts += [f"{protocol}:\n", tables.markdown_table(head, rows)]
    return "\n".join(parts)


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
    names, labels = list(emotions), [utterance.emo for utterance in part]
    if unknown := sorted(set(labels) - set(names)):
        raise EvaluationError(
            f"Labels that are not in emotions {names}: {unknown}."
        )
    return np.array([names.index(label) for label in labels], dtype=np.int64)
