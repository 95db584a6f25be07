"""Corpora whose labels stand in file names, as `entries` describes them.

Clips may lie in any folder below the data folder, in any audio format that
soundfile reads.
"""

import csv
import logging
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePath

from qieemo_sb.corpora.entries import CORPORA, NamedCorpus
from qieemo_sb.corpora.manifest import (
    Splits,
    Utterance,
    check_choice,
    digest,
    existing_folder,
    measure,
    prepared,
    raise_all,
    write_manifest,
    write_splits,
    wrong_counts,
)
from qieemo_sb.corpora.sounds import audio_files
from qieemo_sb.corpora.splits import (
    by_speakers,
    leave_one_session_out,
    speaker_folds,
)
from qieemo_sb.errors import CorpusError

logger = logging.getLogger(__name__)

APART = ("speakers", "sentences")


def prepare_named(
    corpus: str,
    data_folder: str | Path,
    output_folder: str | Path,
    fold: int = 1,
    seed: int = 1986,
    valid_fraction: float = 0.2,
    apart: str = "speakers",
) -> None:
    """Write train.json, valid.json and test.json of a fold.

    Does nothing if they are there, prepared with the same options.

    Arguments
    ---------
    corpus : str
        One of ``CORPORA``, or the usual name of its folder.
    data_folder : str or Path
        Holds the clips, in any folders.
    output_folder : str or Path
        Where the manifests go.
    fold : int
        See `fold_numbers`: which speakers, or sentences, are tested.
    seed : int
        Of the choice of validation clips, and of folds that are not official.
    valid_fraction : float
        Of the other speakers' clips, to validate.
    apart : str
        "speakers": test speakers are in no other part. "sentences": a
        sentence is tested, another validates, the rest train, all of them by
        any speaker.

    Raises
    ------
    CorpusError
        Clips are missing, twice there or not readable, or an option has no
        such value.
    """
    entry = find_corpus(corpus)
    check_choice("fold", fold, fold_numbers(corpus, apart))
    root = existing_folder(data_folder, entry.source)
    options = {
        "corpus": entry.name,
        "data_folder": str(root),
        "fold": fold,
        "seed": seed,
        "valid_fraction": valid_fraction,
        "apart": apart,
        "table": table_digest(entry, root),
    }
    if prepared(output_folder, options):
        return
    clips = read_named(entry, root)
    splits = split_named(entry, clips, fold, seed, valid_fraction, apart)
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
    entry = find_corpus(corpus)
    root = existing_folder(data_folder, entry.source)
    write_manifest(measure(read_named(entry, root), root), manifest)


def find_corpus(corpus: str) -> NamedCorpus:
    """Entry of a corpus, by one of its ``names``.

    Example
    -------
    >>> find_corpus("cremad").name
    'CREMA-D'
    """
    if not (entry := find_entry(corpus)):
        known = ", ".join(CORPORA)
        raise CorpusError(f"corpus is {corpus!r}; it must be one of {known}.")
    return entry


def find_entry(corpus: str) -> NamedCorpus | None:
    """Find the entry of a corpus by one of its ``names``, if there is one."""
    entries = {name: x for x in CORPORA.values() for name in x.names}
    return entries.get(corpus)


def fold_numbers(corpus: str, apart: str = "speakers") -> list[int]:
    """Numbers of a corpus's folds, from 1.

    Arguments
    ---------
    corpus : str
        See `prepare_named`.
    apart : str
        See `prepare_named`.

    Returns
    -------
    list of int

    Example
    -------
    >>> fold_numbers("RAVDESS")
    [1, 2, 3, 4, 5, 6]
    """
    entry = find_corpus(corpus)
    check_choice("apart", apart, APART if entry.sentence_folds else APART[:1])
    folds = entry.sentence_folds if apart == "sentences" else entry.folds
    return list(range(1, folds + 1) if isinstance(folds, int) else folds)


def emotion_names(corpus: str) -> list[str]:
    """Labels of a corpus, in the order of a classifier's outputs.

    Example
    -------
    >>> emotion_names("CREMA-D")
    ['neutral', 'happy', 'sad', 'angry', 'fearful', 'disgust']
    """
    return list(dict.fromkeys(find_corpus(corpus).emotions.values()))


def split_named(
    corpus: NamedCorpus,
    utterances: list[Utterance],
    fold: int,
    seed: int = 1986,
    valid_fraction: float = 0.2,
    apart: str = "speakers",
) -> Splits:
    """Divide the utterances of `read_named`; see `prepare_named`."""
    if apart == "sentences":
        # Validation, too, has a sentence of its own: known words would tell.
        sentences = [
            replace(u, session=match["sentence"])
            for u in utterances
            if (match := _match(corpus, u.wav))
        ]
        splits = leave_one_session_out(sentences, fold)
        return {
            name: [replace(u, session="") for u in part]
            for name, part in splits.items()
        }
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
        Sorted by utt_id, without the clips that the entry leaves out.

    Raises
    ------
    CorpusError
        Lists clips that are missing, twice there, or have a name with a code
        that the corpus lacks, and numbers that are not those of the corpus.
    """
    root = existing_folder(data_folder, corpus.source)
    details = read_table(corpus, root)
    clips: dict[str, Utterance] = {}
    problems = []
    for wav in audio_files(root):
        if not (match := _match(corpus, wav)):
            continue
        clip = _utterance(corpus, wav, match)
        if clip is None or (corpus.stems and clip.utt_id not in corpus.stems):
            problems.append(f"{wav.stem} is no clip of {corpus.name}")
        elif clip.utt_id in clips:
            places = f"{clips[clip.utt_id].wav} and {clip.wav}"
            problems.append(f"{clip.utt_id} is there twice: {places}")
        else:
            known = details.get(clip.utt_id, {})
            clips[clip.utt_id] = replace(clip, **known)
    if not clips:
        raise CorpusError(
            f"{root} holds no clips of {corpus.name}.\n{corpus.source}"
        )
    for utt_id in sorted(corpus.left_out.keys() & clips.keys()):
        del clips[utt_id]
        logger.warning("%s: left out, %s", utt_id, corpus.left_out[utt_id])
    problems += _missing(corpus, clips)
    raise_all(
        f"{root} is not all of {corpus.name} ({{count}} problems):", problems
    )
    return [clips[utt_id] for utt_id in sorted(clips)]


def named_clip(corpus: NamedCorpus, wav: str | PurePath) -> Utterance | None:
    """Utterance of a path, as far as it tells; None if it is no clip."""
    match = _match(corpus, wav)
    return match and _utterance(corpus, PurePath(wav), match)


def table_digest(corpus: NamedCorpus, data_folder: str | Path) -> str | None:
    """SHA-256 of the table of a corpus; None if the data folder has none."""
    path = Path(data_folder) / corpus.table
    return digest(path) if path.is_file() else None


def _match(corpus: NamedCorpus, wav: str | PurePath) -> re.Match | None:
    stem = PurePath(wav).with_suffix("").as_posix()
    return re.fullmatch(f"(?:.*/)?(?:{corpus.pattern})", stem)


def _utterance(corpus, wav: PurePath, match: re.Match) -> Utterance | None:
    """None if a code of the name is none of the corpus's."""
    groups = {"speaker": "", "sentence": "", **match.groupdict()}
    gender = groups.get("gender", groups["speaker"])
    words, language = corpus.sentences, corpus.language
    if isinstance(words, str):
        words = {groups["sentence"]: words.format(**groups)}
    if isinstance(language, str):
        language = {groups["speaker"]: language}
    try:
        return Utterance(
            utt_id=corpus.utt_id.format(stem=wav.stem, **groups),
            wav=wav.as_posix(),
            emo=corpus.emotions[groups["emotion"]],
            wrd=words[groups["sentence"]] if words else "",
            spk_id=corpus.speaker.format(**groups),
            corpus=corpus.name,
            language=language[groups["speaker"]],
            gender=corpus.genders[gender] if corpus.genders else "",
        )
    except KeyError:
        return None


def read_table(corpus: NamedCorpus, root: Path) -> dict[str, dict]:
    """Transcript and votes of each clip that the table names, if there is one.

    Votes are those above 0; None where nobody voted.
    """
    path = root / corpus.table
    if not path.is_file():
        return {}
    details: dict[str, dict] = {}
    tabs = path.suffix == ".tsv"
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t" if tabs else ",")
            for row in rows:
                name = PurePath(next(iter(row.values()))).stem
                details[name] = known = {}
                if corpus.words:
                    known["wrd"] = row[corpus.words].strip()
                if corpus.votes:
                    votes = {corpus.votes[x]: int(row[x]) for x in corpus.votes}
                    kept = {x: n for x, n in votes.items() if n}
                    known["votes"] = kept or None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{path}, line {len(details) + 1}: not as {corpus.name} has it "
            f"({error!r}). Get it again or take it out of the data folder."
        ) from error
    return details


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
    ] + wrong_counts(found, corpus.counts)
