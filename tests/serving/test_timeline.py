"""Speech, its segments, and who speaks, over a recording."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from clips import RATE, sentence

from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.serving import timeline as module
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.folder import save_model
from qieemo_sb.serving.results import Prediction
from qieemo_sb.serving.speech import LONGEST, SpeechDetector, speech_spans
from qieemo_sb.serving.timeline import Turn, cut, join, read_rttm

LABELS = ["neu", "hap", "ang", "sad"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory, make_model):
    folder = tmp_path_factory.mktemp("timeline") / "model"
    return load_model(
        save_model(folder, make_model(), "", LABELS, Characters())
    )


@pytest.fixture(scope="module")
def talk():
    """Two sentences a second apart, [S]."""
    pause = np.zeros(RATE)
    return np.concatenate([sentence(), pause, sentence()]).astype(np.float32)


# Speech


def test_speech_is_found_and_silence_is_none(talk):
    first, second = speech_spans([talk])
    assert 0 <= first[0] < first[1] < len(sentence())
    assert len(sentence()) + RATE / 2 < second[0] < second[1] <= len(talk)
    assert speech_spans([np.zeros(5 * RATE, np.float32)]) == []
    assert speech_spans([]) == []


def test_onnxruntime_reports_to_nobody(tmp_path):
    """It would write its session and its queue of events first."""
    code = "from qieemo_sb.serving.speech import speech_spans; speech_spans([])"
    places = dict.fromkeys(["HOME", "TMPDIR", "XDG_CACHE_HOME"], str(tmp_path))
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **places}, check=True
    )
    assert not [*tmp_path.iterdir()]


def test_speech_does_not_depend_on_chunks(talk):
    expected = speech_spans([talk])
    borders = np.random.default_rng(0).integers(0, len(talk), 60)
    assert speech_spans(np.split(talk, np.sort(borders))) == expected


def test_speech_that_never_pauses_is_cut(monkeypatch):
    detector, spans = SpeechDetector(), []
    heard = np.full(2 * LONGEST, 0.9)
    quietest = LONGEST - 100
    heard[quietest] = 0.6
    spans = [detector._decide(x) for x in heard]
    spans = [span for span in spans if span] + detector.finish()
    borders = [quietest * 512, (2 * LONGEST - 100) * 512]
    assert [start for start, _ in spans[:2]] == [0, borders[0]]
    assert spans[0][1] == borders[0]
    assert max(end - start for start, end in spans) <= 30 * RATE


# Segments


def log_probs(*parts):
    """Frames of (seconds, probability of the first of two emotions)."""
    rows = [np.tile([p, 1 - p], (round(50 * s), 1)) for s, p in parts]
    return np.log(np.concatenate(rows))


def test_a_change_of_emotion_is_a_border():
    assert cut(log_probs((3, 0.9), (3, 0.1))) == [(0, 150), (150, 300)]
    assert cut(log_probs((2, 0.9), (4, 0.1), (2, 0.9))) == [
        (0, 100),
        (100, 300),
        (300, 400),
    ]


def test_little_evidence_is_none():
    # A second at 9 to 1 is log 9 = 2.2: once more than a change, not twice.
    assert cut(log_probs((3, 0.9), (1, 0.1), (3, 0.9))) == [(0, 350)]
    assert cut(log_probs((4, 0.6), (4, 0.4))) == [(0, 400)]
    assert cut(log_probs((1, 0.99), (1, 0.01))) == [(0, 100)]  # two are short
    assert cut(log_probs((0.02, 0.5))) == [(0, 1)]


def test_neighbours_of_one_emotion_are_joined():
    def segment(start, end, happy, speaker=None):
        scores = {"happy": happy, "sad": 1 - happy}
        best = max(scores, key=scores.get)
        return Prediction("a.wav", start, end, best, scores, speaker)

    joined = join([segment(0, 1, 0.6), segment(1, 4, 1.0), segment(4, 5, 0.1)])
    assert [(s.start, s.end, s.emotion) for s in joined] == [
        (0, 4, "happy"),
        (4, 5, "sad"),
    ]
    assert joined[0].scores["happy"] == pytest.approx((0.6 + 3 * 1.0) / 4)
    assert len(join([segment(0, 1, 0.9), segment(1.5, 2, 0.9)])) == 2
    assert len(join([segment(0, 1, 0.9, "ann"), segment(1, 2, 0.9)])) == 2


# Files


@pytest.mark.parametrize("adapted", [False, True])
def test_each_stretch_of_speech_as_an_utterance(ours, talk, write_wav, adapted):
    path = write_wav(talk)
    speaker = ours.adapt([path]) if adapted else None
    found = ours.timeline(path, speaker=speaker)
    spans = speech_spans([talk])
    assert [
        (round(p.start * RATE), round(p.end * RATE)) for p in found
    ] == spans
    for prediction, (start, end) in zip(found, spans, strict=True):
        wav = torch.from_numpy(talk[start:end])
        expected = ours.log_probs(ours.embed_batch(wav), speaker)[0].exp()
        scores = torch.tensor(list(prediction.scores.values()))
        assert torch.allclose(scores, expected, atol=1e-5)
        assert prediction.file == str(path) and prediction.speaker is None


def test_a_segment_is_pooled_from_its_frames(ours, talk, monkeypatch, sound):
    wav = sound(2 * RATE).numpy()
    monkeypatch.setattr(module, "cut", lambda x: [(0, 40), (40, len(x))])
    first, second = module._segments(ours, wav, None)
    output = ours.analyse_batch(torch.from_numpy(wav))
    assert (first[:2], second[:2]) == ((0, 0.8), (0.8, 2.0))
    # Pooled together, the two are the utterance: statistics add up.
    assert not np.allclose(first[2], second[2], atol=1e-6)
    monkeypatch.setattr(module, "cut", lambda x: [(0, len(x))])
    ((_, _, whole),) = module._segments(ours, wav, None)
    assert np.allclose(whole, output.log_probs[0], atol=1e-5)


def test_who_speaks_when(ours, write_wav, sound, tmp_path):
    wav = np.concatenate([sound(3 * RATE, i, 0.1 * (i + 1)) for i in range(3)])
    path = write_wav(wav)
    names = ["ann", "bob", "ann"]
    lines = [
        f"SPEAKER talk 1 {3 * i} 3 <NA> <NA> {name} <NA> <NA>\n"
        for i, name in enumerate(names)
    ]
    rttm = tmp_path / "a.rttm"
    rttm.write_text("SPKR-INFO talk 1 <NA>\n" + "".join(lines))
    turns = [Turn(3 * i, 3 * i + 3, name) for i, name in enumerate(names)]
    assert read_rttm(rttm) == turns
    found = ours.timeline(path, rttm)
    assert ours.timeline(path, turns[::-1]) == found
    assert [p.speaker for p in found] == names
    assert [(p.start, p.end) for p in found] == [(0, 3), (3, 6), (6, 9)]
    clips = [write_wav(wav[i : i + 3 * RATE], name=f"{i}.wav")
             for i in range(0, len(wav), 3 * RATE)]  # fmt: skip
    expected = ours.predict_conversation(clips, names)
    for a, b in zip(found, expected, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-5)


def test_turns_longer_than_a_window_and_past_the_end(ours, write_wav, sound):
    path = write_wav(sound(70 * RATE))
    turns = [Turn(0, 65), Turn(0, 65, "Ann"), Turn(69, 75), Turn(80, 90)]
    assert ours.timeline(path, turns)  # one without a name beside one with
    found = ours.timeline(path, [turns[0], *turns[2:]])
    assert found[0].start == 0 and found[-1].end == pytest.approx(70)
    # No gap within a turn: only neighbours that differ are apart.
    ends = [p.end for p in found if p.end < 65]
    assert ends == [p.start for p in found[1:] if p.start < 65]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "turns of 0 recordings"),
        ("SPEAKER a 1 x 2 <NA> <NA> ann", "line 1 is no turn"),
        ("SPEAKER a 1 0 2", "line 1 is no turn"),
        (
            "SPEAKER a 1 0 1 <NA> <NA> ann\nSPEAKER b 1 0 1 <NA> <NA> ann",
            "turns of 2 recordings",
        ),
        ("SPEAKER a 1 0 -1 <NA> <NA> ann", "A turn of ann is from 0.0 to -1.0"),
        ("SPEAKER a 1 1e308 1 <NA> <NA> ann", "at most a day apart"),
        ("SPEAKER a 1 0 1e9 <NA> <NA> ann", "at most a day apart"),
    ],
)
def test_turns_that_are_none(text, message, ours, write_wav, tmp_path, sound):
    rttm = tmp_path / "a.rttm"
    rttm.write_text(text)
    with pytest.raises(QieemoError, match=message):
        ours.timeline(write_wav(sound(RATE)), rttm)


def test_a_file_that_cannot_be_used(ours, tmp_path):
    with pytest.raises(AudioError, match="gone.wav"):
        ours.timeline(tmp_path / "gone.wav")
