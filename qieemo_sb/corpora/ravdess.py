"""RAVDESS speech: 24 actors say two sentences in eight emotions.

1440 clips of about four seconds: 60 an actor, twelve women and twelve men.
The file name says everything: ``03-01-EE-II-SS-RR-AA.wav`` is

* 03 audio only, 01 speech (02 is song, which is left alone);
* EE emotion: 01 neutral, 02 calm, 03 happy, 04 sad, 05 angry, 06 fearful,
  07 disgust, 08 surprised;
* II intensity, 01 normal or 02 strong (neutral is only normal);
* SS statement; RR repetition, 01 or 02; AA actor, odd for men.

A plain folder of clips does as well as the tree of the archive,
``Actor_01/ ... Actor_24/``; FLAC as well as WAV.

Livingstone and Russo (2018), PLoS ONE 13(5): e0196391. CC BY-NC-SA 4.0.
"""

import itertools
import os
import re
from pathlib import Path

from qieemo_sb.corpora.manifest import (
    Utterance,
    measure,
    measure_splits,
    prepared,
    raise_all,
    repeated,
    write_manifest,
    write_splits,
)
from qieemo_sb.corpora.splits import by_speakers
from qieemo_sb.errors import CorpusError

NO_RAVDESS = """\
RAVDESS is needed: data_folder is the folder that holds Actor_01 ... Actor_24.
Audio_Speech_Actors_01-24.zip is at https://zenodo.org/records/1188976"""

LABELS = (
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgust",
    "surprised",
)
STATEMENTS = (
    "kids are talking by the door",
    "dogs are sitting by the door",
)
NUM_ACTORS = 24
CLIP_NAME = re.compile(r"(03-01(?:-\d\d){5})\.(?:wav|flac)", re.IGNORECASE)

# The actors tested in each fold of the EmoBox benchmark.
TEST_ACTORS = {
    1: (1, 11, 20, 21),
    2: (4, 10, 12, 14),
    3: (8, 9, 19, 23),
    4: (3, 5, 7, 24),
    5: (2, 15, 16, 18),
    6: (6, 13, 17, 22),
}


def prepare_ravdess(
    data_folder: str | Path,
    output_folder: str | Path,
    fold: int = 1,
    seed: int = 1986,
    valid_fraction: float = 0.2,
) -> None:
    """Write train.json, valid.json and test.json of an EmoBox fold.

    Does nothing if they are there, prepared with the same options.

    Arguments
    ---------
    data_folder : str or Path
        Holds the clips, or Actor_01 to Actor_24 with the clips.
    output_folder : str or Path
        Where the manifests go.
    fold : int
        From 1 to 6: four actors to test.
    seed : int
        Of the choice of validation clips.
    valid_fraction : float
        Of the clips of the other twenty actors, to validate.

    Raises
    ------
    CorpusError
        Clips are missing, twice there or not readable, or an option has no
        such value.
    """
    if fold not in TEST_ACTORS:
        raise CorpusError(
            f"There is no fold {fold!r}: the EmoBox folds run from 1 to 6."
        )
    root = _root(data_folder)
    options = {
        "corpus": "RAVDESS",
        "data_folder": str(root),
        "fold": fold,
        "seed": seed,
        "valid_fraction": valid_fraction,
    }
    if prepared(output_folder, options):
        return
    test = [_speaker(actor) for actor in TEST_ACTORS[fold]]
    splits = by_speakers(read_ravdess(root), test, valid_fraction, seed)
    write_splits(measure_splits(splits, root), output_folder, options)


def prepare_statements(
    data_folder: str | Path | None, manifest: str | Path
) -> None:
    """Write a manifest of all 1440 clips: what is said, by all actors.

    For a PPG head that has learned to read elsewhere.

    Arguments
    ---------
    data_folder : str, Path or None
        As in `prepare_ravdess`.
    manifest : str or Path
        The JSON file.

    Raises
    ------
    CorpusError
        See `prepare_ravdess`.
    """
    root = _root(data_folder)
    clips = measure(read_ravdess(root), root)
    write_manifest(clips, manifest)


def fold_numbers() -> list[int]:
    """The folds that there are: EmoBox's six."""
    return list(TEST_ACTORS)


def read_ravdess(data_folder: str | Path) -> list[Utterance]:
    """Read all 1440 clips, without lengths.

    Arguments
    ---------
    data_folder : str or Path
        Holds the clips, or Actor_01 to Actor_24 with the clips.

    Returns
    -------
    list of Utterance
        Sorted by utt_id.

    Raises
    ------
    CorpusError
        Clips are missing, twice there, or bear a name that RAVDESS lacks.
    """
    root = _root(data_folder)
    files = [*root.glob("*"), *root.glob("Actor_*/*")]
    clips = [
        (match[1], path.relative_to(root).as_posix())
        for path in sorted(files)
        if (match := CLIP_NAME.fullmatch(path.name))
    ]
    _check_clips(root, clips)
    return sorted((_utterance(*c) for c in clips), key=lambda u: u.utt_id)


def _root(data_folder: str | Path | None) -> Path:
    if not data_folder:
        raise CorpusError(f"data_folder is not given.\n{NO_RAVDESS}")
    root = Path(os.path.abspath(data_folder))
    if not root.is_dir():
        raise CorpusError(f"{root} is no folder.\n{NO_RAVDESS}")
    return root


def _speaker(actor: int) -> str:
    return f"Actor_{actor:02}"


def _utterance(clip: str, wav: str) -> Utterance:
    emotion, _, statement, _, actor = map(int, clip.split("-")[2:])
    return Utterance(
        utt_id=clip,
        wav=wav,
        length=0.0,
        emo=LABELS[emotion - 1],
        wrd=STATEMENTS[statement - 1],
        spk_id=_speaker(actor),
        session=actor,  # every actor was recorded alone
        gender="M" if actor % 2 else "F",
    )


def _clips_of(actor: int) -> list[str]:
    """Names of an actor's 60 clips."""
    return [
        f"03-01-{emotion:02}-{intensity:02}-{statement:02}-{repetition:02}"
        f"-{actor:02}"
        for emotion, intensity, statement, repetition in itertools.product(
            range(1, 9), (1, 2), (1, 2), (1, 2)
        )
        if (emotion, intensity) != (1, 2)  # neutral is never strong
    ]


def _check_clips(root: Path, clips: list[tuple[str, str]]) -> None:
    found = {clip for clip, _ in clips}
    actors = {actor: _clips_of(actor) for actor in range(1, NUM_ACTORS + 1)}
    if not found:
        below = [path.parent for path in sorted(root.glob("*/Actor_01"))]
        hint = f"data_folder should be {below[0]}" if below else NO_RAVDESS
        raise CorpusError(f"{root} holds no clips of RAVDESS.\n{hint}")
    unknown = found - {clip for names in actors.values() for clip in names}
    problems = [f"{clip} is no clip of RAVDESS" for clip in sorted(unknown)]
    for clip in repeated(clip for clip, _ in clips):
        places = " and ".join(wav for name, wav in clips if name == clip)
        problems.append(f"{clip} is there twice: {places}")
    for actor, names in actors.items():
        if missing := [clip for clip in names if clip not in found]:
            problems.append(_missing(actor, missing, len(names)))
    raise_all(
        f"{root} is not the RAVDESS of 1440 clips ({{count}} problems):",
        problems,
    )


def _missing(actor: int, clips: list[str], total: int) -> str:
    if len(clips) == total:
        return f"{_speaker(actor)}: all {total} clips are missing"
    return (
        f"{_speaker(actor)}: {len(clips)} of {total} clips are missing: "
        f"{', '.join(clips)}"
    )
