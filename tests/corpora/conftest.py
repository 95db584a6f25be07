"""Miniature corpora, written in a moment."""

import io
import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from qieemo_sb.corpora.manifest import Utterance

# 15 dialogs of 14 turns: 210 turns, 42 a session, 21 a speaker, 30 a label.
DIALOGS = ("Ses0{}F_impro01", "Ses0{}M_impro05a", "Ses0{}M_script01_1b")
LABELS = ("neu", "hap", "exc", "ang", "sad", "fru", "xxx")


def wav_bytes(seconds=0.1):
    """A quiet ramp, 16 kHz mono."""
    stream = io.BytesIO()
    ramp = np.linspace(-0.1, 0.1, round(16_000 * seconds))
    soundfile.write(stream, ramp, 16_000, format="WAV")
    return stream.getvalue()


@pytest.fixture(scope="session")
def sound():
    """Bytes of a WAV file of 0.1 s."""
    return wav_bytes()


def evaluation_text(turns):
    """An EmoEvaluation file with all that stands between its turns."""
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for turn, label in turns:
        lines += [
            f"[6.2901 - 8.2357]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]",
            "C-E2:\tNeutral;\t()",
            "C-F1:\tAnger; Frustration;\t(hap)",
            "A-E3:\tval 3; act 2; dom  2;\t()",
            "",
        ]
    return "\n".join(lines)


def transcription_text(turns):
    """A transcription file, with a line that has no id."""
    lines = [
        f"{turn} [006.2901-008.2357]: I am {label}." for turn, label in turns
    ]
    return "\n".join(["M: [BREATHING]", *lines, ""])


def write_dialog(session, dialog, turns, sound):
    evaluation = session / "dialog" / "EmoEvaluation"
    transcriptions = session / "dialog" / "transcriptions"
    wavs = session / "sentences" / "wav" / dialog
    for folder in (evaluation / "Categorical", transcriptions, wavs):
        folder.mkdir(parents=True, exist_ok=True)
    text = evaluation_text(turns)
    (evaluation / f"{dialog}.txt").write_text(text)
    (evaluation / "Categorical" / f"{dialog}_e2_cat.txt").write_text(text)
    (evaluation / f"._{dialog}.txt").write_bytes(b"\x00\x05" + text.encode())
    (transcriptions / f"{dialog}.txt").write_text(transcription_text(turns))
    (transcriptions / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\xff")
    for turn, _ in turns:
        (wavs / f"{turn}.wav").write_bytes(sound)
    (wavs / f"._{turns[0][0]}.wav").write_bytes(b"\x00\x05\x16")


@pytest.fixture
def iemocap(tmp_path, sound):
    """A tree like IEMOCAP's, and the file of its expected counts."""
    root = tmp_path / "IEMOCAP_full_release"
    counts = {}
    for number in range(1, 6):
        found = Counter()
        for pattern in DIALOGS:
            dialog = pattern.format(number)
            turns = [
                (f"{dialog}_{gender}{index:03}", label)
                for gender in "FM"
                for index, label in enumerate(LABELS)
            ]
            write_dialog(root / f"Session{number}", dialog, turns, sound)
            found.update(label for _, label in turns)
        counts[str(number)] = dict(found)
    expected = tmp_path / "counts.json"
    expected.write_text(json.dumps({"turns": counts}))
    return SimpleNamespace(root=root, counts=expected)


@pytest.fixture
def clip():
    """Make an utterance, with as little as a test has to say about it."""

    def make(utt_id, emo="sad", **fields):
        fields = {"wav": f"{utt_id}.wav", "length": 1.0, **fields}
        return Utterance(utt_id, emo=emo, **fields)

    return make
