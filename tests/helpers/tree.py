"""A corpus in IEMOCAP's form, written in a second, without a synthesiser."""

import json
from collections import Counter

import soundfile
from clips import RATE, noise, sentence

GAINS = {"neu": 0.2, "hap": 0.6, "ang": 1.0, "sad": 0.05}
TURNS = 2  # of a speaker and label


def write_tree(folder):
    """Ten speakers in five sessions: labels are loudness and noise → folder."""
    counts = {}
    for session in range(1, 6):
        place = folder / f"Session{session}"
        dialog = f"Ses{session:02}F_impro01"
        lines, texts, labels = [], [], []
        for number, gender in enumerate("FM"):
            speaker = 2 * session + number
            for i in range(TURNS * len(GAINS)):
                label = list(GAINS)[i % len(GAINS)]
                turn = f"{dialog}_{gender}{i:03}"
                speech = GAINS[label] * sentence(RATE - 400 * speaker)
                hiss = noise(len(speech) / RATE, seed=100 * speaker + i)
                write_wav(place, dialog, turn, speech + GAINS[label] * hiss)
                lines.append(f"[0.0000 - 1.0000]\t{turn}\t{label}\t[2, 2, 2]")
                texts.append(f"{turn} [000.0000-001.0000]: I am {label}.")
                labels.append(label)
        write_text(place / f"dialog/EmoEvaluation/{dialog}.txt", lines)
        write_text(place / f"dialog/transcriptions/{dialog}.txt", texts)
        counts[str(session)] = Counter(labels)
    text = json.dumps({"turns": counts})
    (folder / "expected_counts.json").write_text(text)
    return folder


def write_wav(place, dialog, turn, samples):
    path = place / f"sentences/wav/{dialog}/{turn}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


def write_text(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))
