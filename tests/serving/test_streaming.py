"""Streams: what comes out does not depend on how the sound came in."""

import numpy as np
import pytest
from clips import RATE, sentence

from qieemo_sb.audio import resample
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError
from qieemo_sb.serving.classifier import load_model
from qieemo_sb.serving.onnx.classifier import OnnxClassifier


@pytest.fixture(scope="module", params=["torch", "onnx"])
def engine(request, source, exported):
    """The same model on each engine."""
    if request.param == "torch":
        return load_model(source)
    return OnnxClassifier.from_folder(exported, threads=1)


@pytest.fixture(scope="module")
def talk():
    """Eight seconds with two sentences, [S]."""
    parts = [np.zeros(RATE), sentence(), np.zeros(2 * RATE), sentence()]
    signal = np.concatenate([*parts, np.zeros(2 * RATE)])
    return signal[: 8 * RATE].astype(np.float32)


def chunks(signal, seed, most=5_000):
    """A signal in chunks of random sizes, empty ones among them."""
    sizes = np.random.default_rng(seed).integers(0, most, 2 * len(signal))
    borders = np.cumsum(sizes)
    return np.split(signal, borders[borders < len(signal)])


def same(a, b):
    assert [(p.event, p.emotion) for p in a] == [
        (p.event, p.emotion) for p in b
    ]
    for x, y in zip(a, b, strict=True):
        assert (x.start, x.end) == pytest.approx((y.start, y.end), abs=1e-3)
        assert x.scores == pytest.approx(y.scores, abs=1e-4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_chunks_do_not_matter(engine, talk, rate, write_wav):
    signal = resample(talk, 16_000 * 16_000 // rate)  # of about this rate
    expected = list(engine.stream(rate).predict([signal]))
    for seed in range(2):
        found = list(engine.stream(rate).predict(chunks(signal, seed)))
        same(found, expected)
    (of_file,) = engine([write_wav(signal, rate)])
    assert expected[-1].event == "end"
    assert expected[-1].scores == pytest.approx(of_file.scores, abs=1e-4)
    assert expected[-1].end == pytest.approx(of_file.end)


def test_what_is_said_and_when(engine, talk):
    found = list(engine.stream(interval=1, span=2).predict([talk]))
    events = [p.event for p in found]
    assert events.count("speech") == 2 and events.count("end") == 1
    assert [p.end for p in found[:-1]] == sorted(p.end for p in found[:-1])
    now = [p for p in found if p.event == "now"]
    assert all(p.end == int(p.end) and p.start == p.end - 2 for p in now)
    for p in found:  # each is that of an utterance with the same samples
        part = talk[round(p.start * RATE) : round(p.end * RATE)]
        (expected,) = engine([part])
        assert p.scores == pytest.approx(expected.scores, abs=1e-4)


def test_integers_and_channels(engine, talk):
    whole = (talk * 32_767).astype(np.int16)
    expected = list(engine.stream().predict([whole / np.float32(32_768)]))
    same(list(engine.stream().predict([whole])), expected)
    same(list(engine.stream().predict([np.stack([whole] * 2, 1)])), expected)


def test_a_long_stream_keeps_thirty_seconds(engine, sound, write_wav):
    signal = sound(100 * RATE).numpy()
    stream = engine.stream()
    for chunk in chunks(signal, 0, RATE):
        stream.feed(chunk)
        assert len(stream._kept) <= 31 * RATE
    assert stream.seconds == 100
    (expected,) = engine([write_wav(signal)])
    found = stream.finish()[-1]
    assert found.scores == pytest.approx(expected.scores, abs=1e-4)


def test_what_is_no_stream(engine, talk):
    with pytest.raises(AudioError, match="NaN"):
        engine.stream().feed(np.full(RATE, np.nan, np.float32))
    with pytest.raises(AudioError, match="too short"):
        engine.stream().finish()
    with pytest.raises(QieemoError, match="interval is 0"):
        engine.stream(interval=0)
    with pytest.raises(QieemoError, match="interval is 1e"):
        engine.stream(interval=1e308)
    with pytest.raises(QieemoError, match="span 31"):
        engine.stream(span=31)


def test_an_export_adapts_to_nobody(exported, talk):
    stream = OnnxClassifier.from_folder(exported).stream(speaker=object())
    with pytest.raises(ModelFolderError, match="cannot adapt"):
        stream.feed(talk)
        stream.finish()
