"""Formats that people have, and files that are none."""

import os
import struct

import numpy as np
import pytest
import soundfile
from sounds import encode, hear, peak_of

from qieemo_sb.audio import audio_seconds, read_audio
from qieemo_sb.audio.decode import SoundFile, open_audio
from qieemo_sb.errors import AudioError


@pytest.mark.parametrize(
    "name, codec, rate",
    [
        ("a.m4a", "aac", 44_100),
        ("a.mp4", "aac", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.wma", "wmav2", 44_100),
        ("a.mka", "flac", 16_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.3gp", "aac", 16_000),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_in_any_format(tmp_path, name, codec, rate, channels):
    time = np.arange(2 * rate) / rate
    tone = 0.4 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    path = encode(tmp_path / name, tone, rate, codec, channels)
    signal = read_audio(path)
    assert len(signal) / 16_000 == pytest.approx(2, abs=0.1)  # codecs pad
    assert audio_seconds(path) == pytest.approx(2, abs=0.1)
    spectrum = np.abs(np.fft.rfft(signal[8_000:24_000]))
    assert spectrum.argmax() == 440  # Hz, of one second
    assert np.abs(signal[8_000:24_000]).max() == pytest.approx(0.4, abs=0.08)


def test_the_sound_of_a_video(tmp_path):
    tone = 0.4 * np.sin(np.arange(48_000) / 20).astype(np.float32)
    path = encode(tmp_path / "a.mp4", tone, 48_000, "aac", video=True)
    assert len(read_audio(path)) == pytest.approx(16_000, abs=800)
    silent = encode(tmp_path / "b.mp4", None, 48_000, "aac", video=True)
    with pytest.raises(AudioError, match="no sound in it"):
        read_audio(silent)


def test_an_hour_of_m4a_takes_no_more_than_a_minute(tmp_path):
    def peak(minutes):
        wav = np.zeros(minutes * 60 * 8_000, np.float32)
        path = encode(tmp_path / "a.m4a", wav, 8_000, "aac")
        return peak_of(hear, path)

    assert peak(8) < 1.1 * peak(3)


def test_half_a_file(tmp_path):
    wav = np.zeros(16_000, np.float32)
    path = encode(tmp_path / "a.m4a", wav, 16_000, "aac")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(AudioError, match="a.m4a cannot be decoded.*ffmpeg"):
        read_audio(path)


# Hostile files


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes")
def test_a_header_that_leads_out_of_the_file(tmp_path):
    path = tmp_path / "a.caf"
    soundfile.write(path, np.zeros(8_000), 16_000, format="CAF")
    data = bytearray(path.read_bytes())
    data[20:20] = b"\xff" * 4  # in the length of its first chunk
    path.write_bytes(data)
    with pytest.raises(AudioError, match="a.caf cannot be decoded"):
        read_audio(path)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    for name in ("pipe.wav", "zero.wav"):
        with pytest.raises(AudioError, match=f"{name} is no regular file"):
            read_audio(tmp_path / name)
        assert audio_seconds(tmp_path / name) is None
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 16_000)
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    assert len(read_audio(tmp_path / "link.wav")) == 800


def test_a_name_promises_nothing(tmp_path):
    # FFmpeg would search all of it for a beginning, and keep that.
    path = tmp_path / "zeros.mp3"
    path.write_bytes(bytes(300_000))
    with pytest.raises(AudioError, match="zeros.mp3 cannot be decoded"):
        read_audio(path)
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 16_000)
    (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    with open_audio(tmp_path / "a.raw") as file:
        assert isinstance(file, SoundFile)


def test_a_name_forges_no_line(tmp_path):
    with pytest.raises(
        AudioError, match=r"a\\n\\x1b\[31m.wav does not"
    ) as info:
        read_audio(tmp_path / "a\n\x1b[31m.wav")
    assert info.value.path == str(tmp_path / "a\n\x1b[31m.wav")


def header(channels, rate, data=2**30):
    """A WAV file of little but a header."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2, 2 * channels, 16)
    parts = [b"RIFF", struct.pack("<I", data + 36), b"WAVEfmt "]
    parts += [struct.pack("<I", 16), form, b"data", struct.pack("<I", data)]
    return b"".join([*parts, bytes(28)])


def test_a_header_takes_no_memory(tmp_path):
    path = tmp_path / "a.wav"

    def refuse(channels, message):
        path.write_bytes(header(channels, 16_000))
        assert path.stat().st_size == 72
        with pytest.raises(AudioError, match=message):
            read_audio(path)

    few, many = "no samples|too short", "1024 channels, more than 64"
    assert peak_of(refuse, 1_024, many) < 20e6
    assert peak_of(refuse, 64, few) < 20e6


def test_kilobytes_do_not_become_hours(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(4_000), 1)
    with pytest.raises(AudioError, match="a.wav: A sampling rate of 1 Hz"):
        read_audio(path)


@pytest.mark.parametrize("samples", [np.zeros(16_000), np.ones(16_000) / 3])
def test_a_header_that_promises_less_than_the_file_holds(
    tmp_path, caplog, samples
):
    """As of a recorder that died: half a second of one is lost."""
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, "PCM_16")
    whole = path.read_bytes()
    start = whole.index(b"data") + 4
    assert whole[start : start + 4] == struct.pack("<I", 32_000)
    assert len(whole) == start + 4 + 32_000
    for more in (b"", b"LIST" + struct.pack("<I", 40_000) + bytes(40_000)):
        path.write_bytes(whole + more)
        assert len(read_audio(path)) == 16_000
    path.write_bytes(whole + bytes(512))  # some recorders fill up the block
    read_audio(path)
    assert caplog.messages == []
    half = whole[:start] + struct.pack("<I", 16_000) + whole[start + 4 :]
    path.write_bytes(half)
    assert len(read_audio(path)) == 8_000
    (message,) = caplog.messages
    assert f"{path}: its header promises 0.5 s, and" in message
    assert "the file holds 1.0 s" in message
