"""Every file has one defined answer or one clear error."""

import os
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.inference.interfaces import Pretrained

from qieemo_sb.audio import (
    audio_seconds,
    find_bad_audio,
    read_audio,
    read_windows,
    survey,
)
from qieemo_sb.errors import AudioError
from qieemo_sb.frames import sample_windows


@pytest.fixture
def write(tmp_path):
    def write_file(samples, rate=16_000, name="a.wav", **options):
        path = tmp_path / name
        soundfile.write(path, samples, rate, **options)
        return path

    return write_file


def tone(rate, seconds=0.5, hertz=200):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(rate * seconds) / rate)


def refusal(path):
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    return str(caught.value)


def test_samples_are_those_of_the_file(write):
    samples = np.array([0.0, 0.5, -0.25, 0.125] * 100, dtype=np.float32)
    signal = read_audio(write(samples))
    assert signal.dtype == torch.float32
    assert signal.tolist() == samples.tolist()


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_any_rate_becomes_16_khz(write, rate):
    signal = read_audio(write(tone(rate), rate))
    assert signal.shape == (8_000,)
    middle = slice(500, 7_500)  # a resampler has no past and no future at ends
    expected = torch.from_numpy(tone(16_000))[middle].float()
    assert torch.allclose(signal[middle], expected, atol=0.01)


def test_channels_are_averaged(write):
    stereo = np.tile([0.5, -0.25], (400, 1))
    assert read_audio(write(stereo)).tolist() == [0.125] * 400


def test_silence_is_fine(write):
    assert not read_audio(write(np.zeros(16_000))).any()


def test_forty_seconds_are_not_cut(write):
    assert read_audio(write(np.zeros(640_000))).shape == (640_000,)


@pytest.mark.parametrize("rate, channels", [(16_000, 1), (44_100, 2)])
def test_answer_is_that_of_speechbrain(write, rate, channels):
    path = write(
        np.random.default_rng(0).uniform(-1, 1, (rate, channels)), rate
    )
    model = SimpleNamespace(device="cpu", audio_normalizer=AudioNormalizer())
    assert torch.equal(
        read_audio(path), Pretrained.load_audio(model, str(path))
    )


def test_missing_file(tmp_path):
    assert "does not exist" in refusal(tmp_path / "no.wav")


def test_folder(tmp_path):
    assert "is a folder" in refusal(tmp_path)


def test_file_of_no_bytes(tmp_path):
    path = tmp_path / "a.wav"
    path.touch()
    assert "is empty (0 bytes)" in refusal(path)


def test_file_of_no_samples(write):
    assert "has no samples" in refusal(write(np.zeros(0)))


def test_file_that_is_no_audio(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("hello " * 100)
    assert "cannot be decoded (Format not recognised)" in refusal(path)


def test_name_that_promises_no_header(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(2_000))
    with pytest.raises(AudioError, match="a.raw cannot be decoded"):
        read_audio(path)
    with pytest.raises(AudioError, match="a.raw cannot be decoded"):
        next(read_windows(path))
    assert audio_seconds(path) is None


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere, names of files are text"
)
def test_name_that_is_no_text(write, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write(tone(16_000)).rename(path)
    assert len(read_audio(path)) == len(next(read_windows(path))) == 8_000
    assert audio_seconds(path) == 0.5


def test_half_a_flac(write):
    path = write(np.random.default_rng(0).uniform(-1, 1, 16_000), name="a.flac")
    path.write_bytes(path.read_bytes()[:9_000])
    assert "cannot be decoded" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20, -1e20])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_not_finite(write, rate, value):
    samples = np.zeros(rate, dtype=np.float32)
    samples[7] = value
    path = write(samples, rate, subtype="FLOAT")
    assert "NaN, infinite or beyond 1e+15" in refusal(path)


def test_loud_is_no_error(write):
    path = write(np.full(400, 1e14, np.float32), subtype="FLOAT")
    assert read_audio(path).max() > 9e13


@pytest.mark.parametrize("seconds", [1, 70])
@pytest.mark.parametrize("told", [0, 2**36 - 1])
def test_flac_that_does_not_know_its_length(write, seconds, told):
    # As written to a pipe: 36 bits of its header say 0, for "unknown".
    samples = np.random.default_rng(0).uniform(-1, 1, seconds * 16_000)
    path = write(samples, name="a.flac")
    expected = read_audio(path)
    stream = bytearray(path.read_bytes())
    bits = int.from_bytes(stream[21:26], "big") & ~(2**36 - 1) | told
    stream[21:26] = bits.to_bytes(5, "big")
    path.write_bytes(stream)
    assert torch.equal(read_audio(path), expected)
    assert torch.equal(torch.cat(list(read_windows(path))), expected)
    assert audio_seconds(path) == (told / 16_000 or None)


@pytest.mark.parametrize("rate", [48_001, 11_127, 2**31 - 1])
def test_odd_rate_takes_no_gigabytes(write, rate):
    path = write(np.zeros(rate if rate < 10**5 else 2), rate)
    if rate < 10**5:
        assert abs(len(read_audio(path)) - 16_000) < 5
        windows = [len(window) for window in read_windows(path)]
        assert windows == [len(read_audio(path))]
    else:
        assert "too short" in refusal(path)


@pytest.mark.parametrize(
    "num_samples, rate, at_16_khz",
    [(1, 16_000, 1), (399, 16_000, 399), (1_197, 48_000, 399)],
)
def test_shorter_than_one_window(write, num_samples, rate, at_16_khz):
    message = refusal(write(np.zeros(num_samples), rate))
    assert f"too short: {at_16_khz} samples at 16 kHz" in message


@pytest.mark.parametrize(
    "num_samples, rate", [(400, 16_000), (200, 8_000), (1_198, 48_000)]
)
def test_one_window_is_enough(write, num_samples, rate):
    assert read_audio(write(np.zeros(num_samples), rate)).shape == (400,)


def test_autocast_does_not_touch_audio(write):
    path = write(tone(8_000), 8_000)
    expected = read_audio(path)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(read_audio(path), expected)


# Length by the header


def test_seconds_by_the_header(write, tmp_path):
    assert audio_seconds(write(np.zeros(12_000), 8_000)) == 1.5
    assert audio_seconds(write(np.zeros(0))) == 0.0
    assert audio_seconds(tmp_path / "gone.wav") is None
    (tmp_path / "b.wav").write_text("hello " * 100)
    assert audio_seconds(tmp_path / "b.wav") is None


# Window by window


@pytest.mark.parametrize(
    "rate, channels, seconds",
    [
        (16_000, 1, 0.5),
        (16_000, 2, 30),
        (16_000, 1, 95.01),
        (8_000, 1, 65),
        (44_100, 2, 35.3),
        (11_025, 1, 62.7),
    ],
)
def test_windows_are_the_file_in_pieces(write, rate, channels, seconds):
    size = (int(rate * seconds), channels)
    path = write(np.random.default_rng(0).uniform(-0.5, 0.5, size), rate)
    signal, windows = read_audio(path), list(read_windows(path))
    spans = sample_windows(len(signal))
    assert [len(w) for w in windows] == [end - start for start, end in spans]
    assert len(windows) == -(-seconds // 30)
    joined = torch.cat(windows)
    assert (joined - signal).abs().max() < 1e-6
    assert rate != 16_000 or torch.equal(joined, signal)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_windows_of_what_is_compressed(write, name):
    wave = np.sin(np.arange(16_000 * 68) ** 1.5 / 2_000) / 2
    path = write(wave, name=name)
    joined = torch.cat(list(read_windows(path)))
    assert (joined - read_audio(path)).abs().max() < 1e-6  # libsndfile rounds


def test_one_window_is_held_at_a_time(write):
    # A value that cannot be used does harm when its window is reached.
    samples = np.zeros(16_000 * 70, dtype=np.float32)
    samples[-1] = np.nan
    windows = read_windows(write(samples, subtype="FLOAT"))
    assert len(next(windows)) == 1_166 * 320  # a third of 3 500 frames
    next(windows)
    with pytest.raises(AudioError, match="a.wav holds samples that are NaN"):
        next(windows)


def test_header_that_promises_more_than_there_is(write):
    path = write(np.random.default_rng(0).uniform(-1, 1, 600_000), name="a.wav")
    path.write_bytes(path.read_bytes()[:1_100_000])  # 549 978 samples
    joined = torch.cat(list(read_windows(path)))
    assert torch.equal(joined, read_audio(path))


def test_half_a_long_flac(write):
    path = write(
        np.random.default_rng(0).uniform(-1, 1, 600_000), name="a.flac"
    )
    path.write_bytes(path.read_bytes()[:900_000])
    with pytest.raises(AudioError, match="cannot be decoded"):
        list(read_windows(path))


@pytest.mark.parametrize("name", ["gone.wav", "folder", "empty.wav"])
def test_windows_of_what_is_no_audio(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=name):
        next(read_windows(tmp_path / name))


def test_survey_tells_lengths_from_failures(write, tmp_path):
    half = write(np.zeros(24_000), 48_000, name="half.wav")
    short = write(np.zeros(1), name="short.wav")
    gone = tmp_path / "gone.wav"
    lengths, failures = survey([short, half, gone, half])
    assert lengths == {half: 0.5}
    assert list(failures) == [short, gone]


def test_bad_audio_comes_in_input_order(write, tmp_path):
    good = write(np.zeros(400), name="good.wav")
    bad = [tmp_path / f"{name}.wav" for name in "cab"]
    assert list(find_bad_audio([bad[0], good, *bad[1:]])) == bad


def test_error_survives_a_data_loader_worker():
    error = pickle.loads(pickle.dumps(AudioError("a.wav is empty", "a.wav")))
    assert (str(error), error.path) == ("a.wav is empty", "a.wav")
