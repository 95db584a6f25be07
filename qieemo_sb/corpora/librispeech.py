"""Speech-text pairs for stage 1: LibriSpeech and other transcribed speech.

``kaldi``
    Kaldi's folders train and test, such as speechocean762's; see `kaldi`.
``iemocap``
    All 10 039 turns with their transcripts, folds by session.
``librispeech``
    A tree in LibriSpeech's layout.
``manifests``
    train.json, valid.json and test.json in the data folder, with ``wav``,
    ``length`` and ``wrd``.

LibriSpeech's tree as it is unpacked (https://www.openslr.org/12, CC BY 4.0)::

    DATA/train-clean-100/103/1240/103-1240-0000.flac
    DATA/train-clean-100/103/1240/103-1240.trans.txt   "103-1240-0000 CHAPTER …"

Any of its parts will do: all train-* train, dev-* validate, test-* test. No
speaker is in two of them.
"""

import re
from dataclasses import replace
from pathlib import Path

from qieemo_sb.corpora.iemocap import read_iemocap
from qieemo_sb.corpora.kaldi import read_kaldi
from qieemo_sb.corpora.manifest import (
    SPLITS,
    Splits,
    Utterance,
    check_choice,
    existing_folder,
    prepared,
    raise_all,
    read_manifest,
    read_text,
    relative_path,
    write_splits,
)
from qieemo_sb.corpora.splits import leave_one_session_out
from qieemo_sb.errors import CorpusError

CORPORA = ("iemocap", "librispeech", "kaldi", "manifests")
PARTS = {"train": "train-*", "valid": "dev-*", "test": "test-*"}
LINE = re.compile(r"((\d+)-\d+-\d+) (\S.*)")  # utterance, speaker, words
NO_PAIRS = """\
Stage 1 needs transcribed speech: data_folder is that of the corpus.
LibriSpeech is at https://www.openslr.org/12; recipes/Synthetic/qieemo trains on
sentences that machines speak."""


def prepare_pairs(
    corpus: str,
    data_folder: str | Path,
    output_folder: str | Path,
    fold: int = 1,
    expected_counts: str | Path | None = None,
) -> None:
    """Write train.json, valid.json and test.json of speech-text pairs.

    Does nothing if they are there, prepared with the same options.

    Arguments
    ---------
    corpus : str
        "iemocap", "librispeech", "kaldi" or "manifests"; see above.
    data_folder : str or Path
        The corpus.
    output_folder : str or Path
        Where the manifests go.
    fold : int
        Of "iemocap": the session that is tested, 1 to 5.
    expected_counts : str, Path or None
        Of "iemocap"; see `prepare_iemocap`.

    Raises
    ------
    CorpusError
        There is no such corpus, or it cannot be used.
    """
    check_choice("corpus", corpus, CORPORA)
    root = existing_folder(data_folder, NO_PAIRS)
    options = {
        "corpus": corpus,
        "data_folder": str(root),
        "fold": fold if corpus == "iemocap" else None,
    }
    if prepared(output_folder, options):
        return
    if corpus == "manifests":
        needed = ("wav", "length", "wrd")
        splits = {
            name: read_manifest(root / f"{name}.json", needed)
            for name in SPLITS
        }
    elif corpus == "librispeech":
        splits = read_librispeech(root)
    elif corpus == "kaldi":
        splits = read_kaldi(root)
    else:
        turns = read_iemocap(root, None, expected_counts)
        splits = leave_one_session_out(turns, fold)
    # Emotions play no part here, and train may lack some.
    splits = {
        name: [replace(u, emo="", wav=relative_path(u.wav, root)) for u in part]
        for name, part in splits.items()
    }
    measured = corpus == "manifests"
    write_splits(splits, output_folder, options, None if measured else root)


def read_librispeech(data_folder: str | Path) -> Splits:
    """Read all parts of a tree, without lengths.

    Arguments
    ---------
    data_folder : str or Path
        Holds train-clean-100, dev-clean, test-clean or their like.

    Returns
    -------
    dict
        Utterances of train, valid and test.

    Raises
    ------
    CorpusError
        A part is missing, a line is no transcript, or a transcript has no
        audio or audio no transcript; names each.
    """
    root = Path(data_folder)
    splits: Splits = {name: [] for name in SPLITS}
    problems = []
    for split, kind in PARTS.items():
        if not any(path.is_dir() for path in root.glob(kind)):
            inside, hint = root / "LibriSpeech", NO_PAIRS
            if inside.is_dir():
                hint = f"data_folder should be {inside}"
            raise CorpusError(
                f"{root} has no folder {kind}; at least one train-*, one "
                f"dev-* and one test-* are needed.\n{hint}"
            )
        sounds = {path.stem: path for path in root.glob(f"{kind}/*/*/*.flac")}
        for path in sorted(root.glob(f"{kind}/*/*/*.trans.txt")):
            for line in read_text(path).splitlines():
                if not (match := LINE.fullmatch(line.strip())):
                    problems.append(f"{path}: no transcript: {line!r}")
                elif sound := sounds.pop(match[1], None):
                    utterance = Utterance(
                        utt_id=match[1],
                        wav=sound.relative_to(root).as_posix(),
                        wrd=match[3],
                        spk_id=match[2],
                        corpus="LibriSpeech",
                        language="en",
                    )
                    splits[split].append(utterance)
                else:
                    problems.append(f"{path}: {match[1]} has no audio")
        problems += [f"{path}: no transcript" for path in sounds.values()]
        splits[split].sort(key=lambda utterance: utterance.utt_id)
    raise_all(
        f"{root} is no whole LibriSpeech ({{count}} problems):",
        sorted(problems),
    )
    return splits
