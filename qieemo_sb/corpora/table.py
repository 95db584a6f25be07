"""A user's own corpus, from a CSV file or from three manifests.

The CSV file has a header and one line an utterance::

    path,label,speaker,transcript
    anna/001.wav,happy,anna,What a day!
    ben/001.wav,sad,ben,

``path`` is relative to the data folder. ``transcript`` may be missing. A
column ``split`` of train, valid and test sets the split; without it speakers
are divided at random, 70/15/15, so that nobody is in two parts.

Of manifests, each utterance needs ``wav``, as ``{data_root}/...`` or relative
to the data folder, and ``emo``; lengths are measured.
"""

import csv
import itertools
import logging
import os
import posixpath
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from qieemo_sb.audio import survey
from qieemo_sb.corpora.manifest import (
    SPLITS,
    Splits,
    Utterance,
    digest,
    existing_folder,
    prepared,
    raise_all,
    read_manifest,
    relative_path,
    repeated,
    write_splits,
)
from qieemo_sb.corpora.splits import seeded_speaker_split
from qieemo_sb.errors import CorpusError

logger = logging.getLogger(__name__)

REQUIRED = ("path", "label", "speaker")


def prepare_table(
    output_folder: str | Path,
    data_folder: str | Path,
    csv_file: str | Path | None = None,
    train_manifest: str | Path | None = None,
    valid_manifest: str | Path | None = None,
    test_manifest: str | Path | None = None,
    labels: Iterable[str] | None = None,
    seed: int = 1986,
) -> None:
    """Write train.json, valid.json and test.json of a user's corpus.

    Does nothing if they are there, from the same lists and options.

    Arguments
    ---------
    output_folder : str or Path
        Where the manifests go; not where the given ones are.
    data_folder : str or Path
        Audio paths are relative to it; absolute ones must lie in it.
    csv_file : str or Path, optional
        UTF-8, with columns path, label, speaker and, if wanted, transcript
        and split. Other columns are ignored.
    train_manifest, valid_manifest, test_manifest : str or Path, optional
        JSON files, in place of ``csv_file``.
    labels : iterable of str, optional
        The labels there may be; by default all that are found.
    seed : int
        Of the division of speakers.

    Raises
    ------
    CorpusError
        Both or neither are given; or lists all that is wrong with lines,
        utterances or audio files.
    """
    manifests = [train_manifest, valid_manifest, test_manifest]
    if bool(csv_file) == any(manifests) or any(manifests) != all(manifests):
        raise CorpusError(
            "Give either csv_file or all of train_manifest, valid_manifest "
            "and test_manifest."
        )
    root = existing_folder(
        data_folder, "It is the folder that audio paths are relative to."
    )
    files = [str(x) for x in ([csv_file] if csv_file else manifests)]
    outputs = [
        Path(output_folder, f"{name}.json").absolute() for name in SPLITS
    ]
    raise_all(
        "These manifests would be overwritten; keep them outside of "
        f"{output_folder}:",
        [file for file in files if Path(file).absolute() in outputs],
    )
    options = {
        "corpus": "own",
        "data_folder": str(root),
        "files": {os.path.abspath(file): digest(file) for file in files},
        "labels": None if labels is None else sorted(map(str, labels)),
        "seed": seed,
    }
    if prepared(output_folder, options):
        return
    read = _read_csv if csv_file else _read_manifests
    splits = read(files, options)
    trained = {u.spk_id for name in ("train", "valid") for u in splits[name]}
    shared = sorted(({u.spk_id for u in splits["test"]} & trained) - {""})
    if shared:
        logger.warning(
            "%d test speakers are in train or valid too, so the test does not "
            "measure the accuracy on new speakers: %s",
            len(shared),
            ", ".join(shared),
        )
    write_splits(splits, output_folder, options, root)


def _read_manifests(files: list[str], options: dict) -> Splits:
    splits: Splits = {name: [] for name in SPLITS}
    problems = []
    for name, file in zip(SPLITS, files, strict=True):
        try:
            utterances = read_manifest(file, required=("wav", "emo"))
        except CorpusError as error:
            problems.append(str(error))
            continue
        for utterance in utterances:
            utterance, found = _checked(utterance, options)
            splits[name].append(utterance)
            place = f"{file}: utterance {utterance.utt_id}"
            problems += [f"{place}: {problem}" for problem in found]
    if problems:
        everything = itertools.chain(*splits.values())
        problems += _bad_audio(everything, options["data_folder"])
    raise_all("The manifests have {count} problems:", problems)
    return splits


def _read_csv(files: list[str], options: dict) -> Splits:
    (file,) = files
    utterances, parts, problems = [], [], []
    first_line: dict[str, int] = {}
    for line, cells in _csv_rows(file):
        if None in cells:  # where DictReader puts what is left over
            problems.append(
                f"line {line}: more cells than columns; a transcript with a "
                "comma needs quotes"
            )
            continue
        cells = {name: cell.strip() for name, cell in cells.items()}
        part = cells.get("split", "")
        # Speakers only matter where the split has to be made from them.
        needed = REQUIRED[:2] if part else REQUIRED
        found = [f"{name} is empty" for name in needed if not cells[name]]
        if part and part not in SPLITS:
            found.append(f"split is {part!r}, none of {', '.join(SPLITS)}")
        if not found:
            utterance = Utterance(
                utt_id="",
                wav=cells["path"],
                emo=cells["label"],
                wrd=cells.get("transcript", ""),
                spk_id=cells["speaker"],
            )
            utterance, found = _checked(utterance, options)
            utt_id = posixpath.splitext(utterance.wav)[0]
            first = first_line.setdefault(utt_id, line)
            if first != line:
                found.append(f"{utt_id} is in line {first} too")
            utterances.append(replace(utterance, utt_id=utt_id))
        parts.append(part)
        problems += [f"line {line}: {problem}" for problem in found]
    if problems:
        problems += _bad_audio(utterances, options["data_folder"])
    raise_all(f"{file}: {{count}} problems:", problems)
    if not utterances:
        raise CorpusError(f"{file} has a header and no lines below it.")
    if not any(parts):
        return seeded_speaker_split(utterances, seed=options["seed"])
    if "" in parts:
        raise CorpusError(
            f"{file}: {parts.count('')} of {len(parts)} lines have no split. "
            "Fill the column or leave it out."
        )
    pairs = list(zip(utterances, parts, strict=True))
    return {name: [u for u, part in pairs if part == name] for name in SPLITS}


def _csv_rows(file: str | Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each line; blank lines are skipped."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="", strict=True)
            names = [name.strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = names
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{file} is no CSV file in UTF-8 ({error}). Save it as one."
        ) from error
    if missing := [name for name in REQUIRED if name not in names]:
        raise CorpusError(
            f"{file}, line 1: no column {', '.join(missing)}. The first line "
            "must name the columns path,label,speaker and, if wanted, "
            "transcript,split, with commas between them; it is: "
            f"{','.join(names)}"
        )
    if twice := repeated(names):
        raise CorpusError(f"{file}, line 1: {', '.join(twice)} is there twice.")
    return rows


def _checked(utterance: Utterance, options: dict) -> tuple:
    """The utterance with a path as manifests hold it, and its problems."""
    folder, labels = options["data_folder"], options["labels"]
    problems = []
    if labels is not None and utterance.emo not in labels:
        known = ", ".join(labels)
        problems.append(f"label {utterance.emo!r} is none of {known}")
    wav = relative_path(utterance.wav, folder)
    if wav.startswith("../"):
        problems.append(f"{utterance.wav} is not in the data folder {folder}")
    return replace(utterance, wav=wav), problems


def _bad_audio(utterances: Iterable[Utterance], folder: str) -> list[str]:
    """Faults of audio files: whoever repairs a list repairs them as well."""
    inside = (u.wav for u in utterances if not u.wav.startswith("../"))
    _, failures = survey(Path(folder, wav) for wav in inside)
    return list(failures.values())
