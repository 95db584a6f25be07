"""Several corpora as one: a common set of emotions, speakers apart in each.

Folders of corpora lie side by side, each under its usual name or that of its
entry in `entries`::

    DATA/cremad/1001_DFA_ANG_XX.wav ...
    DATA/ravdess/03-01-01-01-01-01-01.wav ...

Names of utterances and speakers begin with that of their corpus:
RAVDESS/03-01-01-01-01-01-01, RAVDESS/Actor_01.

Read speech, in Kaldi's folders, may be added: what acted corpora call neutral
is acted, too, and calm reading is not like it.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qieemo_sb.corpora.entries import NamedCorpus
from qieemo_sb.corpora.kaldi import read_kaldi
from qieemo_sb.corpora.manifest import (
    SPLITS,
    Splits,
    Utterance,
    existing_folder,
    prepared,
    raise_all,
    repeated,
    write_splits,
)
from qieemo_sb.corpora.named import find_corpus, read_named, table_digest
from qieemo_sb.corpora.splits import seeded_speaker_split
from qieemo_sb.errors import CorpusError

logger = logging.getLogger(__name__)

NO_ROOT = (
    "Give data_root, which holds a folder for each corpus, such as cremad and "
    "ravdess."
)


def prepare_corpora(
    corpora: Sequence[str],
    data_root: str | Path,
    output_folder: str | Path,
    emotions: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    test_corpora: Sequence[str] = (),
    read_speech: Sequence[str] = (),
    seed: int = 1986,
    valid_fraction: float = 0.15,
) -> None:
    """Write train.json, valid.json and test.json of several corpora.

    Whole speakers of each corpus validate. A corpus of one or two speakers
    only trains, beside others: a half of its voices is too much to give away.

    Does nothing if the manifests are there, prepared with the same options.

    Arguments
    ---------
    corpora : sequence of str
        Names of entries or of their folders, in any order.
    data_root : str or Path
        Holds a folder for each corpus; ``wav`` is relative to it.
    output_folder : str or Path
        Where the manifests go.
    emotions : sequence of str
        Labels of the task. Utterances with another label are left out; a
        corpus may lack some.
    label_map : mapping of str to str, optional
        Label of a corpus → label of the task, such as calm → neutral; others
        stay as they are. Votes follow, and are added up.
    test_corpora : sequence of str
        Corpora that are tested and not trained on, whether they are among
        ``corpora`` or not: all of their clips are the test part. None: test
        speakers of each corpus, who are in no other part.
    read_speech : sequence of str
        Folders in Kaldi's form, see `kaldi`, all of whose clips are neutral.
        Their own test part is always tested.
    seed : int
        Of the choice of speakers.
    valid_fraction : float
        Of each corpus's speakers, to validate, and as many to test: at least
        a woman and a man where there are enough.

    Raises
    ------
    CorpusError
        A corpus is unknown, not whole, named twice or has none of the
        emotions, or an emotion is in no corpus; or see `check_splits`.
    """
    root = existing_folder(data_root, NO_ROOT)
    tested = _folders(test_corpora, root)
    trained = _folders(corpora, root)
    trained = {x: path for x, path in trained.items() if x not in tested}
    folders = {**trained, **tested}
    known = corpus_emotions([*trained], emotions, label_map).values()
    raise_all(
        "{count} emotions are in none of the corpora that are trained on:",
        sorted(set(emotions).difference(*known)),
    )
    options = {
        "corpora": sorted(trained),
        "test_corpora": sorted(tested),
        "data_folder": str(root),
        "emotions": list(emotions),
        "label_map": dict(label_map or {}),
        "read_speech": sorted(read_speech),
        "seed": seed,
        "valid_fraction": valid_fraction,
        "tables": {
            name: table_digest(find_corpus(name), path)
            for name, path in folders.items()
        },
    }
    if prepared(output_folder, options):
        return
    splits: Splits = {name: [] for name in SPLITS}
    for name, path in sorted(folders.items()):
        clips = _read(find_corpus(name), path, root, emotions, label_map or {})
        speakers = len({clip.spk_id for clip in clips})
        if name in tested:
            parts = {"test": clips}
        elif speakers <= 2 and len(trained) > 1:
            logger.info("%s: %d speakers, all of them train", name, speakers)
            parts = {"train": clips}
        else:
            parts = seeded_speaker_split(
                clips, seed, valid_fraction, not tested
            )
        for part, utterances in parts.items():
            splits[part] += utterances
    for name in sorted(read_speech):
        spoken = read_kaldi(root / name, valid_fraction, seed)
        for part, utterances in spoken.items():
            splits[part] += [_neutral(clip, name) for clip in utterances]
    write_splits(splits, output_folder, options, root)


def corpus_emotions(
    corpora: Sequence[str],
    emotions: Sequence[str],
    label_map: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Labels of the task that each corpus has, by its name in manifests.

    Example
    -------
    >>> task = ["neutral", "happy", "sad", "angry"]
    >>> corpus_emotions(["turev"], task, {"calm": "neutral"})
    {'TurEV-DB': ['neutral', 'happy', 'sad', 'angry']}
    >>> corpus_emotions(["turev"], task)
    {'TurEV-DB': ['happy', 'sad', 'angry']}
    """
    names, label_map = {}, label_map or {}
    for entry in map(find_corpus, corpora):
        labels = {label_map.get(x, x) for x in entry.emotions.values()}
        names[entry.name] = [label for label in emotions if label in labels]
    return names


def _folders(corpora: Sequence[str], root: Path) -> dict[str, Path]:
    """Name of each entry → its folder."""
    entries = [find_corpus(corpus) for corpus in corpora]
    raise_all(
        "{count} corpora are named twice:", repeated(x.name for x in entries)
    )
    folders, problems = {}, []
    for entry in entries:
        names = dict.fromkeys(entry.names)
        there = [root / name for name in names if (root / name).is_dir()]
        if there:
            folders[entry.name] = there[0]
        else:
            problems.append(f"{entry.name}: no folder {' or '.join(names)}")
    raise_all(f"{root} lacks {{count}} corpora:", problems)
    return folders


def _read(
    entry: NamedCorpus,
    folder: Path,
    root: Path,
    emotions: Sequence[str],
    label_map: Mapping[str, str],
) -> list[Utterance]:
    """Clips of a corpus that have one of the emotions, named for the whole."""
    clips = []
    left_out: Counter[str] = Counter()
    for clip in read_named(entry, folder):
        label = label_map.get(clip.emo, clip.emo)
        if label not in emotions:
            left_out[clip.emo] += 1
            continue
        clips.append(
            replace(
                clip,
                utt_id=f"{entry.name}/{clip.utt_id}",
                wav=(folder / clip.wav).relative_to(root).as_posix(),
                emo=label,
                spk_id=f"{entry.name}/{clip.spk_id}",
                votes=_task_votes(clip.votes, emotions, label_map),
            )
        )
    for label, number in sorted(left_out.items()):
        logger.info("%s: %d clips of %s left out", entry.name, number, label)
    if not clips:
        raise CorpusError(
            f"{entry.name} has none of the emotions {', '.join(emotions)}; it "
            f"has {', '.join(sorted(left_out))}. Leave it out, or give a "
            "label_map."
        )
    return clips


def _neutral(clip: Utterance, folder: str) -> Utterance:
    return replace(
        clip,
        utt_id=f"{clip.corpus}/{clip.utt_id}",
        wav=f"{folder}/{clip.wav}",
        emo="neutral",
        spk_id=f"{clip.corpus}/{clip.spk_id}",
    )


def _task_votes(votes, emotions, label_map) -> dict[str, float] | None:
    counts: Counter[str] = Counter()
    for label, number in (votes or {}).items():
        counts[label_map.get(label, label)] += number
    return {x: counts[x] for x in emotions if counts[x]} or None
