"""Audio files below a folder, found by name whatever their format."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path, PurePath

import soundfile

SUFFIXES = {f".{x.lower()}" for x in soundfile.available_formats()}
SUFFIXES |= {".opus", ".oga", ".aif"}


def audio_files(folder: str | Path) -> list[Path]:
    """Audio files at any depth, by their suffix, relative to the folder."""
    root = Path(folder)
    return sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
    )


def stem(path: str | PurePath) -> str:
    """File name without suffix."""
    return PurePath(path).stem


def find_sounds(
    wanted: Iterable[str],
    folder: str | Path,
    name: Callable[[str | PurePath], str] = stem,
) -> tuple[dict[str, str], list[str]]:
    """Find files that another machine's list names.

    A file has the name that is wanted, in any format. Of several, that whose
    folders are most like the wanted ones, from the last one on, is taken.

    Arguments
    ---------
    wanted : iterable of str
        Paths with ``/``, such as "downloads/emodb/wav/03a01Fa.wav".
    folder : str or Path
        Where to look, at any depth.
    name : callable
        Name of a path, which is equal for a wanted path and its file.

    Returns
    -------
    found : dict
        Wanted path → path relative to the folder, with ``/``.
    problems : list of str
        A line for each that is missing or ambiguous.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "03a01Fa.flac").touch()
    >>> find_sounds(["wav/03a01Fa.wav", "wav/03a01Wa.wav"], folder)
    ({'wav/03a01Fa.wav': '03a01Fa.flac'}, ['wav/03a01Wa.wav is missing'])
    """
    files = defaultdict(list)
    for file in audio_files(folder):
        files[name(file)].append(file)
    found, problems = {}, []
    for path in wanted:
        there = files.get(name(path), [])
        best = max((_likeness(path, file) for file in there), default=0)
        best_files = [x for x in there if _likeness(path, x) == best]
        if len(best_files) == 1:
            found[path] = best_files[0].as_posix()
        elif best_files:
            places = " and ".join(file.as_posix() for file in best_files)
            problems.append(f"{path} may be {places}")
        else:
            problems.append(f"{path} is missing")
    return found, problems


def _likeness(path: str, file: PurePath) -> int:
    """Number of equal folders from the last on; equal suffixes are one more."""
    wanted = PurePath(path)
    pairs = zip(
        reversed(wanted.parts[:-1]), reversed(file.parts[:-1]), strict=False
    )
    folders = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return folders + (wanted.suffix == file.suffix)
