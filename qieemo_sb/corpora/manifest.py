"""Utterances, their manifests on disk, and the three splits of a corpus.

A manifest is what SpeechBrain's ``DynamicItemDataset.from_json`` reads with
``replacements={"data_root": data_folder}``; what is unknown is absent::

    {"Ses01F_impro01_F000": {
        "wav": "{data_root}/Session1/sentences/wav/...",
        "length": 1.95, "emo": "neu", "wrd": "Excuse me.",
        "spk_id": "Ses01F", "corpus": "IEMOCAP", "language": "en",
        "session": 1, "gender": "F"}, ...}
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import posixpath
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from qieemo_sb.errors import CorpusError

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
OPTIONS_FILE = "prepare.json"
DATA_ROOT = "{data_root}/"


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus; "", None or 0 where a value is unknown.

    Arguments
    ---------
    utt_id : str
        Unique in the corpus.
    wav : str
        Audio file relative to the data root, with ``/`` on every system.
    length : float
        Seconds; 0 until `measure` has decoded the audio.
    emo : str
        Emotion label.
    wrd : str
        Transcript.
    spk_id : str
        Speaker.
    corpus : str
        Name of the corpus.
    language : str
        Language code, such as "en".
    votes : dict or None
        Emotion → number of listeners who chose it.
    session : int or str
        Recording session.
    gender : str
        F or M.
    """

    utt_id: str
    wav: str
    length: float = 0.0
    emo: str = ""
    wrd: str = ""
    spk_id: str = ""
    corpus: str = ""
    language: str = ""
    votes: dict[str, float] | None = None
    session: int | str = ""
    gender: str = ""


FIELDS = tuple(field.name for field in fields(Utterance))[1:]
Splits = dict[str, list[Utterance]]


def raise_all(heading: str, problems: Iterable[str]) -> None:
    """Raise one `CorpusError` that lists every problem; none, no error.

    Arguments
    ---------
    heading : str
        First line; ``{count}`` in it becomes the number of problems.
    problems : iterable of str
        One line each.
    """
    problems = list(problems)
    if problems:
        first = heading.replace("{count}", str(len(problems)))
        raise CorpusError("\n  ".join([first, *problems]))


def repeated(items: Iterable) -> list:
    """Items that occur more than once, sorted, each of them once."""
    return sorted(item for item, n in Counter(items).items() if n > 1)


def wrong_counts(
    found: Mapping, expected: Mapping, name: Callable[[Any], str] = str
) -> list[str]:
    """A line for each number that is not as expected; ``name`` names keys."""
    return [
        f"{name(key)}: {found.get(key, 0)} found, {number} expected"
        for key, number in expected.items()
        if found.get(key, 0) != number
    ]


def check_choice(name: str, value: object, choices: Iterable) -> None:
    """Raise a CorpusError that lists ``choices`` unless one is given."""
    choices = list(choices)
    if value not in choices:
        known = ", ".join(map(str, choices))
        raise CorpusError(f"{name} is {value!r}; it must be one of {known}.")


def existing_folder(folder: str | Path | None, hint: str) -> Path:
    """Absolute path of a corpus's folder.

    Arguments
    ---------
    folder : str, Path or None
        The data folder that the user gave.
    hint : str
        How to get the corpus; part of the error.

    Raises
    ------
    CorpusError
        None is given, or there is no such folder.
    """
    if not folder:
        raise CorpusError(f"data_folder is not given.\n{hint}")
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise CorpusError(f"{root} is no folder.\n{hint}")
    return root


# -- Files -----------------------------------------------------------------


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


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 file whole or not at all, line breaks as they are.

    Arguments
    ---------
    path : path-like
        The file to write or replace.
    text : str
        Its contents.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def identity(path: str | os.PathLike) -> str:
    """A name for a file as it is now: from its path, size and time of change.

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
    facts = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def regular_file(path: str | Path) -> Path:
    """Return the path of a file; CorpusError for a pipe, which never ends."""
    if not os.path.isfile(path):
        raise CorpusError(
            f"{path} cannot be read: there is no such file, or it is a folder, "
            "a pipe or a device."
        )
    return Path(path)


def digest(path: str | Path) -> str:
    """SHA-256 of a list that the user gave, in hexadecimal digits."""
    try:
        return hashlib.sha256(regular_file(path).read_bytes()).hexdigest()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error


def read_text(path: str | Path) -> str:
    """Text of a UTF-8 file, or a CorpusError that names it."""
    try:
        return regular_file(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error


def read_json(path: str | Path) -> dict:
    """Read a JSON object, with errors for the person who wrote it.

    Arguments
    ---------
    path : str or Path
        A UTF-8 file.

    Returns
    -------
    dict
        The object.

    Raises
    ------
    CorpusError
        Missing file, bad JSON (with its line), a key that occurs twice in
        one object, a text that is not Unicode, anything but an object at the
        top.
    """
    twice: list[str] = []  # json keeps the last: an utterance would be lost

    def collect(pairs):
        twice.extend(repeated(key for key, _ in pairs))
        return dict(pairs)

    text = read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=collect)
        json.dumps(value, ensure_ascii=False).encode()  # can be written
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{path}, line {error.lineno}, column {error.colno}: "
            f"not JSON: {error.msg}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error
    if twice:
        keys = ", ".join(twice)
        raise CorpusError(f"{path}: these keys occur twice: {keys}.")
    if not isinstance(value, dict):
        raise CorpusError(f"{path}: an object {{...}} is expected at the top.")
    return value


def write_json(value: dict, path: str | Path) -> None:
    """Write JSON with sorted keys, whole or not at all.

    Arguments
    ---------
    value : dict
        Anything `json` can write.
    path : str or Path
        The file; one already there is replaced.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    write_text(path, text + "\n")


def relative_path(path: str | Path, folder: str | Path) -> str:
    """Path below a data folder as manifests have it, with ``/``.

    Arguments
    ---------
    path : str or Path
        Absolute or relative to ``folder``; a list may come from Windows.
    folder : str or Path
        The data folder.

    Returns
    -------
    str
        Begins with ``../`` if the file is not in the folder.
    """
    if os.path.isabs(path):
        path = os.path.relpath(path, folder)
    return posixpath.normpath(str(path).replace("\\", "/"))


# -- Manifests -------------------------------------------------------------


def write_manifest(utterances: Iterable[Utterance], path: str | Path) -> None:
    """Write a manifest, sorted by utt_id, whole or not at all.

    Arguments
    ---------
    utterances : iterable of Utterance
        In any order.
    path : str or Path
        The JSON file.

    Raises
    ------
    CorpusError
        An utt_id occurs twice.

    Example
    -------
    >>> path = getfixture("tmp_path") / "train.json"
    >>> write_manifest([Utterance("a", "a.wav", 1.0, "happy")], path)
    >>> read_manifest(path)[0].emo
    'happy'
    """
    utterances = list(utterances)
    raise_all(
        f"{path} is not written: {{count}} utterance ids occur twice:",
        repeated(u.utt_id for u in utterances),
    )
    write_json({u.utt_id: _entry(u) for u in utterances}, path)


def _entry(utterance: Utterance) -> dict:
    """The manifest's entry of an utterance, without its utt_id."""
    entry = {}
    for key, value in asdict(utterance).items():
        # SpeechBrain passes every string of a manifest through str.format: a
        # brace in a transcript or a file name must be written twice.
        if isinstance(value, str):
            value = value.replace("{", "{{").replace("}", "}}")
        if value not in ("", None) and (key != "length" or value):
            entry[key] = value
    del entry["utt_id"]
    return {**entry, "wav": DATA_ROOT + entry["wav"]}


def read_manifest(
    path: str | Path, required: Iterable[str] = ("wav",)
) -> list[Utterance]:
    """Read a manifest.

    Arguments
    ---------
    path : str or Path
        The JSON file.
    required : iterable of str
        Keys every utterance must have.

    Returns
    -------
    list of Utterance
        Sorted by utt_id.

    Raises
    ------
    CorpusError
        Bad JSON, or one line for every utterance that lacks a key or has a
        value of the wrong type.
    """
    entries = sorted(read_json(path).items())
    required = tuple(required)
    raise_all(
        f"{path}: {{count}} problems:",
        [
            f"utterance {utt_id}: {problem}"
            for utt_id, entry in entries
            for problem in _entry_problems(entry, required)
        ],
    )
    return [_utterance(utt_id, entry) for utt_id, entry in entries]


def _entry_problems(entry: object, required: tuple[str, ...]) -> list[str]:
    if not isinstance(entry, dict):
        return ["an object {...} is expected"]
    problems = [f"'{key}' is missing" for key in required if key not in entry]
    for key in (key for key in FIELDS if key in entry):
        value, expected = entry[key], "a text"
        if key == "length":
            expected = "a number of seconds"
            fits = 0 <= _seconds(value) < math.inf
        elif key == "votes":
            expected = "an object {emotion: listeners}"
            fits = isinstance(value, dict) and all(
                0 <= _seconds(number) < math.inf for number in value.values()
            )
        elif key == "session":
            fits = isinstance(value, (str, int, float))
        else:
            needed = key == "wav" or (key == "emo" and key in required)
            fits = isinstance(value, str)
            fits = fits and bool(value.strip() or not needed)
        if not fits:
            problems.append(f"'{key}' is {value!r}, {expected} is expected")
    return problems


def _seconds(value: Any) -> float:
    """A length, which SpeechBrain's manifests also have as text; or NaN."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _utterance(utt_id: str, entry: dict) -> Utterance:
    known = {key: entry[key] for key in FIELDS if key in entry}
    known["length"] = _seconds(entry.get("length", 0.0))
    known["wav"] = entry.get("wav", "").removeprefix(DATA_ROOT)
    for key, value in known.items():
        if isinstance(value, str):
            known[key] = value.replace("{{", "{").replace("}}", "}")
    return Utterance(utt_id, **known)


def measure(
    utterances: list[Utterance], data_folder: str | Path
) -> list[Utterance]:
    """Fill in lengths by decoding all audio.

    Arguments
    ---------
    utterances : list of Utterance
        Their lengths are ignored.
    data_folder : str or Path
        The data root.

    Returns
    -------
    list of Utterance
        The same with ``length`` in seconds.

    Raises
    ------
    CorpusError
        Lists every file that is missing, corrupt, too short or not finite.
    """
    # torch is slow to import: reading and writing manifests does without.
    from qieemo_sb.audio import survey

    paths = [Path(data_folder) / u.wav for u in utterances]
    lengths, failures = survey(paths)
    raise_all(
        f"{{count}} of {len(set(paths))} audio files cannot be used:",
        failures.values(),
    )
    return [
        replace(utterance, length=lengths[path])
        for utterance, path in zip(utterances, paths, strict=True)
    ]


# -- Splits ----------------------------------------------------------------


def check_splits(splits: Splits) -> None:
    """Raise an error for splits that cannot be trained on or would leak.

    Arguments
    ---------
    splits : dict
        Utterances of train, valid and test.

    Raises
    ------
    CorpusError
        Names each empty split, each utterance or audio file in two places,
        each label of valid or test that train lacks.
    """
    known = {u.emo for u in splits["train"]}
    problems = [f"{name} is empty" for name in SPLITS if not splits[name]]
    for name in ("valid", "test"):
        unseen = sorted({u.emo for u in splits[name]} - known)
        problems += [f"{name} has label {x}, train does not" for x in unseen]
    places: dict[str, dict] = defaultdict(dict)
    for name in SPLITS:
        for utterance in splits[name]:
            places[utterance.utt_id][name] = True
            wav = posixpath.normpath(utterance.wav)
            places[f"audio file {wav}"][name] = True
    problems += [
        f"{item} is in {' and in '.join(names)}"
        for item, names in sorted(places.items())
        if len(names) > 1
    ]
    raise_all("The split is not sound ({count} problems):", problems)


def write_splits(
    splits: Splits,
    output_folder: str | Path,
    options: dict,
    data_folder: str | Path | None = None,
) -> None:
    """Write train.json, valid.json, test.json and, last, prepare.json.

    Arguments
    ---------
    splits : dict
        Utterances of train, valid and test.
    output_folder : str or Path
        Made if need be.
    options : dict
        Whatever the splits depend on, JSON values; see `prepared`.
    data_folder : str, Path or None
        The data root, to measure all audio first; None: lengths are known.

    Raises
    ------
    CorpusError
        See `check_splits` and `measure`.
    """
    check_splits(splits)  # costs nothing, whereas decoding takes minutes
    if data_folder:
        # In one pass, so that one error lists all files.
        everything = [u for name in SPLITS for u in splits[name]]
        measured = iter(measure(everything, data_folder))
        splits = {
            name: [next(measured) for _ in splits[name]] for name in SPLITS
        }
    folder = Path(output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The old options go first and the new ones come last: an interruption in
    # between leaves no folder that looks finished.
    (folder / OPTIONS_FILE).unlink(missing_ok=True)
    for name in SPLITS:
        write_manifest(splits[name], folder / f"{name}.json")
    write_json(options, folder / OPTIONS_FILE)


def prepared(output_folder: str | Path, options: dict) -> bool:
    """True if `write_splits` has finished here with the same options.

    Arguments
    ---------
    output_folder : str or Path
        Where the manifests are.
    options : dict
        As given to `write_splits`.

    Returns
    -------
    bool
        prepare.json holds the same options and all three manifests exist.
    """
    folder = Path(output_folder)
    if not all((folder / f"{name}.json").is_file() for name in SPLITS):
        return False
    try:
        stored = read_json(folder / OPTIONS_FILE)
    except CorpusError:
        return False
    same = stored == json.loads(json.dumps(options))
    if same:
        logger.info("%s is prepared already, with the same options.", folder)
    return same


# -- The prepare scripts ---------------------------------------------------


def prepare_and_report(
    prepare: Callable[..., None], output_folder: str | Path, **options
) -> int:
    """Prepare a corpus and print the size of its splits.

    Arguments
    ---------
    prepare : callable
        Writes manifests to ``output_folder``.
    output_folder : str or Path
        Where train.json, valid.json and test.json go.
    **options
        Further arguments of ``prepare``.

    Returns
    -------
    int
        Exit status: 0, or 1 when the corpus or a folder is at fault, which
        is then printed on stderr without a traceback.
    """
    try:
        prepare(output_folder=output_folder, **options)
        splits = {
            name: read_manifest(Path(output_folder) / f"{name}.json")
            for name in SPLITS
        }
    except (CorpusError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, part in splits.items():
        counts = sorted(Counter(u.emo for u in part).items())
        print(
            f"{name}: {len(part)} utterances,",
            f"{len({u.spk_id for u in part})} speakers,",
            f"{sum(u.length for u in part) / 3600:.2f} hours;",
            ", ".join(f"{label} {number}" for label, number in counts),
        )
    return 0
