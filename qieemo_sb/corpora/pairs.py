"""Speech-text pairs for stage 1, from whatever there is.

``spoken``
    Sentences spoken by machines, made on the spot (`corpora.spoken`).
``iemocap``
    All 10 039 turns with their transcripts, folds by session.
``librispeech``
    A tree in LibriSpeech's layout (`corpora.librispeech`).
``manifests``
    train.json, valid.json and test.json in the data folder, with ``wav``,
    ``length`` and ``wrd``.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from qieemo_sb.corpora.iemocap import read_iemocap
from qieemo_sb.corpora.librispeech import read_librispeech
from qieemo_sb.corpora.manifest import (
    SPLITS,
    Splits,
    measure_splits,
    prepared,
    read_manifest,
    write_splits,
)
from qieemo_sb.corpora.splits import leave_one_session_out
from qieemo_sb.corpora.spoken import prepare_spoken
from qieemo_sb.errors import CorpusError


def prepare_pairs(
    corpus: str,
    data_folder: str | Path,
    output_folder: str | Path,
    fold: int = 1,
    hours: float = 5.0,
    text: str | Path | None = None,
    synthesisers: Iterable[str] = ("espeak",),
    seed: int = 1986,
    expected_counts: str | Path | None = None,
) -> None:
    """Write train.json, valid.json and test.json of speech-text pairs.

    Arguments
    ---------
    corpus : str
        "spoken", "iemocap", "librispeech" or "manifests"; see above.
    data_folder : str or Path
        The corpus; "spoken": where the audio is put.
    output_folder : str or Path
        Where the manifests go.
    fold : int
        Of "iemocap": the session that is tested, 1 to 5.
    hours, text, synthesisers, seed
        Of "spoken"; see `prepare_spoken`.
    expected_counts : str, Path or None
        Of "iemocap"; see `prepare_iemocap`.

    Raises
    ------
    CorpusError
        There is no such corpus, or it cannot be used.
    """
    readers = {
        "spoken": lambda: _read_spoken(
            data_folder, hours, text, synthesisers, seed
        ),
        "iemocap": lambda: _read_iemocap(data_folder, fold, expected_counts),
        "librispeech": lambda: read_librispeech(data_folder),
        "manifests": lambda: _read_manifests(data_folder),
    }
    if corpus not in readers:
        raise CorpusError(
            f"corpus is {corpus!r}; it must be one of {', '.join(readers)}."
        )
    options = {
        "corpus": corpus,
        "data_folder": str(os.path.abspath(data_folder)),
        "fold": fold if corpus == "iemocap" else None,
    }
    # What is spoken changes with its own options, which its folder keeps.
    if corpus != "spoken" and prepared(output_folder, options):
        return
    splits = readers[corpus]()
    if corpus in ("iemocap", "librispeech"):
        splits = measure_splits(splits, data_folder)
    write_splits(splits, output_folder, options)


def _read_spoken(folder, hours, text, synthesisers, seed) -> Splits:
    prepare_spoken(folder, hours, text, synthesisers, seed)
    return _read_manifests(folder)


def _read_iemocap(data_folder, fold, expected_counts) -> Splits:
    turns = read_iemocap(data_folder, None, expected_counts)
    return leave_one_session_out([replace(t, emo="") for t in turns], fold)


def _read_manifests(folder) -> Splits:
    needed = ("wav", "length", "wrd")
    return {
        name: [
            replace(utterance, emo="", wav=_relative(utterance.wav, folder))
            for utterance in read_manifest(
                Path(folder) / f"{name}.json", needed
            )
        ]
        for name in SPLITS
    }


def _relative(wav: str, folder) -> str:
    """A path below the data root, also where a manifest gives a whole one."""
    if not os.path.isabs(wav):
        return wav
    return Path(os.path.relpath(wav, os.path.abspath(folder))).as_posix()
