"""Every file and batch has one defined answer or one clear error."""

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from sounds import hear, peak_of
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.inference.interfaces import Pretrained

from qieemo_sb.audio import (
    Windows,
    audio_seconds,
    read_audio,
    read_batches,
    read_spans,
    read_windows,
    survey,
    to_mono,
)
from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.frames import sample_windows


@pytest.fixture
def write(tmp_path):
    def write_file(samples, rate=16_000, name="a.wav", **options):
        path = tmp_path / name
        soundfile.write(path, samples, rate, **options)
        return path

    return write_file


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def joined(path):
    return np.concatenate(list(read_windows(path)))


def speechbrains(path):
    """The samples that SpeechBrain's classes load."""
    model = SimpleNamespace(device="cpu", audio_normalizer=AudioNormalizer())
    return Pretrained.load_audio(model, str(path)).numpy()


# Whole files


def test_samples_are_those_of_the_file(write):
    samples = np.array([0.0, 0.5, -0.25, 0.125] * 100, dtype=np.float32)
    signal = read_audio(write(samples))
    assert signal.dtype == np.float32
    assert signal.tolist() == samples.tolist()
    assert torch.from_numpy(signal).add_(1).min() == 0.75  # may be written to


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_any_rate_becomes_16_khz(write, rate):
    def tone(rate):
        return 0.5 * np.sin(2 * np.pi * 200 * np.arange(rate // 2) / rate)

    signal = read_audio(write(tone(rate), rate))
    assert signal.shape == (8_000,)
    middle = slice(500, 7_500)  # at the ends the filter sees zeros
    assert np.abs(signal - tone(16_000))[middle].max() < 0.01


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_samples_are_those_of_speechbrain(write, rate, channels):
    path = write(noise(rate + 17, channels), rate, subtype="FLOAT")
    found, expected = read_audio(path), speechbrains(path)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6
    assert rate != 16_000 or channels > 1 or np.array_equal(found, expected)


def test_channels_are_averaged_and_silence_is_fine(write):
    stereo = np.tile([0.5, -0.25], (400, 1))
    assert read_audio(write(stereo)).tolist() == [0.125] * 400
    assert read_audio(write(np.zeros(640_000))).tolist() == [0] * 640_000


def test_errors_name_the_file(write, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("hello " * 100)
    (tmp_path / "a.raw").write_bytes(bytes(2_000))  # no header to expect
    flac = write(noise(16_000), name="half.flac")
    flac.write_bytes(flac.read_bytes()[:9_000])
    errors = {
        tmp_path: "is a folder",
        tmp_path / "no.wav": "does not exist",
        tmp_path / "empty.wav": r"is empty \(0 bytes\)",
        tmp_path / "text.wav": r"cannot be decoded \(Invalid data found",
        tmp_path / "a.raw": "cannot be decoded",
        flac: "cannot be decoded",
        write(np.zeros(0), name="0.wav"): "has no samples",
        write(np.zeros(399), name="399.wav"): "too short: 399 samples at 16",
        write(np.zeros(1_197), 48_000, name="48.wav"): "too short: 399 samples",
    }
    for path, message in errors.items():
        for read in (read_audio, lambda path: next(read_windows(path))):
            with pytest.raises(AudioError, match=message) as caught:
                read(path)
            assert str(caught.value).startswith(str(path))
            assert caught.value.path == str(path)
    assert isinstance(caught.value, QieemoError)
    again = pickle.loads(pickle.dumps(caught.value))  # by DataLoader workers
    assert str(again) == str(caught.value)


@pytest.mark.parametrize(
    "num_samples, rate", [(400, 16_000), (200, 8_000), (1_198, 48_000)]
)
def test_25_ms_are_enough(write, num_samples, rate):
    assert read_audio(write(np.zeros(num_samples), rate)).shape == (400,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_no_model_can_use(write, rate, value, channels):
    samples = np.zeros((rate, channels), dtype=np.float32)
    samples[7, 0] = value
    with pytest.raises(AudioError, match="NaN, infinite or beyond 1e.15"):
        read_audio(write(samples, rate, subtype="FLOAT"))


def test_loud_is_no_error(write):
    path = write(np.full(400, 1e14, np.float32), subtype="FLOAT")
    assert read_audio(path).max() > 9e13


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere, names of files are text"
)
def test_name_that_is_no_text(write, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write(np.zeros(8_000)).rename(path)
    assert len(read_audio(path)) == len(joined(path)) == 8_000
    assert audio_seconds(path) == 0.5


def test_seconds_by_the_header(write, tmp_path):
    assert audio_seconds(write(np.zeros(12_000), 8_000)) == 1.5
    assert audio_seconds(write(np.zeros(0))) == 0.0
    (tmp_path / "text.wav").write_text("hello " * 100)
    for name in ("gone.wav", "text.wav"):
        assert audio_seconds(tmp_path / name) is None


# Headers that are wrong


@pytest.mark.parametrize("seconds", [1, 70])
@pytest.mark.parametrize("told", [0, 2**36 - 1])
def test_flac_of_unknown_length(write, seconds, told):
    # As written to a pipe: 36 bits of its header say 0, for "unknown".
    path = write(noise(seconds * 16_000), name="a.flac")
    expected = read_audio(path)
    stream = bytearray(path.read_bytes())
    bits = int.from_bytes(stream[21:26], "big") & ~(2**36 - 1) | told
    stream[21:26] = bits.to_bytes(5, "big")
    path.write_bytes(stream)
    assert np.array_equal(read_audio(path), expected)
    assert np.array_equal(joined(path), expected)
    assert audio_seconds(path) == (told / 16_000 or None)


@pytest.mark.parametrize("told", [0, 2**31 - 4_096, 2**32 - 1])
def test_wav_of_unknown_length(write, told):
    # As sox and ffmpeg write it to a pipe: the greatest size, or none.
    path = write(noise(35 * 16_000))
    expected = read_audio(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = data[4:8] = told.to_bytes(4, "little")
    path.write_bytes(data)
    if told:
        assert np.array_equal(read_audio(path), expected)
        assert np.array_equal(joined(path), expected)
    else:
        with pytest.raises(AudioError, match="has no samples"):
            read_audio(path)


def test_header_that_promises_too_much(write):
    path = write(noise(600_000))
    path.write_bytes(path.read_bytes()[:1_100_000])  # 549 978 samples
    assert len(read_audio(path)) == 549_978
    assert np.array_equal(joined(path), read_audio(path))
    flac = write(noise(600_000), name="a.flac")
    flac.write_bytes(flac.read_bytes()[:900_000])
    with pytest.raises(AudioError, match="cannot be decoded"):
        joined(flac)


def test_odd_rates_take_no_gigabytes(write):
    for rate in (48_001, 11_127):
        path = write(np.zeros(rate), rate)
        assert abs(len(read_audio(path)) - 16_000) < 5
        assert len(joined(path)) == len(read_audio(path))
    for rate in (999, 2**31 - 1):
        with pytest.raises(AudioError, match=f"a.wav: .* of {rate} Hz is that"):
            read_audio(write(np.zeros(2), rate))


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
    path = write(noise(int(rate * seconds), channels) / 2, rate)
    signal, windows = read_audio(path), list(read_windows(path))
    spans = sample_windows(len(signal))
    assert [len(w) for w in windows] == [end - start for start, end in spans]
    assert len(windows) == -(-seconds // 30)
    assert np.abs(np.concatenate(windows) - signal).max() < 1e-6
    assert rate != 16_000 or np.array_equal(np.concatenate(windows), signal)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_windows_of_compressed_audio(write, name):
    path = write(np.sin(np.arange(16_000 * 68) ** 1.5 / 2_000) / 2, name=name)
    assert np.abs(joined(path) - read_audio(path)).max() < 1e-6


@pytest.mark.parametrize(
    "name, rate", [("a.wav", 16_000), ("a.mp3", 16_000), ("a.wav", 8_000)]
)
def test_memory_does_not_grow_with_the_file(write, name, rate):
    def peak(minutes):
        path = write(np.zeros(minutes * 60 * rate, np.float32), rate, name)
        return peak_of(hear, path)

    # Eight minutes are 31 MB, a window is 2.
    assert peak(8) < 1.1 * peak(2) < 30e6


def test_a_whole_file_is_held_once(write):
    path = write(np.zeros(4_800_000, np.float32))  # 19 MB in floats
    assert peak_of(read_audio, path) < 1.7 * 4 * 4_800_000


def test_a_stream_is_cut_as_a_file():
    signal = noise(16_000 * 130 + 7)
    for size in (16_000, 500_000, 16_000 * 200):
        cutter, windows = Windows(), []
        for i in range(0, len(signal), size):
            windows += cutter.update(signal[i : i + size])
            held = min(i + size, len(signal)) - sum(map(len, windows))
            assert held < 16_000 * 60 + 320
        windows += cutter.finish()
        expected = [signal[a:b] for a, b in sample_windows(len(signal))]
        assert all(map(np.array_equal, windows, expected))
        assert len(windows) == len(expected)


def test_spans_are_parts_of_the_file(write):
    path = write(noise(44_100 * 20), 44_100)
    signal = read_audio(path)
    spans = [(0, 5), (3, 300_000), (100_000, 100_400), (299_000, 10**7)]
    found = list(read_spans(path, [*spans, (10**7, 10**8)]))
    for part, (start, end) in zip(found, spans, strict=False):
        assert np.array_equal(part, signal[start:end])
    assert len(found[-1]) == 0 and len(found) == 5


def test_errors_come_with_their_window(write):
    samples = np.zeros(16_000 * 70, dtype=np.float32)
    samples[-1] = np.nan
    windows = read_windows(write(samples, subtype="FLOAT"))
    assert len(next(windows)) == 480_000
    next(windows)
    with pytest.raises(AudioError, match="a.wav holds samples that are NaN"):
        next(windows)


# Many files


@pytest.fixture
def files(write):
    """Files of so many seconds; each holds its index / 100."""

    def make(*seconds):
        return [
            write(np.full(int(s * 16_000), i / 100), name=f"{i}.wav")
            for i, s in enumerate(seconds)
        ]

    return make


@pytest.mark.parametrize(
    "seconds, max_seconds, batches",
    [
        ([], 9, []),
        ([3, 1, 2], 100, [[1, 2, 0]]),  # short files first
        ([1, 4, 1], 11.9, [[0, 2], [1]]),  # padding counts: twelve seconds
        ([1, 4, 1], 12.0, [[0, 2, 1]]),
        ([5, 1, 6], 2, [[1], [0], [2]]),  # a long file by itself
    ],
)
def test_batches_of_files(files, seconds, max_seconds, batches):
    found = list(read_batches(files(*seconds), max_seconds))
    assert [[i for i, _ in batch] for batch in found] == batches
    for i, signal in (item for batch in found for item in batch):
        assert len(signal) == seconds[i] * 16_000
        assert np.allclose(signal, i / 100, atol=1e-4)


def test_bad_files_come_last_as_errors(files, write, tmp_path):
    nan = write(np.full(800, np.nan), name="nan.wav", subtype="FLOAT")
    paths = [tmp_path / "gone.wav", *files(1), nan]
    found = dict(item for batch in read_batches(paths, 9) for item in batch)
    assert list(found) == [2, 1, 0]
    for i, name in ((0, "gone.wav"), (2, "nan.wav")):
        assert isinstance(found[i], AudioError) and name in str(found[i])


def test_survey_separates_lengths_and_failures(write, tmp_path):
    half = write(np.zeros(24_000), 48_000, name="half.wav")
    short = write(np.zeros(1), name="short.wav")
    gone = tmp_path / "gone.wav"
    lengths, failures = survey([short, half, gone, half])
    assert lengths == {half: 0.5}
    assert list(failures) == [short, gone]  # in the order given
    assert "does not exist" in failures[gone]


# Arrays


def test_arrays_and_rates_as_files(write):
    samples = noise(44_100, 2)
    path = write(samples, 44_100, subtype="FLOAT")
    for array in (samples, samples.astype(float), torch.from_numpy(samples)):
        source = {"array": array, "sampling_rate": 44_100}
        assert np.array_equal(read_audio(source), read_audio(path))
        assert audio_seconds(source) == 1
    mono = samples[:, 0]
    assert np.array_equal(read_audio(mono), mono)
    assert np.array_equal(joined(mono), mono)
    assert to_mono(np.array([-32_768, 16_384], np.int16)).tolist() == [-1, 0.5]


@pytest.mark.parametrize(
    "source, message",
    [
        (np.zeros(800, int), r"Samples are \[800\] of int64"),
        (np.zeros((1, 800, 1)), r"are \[1, 800, 1\]"),
        ({"array": np.zeros(800)}, "array.*sampling_rate"),
        ({"array": np.zeros(9), "sampling_rate": 1}, "rate of 1 Hz"),
        ({"array": np.zeros(9), "sampling_rate": "8000"}, "rate of 8000 Hz"),
        (np.zeros((800, 0)), r"are \[800, 0\]"),
        ([[0.0, 1.0], [0.0]], "Samples are no array"),
        (np.zeros(0), "array has no samples"),
        (np.zeros(399), "array is too short"),
        (np.full(400, np.nan), "array holds samples that are NaN"),
    ],
)
def test_arrays_that_are_no_recording(source, message):
    with pytest.raises(AudioError, match=message):
        read_audio(source)


def test_neither_torch_nor_speechbrain_is_imported():
    code = (
        "import sys, qieemo_sb.audio\n"
        "print({'torch', 'speechbrain', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
