"""Corpora of some speakers each, which have an entry while a test runs."""

import soundfile
from clips import RATE, noise, sentence

from qieemo_sb.corpora.entries import CORPORA, NamedCorpus

CODES = {"n": "neutral", "c": "calm", "s": "sad", "b": "bored"}
GAINS = {"n": 0.3, "c": 0.3, "s": 1.0, "b": 0.05}
TOYS = {"Ann": "ns", "Bob": "csb"}  # name → codes


def toy(name, codes, folder=""):
    """An entry of clips that are called as f1_n: a woman, neutral."""
    return NamedCorpus(
        name=name,
        source=f"{name} is needed.",
        language="en",
        pattern=r"(?P<speaker>(?P<gender>[fm])\d+)_(?P<emotion>[a-z])",
        emotions={code: CODES[code] for code in codes},
        genders={"f": "F", "m": "M"},
        table="votes.csv",
        votes={"calm": "calm", "neutral": "neutral", "bored": "bored"},
        folder=folder,
    )


def enter_toys(then=None):
    """Enter Ann and Bob among the corpora of this process."""
    CORPORA.update({name: toy(name, codes) for name, codes in TOYS.items()})
    if then:
        then()


def write_toys(root):
    """Ann's six and Bob's eight speakers; labels are loudness → folder."""
    for name, number in (("Ann", 3), ("Bob", 4)):
        for sex in "fm":
            for i in range(number):
                for code in TOYS[name]:
                    path = root / name / f"{sex}{i}_{code}.wav"
                    write_clip(path, GAINS[code], seed=10 * i + ord(code))
    votes = [f"{sex}{i}_c,2,1,1" for sex in "fm" for i in range(4)]
    text = "\n".join(["file,calm,neutral,bored", *votes])
    (root / "Bob/votes.csv").write_text(text)
    return root


def write_clip(path, gain, seed):
    """A second of a sentence and some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    speech = sentence(RATE - 100 * (seed % 7))
    speech = gain * (speech + noise(len(speech) / RATE, seed))
    soundfile.write(path, speech, RATE)
