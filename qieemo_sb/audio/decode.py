"""Files → samples: by libsndfile, and by FFmpeg what that cannot read."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from qieemo_sb.errors import AudioError, shown

logger = logging.getLogger(__name__)

BLOCK = 2**17  # samples of all channels decoded at once: headers may lie
MOST_CHANNELS = 64
UNKNOWN = 2**63 - 1  # frames in the header of a file that went through a pipe
# In libsndfile's notes on a WAV: bytes of its samples, and the place of what
# follows if that is no chunk
DATA = r"^data : (\d+)$(?:.|\n)*[Mm]arker.* at position (\d+)"
LOST = 0.25  # s behind the samples of a header; less may be padding
CONVERT = "convert it to WAV or FLAC (ffmpeg -i FILE new.wav)"


def audio_error(path: str | Path, problem: str, remedy: str) -> AudioError:
    """An AudioError that names a file."""
    return AudioError(f"{shown(str(path))} {problem}; {remedy}.", path)


def check_file(path: str | Path) -> None:
    """Raise AudioError for a path that is no regular file, or an empty one."""
    try:
        about = os.stat(path)
    except (OSError, ValueError) as error:
        problem = "does not exist", "check the path"
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            problem = f"cannot be opened ({error})", "check the path"
        raise audio_error(path, *problem) from error
    if stat.S_ISDIR(about.st_mode):
        raise audio_error(path, "is a folder", "name an audio file in it")
    if not stat.S_ISREG(about.st_mode):  # reading a pipe may never end
        raise audio_error(
            path, "is no regular file", "copy the recording to one"
        )
    if about.st_size == 0:
        remedy = "record or copy it again"
        raise audio_error(path, "is empty (0 bytes)", remedy)


@contextlib.contextmanager
def open_audio(path: str | Path) -> Iterator[SoundFile | Container]:
    """Open an audio file: its ``rate``, and its ``blocks`` from front to back.

    Arguments
    ---------
    path : str or Path
        A regular file. Formats that libsndfile cannot read (m4a, webm, amr,
        wma, the sound of a video ...) are read by PyAV.

    Yields
    ------
    SoundFile or Container

    Raises
    ------
    AudioError
        The file cannot be read; the message says why.
    """
    check_file(path)
    try:
        file: Any = SoundFile(path)
    except RuntimeError as error:
        file = Container(path, error)
    with file:
        if not 1 <= file.channels <= MOST_CHANNELS:
            raise audio_error(
                path,
                f"has {file.channels} channels, more than {MOST_CHANNELS}",
                "split it, or check that it is a recording",
            )
        yield file


class SoundFile:
    """An audio file read by libsndfile.

    Arguments
    ---------
    path : str or Path
    """

    def __init__(self, path: str | Path):
        self._path = path
        is_raw = os.fspath(path).lower().endswith(".raw")
        self._file = _Sequential(_Nameless(path) if is_raw else _name(path))
        self.rate = self._file.samplerate
        self.channels = self._file.channels

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    @property
    def seconds(self) -> float | None:
        """Length by the header; None if it has none."""
        frames = self._file.frames
        return None if frames == UNKNOWN else frames / self.rate

    def blocks(self) -> Iterator[np.ndarray]:
        """Samples [S, channels] float32, block by block."""
        size = max(1, BLOCK // self.channels)
        try:
            while len(
                block := self._file.read(size, "float32", always_2d=True)
            ):
                yield block
        except RuntimeError as error:
            raise undecodable(self._path, error) from error
        self._warn_of_rest()

    def _warn_of_rest(self):
        """Warn if a WAV's header has fewer samples than its file."""
        notes = re.search(DATA, self._file.extra_info, re.MULTILINE)
        if notes and self.seconds:
            data, end = map(int, notes.groups())
            rest = os.path.getsize(self._path) - end
            lost = self.seconds * rest / data
            if lost >= LOST:
                logger.warning(
                    "%s: its header promises %.1f s, and the file holds %.1f "
                    "s; the rest is not read. Repair it (ffmpeg -ignore_length "
                    "1 -i FILE new.wav).",
                    self._path,
                    self.seconds,
                    self.seconds + lost,
                )


class _Sequential(soundfile.SoundFile):
    """A file that is read from front to back.

    After each read soundfile would seek to the place where it already is,
    which an MP3 decoder misses by some samples, and which is unknown in a
    stream.
    """

    def seekable(self):
        return False


class _Nameless:
    """A file that is known by its contents alone.

    Libraries believe a name: soundfile refuses any .raw, and FFmpeg searches
    all of a .mp3 for its beginning, and keeps that in memory.
    """

    def __init__(self, path):
        file = open(path, "rb")
        self.read, self.readinto = file.read, file.readinto
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def __del__(self):
        self.close()  # libsndfile does not


class Container:
    """The sound of a file, read by FFmpeg's libraries in PyAV.

    Arguments
    ---------
    path : str or Path
    refused : Exception
        Why libsndfile did not read it.
    """

    def __init__(self, path: str | Path, refused: Exception):
        try:
            import av
        except ImportError:
            raise undecodable(path, refused) from refused
        av.logging.set_level(av.logging.PANIC)  # errors are raised
        # An OSError when a header leads to before the beginning of the file.
        self._errors = av.FFmpegError, OSError, ValueError
        self._path = path
        self._bytes: Any = None
        try:
            self._bytes = _Nameless(path)
            self._file = av.open(self._bytes, "r", metadata_errors="ignore")
        except self._errors as error:
            if self._bytes:
                self._bytes.close()
            # Of an MP3, libsndfile says that it does not exist.
            reason = getattr(error, "strerror", None) or refused
            raise undecodable(path, reason) from refused
        try:
            self._stream, *_ = self._file.streams.audio
            codec = self._stream.codec_context
            self.rate, self.channels = codec.sample_rate, codec.channels
            if not (self.rate and self.channels):
                raise ValueError("a stream of unknown form")
        except (ValueError, AttributeError) as error:
            self.__exit__()
            raise undecodable(path, "no sound in it") from error

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        self._bytes.close()

    @property
    def seconds(self) -> float | None:
        """Length by the container; None if it has none."""
        stream, duration = self._stream, self._file.duration
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if duration is None else duration / 1e6  # microseconds

    def blocks(self) -> Iterator[np.ndarray]:
        """Samples [S, channels] float32, block by block."""
        import av

        # To floating point only: rates and channels are for those that call.
        converter = av.AudioResampler(format="flt")
        try:
            for frame in self._file.decode(self._stream):
                for piece in converter.resample(frame):
                    yield self._samples(piece)
            for piece in converter.resample(None):
                yield self._samples(piece)
        except self._errors as error:
            raise undecodable(self._path, error) from error

    def _samples(self, frame):
        if frame.sample_rate != self.rate:
            raise ValueError("its sampling rate changes")
        return frame.to_ndarray().reshape(-1, len(frame.layout.channels))


def undecodable(path: str | Path, cause: object) -> AudioError:
    """The AudioError for a file that no library decodes."""
    reason = str(getattr(cause, "error_string", cause)).rstrip(".")
    return audio_error(
        path, f"cannot be decoded ({reason})", f"copy it again or {CONVERT}"
    )


def _name(path):
    """A path as soundfile opens it: names need not be UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)
