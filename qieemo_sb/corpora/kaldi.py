"""Kaldi's folders of transcribed speech, such as speechocean762's.

A folder is a part of a corpus, in text files of "key value" lines::

    DATA/train/text         utterance, its words
    DATA/train/utt2spk      utterance, its speaker
    DATA/train/wav.scp      utterance, its audio: may be missing or outdated
    DATA/train/spk2gender   speaker, m or f: may be missing
    DATA/test/...

Audio is anywhere below DATA, in any format, under the name that wav.scp has or
under the utterance's. speechocean762 (https://www.openslr.org/101, free for
any use) has 125 speakers in train, 25 others in test, children among them.
"""

from pathlib import Path

from qieemo_sb.corpora.manifest import (
    Splits,
    Utterance,
    existing_folder,
    raise_all,
    read_text,
    repeated,
)
from qieemo_sb.corpora.sounds import find_sounds
from qieemo_sb.corpora.splits import seeded_speaker_split
from qieemo_sb.errors import CorpusError

NO_KALDI = "It holds Kaldi's folders: train/text, train/utt2spk and so on."


def read_kaldi(
    data_folder: str | Path, valid_fraction: float = 0.1, seed: int = 1986
) -> Splits:
    """Read train, valid and test, without lengths.

    Arguments
    ---------
    data_folder : str or Path
        Holds the folders and the audio, at any depth.
    valid_fraction : float
        Of the speakers of the folder train, to validate: women and men alike
        where spk2gender tells them apart.
    seed : int
        Of the choice of these speakers.

    Returns
    -------
    dict
        Utterances of train, valid and test.

    Raises
    ------
    CorpusError
        Files are missing or do not fit together; names each utterance.
    """
    root = existing_folder(data_folder, NO_KALDI)
    train, test = _read_part(root, "train"), _read_part(root, "test")
    splits = seeded_speaker_split(train, seed, valid_fraction, tested=False)
    return {**splits, "test": test}


def _read_part(root: Path, name: str) -> list[Utterance]:
    """Utterances of a folder, sorted by utt_id."""
    folder = root / name
    if (folder / "segments").is_file():
        raise CorpusError(
            f"{folder / 'segments'}: stretches of long recordings are not "
            "supported. Cut them, and name each file as its utterance."
        )
    words, speakers = _pairs(folder / "text"), _pairs(folder / "utt2spk")
    problems = [f"{x} is not in text" for x in speakers.keys() - words.keys()]
    problems += [f"{x} is not in utt2spk" for x in words.keys() - speakers]
    raise_all(
        f"{folder}: {{count}} utterances are not whole:", sorted(problems)
    )
    sounds = _sounds(root, folder, list(words))
    genders = _pairs(folder / "spk2gender", required=False)
    return [
        Utterance(
            utt_id=utt_id,
            wav=sounds[utt_id],
            wrd=words[utt_id],
            spk_id=speakers[utt_id],
            corpus=root.name,
            gender=genders.get(speakers[utt_id], "").upper(),
        )
        for utt_id in sorted(words)
    ]


def _pairs(path: Path, required: bool = True) -> dict[str, str]:
    """Key and value of each line."""
    if not required and not path.is_file():
        return {}
    lines = read_text(path).splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    raise_all(
        f"{path}: {{count}} lines have no value:",
        [pair[0] for pair in pairs if len(pair) < 2],
    )
    raise_all(
        f"{path}: {{count}} keys are there twice:",
        repeated(key for key, _ in pairs),
    )
    return {key: value.strip() for key, value in pairs}


def _sounds(root: Path, folder: Path, utt_ids: list[str]) -> dict[str, str]:
    """Audio of each utterance, relative to the root."""
    scp = _pairs(folder / "wav.scp", required=False)
    # A line that ends in | is a command; the other machine's, at that.
    paths = {x: path for x, path in scp.items() if not path.endswith("|")}
    listed, _ = find_sounds(paths.values(), root)
    sounds = {
        x: listed[paths[x]] for x in utt_ids if paths.get(x, "") in listed
    }
    names = {f"{x}.wav": x for x in utt_ids if x not in sounds}
    found, problems = find_sounds(names, root)
    raise_all(f"{root}: {{count}} utterances of {folder} lack audio:", problems)
    return {**sounds, **{names[name]: path for name, path in found.items()}}
