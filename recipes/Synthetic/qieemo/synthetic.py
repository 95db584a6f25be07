"""A SYNTHETIC corpus in the shape of IEMOCAP, spoken by espeak-ng.

IEMOCAP is licensed and cannot be shipped. This generator writes a small tree
laid out exactly like it, so that every recipe and test runs end to end. The
"emotions" are rules written down below: accuracy on this corpus shows that the
recipe works and tells nothing about people.

Ten speakers, a woman and a man in each of five sessions, have an espeak-ng
voice, a pitch, a rate and a loudness of their own. An emotion is a *style*, a
change relative to the speaker's own values, and a *vocabulary*, keywords that
make up more than half of a sentence. ``carrier`` chooses which of them
depends on the emotion:

``both``
    Style shows arousal, vocabulary shows valence, and neither is enough::

                        light words    heavy words
        raised voice    hap, exc       ang
        lowered voice   neu            sad

    hap and ang share a voice, as neu and sad do, and differ in words. hap and
    neu share a vocabulary, as ang and sad do, and differ in voice. The other
    two pairs differ in both. Voice alone or words alone give the right one of
    four classes half of the time.
``voice``
    Words are drawn without regard to the emotion; each of the four classes
    has a style of its own.
``words``
    Every turn has the speaker's own voice; each of the four classes has a
    vocabulary of its own.

exc is made as hap is (the usual task merges them). The other labels are in the
tables below; oth and xxx take any style and vocabulary.

> python synthetic.py FOLDER --carrier both

Authors
 * The Qieemo-SB authors 2026
"""

import argparse
import json
import os
import random
import tempfile
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from espeak import speak
from qieemo_sb.frames import SAMPLE_RATE
from scipy.signal import resample_poly

CARRIERS = ("both", "voice", "words")
OPTIONS_FILE = "synthetic.json"
COUNTS_FILE = "expected_counts.json"

# Each label once for every speaker, the remaining turns by these weights:
# with 66 turns, about 52 fall into the four usual classes.
LABEL_WEIGHTS = {
    **{"neu": 12, "hap": 6, "exc": 5, "ang": 12, "sad": 12, "fru": 3},
    **{"xxx": 4, "sur": 1, "fea": 0, "dis": 0, "oth": 0},
}
MIN_TURNS = len(LABEL_WEIGHTS)
MAX_TURNS = 4_000  # 1 000 a dialog: a turn's number has three digits

# Two syllables each, and chosen so that the groups' means of pitch, loudness,
# duration, voicing and spectrum agree: only the order of the sounds, the word,
# tells one group from another, not the sound of the voice.
KEYWORDS = {
    "light": ("pleasant", "laughter", "garden", "lucky"),
    "heavy": ("shadow", "hunger", "empty", "rotten"),
    "plain": ("village", "Monday", "carpet", "cotton"),
    "sharp": ("combat", "razor", "tackle", "fighter"),
}
FILLERS = tuple(
    "we you they saw had left found the one that here again now then".split()
)

ANY = "any"  # drawn anew for every turn (style) or word (vocabulary)


def _cells(text):
    """Label → (style, vocabulary), of "label style vocabulary, ..."."""
    rows = (row.split() for row in text.split(","))
    return {label: (style, vocabulary) for label, style, vocabulary in rows}


CELLS = {  # carrier → label → (style, vocabulary)
    "both": _cells(
        "neu lowered light, hap raised light, exc raised light, "
        "ang raised heavy, sad lowered heavy, fru own heavy, sur raised any, "
        "fea own any, dis lowered any, oth any any, xxx any any"
    ),
    "voice": _cells(
        "neu own any, hap bright any, exc bright any, ang pressed any, "
        "sad lowered any, fru pressed any, sur bright any, fea raised any, "
        "dis lowered any, oth any any, xxx any any"
    ),
    "words": _cells(
        "neu own plain, hap own light, exc own light, ang own sharp, "
        "sad own heavy, fru own any, sur own any, fea own any, dis own any, "
        "oth own any, xxx own any"
    ),
}

LEVEL = -33.0  # dB below full scale, RMS of a speaker's own voice
NOISE = 1e-4  # RMS of the background, -80 dB
MARGIN = (0.05, 0.20)  # seconds of background before and after the speech
GAP = 0.5  # seconds between two turns of a dialog


class Style(NamedTuple):
    """A change relative to the speaker's neutral voice."""

    pitch: int  # added to espeak-ng's setting of that name (0 to 99)
    pitch_range: int  # likewise
    rate: float  # factor of the words per minute
    gain: float  # added loudness in dB


STYLES = {
    "own": Style(pitch=0, pitch_range=0, rate=1.0, gain=0.0),
    "raised": Style(pitch=32, pitch_range=38, rate=1.35, gain=7.0),
    "lowered": Style(pitch=-30, pitch_range=-40, rate=0.75, gain=-8.0),
    "bright": Style(pitch=40, pitch_range=40, rate=1.2, gain=4.0),
    "pressed": Style(pitch=-10, pitch_range=-40, rate=1.5, gain=8.0),
}


class Speaker(NamedTuple):
    """The speaker's voice in a neutral turn."""

    session: int
    gender: str
    voice: str  # see `espeak.speak`
    pitch: int
    pitch_range: int
    rate: int  # words per minute
    gain: float  # dB, relative to the corpus's level


SPEAKERS = (
    Speaker(1, "F", "en-us+f2", 50, 50, 180, 0.0),
    Speaker(1, "M", "en-us+m3", 50, 48, 176, 0.5),
    Speaker(2, "F", "en-gb+f3", 48, 48, 176, -0.5),
    Speaker(2, "M", "en-gb+m1", 52, 52, 186, 0.0),
    Speaker(3, "F", "en-us+f4", 52, 52, 188, 0.5),
    Speaker(3, "M", "en-us+m5", 48, 50, 172, -0.5),
    Speaker(4, "F", "en-gb+linda", 46, 52, 178, 0.5),
    Speaker(4, "M", "en-gb+m4", 52, 46, 184, -0.5),
    Speaker(5, "F", "en-us+f1", 51, 48, 174, -0.5),
    Speaker(5, "M", "en-us+m2", 48, 54, 182, 0.5),
)


@dataclass(frozen=True)
class Turn:
    """One turn, all that is needed to speak it."""

    name: str  # IEMOCAP's turn id, such as "Ses01F_impro01_M003"
    label: str
    style: str  # of ``STYLES``
    vocabulary: str  # of ``KEYWORDS``, or "any"
    text: str
    voice: str
    rate: int  # these four with the turn's own small variation
    pitch: int
    pitch_range: int
    gain: float

    @property
    def dialog(self) -> str:
        """``Ses03M_impro05a_F002`` belongs to ``Ses03M_impro05a``."""
        return self.name.rpartition("_")[0]

    @property
    def session(self) -> str:
        """Session number, "1" to "5"."""
        return self.name[4]


def write_synthetic(
    folder: str | os.PathLike,
    seed: int = 1986,
    turns_per_speaker: int = 66,
    carrier: str = "both",
) -> Path:
    """Write the synthetic corpus.

    The same options give the same bytes. The tree appears under its name
    only when it is finished; a finished one is left alone when called again
    with the same options. Nothing that exists is ever changed or deleted.

    Arguments
    ---------
    folder : str or os.PathLike
        Root of the tree; absent, empty, or written earlier by this function.
    seed : int
        0 or more; decides labels, words, variations and background.
    turns_per_speaker : int
        11 (each label once) to 4 000.
    carrier : str
        ``"both"``, ``"voice"`` or ``"words"``: what carries the emotion, see
        the module.

    Returns
    -------
    pathlib.Path
        The root. ``expected_counts.json`` there holds the turns by session
        and label.

    Raises
    ------
    ImportError
        If ``espeakng-loader`` is not installed.
    ValueError
        If an option is outside its limits.
    FileExistsError
        If the folder holds something else, or a corpus of other options.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "corpus"
    >>> root = write_synthetic(folder, turns_per_speaker=11)
    >>> sorted(path.name for path in root.glob("Session*"))[::4]
    ['Session1', 'Session5']
    """
    turns = plan_turns(seed, turns_per_speaker, carrier)
    options = {
        "synthetic": True,
        "seed": seed,
        "turns_per_speaker": turns_per_speaker,
        "carrier": carrier,
    }
    root = Path(folder)
    if _is_finished(root, options):
        return root
    root.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{root.name}.", dir=root.absolute().parent
    ) as scratch:
        tree = Path(scratch, "tree")
        _write_tree(tree, turns, options)
        if root.exists():  # an empty folder: not replaceable on Windows
            root.rmdir()
        os.replace(tree, root)
    return root


def plan_turns(
    seed: int = 1986, turns_per_speaker: int = 66, carrier: str = "both"
) -> list[Turn]:
    """Every turn of the corpus, before a sound is made.

    Arguments
    ---------
    seed, turns_per_speaker, carrier
        As for :func:`write_synthetic`.

    Returns
    -------
    list of Turn
        In the order of their names.

    Example
    -------
    >>> turn = plan_turns()[0]
    >>> turn.name, turn.voice
    ('Ses01F_impro01_F000', 'en-us+f2')
    """
    if carrier not in CARRIERS:
        raise ValueError(f"carrier is one of {CARRIERS}, not {carrier!r}")
    if not MIN_TURNS <= turns_per_speaker <= MAX_TURNS:
        raise ValueError(
            f"turns_per_speaker must be {MIN_TURNS} to {MAX_TURNS}, "
            f"not {turns_per_speaker}"
        )
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    turns = []
    for speaker in SPEAKERS:
        rng = random.Random(f"{seed}/{speaker.session}{speaker.gender}")
        labels = list(LABEL_WEIGHTS)
        weights = list(LABEL_WEIGHTS.values())
        more = turns_per_speaker - len(labels)
        labels += rng.choices(labels, weights, k=more)
        rng.shuffle(labels)
        # Two dialogs recorded on each speaker, two names with a letter.
        start = f"Ses{speaker.session:02d}"
        dialogs = (
            f"{start}F_impro01",
            f"{start}F_script01_1",
            f"{start}M_{'impro05a' if speaker.session == 3 else 'impro05'}",
            f"{start}M_script01_1{'b' if speaker.session == 5 else ''}",
        )
        for i, label in enumerate(labels):
            number, dialog = divmod(i, len(dialogs))
            name = f"{dialogs[dialog]}_{speaker.gender}{number:03d}"
            style, vocabulary = CELLS[carrier][label]
            turns.append(
                _plan_turn(speaker, name, label, style, vocabulary, seed)
            )
    return sorted(turns, key=lambda turn: turn.name)


def render(turn: Turn, seed: int = 1986) -> np.ndarray:
    """Speak one turn.

    Arguments
    ---------
    turn : Turn
        What to say and how.
    seed : int
        Seed of the background noise and the margins.

    Returns
    -------
    numpy.ndarray
        [S] int16 at 16 kHz.
    """
    spoken = speak(
        turn.text, turn.voice, turn.rate, turn.pitch, turn.pitch_range
    )
    speech = resample_poly(spoken / 32_768, 320, 441)  # 22.05 to 16 kHz
    # Variants differ in loudness by 8 dB: each is brought to one level.
    speech *= 10 ** ((LEVEL + turn.gain) / 20) / np.sqrt(np.mean(speech**2))
    rng = np.random.default_rng([seed, zlib.crc32(turn.name.encode())])
    before, after = (rng.uniform(*MARGIN, 2) * SAMPLE_RATE).astype(int)
    samples = np.pad(speech, (before, after))
    samples += NOISE * rng.standard_normal(len(samples))
    return np.clip(samples * 32_768, -32_768, 32_767).astype(np.int16)


def _plan_turn(speaker, name, label, style, vocabulary, seed):
    rng = random.Random(f"{seed}/{name}")
    if style == ANY:
        style = rng.choice(sorted(STYLES))
    change = STYLES[style]
    # A sentence of three to six words, more than half of them keywords.
    length = rng.randint(3, 6)
    words = KEYWORDS.get(vocabulary, [w for g in KEYWORDS.values() for w in g])
    sentence = [rng.choice(FILLERS) for _ in range(length)]
    for place in rng.sample(range(length), length // 2 + 1):
        sentence[place] = rng.choice(words)
    return Turn(
        name=name,
        label=label,
        style=style,
        vocabulary=vocabulary,
        text=" ".join(sentence),
        voice=speaker.voice,
        rate=round(speaker.rate * change.rate * rng.uniform(0.96, 1.04)),
        pitch=speaker.pitch + change.pitch + rng.randint(-3, 3),
        pitch_range=(
            speaker.pitch_range + change.pitch_range + rng.randint(-4, 4)
        ),
        gain=speaker.gain + change.gain + rng.uniform(-1.0, 1.0),
    )


def _is_finished(root, options):
    """True if this corpus is there already; another one is an error."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / OPTIONS_FILE
    if not record.is_file():
        raise FileExistsError(
            f"{root} holds something that is not a synthetic corpus: "
            "choose another folder"
        )
    found = json.loads(record.read_text(encoding="utf-8"))
    if found != options:
        raise FileExistsError(
            f"{root} holds a synthetic corpus of other options, {found}: "
            "delete it or choose another folder"
        )
    return True


def _write_tree(tree, turns, options):
    for dialog, group in groupby(turns, key=lambda turn: turn.dialog):
        _write_dialog(tree, dialog, list(group), options["seed"])
    counts = Counter((turn.session, turn.label) for turn in turns)
    found = {
        session: {label: counts[session, label] for label in LABEL_WEIGHTS}
        for session in "12345"
    }
    text = json.dumps({"turns": found}, indent=2) + "\n"
    _write_text(tree / COUNTS_FILE, text)
    _write_text(tree / "README.txt", README.format(**options))
    _write_text(tree / OPTIONS_FILE, json.dumps(options, indent=2) + "\n")


def _write_dialog(tree, dialog, turns, seed):
    """Write a dialog's sounds, labels and words as IEMOCAP has them."""
    session = tree / f"Session{turns[0].session}"
    spoken, now = {}, GAP
    # Two speakers take turns; the labels list one after the other.
    for turn in sorted(turns, key=lambda turn: (turn.name[-3:], turn.name)):
        samples = render(turn, seed)
        path = session / "sentences" / "wav" / dialog / f"{turn.name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, SAMPLE_RATE, "PCM_16")
        end = now + len(samples) / SAMPLE_RATE
        spoken[turn.name] = (now, end, turn.text.capitalize())
        now = end + GAP
    _write_apple_double(path)
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for turn in turns:
        start, end, _ = spoken[turn.name]
        lines += [
            f"[{start:.4f} - {end:.4f}]\t{turn.name}\t{turn.label}"
            "\t[3.0000, 3.0000, 3.0000]",
            *(f"C-{x}:\t{_opinion(turn, x)};\t()" for x in DISAGREEMENT),
            *(f"A-{x}:\tval 3; act 3; dom  3;\t()" for x in DISAGREEMENT),
            "",
        ]
    labels = session / "dialog" / "EmoEvaluation"
    _write_text(labels / f"{dialog}.txt", "\n".join(lines))
    _write_apple_double(labels / f"{dialog}.txt")
    for place in ("Attribute/{}_e3_atr", "Self-evaluation/{}_f1_atr"):
        lines = [f"{x.name} :act 3; :val 3; :dom  3; ()\n" for x in turns]
        _write_text(labels / f"{place.format(dialog)}.txt", "".join(lines))
    lines = [f"{x.name} :{_opinion(x, 'E2')}; ()\n" for x in turns]
    _write_text(labels / f"Categorical/{dialog}_e2_cat.txt", "".join(lines))
    lines = [
        f"{name} [{start:08.4f}-{end:08.4f}]: {text}."
        for name, (start, end, text) in spoken.items()
    ]
    # IEMOCAP's annotators left some lines without a turn.
    lines.insert(len(lines) // 2, "M: [BREATHING] Mmhmm.")
    lines.append("F: [LAUGHTER]\n")
    words = session / "dialog" / "transcriptions" / f"{dialog}.txt"
    _write_text(words, "\n".join(lines))
    _write_apple_double(words)


# Raters agree, unless the label is xxx, which means that they did not.
DISAGREEMENT = {"E2": "ang", "E3": "fru", "E4": "sad"}
OPINIONS = {
    **{"neu": "Neutral", "hap": "Happiness", "exc": "Excited"},
    **{"ang": "Anger", "sad": "Sadness", "fru": "Frustration"},
    **{"sur": "Surprise", "fea": "Fear", "dis": "Disgust", "oth": "Other"},
}


def _opinion(turn, rater):
    return OPINIONS[DISAGREEMENT[rater] if turn.label == "xxx" else turn.label]


def _write_apple_double(path):
    """Write ``._name`` beside a file, as macOS does: neither text nor sound."""
    header = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xff\xfe"
    path.with_name(f"._{path.name}").write_bytes(header)


def _write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


README = """\
This is a SYNTHETIC corpus.

No person speaks here: espeak-ng does, and its "emotions" are rules (carrier:
{carrier}) of recipes/Synthetic/qieemo/synthetic.py in the Qieemo-SB project.
The tree imitates the layout of IEMOCAP, of which it contains nothing. It exists
to try out recipes and tests. It says nothing about people, and results on it
must not be reported as results on IEMOCAP.

Written with seed {seed} and {turns_per_speaker} turns a speaker; the turns by
session and label are in expected_counts.json.
"""


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Write a SYNTHETIC corpus in the shape of IEMOCAP.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", help="root of the tree to write")
    parser.add_argument("--seed", type=int, default=1986)
    parser.add_argument("--turns-per-speaker", type=int, default=66)
    parser.add_argument("--carrier", choices=CARRIERS, default="both")
    root = write_synthetic(**vars(parser.parse_args(arguments)))
    print(f"a synthetic corpus is in {root}")


if __name__ == "__main__":
    main()
