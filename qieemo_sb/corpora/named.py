"""Corpora whose labels stand in file names: one entry of ``CORPORA`` each.

An entry says how a name is read, what its codes mean and how many clips there
must be. Clips may lie in any folder below the data folder, in any audio
format that soundfile reads. To add a corpus, add its entry: `prepare_named`,
the recipe in recipes/RAVDESS (``--corpus NAME``) and its prepare script then
know it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import soundfile

from qieemo_sb.corpora.manifest import (
    Splits,
    Utterance,
    check_choice,
    existing_folder,
    measure,
    prepared,
    raise_all,
    write_manifest,
    write_splits,
)
from qieemo_sb.corpora.splits import by_speakers, speaker_folds
from qieemo_sb.errors import CorpusError

SUFFIXES = {f".{x.lower()}" for x in soundfile.available_formats()}
SUFFIXES |= {".opus", ".oga", ".aif"}


@dataclass(frozen=True)
class NamedCorpus:
    """All that is to be known about a corpus.

    Arguments
    ---------
    name : str
        As in the yaml's ``corpus``.
    source : str
        What the data folder holds and where to get it.
    licence : str
        Of the audio.
    language : str
        Language code.
    pattern : str
        Regular expression of a clip's path without suffix, from some folder
        on to the end: mostly the file name alone; with ``/`` folders, too.
        Its group ``emotion`` is required; ``speaker``, ``sentence`` and
        ``gender`` are used where they are there. Other files are ignored.
    emotions : mapping of str to str
        Code of the group ``emotion`` → label, in the order of a classifier's
        outputs.
    speaker : str
        Name of a speaker; ``{speaker}`` and other groups are filled in.
    sentences : mapping of str to str, or str
        Code of the group ``sentence`` → transcript, or one text in which
        groups are filled in, such as ``"Say the word {sentence}"``.
    genders : mapping of str to str
        Code of the group ``gender``, or ``speaker`` where there is no such
        group, → F or M.
    folds : mapping of int to sequence of str, or int
        Official folds, number → names of the test speakers, or the number of
        folds to which speakers are dealt at random.
    stems : frozenset of str
        File names of all clips, where they follow a rule; an error then
        names the missing ones.
    counts : mapping of str to int
        Where they do not: label → number of clips, and "speakers".
    """

    name: str
    source: str
    licence: str
    language: str
    pattern: str
    emotions: Mapping[str, str]
    speaker: str = "{speaker}"
    sentences: Mapping[str, str] | str = ""
    genders: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[int, Sequence[str]] | int = 5
    stems: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)


# Livingstone and Russo (2018), PLoS ONE 13(5): e0196391. A name is
# 03 (audio) 01 (speech) EMOTION INTENSITY STATEMENT REPETITION ACTOR; actors
# of odd numbers are men, neutral is never strong. The folds are EmoBox's.
RAVDESS = NamedCorpus(
    name="RAVDESS",
    source="RAVDESS is needed: data_folder is the folder that holds Actor_01 "
    "... Actor_24.\nAudio_Speech_Actors_01-24.zip is at "
    "https://zenodo.org/records/1188976",
    licence="CC BY-NC-SA 4.0",
    language="en",
    pattern=r"03-01-(?P<emotion>\d\d)-\d\d-(?P<sentence>\d\d)-\d\d"
    r"-(?P<speaker>\d\d)",
    emotions={
        f"{code:02}": label
        for code, label in enumerate(
            "neutral calm happy sad angry fearful disgust surprised".split(), 1
        )
    },
    speaker="Actor_{speaker}",
    sentences={
        "01": "kids are talking by the door",
        "02": "dogs are sitting by the door",
    },
    genders={f"{actor:02}": "FM"[actor % 2] for actor in range(1, 25)},
    folds={
        1: ("Actor_01", "Actor_11", "Actor_20", "Actor_21"),
        2: ("Actor_04", "Actor_10", "Actor_12", "Actor_14"),
        3: ("Actor_08", "Actor_09", "Actor_19", "Actor_23"),
        4: ("Actor_03", "Actor_05", "Actor_07", "Actor_24"),
        5: ("Actor_02", "Actor_15", "Actor_16", "Actor_18"),
        6: ("Actor_06", "Actor_13", "Actor_17", "Actor_22"),
    },
    stems=frozenset(
        f"03-01-{emotion:02}-{intensity:02}-{statement:02}-{repetition:02}"
        f"-{actor:02}"
        for emotion, intensity, statement, repetition, actor in product(
            range(1, 9), (1, 2), (1, 2), (1, 2), range(1, 25)
        )
        if (emotion, intensity) != (1, 2)
    ),
)

# Cao et al. (2014), IEEE Trans. Affective Computing 5(4). A name is
# ACTOR_SENTENCE_EMOTION_LEVEL. No official folds leave speakers out.
CREMAD = NamedCorpus(
    name="CREMA-D",
    source="CREMA-D is needed: data_folder is the folder that holds "
    "1001_DFA_ANG_XX.wav and its like.\nIts AudioWAV is at "
    "https://github.com/CheyneyComputerScience/CREMA-D",
    licence="ODbL 1.0",
    language="en",
    pattern="(?P<speaker>1\\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})"
    "_(?:LO|MD|HI|XX?)",
    emotions={
        "NEU": "neutral",
        "HAP": "happy",
        "SAD": "sad",
        "ANG": "angry",
        "FEA": "fearful",
        "DIS": "disgust",
    },
    counts={
        "neutral": 1087,
        **dict.fromkeys(("happy", "sad", "angry", "fearful", "disgust"), 1271),
        "speakers": 91,
    },
    sentences={
        "IEO": "It's eleven o'clock",
        "TIE": "That is exactly what happened",
        "IOM": "I'm on my way to the meeting",
        "IWW": "I wonder what this is about",
        "TAI": "The airplane is almost full",
        "MTI": "Maybe tomorrow it will be cold",
        "IWL": "I would like a new alarm clock",
        "ITH": "I think I have a doctor's appointment",
        "DFA": "Don't forget a jacket",
        "ITS": "I think I've seen this before",
        "TSI": "The surface is slick",
        "WSI": "We'll stop in a couple of minutes",
    },
    genders={
        str(actor): gender
        for actor, gender in enumerate(
            "MFFFMFFFFFMFFMMMMFMFFMMFFMMFFFMMMMMMFMMMMMFMMF"
            "FMFMMFFFFFMFMFFMFMMMMMMMMFFFFFMFFMMFMFMMMMFMF",
            start=1001,
        )
    },
)

CORPORA = {corpus.name: corpus for corpus in (RAVDESS, CREMAD)}


def prepare_named(
    corpus: str,
    data_folder: str | Path,
    output_folder: str | Path,
    fold: int = 1,
    seed: int = 1986,
    valid_fraction: float = 0.2,
) -> None:
    """Write train.json, valid.json and test.json of a fold.

    Does nothing if they are there, prepared with the same options.

    Arguments
    ---------
    corpus : str
        One of ``CORPORA``.
    data_folder : str or Path
        Holds the clips, in any folders.
    output_folder : str or Path
        Where the manifests go.
    fold : int
        See `fold_numbers`: which speakers are tested.
    seed : int
        Of the choice of validation clips, and of folds that are not official.
    valid_fraction : float
        Of the other speakers' clips, to validate.

    Raises
    ------
    CorpusError
        Clips are missing, twice there or not readable, or an option has no
        such value.
    """
    entry = _entry(corpus)
    check_choice("fold", fold, fold_numbers(corpus))
    root = existing_folder(data_folder, entry.source)
    options = {
        "corpus": corpus,
        "data_folder": str(root),
        "fold": fold,
        "seed": seed,
        "valid_fraction": valid_fraction,
    }
    if prepared(output_folder, options):
        return
    splits = split_named(
        entry, read_named(entry, root), fold, seed, valid_fraction
    )
    write_splits(splits, output_folder, options, root)


def prepare_all_clips(
    corpus: str, data_folder: str | Path | None, manifest: str | Path
) -> None:
    """Write one manifest of all clips, to test a model trained elsewhere.

    Arguments
    ---------
    corpus : str
        One of ``CORPORA``.
    data_folder : str, Path or None
        As in `prepare_named`.
    manifest : str or Path
        The JSON file.

    Raises
    ------
    CorpusError
        See `prepare_named`.
    """
    entry = _entry(corpus)
    root = existing_folder(data_folder, entry.source)
    write_manifest(measure(read_named(entry, root), root), manifest)


def fold_numbers(corpus: str) -> list[int]:
    """Numbers of a corpus's folds, from 1.

    Example
    -------
    >>> fold_numbers("RAVDESS")
    [1, 2, 3, 4, 5, 6]
    """
    folds = _entry(corpus).folds
    return list(range(1, folds + 1) if isinstance(folds, int) else folds)


def emotion_names(corpus: str) -> list[str]:
    """Labels of a corpus, in the order of a classifier's outputs.

    Example
    -------
    >>> emotion_names("CREMA-D")
    ['neutral', 'happy', 'sad', 'angry', 'fearful', 'disgust']
    """
    return list(dict.fromkeys(_entry(corpus).emotions.values()))


def split_named(
    corpus: NamedCorpus,
    utterances: list[Utterance],
    fold: int,
    seed: int = 1986,
    valid_fraction: float = 0.2,
) -> Splits:
    """Divide the utterances of `read_named`; see `prepare_named`."""
    folds = corpus.folds
    if isinstance(folds, int):
        folds = dict(enumerate(speaker_folds(utterances, folds, seed), 1))
    return by_speakers(utterances, folds[fold], valid_fraction, seed)


def read_named(corpus: NamedCorpus, data_folder: str | Path) -> list[Utterance]:
    """Read all clips of a corpus, without lengths.

    Arguments
    ---------
    corpus : NamedCorpus
        Its entry.
    data_folder : str or Path
        Holds the clips, in any folders.

    Returns
    -------
    list of Utterance
        Sorted by utt_id, which is the file name without suffix.

    Raises
    ------
    CorpusError
        Lists clips that are missing, twice there, or have a name with a code
        that the corpus lacks, and numbers that are not those of the corpus.
    """
    root = existing_folder(data_folder, corpus.source)
    name = re.compile(f"(?:.*/)?(?:{corpus.pattern})")
    clips: dict[str, Utterance] = {}
    problems = []
    for path in sorted(root.rglob("*")):
        wav = path.relative_to(root)
        match = name.fullmatch(wav.with_suffix("").as_posix())
        if not match or path.suffix.lower() not in SUFFIXES:
            continue
        clip = _utterance(corpus, wav, match)
        if clip is None or (corpus.stems and path.stem not in corpus.stems):
            problems.append(f"{path.stem} is no clip of {corpus.name}")
        elif path.stem in clips:
            places = f"{clips[path.stem].wav} and {clip.wav}"
            problems.append(f"{path.stem} is there twice: {places}")
        else:
            clips[path.stem] = clip
    if not clips:
        raise CorpusError(
            f"{root} holds no clips of {corpus.name}.\n{corpus.source}"
        )
    problems += _missing(corpus, clips)
    raise_all(
        f"{root} is not all of {corpus.name} ({{count}} problems):", problems
    )
    return [clips[stem] for stem in sorted(clips)]


def _entry(corpus: str) -> NamedCorpus:
    check_choice("corpus", corpus, CORPORA)
    return CORPORA[corpus]


def _utterance(corpus, wav, match) -> Utterance | None:
    """None if a code of the name is none of the corpus's."""
    groups = {"speaker": "", "sentence": "", **match.groupdict()}
    gender = groups.get("gender", groups["speaker"])
    words = corpus.sentences
    if isinstance(words, str):
        words = {groups["sentence"]: words.format(**groups)}
    try:
        return Utterance(
            utt_id=wav.stem,
            wav=wav.as_posix(),
            emo=corpus.emotions[groups["emotion"]],
            wrd=words[groups["sentence"]] if words else "",
            spk_id=corpus.speaker.format(**groups),
            corpus=corpus.name,
            language=corpus.language,
            gender=corpus.genders[gender] if corpus.genders else "",
        )
    except KeyError:
        return None


def _missing(corpus, clips) -> list[str]:
    """Missing clips by speaker if their names are known; else wrong counts."""
    missing: dict[str, list[str]] = {}
    for stem in sorted(corpus.stems - set(clips)):
        if match := re.fullmatch(corpus.pattern, stem):
            speaker = corpus.speaker.format(**match.groupdict())
            missing.setdefault(speaker, []).append(stem)
    found = Counter(clip.spk_id for clip in clips.values())
    found["speakers"] = len(found)
    found.update(clip.emo for clip in clips.values())
    return [
        f"{speaker}: {len(stems)} of {len(stems) + found[speaker]} clips are "
        f"missing{': ' + ', '.join(stems) if found[speaker] else ''}"
        for speaker, stems in sorted(missing.items())
    ] + [
        f"{name}: {found[name]} found, {number} expected"
        for name, number in corpus.counts.items()
        if found[name] != number
    ]
