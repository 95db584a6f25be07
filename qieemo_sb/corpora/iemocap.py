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

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from qieemo_sb.corpora import splits as protocols
from qieemo_sb.corpora.manifest import (
    Utterance,
    check_choice,
    digest,
    existing_folder,
    prepared,
    raise_all,
    read_json,
    repeated,
    write_splits,
    wrong_counts,
)
from qieemo_sb.errors import CorpusError

NO_IEMOCAP = """\
IEMOCAP is needed: data_folder is the folder that holds Session1 ... Session5.
The corpus is free for research under its own licence; its makers send it on
request: https://sail.usc.edu/iemocap/
To see the recipe run without it: python train.py hparams/demo.yaml in
recipes/Synthetic/qieemo"""

FOUR = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
SIX = ("neu", "hap", "ang", "sad", "exc", "fru")
LABEL_SETS = {  # label of the corpus: label of the task
    4: FOUR,
    5: {**FOUR, "fru": "fru"},
    6: {label: label for label in SIX},
}

# Turns by session (0: all of them) and label, "turns" (all labels) or
# "4 labels" (the usual task).
EXPECTED_COUNTS = {
    (0, "turns"): 10_039,
    **{(0, "neu"): 1_708, (0, "ang"): 1_103, (0, "sad"): 1_084},
    **{(0, "hap"): 595, (0, "exc"): 1_041, (0, "fru"): 1_849},
    **{(0, "fea"): 40, (0, "sur"): 107, (0, "dis"): 2},
    **{(0, "oth"): 3, (0, "xxx"): 2_507},
    **{(1, "4 labels"): 1_085, (2, "4 labels"): 1_023},
    **{(3, "4 labels"): 1_151, (4, "4 labels"): 1_031},
    (5, "4 labels"): 1_241,
}

TURN_LINE = re.compile(
    r"\[\d+\.\d+ - \d+\.\d+\]\s+(Ses\d\d[FM]_\w+_[FM]\d{3})\s+(\w+)\s"
)
TRANSCRIPT_LINE = re.compile(r"(\w+) \[[\d.]+-[\d.]+\]:\s*(.*)")

NUM_FOLDS = {"loso": 5, "speaker": 10, "random": protocols.RANDOM_PARTS}


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
    check_choice("protocol", protocol, NUM_FOLDS)
    check_choice("labels", labels, LABEL_SETS)
    root = existing_folder(data_folder, NO_IEMOCAP)
    options = {
        "corpus": "IEMOCAP",
        "data_folder": str(root),
        "protocol": protocol,
        "fold": fold,
        "labels": labels,
        "seed": seed,
        "expected_counts": digest(expected_counts) if expected_counts else None,
    }
    if prepared(output_folder, options):
        return
    turns = read_iemocap(root, labels, expected_counts)
    if protocol == "loso":
        splits = protocols.leave_one_session_out(turns, fold)
    elif protocol == "speaker":
        splits = protocols.leave_one_speaker_out(turns, fold)
    else:
        splits = protocols.random_split(turns, fold, seed)
    write_splits(splits, output_folder, options, root)


def fold_numbers(protocol: str = "loso") -> list[int]:
    """Numbers of the folds of a protocol, from 1.

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
    check_choice("protocol", protocol, NUM_FOLDS)
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
    check_choice("labels", labels, LABEL_SETS)
    return list(dict.fromkeys(LABEL_SETS[labels].values()))


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
    root = existing_folder(data_folder, NO_IEMOCAP)
    turns = [turn for session in _sessions(root) for turn in _turns(session)]
    raise_all(
        f"{root}: {{count}} turns occur twice:",
        repeated(turn.utt_id for turn in turns),
    )
    check_counts(root, turns, expected_counts)
    task = LABEL_SETS[labels] if labels else {t.emo: t.emo for t in turns}
    kept = [replace(t, emo=task[t.emo]) for t in turns if t.emo in task]
    return sorted(_transcribed(root, kept), key=lambda turn: turn.utt_id)


def _sessions(root: Path) -> list[Path]:
    return sorted(root.glob("Session[1-9]"))


def _lines(folder: Path) -> Iterator[str]:
    """Lines of all text files of a folder."""
    for path in sorted(folder.glob("*.txt")):
        # Not the folders beside the files, nor the ._* that macOS leaves.
        if path.is_file() and not path.name.startswith("."):
            # Ids and labels are ASCII. A stray byte in a transcript costs a
            # letter and is no reason to refuse the corpus.
            yield from path.read_text("utf-8", errors="replace").split("\n")


def _turns(session: Path) -> Iterator[Utterance]:
    for line in _lines(session / "dialog" / "EmoEvaluation"):
        if match := TURN_LINE.match(line):
            turn, label = match.groups()
            dialog = turn.rsplit("_", 1)[0]
            gender = turn[-4]
            yield Utterance(
                utt_id=turn,
                wav=f"{session.name}/sentences/wav/{dialog}/{turn}.wav",
                emo=label,
                spk_id=turn[:5] + gender,
                corpus="IEMOCAP",
                language="en",
                session=int(turn[3:5]),
                gender=gender,
            )


def _transcribed(root: Path, turns: list[Utterance]) -> list[Utterance]:
    words: dict[str, str] = {}
    for session in _sessions(root):
        lines = _lines(session / "dialog" / "transcriptions")
        matches = map(TRANSCRIPT_LINE.match, lines)
        words.update((match[1], match[2]) for match in matches if match)
    raise_all(
        f"{root}: {{count}} turns have no line in dialog/transcriptions:",
        sorted(turn.utt_id for turn in turns if turn.utt_id not in words),
    )
    return [replace(turn, wrd=words[turn.utt_id].strip()) for turn in turns]


def check_counts(
    root: Path,
    turns: list[Utterance],
    expected_counts: str | Path | None = None,
) -> None:
    """Raise an error for a tree that is not the whole corpus.

    Arguments
    ---------
    root : Path
        The tree, to find out what went wrong.
    turns : list of Utterance
        All turns, with the corpus's own labels.
    expected_counts : str or Path, optional
        See `prepare_iemocap`.

    Raises
    ------
    CorpusError
        Lists missing folders, and all counts that differ.
    """
    sessions = [path.name for path in _sessions(root)]
    if not sessions:
        raise CorpusError(f"{root} has no folder Session1.\n{_hint(root)}")
    expected = EXPECTED_COUNTS
    if expected_counts:
        expected = _read_counts(expected_counts)
    found: Counter = Counter()
    for turn in turns:
        for row in (0, turn.session):
            found[row, turn.emo] += 1
            found[row, "turns"] += 1
            found[row, "4 labels"] += turn.emo in FOUR
    known = {column for _, column in expected}
    unknown = {turn.emo for turn in turns} - known
    expected = {**expected, **{(0, label): 0 for label in sorted(unknown)}}
    wanted = {f"Session{row}" for row, _ in expected if row} | set(sessions)
    folders = [
        f"{session}/{part}"
        for session in sorted(wanted)
        for part in ("dialog/EmoEvaluation", "sentences/wav")
    ]
    problems = [f"{x} is missing" for x in folders if not (root / x).is_dir()]
    problems += wrong_counts(
        found,
        expected,
        lambda key: (
            f"{f'Session{key[0]}' if key[0] else 'all sessions'}, {key[1]}"
        ),
    )
    raise_all(
        f"{root} does not hold the corpus that is expected "
        "({count} differences):",
        problems,
    )


def _read_counts(path: str | Path) -> dict[tuple[int, str], int]:
    """Counts in the form of ``EXPECTED_COUNTS``."""
    file, counts = read_json(path), Counter[tuple[int, str]]()
    try:
        for session, numbers in file["turns"].items():
            for label, number in numbers.items():
                counts[int(session), label] = int(number)
                counts[int(session), "turns"] += int(number)
                counts[0, "turns"] += int(number)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{path}: turns by session and label are expected: "
            '{"turns": {"1": {"neu": 12, ...}, ...}}.'
        ) from error
    return counts


def _hint(root: Path) -> str:
    """The folder above or below that was meant, or how to get the corpus."""
    for folder in [*root.parents[:3], *sorted(root.glob("*"))]:
        if _sessions(folder):
            return f"data_folder should be {folder}"
    return NO_IEMOCAP
