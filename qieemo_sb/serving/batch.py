"""Many recordings on the command line: which they are, and what is written."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.serving import formats
from qieemo_sb.serving.results import Prediction

# Of the files in a folder; one that is named may end in anything.
AUDIO = set(
    "3gp aac aif aiff amr au caf flac m4a m4b mka mkv mov mp2 mp3 mp4 mpga oga "
    "ogg opus wav webm wma".split()
)


def find_files(names: Iterable[str], listed: TextIO | None = None) -> list[str]:
    """Audio files by their names, folders, patterns, or a list of them.

    Arguments
    ---------
    names : iterable of str
        Files; folders, of which all audio files are taken; patterns as of a
        shell (``**`` for any folders); ``-`` for the lines of ``listed``.
    listed : file or None
        A name a line.

    Returns
    -------
    list of str
        Each once, in order.

    Raises
    ------
    QieemoError
        A folder or a pattern without any audio file, or no file at all.
    """
    found: dict[str, None] = {}
    for name in names:
        if name == "-" and listed is not None:
            lines = (line.rstrip("\r\n") for line in listed)
            found |= dict.fromkeys(line for line in lines if line)
        elif os.path.isdir(name):
            found |= dict.fromkeys(_audio_in(name))
        elif glob.has_magic(name) and not os.path.lexists(name):
            matching = sorted(glob.glob(name, recursive=True))
            if not matching:
                raise QieemoError(f"No file matches {name}; check the pattern.")
            found |= dict.fromkeys(filter(os.path.isfile, matching))
        else:
            found[name] = None
    if not found:
        raise QieemoError("No audio file was named.")
    return list(found)


def _audio_in(folder):
    """Audio files in a folder and those below, sorted."""
    paths = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.rpartition(".")[2].lower() in AUDIO and name[0] != "."
    ]
    if not paths:
        raise QieemoError(f"{folder} has no audio file; check the path.")
    return sorted(paths)


def format_of(path: str | None) -> str:
    """The format that a file's ending names; any other: ``table``.

    Example
    -------
    >>> format_of("emotions.CSV"), format_of("emotions.txt"), format_of(None)
    ('csv', 'table', 'table')
    """
    suffix = Path(path or "").suffix[1:].lower()
    return suffix if suffix in formats.FORMATS else "table"


def write_predictions(
    results: Iterable[Prediction | AudioError],
    out: TextIO,
    kind: str = "table",
    scores: bool = False,
) -> list[AudioError]:
    """Write results one by one, as they come → the errors among them.

    Arguments
    ---------
    results : iterable of (Prediction or AudioError)
        Of ``classifier.predict``.
    out : file
        Where to.
    kind, scores
        As of ``formats.lines``.

    Returns
    -------
    list of AudioError
    """
    errors: list[AudioError] = []

    def good():
        for result in results:
            if isinstance(result, AudioError):
                errors.append(result)
            else:
                yield result

    out.writelines(formats.lines(good(), kind, scores))
    return errors


@contextlib.contextmanager
def output(path: str | Path | None) -> Iterator[TextIO]:
    """A text file that is there when it is whole; None: standard output.

    What a run that was stopped had written is in ``path`` + ``.partial``.

    Raises
    ------
    QieemoError
        Nothing can be written there.
    """
    if path is None:
        yield sys.stdout
        return
    partial = Path(f"{path}.partial")
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        partial.parent.mkdir(parents=True, exist_ok=True)
        # A file's name need not be text; it is written as it was given.
        file = open(partial, "w", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise QieemoError(
            f"{path} cannot be written ({error.strerror}): name another file."
        ) from error
    with file:
        yield file
    partial.replace(path)


def timeline_paths(files: list[str], table: str, kind: str) -> dict[str, Path]:
    """Files of the timelines, in a folder beside the table.

    Example
    -------
    >>> paths = timeline_paths(["a/1.wav", "a/b/1.mp3"], "out.csv", "webvtt")
    >>> [path.as_posix() for path in paths.values()]
    ['out.timeline/1.wav.vtt', 'out.timeline/b/1.mp3.vtt']
    """
    folders = [os.path.dirname(os.path.abspath(file)) for file in files]
    try:
        top = os.path.commonpath(folders)
    except ValueError:  # on several drives
        top = ""
    suffix = formats.SUFFIXES.get(kind, kind)
    place = Path(table).with_suffix(".timeline")
    return {
        file: place / f"{os.path.relpath(os.path.abspath(file), top)}.{suffix}"
        for file in files
    }
