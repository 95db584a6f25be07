"""IEMOCAP: acted and improvised dialogs of ten actors, labelled by turn.

Five sessions; in each, one woman and one man play dialogs, scripted and
improvised. Every turn was cut out, transcribed and labelled by three or more
listeners; "xxx" stands where they had no majority. Of the tree only this is
read::

    Session1/
      dialog/EmoEvaluation/Ses01F_impro01.txt    turns and their labels
      dialog/transcriptions/Ses01F_impro01.txt   turns and their words
      sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav
    ...
    Session5/

A turn is named after its dialog, whose own F or M tells which of the two
wore the motion capture markers, not who speaks. Dialog names differ in
length (impro01, impro05a, script01_1b), so the speaker's F or M is counted
from the right: the fourth character from the end.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from qieemo_sb.corpora import splits as folds
from qieemo_sb.corpora.manifest import (
    Splits,
    Utterance,
    measure_splits,
    prepared,
    raise_all,
    read_json,
    repeated,
    write_splits,
)
from qieemo_sb.corpora.table import table
from qieemo_sb.errors import CorpusError

NO_IEMOCAP = """\
IEMOCAP is needed: data_folder is the folder that holds Session1 ... Session5.
The corpus is free for research under its own licence; its makers send it on
request: https://sail.usc.edu/iemocap/
To see the recipe run without it: python train.py hparams/demo.yaml"""

FOUR = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
SIX = ("neu", "hap", "ang", "sad", "exc", "fru")
LABEL_SETS = {  # label of the corpus: label of the task
    4: FOUR,
    5: {**FOUR, "fru": "fru"},
    6: {label: label for label in SIX},
}

EXPECTED_COUNTS = {
    "turns": 10_039,
    "labels": {
        "neu": 1_708,
        "ang": 1_103,
        "sad": 1_084,
        "hap": 595,
        "exc": 1_041,
        "fru": 1_849,
        "fea": 40,
        "sur": 107,
        "dis": 2,
        "oth": 3,
        "xxx": 2_507,
    },
    # Session: turns of the task of four labels.
    "four": {1: 1_085, 2: 1_023, 3: 1_151, 4: 1_031, 5: 1_241},
}

SESSION = r"Session(\d+)"
TURN_LINE = re.compile(
    r"\[\d+\.\d+ - \d+\.\d+\]\s+(Ses\d\d[FM]_\w+_[FM]\d{3})\s+(\w+)\s"
)
TRANSCRIPT_LINE = re.compile(r"(\w+) \[[\d.]+-[\d.]+\]:\s*(.*)")

PROTOCOLS: dict[str, Callable[[list[Utterance], int, int], Splits]] = {
    "loso": lambda turns, fold, _: folds.leave_one_session_out(turns, fold),
    "speaker": lambda turns, fold, _: folds.leave_one_speaker_out(turns, fold),
    "random": folds.random_split,
}
NUM_FOLDS = {"loso": 5, "speaker": 10, "random": folds.RANDOM_PARTS}


def prepare_iemocap(
    data_folder: str | Path,
    output_folder: str | Path,
    protocol: str = "loso",
    fold: int = 1,
    labels: int = 4,
    seed: int = 1986,
    expected_counts: str | Path | None = None,
) -> None:
    """Write train.json, valid.json and test.json of IEMOCAP.

    Does nothing if they are there, prepared with the same options.

    Arguments
    ---------
    data_folder : str or Path
        Holds Session1 to Session5.
    output_folder : str or Path
        Where the manifests go.
    protocol : str
        "loso": test a session, validate on the next (fold 1 to 5);
        "speaker": test a speaker, validate on the other of the session (fold
        1 to 10: Ses01F, Ses01M, Ses02F ...); "random": 80/10/10 at random,
        which mixes speakers and compares with neither (fold 1 to 10).
    fold : int
        Which part of the corpus to test.
    labels : int
        4: neu, hap (with exc), ang, sad. 5: these and fru. 6: these and exc
        by itself.
    seed : int
        Of the random protocol.
    expected_counts : str or Path, optional
        JSON file of the turns of another tree of the same form, by session
        and label: ``{"turns": {"1": {"neu": 12, ...}, ...}}``. By default
        IEMOCAP's own published counts must be met.

    Raises
    ------
    CorpusError
        The tree is not the whole corpus, turns lack a transcript or a sound
        file, or an option has no such value.
    """
    options = _options(
        data_folder, protocol, fold, labels, seed, expected_counts
    )
    if prepared(output_folder, options):
        return
    turns = read_iemocap(data_folder, labels, expected_counts)
    splits = PROTOCOLS[protocol](turns, fold, seed)
    write_splits(measure_splits(splits, data_folder), output_folder, options)


def fold_numbers(protocol: str = "loso") -> list[int]:
    """The folds that there are under a protocol.

    Arguments
    ---------
    protocol : str
        See `prepare_iemocap`.

    Returns
    -------
    list of int

    Raises
    ------
    CorpusError
        There is no such protocol.

    Example
    -------
    >>> fold_numbers("loso")
    [1, 2, 3, 4, 5]
    """
    _check_protocol(protocol)
    return list(range(1, NUM_FOLDS[protocol] + 1))


def label_names(labels: int = 4) -> list[str]:
    """The labels of a task, in the order of a classifier's outputs.

    Arguments
    ---------
    labels : int
        4, 5 or 6.

    Returns
    -------
    list of str

    Raises
    ------
    CorpusError
        There is no such label set.

    Example
    -------
    >>> label_names(4)
    ['neu', 'hap', 'ang', 'sad']
    """
    return list(dict.fromkeys(_task(labels).values()))


def read_iemocap(
    data_folder: str | Path,
    labels: int | None = 4,
    expected_counts: str | Path | None = None,
) -> list[Utterance]:
    """Read the turns of a task, with transcripts and without lengths.

    Arguments
    ---------
    data_folder : str or Path
        Holds Session1 to Session5.
    labels : int or None
        4, 5 or 6, see `prepare_iemocap`; None: all turns with the corpus's
        own labels.
    expected_counts : str or Path, optional
        See `prepare_iemocap`.

    Returns
    -------
    list of Utterance
        Sorted by utt_id.

    Raises
    ------
    CorpusError
        See `prepare_iemocap`.
    """
    root = _root(data_folder)
    turns = [turn for session in _sessions(root) for turn in _turns(session)]
    raise_all(
        f"{root}: {{count}} turns occur twice:",
        repeated(turn.utt_id for turn in turns),
    )
    check_counts(root, turns, expected_counts)
    task = _task(labels) if labels else {t.emo: t.emo for t in turns}
    kept = [replace(t, emo=task[t.emo]) for t in turns if t.emo in task]
    return sorted(_transcribed(root, kept), key=lambda turn: turn.utt_id)


def check_counts(
    root: Path,
    turns: list[Utterance],
    expected_counts: str | Path | None = None,
) -> None:
    """Refuse a tree that is not the whole corpus.

    Arguments
    ---------
    root : Path
        The tree, to count sound files and to find out what went wrong.
    turns : list of Utterance
        All turns, with the corpus's own labels.
    expected_counts : str or Path, optional
        See `prepare_iemocap`.

    Raises
    ------
    CorpusError
        Shows what was found and what was expected, session by session.
    """
    if not _sessions(root):
        raise CorpusError(f"{root} has no folder Session1.\n{_elsewhere(root)}")
    expected = _expected_cells(expected_counts)
    found = _found_cells(turns)
    wrong = [
        f"{_row_name(row)}, {column}: {found[row, column]} found, "
        f"{number} expected"
        for (row, column), number in expected.items()
        if found[row, column] != number
    ]
    missing = _missing_folders(root, expected)
    if wrong or missing:
        shown = _counts_table(found, expected, _count_wavs(root))
        heading = (
            f"{root} does not hold the corpus that is expected.\n\n{shown}"
        )
        raise_all(f"{heading}\n\n{{count}} differences:", wrong + missing)


# -- Options ---------------------------------------------------------------


def _options(
    data_folder, protocol, fold, labels, seed, expected_counts
) -> dict:
    _check_protocol(protocol)
    _task(labels)
    return {
        "corpus": "IEMOCAP",
        "data_folder": str(_root(data_folder)),
        "protocol": protocol,
        "fold": fold,
        "labels": labels,
        "seed": seed,
        "expected_counts": _digest(expected_counts),
    }


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise CorpusError(
            f"protocol is {protocol!r}; it must be one of "
            f"{', '.join(PROTOCOLS)}."
        )


def _task(labels: int) -> dict[str, str]:
    if labels not in list(LABEL_SETS):
        raise CorpusError(f"labels is {labels!r}; it must be 4, 5 or 6.")
    return LABEL_SETS[labels]


def _root(data_folder: str | Path | None) -> Path:
    if not data_folder:
        raise CorpusError(f"data_folder is not given.\n{NO_IEMOCAP}")
    root = Path(os.path.abspath(data_folder))
    if not root.is_dir():
        raise CorpusError(f"{root} is no folder.\n{NO_IEMOCAP}")
    return root


def _digest(path: str | Path | None) -> str | None:
    if not path:
        return None
    read_json(path)  # its errors are clearer than those of read_bytes
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# -- Parsing ---------------------------------------------------------------


def _sessions(root: Path) -> list[Path]:
    found = root.glob("Session[0-9]*")
    return sorted(path for path in found if re.fullmatch(SESSION, path.name))


def _text_files(folder: Path) -> list[Path]:
    # Not the folders beside the files, nor the ._* that macOS leaves.
    return sorted(
        path
        for path in folder.glob("*.txt")
        if path.is_file() and not path.name.startswith(".")
    )


def _lines(path: Path) -> list[str]:
    # Ids and labels are ASCII. A stray byte in a transcript costs a letter
    # and is no reason to refuse the corpus.
    return path.read_text(encoding="utf-8", errors="replace").split("\n")


def _turns(session: Path) -> Iterator[Utterance]:
    for path in _text_files(session / "dialog" / "EmoEvaluation"):
        for line in _lines(path):
            if match := TURN_LINE.match(line):
                yield _utterance(session.name, *match.groups())


def _utterance(session_folder: str, turn: str, label: str) -> Utterance:
    dialog = turn.rsplit("_", 1)[0]
    gender = turn[-4]
    return Utterance(
        utt_id=turn,
        wav=f"{session_folder}/sentences/wav/{dialog}/{turn}.wav",
        length=0.0,
        emo=label,
        spk_id=turn[:5] + gender,
        session=int(turn[3:5]),
        gender=gender,
    )


def _transcribed(root: Path, turns: list[Utterance]) -> list[Utterance]:
    words = {}
    for session in _sessions(root):
        for path in _text_files(session / "dialog" / "transcriptions"):
            matches = map(TRANSCRIPT_LINE.match, _lines(path))
            words.update(match.groups() for match in matches if match)
    raise_all(
        f"{root}: {{count}} turns have no line in dialog/transcriptions:",
        sorted(turn.utt_id for turn in turns if turn.utt_id not in words),
    )
    return [replace(turn, wrd=words[turn.utt_id].strip()) for turn in turns]


# -- Counting --------------------------------------------------------------
#
# A cell is a (row, column) pair. Rows are sessions, 0 is all of them; columns
# are labels, "4 labels" (the usual task) and "turns".


def _expected_cells(path: str | Path | None) -> dict[tuple[int, str], int]:
    if not path:
        counts = EXPECTED_COUNTS
        cells = {(s, "4 labels"): n for s, n in counts["four"].items()}
        cells |= {(0, label): n for label, n in counts["labels"].items()}
        return cells | {(0, "turns"): counts["turns"]}
    sessions = _sessions_of(path)
    cells = {
        (session, label): number
        for session, numbers in sessions.items()
        for label, number in numbers.items()
    }
    totals = {(s, "turns"): sum(x.values()) for s, x in sessions.items()}
    return cells | totals | {(0, "turns"): sum(totals.values())}


def _sessions_of(path: str | Path) -> dict[int, dict[str, int]]:
    counts = read_json(path)
    try:
        return {
            int(session): {label: int(n) for label, n in numbers.items()}
            for session, numbers in counts["turns"].items()
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{path}: turns by session and label are expected: "
            '{"turns": {"1": {"neu": 12, ...}, ...}}.'
        ) from error


def _found_cells(turns: list[Utterance]) -> Counter:
    cells = Counter()
    for turn in turns:
        for row in (0, turn.session):
            cells[row, turn.emo] += 1
            cells[row, "turns"] += 1
            cells[row, "4 labels"] += turn.emo in LABEL_SETS[4]
    return cells


def _count_wavs(root: Path) -> Counter:
    counts = Counter()
    for session in _sessions(root):
        wavs = session.glob("sentences/wav/*/*.wav")
        number = sum(not path.name.startswith(".") for path in wavs)
        counts[int(re.fullmatch(SESSION, session.name)[1])] += number
        counts[0] += number
    return counts


def _counts_table(found: Counter, expected: dict, wavs: Counter) -> str:
    cells = [*found, *expected]
    columns = sorted({c for _, c in cells} - {"turns", "4 labels"})
    columns += ["4 labels", "turns"]
    sessions = {row for row, _ in cells} | set(wavs)
    rows = [["", *columns, "wavs"]]
    for row in [*sorted(sessions - {0}), 0]:
        numbers = [found[row, column] for column in columns]
        rows.append([f"{_row_name(row)}, found", *numbers, wavs[row]])
        numbers = [expected.get((row, column), "-") for column in columns]
        rows.append(["  expected", *numbers, "-"])
    return table(rows)


def _row_name(row: int) -> str:
    return f"Session{row}" if row else "all sessions"


# -- Hints -----------------------------------------------------------------


def _missing_folders(root: Path, expected: dict) -> list[str]:
    wanted = {_row_name(row) for row, _ in expected if row}
    found = {session.name for session in _sessions(root)}
    missing = sorted(wanted - found)
    for session in sorted(found):
        parts = ("dialog/EmoEvaluation", "sentences/wav")
        folders = [f"{session}/{part}" for part in parts]
        missing += [x for x in folders if not (root / x).is_dir()]
    return [f"{folder} is missing" for folder in missing]


def _elsewhere(root: Path) -> str:
    """Look above and below for the folder that was meant."""
    for folder in [*root.parents[:3], *sorted(root.glob("*"))]:
        if _sessions(folder):
            return f"data_folder should be {folder}"
    return NO_IEMOCAP
