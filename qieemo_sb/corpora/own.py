"""One's own corpus, from a CSV file or from manifests made elsewhere.

The CSV file has a header and one line an utterance::

    path,label,speaker,transcript
    anna/001.wav,happy,anna,What a day!
    ben/001.wav,sad,ben,

``path`` is relative to the data folder. ``transcript`` may be missing. A
column ``split`` of train, valid and test sets the split; without it speakers
are divided at random, 70/15/15, so that nobody is in two parts.
"""

import csv
import hashlib
import logging
import os
import posixpath
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from qieemo_sb.corpora.manifest import (
    SPLITS,
    Splits,
    Utterance,
    measure_splits,
    prepared,
    raise_all,
    read_manifest,
    repeated,
    write_splits,
)
from qieemo_sb.corpora.splits import seeded_speaker_split
from qieemo_sb.errors import CorpusError

logger = logging.getLogger(__name__)

REQUIRED = ("path", "label", "speaker")
FRACTIONS = (0.7, 0.15, 0.15)  # of the speakers: train, valid, test


def prepare_own(
    output_folder: str | Path,
    data_folder: str | Path,
    csv_file: str | Path | None = None,
    train_manifest: str | Path | None = None,
    valid_manifest: str | Path | None = None,
    test_manifest: str | Path | None = None,
    labels: Iterable[str] | None = None,
    need_transcripts: bool = False,
    seed: int = 1986,
) -> None:
    """Prepare from `csv_file` or from three manifests, whichever is given.

    Arguments
    ---------
    output_folder : str or Path
        Where train.json, valid.json and test.json go.
    data_folder : str or Path
        Audio paths are relative to it.
    csv_file : str or Path, optional
        See `prepare_csv`.
    train_manifest : str or Path, optional
        See `prepare_manifests`.
    valid_manifest : str or Path, optional
        See `prepare_manifests`.
    test_manifest : str or Path, optional
        See `prepare_manifests`.
    labels : iterable of str, optional
        The labels there may be; by default all that are found.
    need_transcripts : bool
        Whether an utterance without transcript is an error, as it is when
        CTC is trained.
    seed : int
        Of the division of speakers.

    Raises
    ------
    CorpusError
        Both or neither are given, or what is given is not sound.
    """
    manifests = (train_manifest, valid_manifest, test_manifest)
    if bool(csv_file) == any(manifests) or any(manifests) != all(manifests):
        raise CorpusError(
            "Give either csv_file or all of train_manifest, valid_manifest "
            "and test_manifest."
        )
    common = {"labels": labels, "need_transcripts": need_transcripts}
    if csv_file:
        prepare_csv(csv_file, data_folder, output_folder, seed=seed, **common)
    else:
        prepare_manifests(*manifests, data_folder, output_folder, **common)


def prepare_csv(
    csv_file: str | Path,
    data_folder: str | Path,
    output_folder: str | Path,
    labels: Iterable[str] | None = None,
    need_transcripts: bool = False,
    seed: int = 1986,
) -> None:
    """Write train.json, valid.json and test.json of a CSV file.

    Does nothing if they are there, from the same file and options.

    Arguments
    ---------
    csv_file : str or Path
        UTF-8, with columns path, label, speaker and, if wanted, transcript
        and split. Other columns are ignored.
    data_folder : str or Path
        Audio paths are relative to it; absolute ones must lie in it.
    output_folder : str or Path
        Where the manifests go.
    labels : iterable of str, optional
        The labels there may be; by default all that are found.
    need_transcripts : bool
        Whether an utterance without transcript is an error.
    seed : int
        Of the division of speakers.

    Raises
    ------
    CorpusError
        Lists all lines that are wrong, with their numbers, or all audio
        files that cannot be used.
    """
    options = _options([csv_file], data_folder, labels, need_transcripts)
    options["seed"] = seed
    if prepared(output_folder, options):
        return
    rows = _read_csv(csv_file, data_folder, options)
    if any(split for _, split in rows):
        splits = {name: [u for u, s in rows if s == name] for name in SPLITS}
        _warn_of_shared_speakers(splits)
    else:
        splits = seeded_speaker_split([u for u, _ in rows], FRACTIONS, seed)
    write_splits(measure_splits(splits, data_folder), output_folder, options)


def prepare_manifests(
    train_manifest: str | Path,
    valid_manifest: str | Path,
    test_manifest: str | Path,
    data_folder: str | Path,
    output_folder: str | Path,
    labels: Iterable[str] | None = None,
    need_transcripts: bool = False,
) -> None:
    """Check three manifests and write them in the form of this project.

    Each utterance needs ``wav``, as ``{data_root}/...`` or relative to the
    data folder, and ``emo``; ``wrd``, ``spk_id``, ``session`` and ``gender``
    are empty where not given, ``length`` is measured.

    Arguments
    ---------
    train_manifest : str or Path
        JSON file.
    valid_manifest : str or Path
        JSON file.
    test_manifest : str or Path
        JSON file.
    data_folder : str or Path
        The data root.
    output_folder : str or Path
        Where train.json, valid.json and test.json go; not where the given
        ones are.
    labels : iterable of str, optional
        The labels there may be; by default all that are found.
    need_transcripts : bool
        Whether an utterance without transcript is an error.

    Raises
    ------
    CorpusError
        Lists all that is wrong with the manifests, or all audio files that
        cannot be used.
    """
    files = [train_manifest, valid_manifest, test_manifest]
    _refuse_overwriting(files, output_folder)
    options = _options(files, data_folder, labels, need_transcripts)
    if prepared(output_folder, options):
        return
    splits, problems = {}, []
    for name, file in zip(SPLITS, files, strict=True):
        splits[name], found = _read_checked(file, data_folder, options)
        problems += found
    raise_all("The manifests have {count} problems:", problems)
    _warn_of_shared_speakers(splits)
    write_splits(measure_splits(splits, data_folder), output_folder, options)


# -- Options ---------------------------------------------------------------


def _options(files, data_folder, labels, need_transcripts) -> dict:
    if not data_folder or not os.path.isdir(data_folder):
        raise CorpusError(
            f"data_folder is {str(data_folder)!r}, which is no folder. It "
            "must be the folder that audio paths are relative to."
        )
    return {
        "corpus": "own",
        "data_folder": os.path.abspath(data_folder),
        "files": {os.path.abspath(file): _digest(file) for file in files},
        "labels": None if labels is None else sorted(map(str, labels)),
        "need_transcripts": need_transcripts,
    }


def _digest(file: str | Path) -> str:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise CorpusError(f"{file} cannot be read: {error}.") from error


def _refuse_overwriting(files: list, output_folder: str | Path) -> None:
    written = {
        os.path.abspath(Path(output_folder, f"{x}.json")) for x in SPLITS
    }
    raise_all(
        f"These manifests would be overwritten; keep them outside of "
        f"{output_folder}:",
        [str(file) for file in files if os.path.abspath(file) in written],
    )


# -- Utterances ------------------------------------------------------------


def _problems(utterance: Utterance, options: dict) -> list[str]:
    problems = []
    labels = options["labels"]
    if labels is not None and utterance.emo not in labels:
        problems.append(
            f"label {utterance.emo!r} is none of {', '.join(labels)}"
        )
    if options["need_transcripts"] and not utterance.wrd.strip():
        problems.append("the transcript is missing, which CTC needs")
    return problems


def _relative(path: str, data_folder: str | Path) -> str:
    """Path as a manifest holds it; ValueError if it is outside."""
    given = path
    if os.path.isabs(path):
        path = os.path.relpath(path, os.path.abspath(data_folder))
    # A backslash: the list was made on Windows.
    path = posixpath.normpath(path.replace("\\", "/"))
    if path.startswith("../"):
        raise ValueError(f"{given} is not in the data folder {data_folder}")
    return path


def _warn_of_shared_speakers(splits: Splits) -> None:
    heard = {u.spk_id for name in ("train", "valid") for u in splits[name]}
    shared = sorted(({u.spk_id for u in splits["test"]} & heard) - {""})
    if shared:
        logger.warning(
            "%d test speakers are in train or valid too, so test figures "
            "will not tell how new speakers fare: %s",
            len(shared),
            ", ".join(shared),
        )


# -- Manifests -------------------------------------------------------------


def _read_checked(
    file: str | Path, data_folder: str | Path, options: dict
) -> tuple[list[Utterance], list[str]]:
    try:
        utterances = read_manifest(file, required=("wav", "emo"))
    except CorpusError as error:
        return [], [str(error)]
    good, problems = [], []
    for utterance in utterances:
        found = _problems(utterance, options)
        try:
            wav = _relative(utterance.wav, data_folder)
        except ValueError as error:
            found.append(str(error))
        else:
            good.append(replace(utterance, wav=wav))
        problems += [
            f"{file}: utterance {utterance.utt_id}: {x}" for x in found
        ]
    return good, problems


# -- CSV -------------------------------------------------------------------


def _read_csv(file, data_folder, options) -> list[tuple[Utterance, str]]:
    """Utterance and split, or "", of each line."""
    rows, problems, first_line = [], [], {}
    for line, cells in _csv_rows(file):
        found = _cell_problems(cells, data_folder)
        if not found:
            utterance = _utterance(cells, data_folder)
            found = _problems(utterance, options)
            first = first_line.setdefault(utterance.utt_id, line)
            if first != line:
                found.append(f"{utterance.utt_id} is in line {first} too")
            rows.append((utterance, cells.get("split", "").strip()))
        problems += [f"line {line}: {problem}" for problem in found]
    raise_all(f"{file}: {{count}} problems:", problems)
    if not rows:
        raise CorpusError(f"{file} has a header and no lines below it.")
    _refuse_half_split(file, [split for _, split in rows])
    return rows


def _csv_rows(file: str | Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each line; blank lines are skipped."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="", strict=True)
            reader.fieldnames = _header(file, reader.fieldnames or [])
            return [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{file} is no CSV file in UTF-8 ({error}). Save it as one."
        ) from error


def _header(file: str | Path, names: Iterable[str]) -> list[str]:
    names = [name.strip().lower() for name in names]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise CorpusError(
            f"{file}, line 1: no column {', '.join(missing)}. The first line "
            "must name the columns path,label,speaker and, if wanted, "
            "transcript,split, with commas between them; it is: "
            f"{','.join(names)}"
        )
    if twice := repeated(names):
        raise CorpusError(f"{file}, line 1: {', '.join(twice)} is there twice.")
    return names


def _cell_problems(cells: dict, data_folder: str | Path) -> list[str]:
    if None in cells:  # where DictReader puts what is left over
        return [
            "more cells than columns; a transcript with a comma needs quotes"
        ]
    # Speakers only matter where the split has to be made from them.
    needed = REQUIRED[:2] if cells.get("split", "").strip() else REQUIRED
    problems = [
        f"{name} is empty" for name in needed if not cells[name].strip()
    ]
    split = cells.get("split", "").strip()
    if split and split not in SPLITS:
        problems.append(f"split is {split!r}, none of {', '.join(SPLITS)}")
    try:
        _relative(cells["path"].strip(), data_folder)
    except ValueError as error:
        problems.append(str(error))
    return problems


def _utterance(cells: dict[str, str], data_folder: str | Path) -> Utterance:
    wav = _relative(cells["path"].strip(), data_folder)
    return Utterance(
        utt_id=posixpath.splitext(wav)[0],
        wav=wav,
        length=0.0,
        emo=cells["label"].strip(),
        wrd=cells.get("transcript", "").strip(),
        spk_id=cells["speaker"].strip(),
    )


def _refuse_half_split(file: str | Path, splits: list[str]) -> None:
    empty = splits.count("")
    if 0 < empty < len(splits):
        raise CorpusError(
            f"{file}: {empty} of {len(splits)} lines have no split. Fill the "
            "column or leave it out."
        )
