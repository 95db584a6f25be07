"""Manifests → data sets, their checks, and batches of like length."""

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.distributed import run_on_main

from qieemo_sb.audio import read_audio
from qieemo_sb.corpora.manifest import (
    raise_all,
    read_manifest,
    write_manifest,
)
from qieemo_sb.errors import CorpusError
from qieemo_sb.frames import SAMPLE_RATE, num_frames
from qieemo_sb.lobes.tokens import Tokenizer, transcript_problem
from qieemo_sb.model import PPGModel, Qieemo
from qieemo_sb.serving import folder as model_folder
from qieemo_sb.training.cache import EncoderCache
from qieemo_sb.training.resume import keep_data

logger = logging.getLogger(__name__)

Datasets = dict[str, DynamicItemDataset]

# Evaluates the longest batches first, unshuffled, so that running out of
# memory shows at once.
TEST = {"shuffle": False, "batch_ordering": "descending"}
PADDED = ("tokens",)  # where frames are cropped before


def read_datasets(
    manifests: Mapping[str, str | Path],
    folders: Mapping[str, str | Path],
    required: Iterable[str],
    save_folder: str | Path,
) -> Datasets:
    """Read manifests; a run goes on with those of its checkpoints only.

    Arguments
    ---------
    manifests, folders : mapping of str to (str or Path)
        Split → manifest, and the folder that its paths are relative to.
    required : iterable of str
        Fields that each utterance must have.
    save_folder : str or Path
        Of the checkpoints.

    Returns
    -------
    dict
        Split → data set.

    Raises
    ------
    CorpusError
        A manifest cannot be used, or the checkpoints were trained with others.
    """
    # Checked: with --skip_prep they may be anyone's.
    utterances = {
        split: read_manifest(path, required)
        for split, path in manifests.items()
    }
    run_on_main(keep_data, args=[save_folder, utterances])
    return {
        split: DynamicItemDataset.from_json(
            json_path=path, replacements={"data_root": folders[split]}
        )
        for split, path in manifests.items()
    }


def _utterances(datasets):
    """Split, id and entry of each utterance."""
    for split, dataset in datasets.items():
        for utt_id, entry in dataset.data.items():
            yield split, utt_id, entry


def prepare(hparams: Mapping[str, Any]) -> None:
    """Make the corpus if the yaml does so, and write its manifests."""
    if not hparams["skip_prep"]:
        if hparams.get("make_corpus"):
            hparams["make_corpus"]()
        hparams["prepare"]()


def with_valid_in_train(
    manifests: Mapping[str, str | Path], save_folder: str | Path
) -> dict[str, str | Path]:
    """Manifests of a training on train and valid together.

    Arguments
    ---------
    manifests : mapping of str to (str or Path)
        Split → manifest.
    save_folder : str or Path
        Gets the joint manifest, train_valid.json.

    Returns
    -------
    dict
        Split → manifest; that of "train" has the utterances of both.

    Raises
    ------
    CorpusError
        An utterance is in both.
    """
    both = [manifests["train"], manifests["valid"]]
    path = Path(save_folder) / "train_valid.json"
    run_on_main(_join, args=[both, path])
    return {**manifests, "train": path}


def _join(manifests, path):
    """Write one manifest of the utterances of several."""
    joined = [u for each in manifests for u in read_manifest(each)]
    write_manifest(joined, path)


def check_labels(
    datasets: Datasets, emotions: Sequence[str], n_classes: int
) -> None:
    """Raise CorpusError unless each class and each utterance has an emotion."""
    if len(emotions) != n_classes:
        raise CorpusError(
            f"emotions has {len(emotions)} names, n_classes is {n_classes}."
        )
    # As when they are saved, after the training.
    model_folder.check_labels(emotions, n_classes, "emotions")
    unknown = {
        entry["emo"]: f"{split}: '{entry['emo']}', e.g. {utt_id}"
        for split, utt_id, entry in _utterances(datasets)
        if entry["emo"] not in emotions
    }
    raise_all(
        f"These labels are not in emotions {list(emotions)}. Add them to "
        "emotions in the yaml, or drop the utterances:",
        [unknown[label] for label in sorted(unknown)],
    )


def check_speakers(datasets: Datasets, adapt: bool) -> bool:
    """True if every utterance has a speaker.

    Arguments
    ---------
    datasets : dict
        Split → data set.
    adapt : bool
        The classifier is adapted to speakers.

    Returns
    -------
    bool

    Raises
    ------
    CorpusError
        ``adapt``, and an utterance has no speaker; names all of these.
    """
    unknown = [
        f"{split}: {utt_id} has no speaker"
        for split, utt_id, entry in _utterances(datasets)
        if not entry.get("spk_id")
    ]
    heading = "{count} utterances have no speaker to adapt to. Give each a "
    heading += "spk_id, or set adapt_to to null:"
    raise_all(heading, unknown if adapt else [])
    return not unknown


def alignable(
    datasets: Datasets,
    tokens: Tokenizer,
    remedy: str,
    leave_out: bool = False,
) -> Datasets:
    """Data sets whose transcripts CTC can align.

    Arguments
    ---------
    datasets : dict
        Split → data set.
    tokens : Tokenizer
        Fitted.
    remedy : str
        Ends the message, after "Mend the manifests, or ".
    leave_out : bool
        Drop other utterances with a warning, instead of raising.

    Returns
    -------
    dict
        Split → data set.

    Raises
    ------
    CorpusError
        Lists the utterances that cannot be aligned.
    """
    problems = {}
    for split, utt_id, entry in _utterances(datasets):
        frames = num_frames(round(float(entry["length"]) * SAMPLE_RATE))
        if problem := transcript_problem(tokens, entry.get("wrd"), frames):
            problems[split, utt_id] = f"{split}, {utt_id}: {problem}"
    if not problems:
        return datasets
    heading = f"{len(problems)} transcripts that CTC cannot align"
    if not leave_out:
        raise_all(
            f"{heading}. Mend the manifests, or {remedy}:", problems.values()
        )
    lines = "\n  ".join(problems.values())
    logger.warning("%s are left out:\n  %s", heading, lines)
    return {
        split: dataset.filtered_sorted(
            key_test={"id": lambda utt_id, s=split: (s, utt_id) not in problems}
        )
        for split, dataset in datasets.items()
    }


def fill_cache(
    datasets: Datasets,
    model: Qieemo | PPGModel,
    folder: str | Path | None,
    dtype: str,
) -> EncoderCache | None:
    """Compute a frozen encoder's output, once for all epochs and folds.

    Arguments
    ---------
    datasets : dict
        Split → data set.
    model : Qieemo or PPGModel
        On the device that encodes.
    folder : str, Path or None
        None: no cache.
    dtype : str
        See ``EncoderCache``.

    Returns
    -------
    EncoderCache or None
        None if the encoder trains, too.
    """
    if not folder or not model.encoder.frozen:
        return None
    cache = EncoderCache(folder, model.encoder, model.blocks, dtype)
    wavs = [entry["wav"] for _, _, entry in _utterances(datasets)]
    run_on_main(cache.fill, args=[wavs])
    return cache


def add_speech(datasets: Datasets, cache: EncoderCache | None) -> str:
    """Add the item that a model is run on: audio, or cached frames.

    Arguments
    ---------
    datasets : dict
        Split → data set.
    cache : EncoderCache or None
        Filled.

    Returns
    -------
    str
        Name of the item: "sig", [S] at 16 kHz, or "frames", [T, K, D].
    """
    load, name = (cache.load, "frames") if cache else (_read_signal, "sig")
    sb.dataio.dataset.add_dynamic_item(datasets.values(), load, "wav", name)
    return name


def _read_signal(wav):
    return torch.from_numpy(read_audio(wav))


def loader_options(
    datasets: Datasets,
    settings: Mapping[str, Any],
    seed: int,
    num_workers: int,
    cached: bool = False,
    crop: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Options of a Brain's data loaders.

    Arguments
    ---------
    datasets : dict
        "train" and others.
    settings : mapping
        The yaml's ``dynamic_batch_sampler``, for batches of utterances of like
        length. Only the training is shuffled by them.
    seed : int
        Of the shuffling.
    num_workers : int
        Processes that read audio for the training.
    cached : bool
        The data sets give cached frames. A worker would read all of them and
        send a copy, where a memory map takes no time.
    crop : float or None
        Seconds of a stretch that the Brain cuts out in training. Cached frames
        then come as a list of memory maps, of which only that is read.

    Returns
    -------
    dict
        Name of the data set → options.
    """
    options: dict[str, dict[str, Any]] = {}
    for name, dataset in datasets.items():
        training = name == "train"
        sampler = DynamicBatchSampler(
            dataset,
            length_func=lambda entry: float(entry["length"]),
            seed=seed,
            **{**settings, **({} if training else TEST)},
        )
        workers = num_workers if training and not cached else 0
        options[name] = {"batch_sampler": sampler, "num_workers": workers}
        if training and cached and crop:
            options[name]["collate_fn"] = functools.partial(
                PaddedBatch,
                padded_keys=PADDED,
                device_prep_keys=PADDED,
                nonpadded_stack=False,
            )
    return options
