"""EmoBox: official folds of 32 emotional corpora (arXiv 2406.07162).

Of a checkout of https://github.com/emo-box/EmoBox this is read::

    data/<corpus>/label_map.json                        "ANG": "Angry", ...
    data/<corpus>/fold_<k>/<corpus>_train_fold_<k>.jsonl
    data/<corpus>/fold_<k>/<corpus>_test_fold_<k>.jsonl
    data/<corpus>/fold_<k>/<corpus>_valid_fold_<k>.jsonl        of some corpora

A line has ``key``, ``wav`` (a path on its makers' machine) and ``emo``.

Test speakers are new in the folds of IEMOCAP, RAVDESS, SAVEE and EMOVO. In
those of CREMA-D, EmoDB, TESS, ASED and TurEV-DB all of them are trained on,
too, in URDU's all but one: figures there do not hold for new speakers.
`prepare_named` has folds that do.
"""

import json
from dataclasses import replace
from pathlib import Path

from qieemo_sb.corpora.entries import EMOTIONS, NamedCorpus
from qieemo_sb.corpora.manifest import (
    SPLITS,
    Splits,
    Utterance,
    check_choice,
    digest,
    existing_folder,
    prepared,
    raise_all,
    read_json,
    read_text,
    repeated,
    write_splits,
)
from qieemo_sb.corpora.named import (
    find_entry,
    named_clip,
    read_table,
    table_digest,
)
from qieemo_sb.corpora.sounds import find_sounds, stem
from qieemo_sb.corpora.splits import hold_out, seeded_speaker_split
from qieemo_sb.errors import CorpusError

NO_EMOBOX = """\
emobox_folder is a checkout of https://github.com/emo-box/EmoBox, which holds
data/<corpus>/fold_1 and so on."""
SYNONYMS = {
    "anger": "angry",
    "boredom": "bored",
    "boredem": "bored",
    "calmness": "calm",
    "disgusted": "disgust",
    "fear": "fearful",
    "happiness": "happy",
    "joy": "happy",
    "ps": "surprised",
    "sadness": "sad",
    "surprise": "surprised",
}


def prepare_emobox(
    corpus: str,
    fold: int,
    emobox_folder: str | Path,
    data_folder: str | Path,
    output_folder: str | Path,
    seed: int = 1986,
    valid_fraction: float = 0.2,
) -> None:
    """Write train.json, valid.json and test.json of an official fold.

    Does nothing if they are there, prepared with the same options.

    Arguments
    ---------
    corpus : str
        As EmoBox spells it, such as "cremad".
    fold : int
        One of `emobox_folds`.
    emobox_folder : str or Path
        A checkout of EmoBox's repository.
    data_folder : str or Path
        Audio of the corpus, at any depth, in any format.
    output_folder : str or Path
        Where the manifests go.
    seed : int
        Of the choice of validation clips.
    valid_fraction : float
        Of the training speakers, to validate, where EmoBox has no validation
        part and tests new speakers; else of the clips of each label.

    Raises
    ------
    CorpusError
        Lists are missing or not as EmoBox has them, or clips are missing, all
        of which are named.
    """
    root = existing_folder(data_folder, f"It holds the audio of {corpus}.")
    entry = find_entry(corpus)
    lists = _lists(corpus, fold, emobox_folder)
    options = {
        "corpus": corpus,
        "emobox": {name: digest(path) for name, path in lists.items()},
        "data_folder": str(root),
        "fold": fold,
        "seed": seed,
        "valid_fraction": valid_fraction,
        "table": table_digest(entry, root) if entry else None,
    }
    if prepared(output_folder, options):
        return
    splits = read_emobox(
        corpus, fold, emobox_folder, root, seed, valid_fraction
    )
    write_splits(splits, output_folder, options, root)


def read_emobox(
    corpus: str,
    fold: int,
    emobox_folder: str | Path,
    data_folder: str | Path,
    seed: int = 1986,
    valid_fraction: float = 0.2,
) -> Splits:
    """Read an official fold, without lengths; see `prepare_emobox`.

    Speaker, gender, transcript and votes are filled in if the corpus is one of
    `entries`, and utt_id is then that of `read_named`; else it is EmoBox's key.
    """
    root = existing_folder(data_folder, f"It holds the audio of {corpus}.")
    names = _label_names(corpus, emobox_folder)
    lists = _lists(corpus, fold, emobox_folder)
    rows = {name: _rows(path) for name, path in lists.items()}
    clips = _clips(find_entry(corpus), corpus, rows, root)
    splits: Splits = {name: [] for name in SPLITS}
    for name, part in rows.items():
        splits[name] = [
            replace(clips[row["wav"]], emo=names(row["emo"])) for row in part
        ]
        raise_all(
            f"{corpus}, fold {fold}, {name}: {{count}} clips are twice there:",
            repeated(u.utt_id for u in splits[name]),
        )
    if splits["valid"]:
        return splits
    train, test = splits["train"], splits["test"]
    trained, tested = ({u.spk_id for u in part} for part in (train, test))
    known = "" not in trained | tested
    if known and len(trained) > 1 and trained.isdisjoint(tested):
        found = seeded_speaker_split(train, seed, valid_fraction, tested=False)
        return {**found, "test": sorted(test, key=lambda u: u.utt_id)}
    held_out = {u.utt_id for u in test}
    return hold_out(
        train + test, lambda u: u.utt_id in held_out, valid_fraction, seed
    )


def emobox_folds(corpus: str, emobox_folder: str | Path) -> list[int]:
    """Numbers of the official folds of a corpus, from 1."""
    folder = _folder(corpus, emobox_folder)
    return sorted(int(x.name[len("fold_") :]) for x in folder.glob("fold_*"))


def emobox_emotions(corpus: str, emobox_folder: str | Path) -> list[str]:
    """Labels of a corpus, in the order of a classifier's outputs.

    Common names first, in their usual order; then the corpus's own.
    """
    name = _label_names(corpus, emobox_folder)
    folds = emobox_folds(corpus, emobox_folder)
    lists = _lists(corpus, folds[0], emobox_folder).values()
    labels = {name(row["emo"]) for path in lists for row in _rows(path)}
    common = [label for label in EMOTIONS if label in labels]
    return common + sorted(labels - set(common))


def _folder(corpus: str, emobox_folder: str | Path) -> Path:
    root = existing_folder(emobox_folder, NO_EMOBOX)
    root = root / "data" if (root / "data").is_dir() else root
    known = sorted(path.parent.name for path in root.glob("*/fold_1"))
    if not known:
        raise CorpusError(f"{root} holds no folds.\n{NO_EMOBOX}")
    check_choice("corpus", corpus, known)
    return root / corpus


def _lists(
    corpus: str, fold: int, emobox_folder: str | Path
) -> dict[str, Path]:
    """Files of a fold: train, test and, if EmoBox has it, valid."""
    check_choice("fold", fold, emobox_folds(corpus, emobox_folder))
    folder = _folder(corpus, emobox_folder) / f"fold_{fold}"
    lists = {
        name: folder / f"{corpus}_{name}_fold_{fold}.jsonl" for name in SPLITS
    }
    if not lists["valid"].is_file():
        del lists["valid"]
    return lists


def _rows(path: Path) -> list[dict]:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append({key: str(row[key]) for key in ("key", "wav", "emo")})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorpusError(
                f"{path}, line {number}: a JSON object with key, wav and emo "
                f"is expected, not {line[:60]!r}."
            ) from error
    return rows


def _label_names(corpus: str, emobox_folder: str | Path):
    """Function from a row's label to our name of it.

    EmoBox's maps lack some labels of their rows (EmoDB's "neutral"), and some
    corpora have none (EMOVO): then our entry's codes, then synonyms. What
    nobody knows keeps its name.
    """
    path = _folder(corpus, emobox_folder) / "label_map.json"
    labels = read_json(path) if path.is_file() else {}
    entry = find_entry(corpus)
    codes = {**(entry.emotions if entry else {}), **labels}

    def name(label: str) -> str:
        known = str(codes.get(label, label)).strip().lower()
        return SYNONYMS.get(known, known)

    return name


def _clips(
    entry: NamedCorpus | None, corpus: str, rows: dict[str, list], root: Path
) -> dict[str, Utterance]:
    """Utterance of each path in the rows, with the path of our file."""
    keys = {row["wav"]: row["key"] for part in rows.values() for row in part}

    def name(path):
        # A copy may have another layout: KL/su02.wav in place of KL_su02.wav.
        clip = named_clip(entry, path) if entry else None
        return clip.utt_id if clip else stem(path)

    found, problems = find_sounds(keys, root, name)
    raise_all(
        f"{root}: {{count}} of {len(keys)} clips of {corpus} have no audio:",
        sorted(problems),
    )
    table = read_table(entry, root) if entry else {}
    clips = {}
    for path, key in keys.items():
        clip = named_clip(entry, path) if entry else None
        clip = clip or Utterance(key, "", corpus=corpus)
        known = table.get(clip.utt_id, {})
        clips[path] = replace(clip, wav=found[path], **known)
    return clips
