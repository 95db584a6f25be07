"""Writing files so that no reader, and no crash, ever leaves half of one."""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file whole or not at all.

    Arguments
    ---------
    path : path-like
        The file to write or replace. Its folder is made if need be.

    Yields
    ------
    Path
        A file beside it to write to; it takes the place of ``path`` when the
        block ends, and goes away if the block raises.

    Example
    -------
    >>> path = getfixture("tmp_path") / "new" / "numbers.txt"
    >>> with replacing(path) as partial:
    ...     _ = partial.write_text("1 2 3")
    >>> path.read_text()
    '1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since writers choose a format by it.
    partial = path.with_name(f".{uuid.uuid4().hex}.partial.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Write a folder whole or not at all.

    Arguments
    ---------
    folder : path-like
        The folder to write or replace.

    Yields
    ------
    Path
        An empty folder beside it to write to; it takes the place of
        ``folder`` when the block ends, and goes away if the block raises.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "numbers"
    >>> with replacing_folder(folder) as unfinished:
    ...     _ = (unfinished / "a.txt").write_text("1 2 3")
    >>> [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    folder = Path(folder).resolve()  # a link stays one
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        _take_place(folder, unfinished)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _take_place(folder, new):
    """Put a folder where another may be, which goes last of all."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def identity(path: str | os.PathLike) -> str:
    """A name for a file as it is now: by its place, size and time of change.

    Arguments
    ---------
    path : path-like
        A file that exists.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    status = os.stat(path)
    what = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole or not at all.

    Arguments
    ---------
    path : path-like
        The file to write or replace.
    text : str
        Written in UTF-8, line breaks as they are.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
