"""LibriSpeech: read books, for stage 1 alone.

A tree as it is unpacked (https://www.openslr.org/12, CC BY 4.0)::

    DATA/train-clean-100/103/1240/103-1240-0000.flac
    DATA/train-clean-100/103/1240/103-1240.trans.txt   "103-1240-0000 CHAPTER …"

Any of its parts will do: all train-* train, dev-* validate, test-* test. No
speaker is in two of them. SPEAKERS.TXT, if it is there, is not needed.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from qieemo_sb.corpora.manifest import Splits, Utterance, raise_all
from qieemo_sb.errors import CorpusError

PARTS = {"train": "train-*", "valid": "dev-*", "test": "test-*"}
LINE = re.compile(r"(\d+)-(\d+)-(\d+) (\S.*)")


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
    root = Path(os.path.abspath(data_folder))
    problems: list[str] = []
    splits = {
        split: sorted(
            (u for part in _parts(root, kind) for u in _read(part, problems)),
            key=lambda utterance: utterance.utt_id,
        )
        for split, kind in PARTS.items()
    }
    raise_all(f"{root} is no whole LibriSpeech ({{count}} problems):", problems)
    return splits


def _parts(root: Path, kind: str) -> list[Path]:
    found = sorted(path for path in root.glob(kind) if path.is_dir())
    if not found:
        inside = root / "LibriSpeech"
        hint = f" data_folder should be {inside}." if inside.is_dir() else ""
        raise CorpusError(
            f"{root} has no folder {kind}.{hint} LibriSpeech is at "
            "https://www.openslr.org/12; at least one train-*, one dev-* and "
            "one test-* are needed."
        )
    return found


def _read(part: Path, problems: list[str]) -> Iterator[Utterance]:
    for chapter in sorted(part.glob("*/*/")):
        texts = sorted(chapter.glob("*.trans.txt"))
        sounds = {path.stem: path for path in sorted(chapter.glob("*.flac"))}
        for path in texts:
            for line in path.read_text(encoding="utf-8").splitlines():
                match = LINE.fullmatch(line.strip())
                if not match:
                    problems.append(f"{path}: no transcript: {line!r}")
                    continue
                speaker, book, number, words = match.groups()
                utt_id = f"{speaker}-{book}-{number}"
                sound = sounds.pop(utt_id, None)
                if sound is None:
                    problems.append(f"{path}: {utt_id} has no audio")
                    continue
                yield Utterance(
                    utt_id=utt_id,
                    wav=sound.relative_to(part.parent).as_posix(),
                    length=0.0,
                    emo="",
                    wrd=words,
                    spk_id=speaker,
                )
        problems += [f"{path}: no transcript" for path in sounds.values()]
