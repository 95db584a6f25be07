"""A SYNTHETIC corpus in the shape of IEMOCAP, spoken by espeak-ng.

IEMOCAP is licensed and cannot be shipped. This generator writes a small tree
laid out exactly like it, so that every recipe and test runs end to end. The
"emotions" are rules written down below: the corpus says nothing about people,
and a score on it says only that the machinery works.

Ten speakers, a woman and a man in each of five sessions, have an espeak-ng
voice, a pitch, a rate and a loudness of their own. An emotion is a *style*, a
change relative to the speaker's own values, and a *vocabulary*, keywords that
make up more than half of a sentence. ``carrier`` says which of them tells:

``both``
    Style tells arousal, vocabulary tells valence, and neither is enough::

                        light words    heavy words
        raised voice    hap, exc       ang
        lowered voice   neu            sad

    hap and ang share a voice, as neu and sad do: only words part them. hap
    and neu share a vocabulary, as ang and sad do: only the voice parts them.
    The other two pairs differ in both. Voice alone or words alone name the
    right one of four classes half of the time.
``voice``
    Words are drawn without regard to the emotion; each of the four classes
    has a style of its own.
``words``
    Every turn has the speaker's own voice; each of the four classes has a
    vocabulary of its own.

exc is made as hap is (the usual task merges them). The remaining labels take
what the tables below give them; oth and xxx are anything at all.
"""

import argparse
import json
import os
import random
import tempfile
import wave
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from qieemo_sb.espeak import speak
from qieemo_sb.frames import SAMPLE_RATE

CARRIERS = ("both", "voice", "words")
SESSIONS = (1, 2, 3, 4, 5)
OPTIONS_FILE = "synthetic.json"
COUNTS_FILE = "expected_counts.json"

# Each label once for every speaker, the remaining turns by these weights:
# with 66 turns, about 52 fall into the four usual classes.
LABEL_WEIGHTS = {
    "neu": 12,
    "hap": 6,
    "exc": 5,
    "ang": 12,
    "sad": 12,
    "fru": 3,
    "xxx": 4,
    "sur": 1,
    "fea": 0,
    "dis": 0,
    "oth": 0,
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

_ANY = "any"  # drawn anew for every turn (style) or word (vocabulary)
_ANYTHING = {"oth": (_ANY, _ANY), "xxx": (_ANY, _ANY)}
CELLS = {  # carrier -> label -> (style, vocabulary)
    "both": {
        "neu": ("lowered", "light"),
        "hap": ("raised", "light"),
        "exc": ("raised", "light"),
        "ang": ("raised", "heavy"),
        "sad": ("lowered", "heavy"),
        "fru": ("own", "heavy"),
        "sur": ("raised", _ANY),
        "fea": ("own", _ANY),
        "dis": ("lowered", _ANY),
        **_ANYTHING,
    },
    "voice": {
        "neu": ("own", _ANY),
        "hap": ("bright", _ANY),
        "exc": ("bright", _ANY),
        "ang": ("pressed", _ANY),
        "sad": ("lowered", _ANY),
        "fru": ("pressed", _ANY),
        "sur": ("bright", _ANY),
        "fea": ("raised", _ANY),
        "dis": ("lowered", _ANY),
        **_ANYTHING,
    },
    "words": {
        "neu": ("own", "plain"),
        "hap": ("own", "light"),
        "exc": ("own", "light"),
        "ang": ("own", "sharp"),
        "sad": ("own", "heavy"),
        "fru": ("own", _ANY),
        "sur": ("own", _ANY),
        "fea": ("own", _ANY),
        "dis": ("own", _ANY),
        "oth": ("own", _ANY),
        "xxx": ("own", _ANY),
    },
}

_LEVEL = -33.0  # dB below full scale, RMS of a speaker's own voice
_NOISE = 1e-4  # RMS of the background, -80 dB
_MARGIN = (0.05, 0.20)  # seconds of background before and after the speech
_GAP = 0.5  # seconds between two turns of a dialog


@dataclass(frozen=True)
class Style:
    """A change relative to the speaker's own voice.

    Arguments
    ---------
    pitch, pitch_range : int
        Added to espeak-ng's settings of that name (0 to 99).
    rate : float
        Factor of the words per minute.
    gain : float
        Added loudness in dB.
    """

    pitch: int
    pitch_range: int
    rate: float
    gain: float


STYLES = {
    "own": Style(pitch=0, pitch_range=0, rate=1.0, gain=0.0),
    "raised": Style(pitch=32, pitch_range=38, rate=1.35, gain=7.0),
    "lowered": Style(pitch=-30, pitch_range=-40, rate=0.75, gain=-8.0),
    "bright": Style(pitch=40, pitch_range=40, rate=1.2, gain=4.0),
    "pressed": Style(pitch=-10, pitch_range=-40, rate=1.5, gain=8.0),
}


@dataclass(frozen=True)
class Speaker:
    """A voice of its own: what a neutral turn of this speaker sounds like.

    Arguments
    ---------
    session : int
        1 to 5.
    gender : str
        ``"F"`` or ``"M"``.
    voice : str
        An espeak-ng voice, see :func:`qieemo_sb.espeak.speak`.
    pitch, pitch_range : int
        espeak-ng's settings of that name.
    rate : int
        Words per minute.
    gain : float
        Loudness in dB, relative to the corpus' level.
    """

    session: int
    gender: str
    voice: str
    pitch: int
    pitch_range: int
    rate: int
    gain: float


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
    """One turn, all that is needed to speak it.

    Arguments
    ---------
    name : str
        IEMOCAP's turn id, such as ``"Ses01F_impro01_M003"``.
    label : str
        One of ``LABEL_WEIGHTS``.
    style, vocabulary : str
        What the emotion was turned into; the vocabulary may be ``"any"``.
    text : str
        The words.
    voice : str
        The speaker's espeak-ng voice.
    rate, pitch, pitch_range : int
        Settings of the synthesis, with the turn's own small variation.
    gain : float
        Loudness in dB, relative to the corpus' level.
    """

    name: str
    label: str
    style: str
    vocabulary: str
    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    gain: float

    @property
    def dialog(self) -> str:
        """``Ses03M_impro05a_F002`` belongs to ``Ses03M_impro05a``."""
        return self.name.rpartition("_")[0]

    @property
    def session(self) -> int:
        """Session number, 1 to 5."""
        return int(self.name[3:5])


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
    turns = [
        _plan_turn(speaker, name, label, CELLS[carrier][label], seed)
        for speaker in SPEAKERS
        for name, label in _cast(speaker, turns_per_speaker, seed)
    ]
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
    speech *= 10 ** ((_LEVEL + turn.gain) / 20) / np.sqrt(np.mean(speech**2))
    rng = np.random.default_rng([seed, zlib.crc32(turn.name.encode())])
    before, after = (rng.uniform(*_MARGIN, 2) * SAMPLE_RATE).astype(int)
    samples = np.pad(speech, (before, after))
    samples += _NOISE * rng.standard_normal(len(samples))
    return np.clip(samples * 32_768, -32_768, 32_767).astype(np.int16)


def _dialogs(session: int) -> tuple[str, ...]:
    """Two dialogs recorded on each speaker, two names with a letter."""
    improvised = "impro05a" if session == 3 else "impro05"
    scripted = "script01_1b" if session == 5 else "script01_1"
    return (
        f"Ses{session:02d}F_impro01",
        f"Ses{session:02d}F_script01_1",
        f"Ses{session:02d}M_{improvised}",
        f"Ses{session:02d}M_{scripted}",
    )


def _cast(speaker: Speaker, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Name and label of each turn, dealt to the session's four dialogs."""
    rng = random.Random(f"{seed}/{speaker.session}{speaker.gender}")
    kinds, weights = zip(*LABEL_WEIGHTS.items(), strict=True)
    labels = [*kinds, *rng.choices(kinds, weights, k=count - len(kinds))]
    rng.shuffle(labels)
    dialogs = _dialogs(speaker.session)
    for i, label in enumerate(labels):
        number, dialog = divmod(i, len(dialogs))
        yield f"{dialogs[dialog]}_{speaker.gender}{number:03d}", label


def _plan_turn(
    speaker: Speaker, name: str, label: str, cell: tuple[str, str], seed: int
) -> Turn:
    rng = random.Random(f"{seed}/{name}")
    style, vocabulary = cell
    if style == _ANY:
        style = rng.choice(sorted(STYLES))
    change = STYLES[style]
    return Turn(
        name=name,
        label=label,
        style=style,
        vocabulary=vocabulary,
        text=_sentence(vocabulary, rng),
        voice=speaker.voice,
        rate=round(speaker.rate * change.rate * rng.uniform(0.96, 1.04)),
        pitch=speaker.pitch + change.pitch + rng.randint(-3, 3),
        pitch_range=(
            speaker.pitch_range + change.pitch_range + rng.randint(-4, 4)
        ),
        gain=speaker.gain + change.gain + rng.uniform(-1.0, 1.0),
    )


def _sentence(vocabulary: str, rng: random.Random) -> str:
    """Three to six words, more than half of them keywords."""
    length = rng.randint(3, 6)
    every = [word for group in KEYWORDS.values() for word in group]
    words = KEYWORDS.get(vocabulary, every)
    sentence = [rng.choice(FILLERS) for _ in range(length)]
    for place in rng.sample(range(length), length // 2 + 1):
        sentence[place] = rng.choice(words)
    return " ".join(sentence)


def _is_finished(root: Path, options: dict) -> bool:
    """Tell whether this very corpus stands there or the place is free."""
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


def _write_tree(tree: Path, turns: list[Turn], options: dict) -> None:
    for session in SESSIONS:
        for kind in ("EmoEvaluation", "transcriptions"):
            (tree / f"Session{session}" / "dialog" / kind).mkdir(parents=True)
    for dialog, group in groupby(turns, key=lambda turn: turn.dialog):
        group = list(group)
        session = tree / f"Session{group[0].session}"
        times = _write_sounds(session, group, options["seed"])
        _write_evaluation(session, dialog, group, times)
        _write_raters(session, dialog, group)
        _write_transcription(session, dialog, group, times)
    _write_json(tree / COUNTS_FILE, {"turns": _count(turns)})
    _write_text(tree / "README.txt", _README.format(**options))
    _write_json(tree / OPTIONS_FILE, options)


def _count(turns: Iterable[Turn]) -> dict[str, dict[str, int]]:
    found = Counter((turn.session, turn.label) for turn in turns)
    return {
        str(session): {label: found[session, label] for label in LABEL_WEIGHTS}
        for session in SESSIONS
    }


def _write_sounds(
    session: Path, turns: list[Turn], seed: int
) -> dict[str, tuple[float, float]]:
    """Write a dialog's sounds; return each turn's start and end in seconds."""
    times, now = {}, _GAP
    for turn in _in_time(turns):
        samples = render(turn, seed)
        path = session / "sentences" / "wav" / turn.dialog / f"{turn.name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(samples.astype("<i2").tobytes())
        times[turn.name] = (now, now + len(samples) / SAMPLE_RATE)
        now = times[turn.name][1] + _GAP
    _write_apple_double(path)
    return times


def _in_time(turns: list[Turn]) -> list[Turn]:
    """Two speakers take turns; the files list one after the other."""
    return sorted(turns, key=lambda turn: (turn.name[-3:], turn.name))


def _write_evaluation(
    session: Path, dialog: str, turns: list[Turn], times: dict
) -> None:
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for turn in turns:
        start, end = times[turn.name]
        lines += [
            f"[{start:.4f} - {end:.4f}]\t{turn.name}\t{turn.label}"
            "\t[3.0000, 3.0000, 3.0000]",
            *(f"C-{who}:\t{_opinion(turn, who)};\t()" for who in _RATERS),
            *(f"A-{who}:\tval 3; act 3; dom  3;\t()" for who in _RATERS),
            "",
        ]
    path = session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
    _write_text(path, "\n".join(lines))
    _write_apple_double(path)


def _write_raters(session: Path, dialog: str, turns: list[Turn]) -> None:
    """Fill the sub-folders, which hold single raters' files."""
    folder = session / "dialog" / "EmoEvaluation"
    for kind, who, suffix in _RATERS_FILES:
        lines = (
            f"{turn.name} :{_opinion(turn, who)}; ()"
            if suffix == "cat"
            else f"{turn.name} :act 3; :val 3; :dom  3; ()"
            for turn in turns
        )
        path = folder / kind / f"{dialog}_{who.lower()}_{suffix}.txt"
        path.parent.mkdir(exist_ok=True)
        _write_text(path, "\n".join(lines) + "\n")


def _write_transcription(
    session: Path, dialog: str, turns: list[Turn], times: dict
) -> None:
    lines = []
    for turn in _in_time(turns):
        start, end = times[turn.name]
        lines.append(
            f"{turn.name} [{start:08.4f}-{end:08.4f}]: "
            f"{turn.text.capitalize()}."
        )
    # IEMOCAP's annotators left some lines without a turn.
    lines.insert(len(lines) // 2, "M: [BREATHING] Mmhmm.")
    lines.append("F: [LAUGHTER]")
    path = session / "dialog" / "transcriptions" / f"{dialog}.txt"
    _write_text(path, "\n".join(lines) + "\n")
    _write_apple_double(path)


_RATERS = ("E2", "E3", "E4")
_RATERS_FILES = (
    ("Attribute", "E3", "atr"),
    ("Categorical", "E2", "cat"),
    ("Self-evaluation", "F1", "atr"),
)
_OPINIONS = {
    "neu": "Neutral",
    "hap": "Happiness",
    "exc": "Excited",
    "ang": "Anger",
    "sad": "Sadness",
    "fru": "Frustration",
    "sur": "Surprise",
    "fea": "Fear",
    "dis": "Disgust",
    "oth": "Other",
}


def _opinion(turn: Turn, who: str) -> str:
    """Raters agree, unless the label is xxx, which means that they did not."""
    disagreement = {"E2": "ang", "E3": "fru", "E4": "sad"}
    return _OPINIONS[disagreement[who] if turn.label == "xxx" else turn.label]


def _write_apple_double(path: Path) -> None:
    """Leave macOS's litter beside a file: ``._name``, not text, not sound."""
    header = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xff\xfe"
    path.with_name(f"._{path.name}").write_bytes(header)


def _write_json(path: Path, content: dict) -> None:
    _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


_README = """\
This is a SYNTHETIC corpus.

No person speaks here: espeak-ng does, and its "emotions" are rules (carrier:
{carrier}) of qieemo_sb/corpora/synthetic.py in the Qieemo-SB project. The tree
imitates the layout of IEMOCAP, of which it contains nothing. It exists to try
out recipes and tests. It says nothing about people, and results on it must
not be reported as results on IEMOCAP.

Written with seed {seed} and {turns_per_speaker} turns a speaker; the turns by
session and label are in expected_counts.json.
"""


def main(argv: list[str] | None = None) -> None:
    """Write the corpus from the command line.

    Arguments
    ---------
    argv : list of str, optional
        Arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m qieemo_sb.corpora.synthetic",
        description="Write a SYNTHETIC corpus in the shape of IEMOCAP.",
        allow_abbrev=False,
    )
    parser.add_argument("out", help="root of the tree to write")
    parser.add_argument("--seed", type=int, default=1986)
    parser.add_argument("--turns-per-speaker", type=int, default=66)
    parser.add_argument("--carrier", choices=CARRIERS, default="both")
    options = parser.parse_args(argv)
    root = write_synthetic(
        options.out, options.seed, options.turns_per_speaker, options.carrier
    )
    print(f"a synthetic corpus is in {root}")


if __name__ == "__main__":
    main()
