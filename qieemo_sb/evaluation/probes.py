"""Classifiers of an utterance's statistics: linear probes, and a baseline.

Which block of an encoder carries emotion: one pass of a frozen encoder; mean
and standard deviation of each channel over an utterance's frames; multinomial
logistic regression. The classical baseline: 88 functionals of pitch, loudness
and spectrum (eGeMAPS; Eyben et al., 2016), as openSMILE computes them; a
support vector machine.

Features are standardised. Nothing is chosen, so all that is not tested is
trained on, validation utterances included.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from qieemo_sb.audio import read_audio
from qieemo_sb.corpora import manifest
from qieemo_sb.corpora.manifest import Utterance, identity, replacing
from qieemo_sb.errors import EvaluationError
from qieemo_sb.evaluation import cross_validation as cv
from qieemo_sb.evaluation import plots, tables
from qieemo_sb.evaluation.scores import METRICS, score
from qieemo_sb.evaluation.tables import plus_minus
from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.training.cache import EncoderCache
from qieemo_sb.training.data import prepare
from qieemo_sb.training.hparams import load_part

FEATURE_SET = "eGeMAPSv02"
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
    prepare(part)
    train, valid, test = (
        manifest.read_manifest(part[file], ("wav", "emo")) for file in files
    )
    return train + valid, test


def read_folds(configuration: cv.Configuration) -> dict[int, Fold]:
    """Prepare the folds of a configuration, each in a folder of its own."""
    yaml, overrides = configuration.hparams_file, configuration.overrides
    places = {
        fold: f"{configuration.folder}/fold_{fold}"
        for fold in cv.choose_folds(configuration)
    }
    return {
        fold: read_fold(yaml, overrides, fold=fold, output_folder=place)
        for fold, place in places.items()
    }


def pooled_statistics(
    hparams_file: str | Path,
    overrides: str,
    clips: Iterable[Utterance],
    folder: Path,
    device: str | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Run the encoder of a yaml over clips, frozen.

    Arguments
    ---------
    hparams_file, overrides
        See ``training.hparams.resolve``.
    clips : iterable of Utterance
        Of the yaml's data folder.
    folder : Path
        Keeps the statistics in its folder cache if the yaml has no cache.
    device : str or None
        Runs the encoder; None: the CPU.

    Returns
    -------
    dict
        utt_id → [L + 1, 2 D]: mean and standard deviation over frames of
        blocks 0 (the input of block 1) to L.
    dict
        ``encoder``, ``emotions`` and ``emotional_blocks`` of the yaml.

    Raises
    ------
    AudioError
        A file cannot be used; names it.
    """
    keys = ("encoder", "emotions", "emotional_blocks", "data_folder")
    part = load_part(hparams_file, overrides, *keys, "cache_folder")
    encoder = part["encoder"].to(device or "cpu").requires_grad_(False)
    blocks = range(encoder.n_blocks + 1)
    place = part["cache_folder"] or folder / "cache"
    cache = EncoderCache(place, encoder, blocks, pooled=True)
    wavs = {x.utt_id: Path(part["data_folder"], x.wav) for x in clips}
    cache.fill(wavs.values())
    return {i: cache.load(wav).numpy() for i, wav in wavs.items()}, part


def functionals(
    wavs: Mapping[str, Path], folder: str | Path
) -> dict[str, np.ndarray]:
    """Functionals of files, computed once and kept on disk.

    Arguments
    ---------
    wavs : mapping of str to Path
        utt_id → audio file.
    folder : str or Path
        Keeps them.

    Returns
    -------
    dict
        utt_id → [88].

    Raises
    ------
    AudioError
        A file cannot be used; names it.
    EvaluationError
        openSMILE is not installed.
    """
    folder = Path(folder) / FEATURE_SET
    paths = {wav: folder / f"{identity(wav)}.npy" for wav in wavs.values()}
    missing = [wav for wav, path in paths.items() if not path.exists()]
    if missing:
        extract = egemaps()
        for wav in tqdm(missing, desc=FEATURE_SET):
            values = np.asarray(extract(read_audio(wav)), dtype=np.float32)
            with replacing(paths[wav]) as partial:
                np.save(partial, values)
    return {utt_id: np.load(paths[wav]) for utt_id, wav in wavs.items()}


def egemaps() -> Callable[[np.ndarray], np.ndarray]:
    """openSMILE: samples [S] at 16 kHz → functionals [88]."""
    opensmile = tables.import_extra("opensmile", "bench")
    level = opensmile.FeatureLevel.Functionals
    smile = opensmile.Smile(opensmile.FeatureSet[FEATURE_SET], level)
    return lambda samples: smile(samples, SAMPLE_RATE).reshape(-1)


def linear_probe(c: float = 0.01) -> Any:
    """Logistic regression with an L2 penalty of strength 1 / c."""
    linear_model = tables.import_extra("sklearn.linear_model", "probe")
    return linear_model.LogisticRegression(C=c, max_iter=5_000)


def svm() -> Any:
    """A support vector machine: RBF, C = 3."""
    return tables.import_extra("sklearn.svm", "bench").SVC(C=3)


def score_fold(
    classifier: Any,
    features: Mapping[str, np.ndarray],
    fold: Fold,
    emotions: Sequence[str],
) -> dict:
    """Train a classifier on a fold's standardised features and test it.

    Arguments
    ---------
    classifier : object
        Of scikit-learn: ``linear_probe`` or ``svm``.
    features : mapping of str to numpy.ndarray
        utt_id → [F].
    fold : tuple
        Result of ``read_fold``.
    emotions : sequence of str
        The classes.

    Returns
    -------
    dict
        See ``score``.

    Raises
    ------
    EvaluationError
        An utterance's label is none of ``emotions``.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, x_test = (np.stack([features[u.utt_id] for u in part]) for part in fold)
    y, y_test = (_class_indices(part, emotions) for part in fold)
    model = make_pipeline(StandardScaler(), classifier).fit(x, y)
    predictions = torch.from_numpy(model.predict(x_test))
    return score(torch.from_numpy(y_test), predictions, emotions)


def _class_indices(part, emotions):
    """Labels of utterances as places among the emotions, [N] int64."""
    names, labels = list(emotions), [utterance.emo for utterance in part]
    if unknown := sorted(set(labels) - set(names)):
        raise EvaluationError(
            f"Labels that are not in emotions {names}: {unknown}."
        )
    return np.array([names.index(label) for label in labels], dtype=np.int64)


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
    features, emotions
        See ``score_fold``, also for what is raised.
    folds : mapping
        Number → result of ``read_fold``.
    c : float
        See ``linear_probe``.

    Returns
    -------
    dict
        A ``spread`` for each of ``METRICS``; a probe has no seed.
    """
    runs = [
        {**score_fold(linear_probe(c), features, parts, emotions), "fold": fold}
        for fold, parts in folds.items()
    ]
    found = tables.aggregate([{**run, "seed": 0} for run in runs])
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


def write_probe(result: Mapping, folder: Path) -> None:
    """Write ``probe.json``, ``probe.md`` and a picture a protocol.

    Arguments
    ---------
    result : mapping
        ``title``, ``command``, ``C``, and ``tables``: protocol → result of
        ``probe_blocks``.
    folder : Path
        Made if need be.
    """
    tables.write(folder / "probe", result, describe(result))
    for protocol, results in result["tables"].items():
        scores = {
            METRICS[metric]: {
                block: list(found[metric]["by_fold"].values())
                for block, found in results.items()
            }
            for metric in SHOWN
        }
        title, path = f"{result['title']}\n{protocol}", PICTURES[protocol]
        plots.columns(scores, folder / path, title, f"block; {plots.SPREAD}")


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
