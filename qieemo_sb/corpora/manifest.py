"""The utterance, its manifest on disk, and the three splits of a corpus.

A manifest is what SpeechBrain's ``DynamicItemDataset.from_json`` reads with
``replacements={"data_root": data_folder}``::

    {"Ses01F_impro01_F000": {
        "wav": "{data_root}/Session1/sentences/wav/...",
        "length": 1.95, "emo": "neu", "wrd": "Excuse me.",
        "spk_id": "Ses01F", "session": 1, "gender": "F"}, ...}
"""

import json
import logging
import math
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qieemo_sb.corpora.files import replacing
from qieemo_sb.errors import CorpusError

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
OPTIONS_FILE = "prepare.json"
DATA_ROOT = "{data_root}/"


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

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
        Transcript; "" where the corpus has none.
    spk_id : str
        Speaker.
    session : int or str
        Recording session; "" where the corpus has none.
    gender : str
        F, M or "".
    """

    utt_id: str
    wav: str
    length: float
    emo: str
    wrd: str = ""
    spk_id: str = ""
    session: int | str = ""
    gender: str = ""


FIELDS = tuple(Utterance.__dataclass_fields__)[1:]  # all but the utt_id
Splits = dict[str, list[Utterance]]


def raise_all(heading: str, problems: Iterable[str]) -> None:
    """Raise one `CorpusError` that lists every problem; none, no error.

    Arguments
    ---------
    heading : str
        First line; ``{count}`` in it becomes the number of problems.
    problems : iterable of str
        One line each.

    Example
    -------
    >>> raise_all("{count} problems:", [])
    """
    problems = list(problems)
    if problems:
        first = heading.replace("{count}", str(len(problems)))
        raise CorpusError("\n  ".join([first, *problems]))


def repeated(items: Iterable) -> list:
    """Items that occur more than once, sorted.

    Arguments
    ---------
    items : iterable
        Anything hashable and sortable.

    Returns
    -------
    list
        Each of them once.

    Example
    -------
    >>> repeated("abcab")
    ['a', 'b']
    """
    return sorted(item for item, n in Counter(items).items() if n > 1)


# -- JSON ------------------------------------------------------------------


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
        one object, anything but an object at the top.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{path}, line {error.lineno}, column {error.colno}: "
            f"not JSON: {error.msg}."
        ) from error
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise CorpusError(f"{path}: an object {{...}} is expected at the top.")
    return value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict:
    # json keeps the last of equal keys without a word: an utterance is lost.
    if twice := repeated(key for key, _ in pairs):
        raise CorpusError(f"these keys occur twice: {', '.join(twice)}.")
    return dict(pairs)


def write_json(value: dict, path: str | Path) -> None:
    """Write JSON so that the file is either whole or not there.

    Arguments
    ---------
    value : dict
        Anything `json` can write; keys are sorted.
    path : str or Path
        The file; one already there is replaced.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8", newline="\n")


# -- Manifests -------------------------------------------------------------


def write_manifest(utterances: Iterable[Utterance], path: str | Path) -> None:
    """Write a manifest, sorted by utt_id, atomically.

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
    write_json({u.utt_id: _to_entry(u) for u in utterances}, path)


def _to_entry(utterance: Utterance) -> dict:
    entry = {
        key: _escape(value) if isinstance(value, str) else value
        for key, value in asdict(utterance).items()
        if key in FIELDS
    }
    return {**entry, "wav": DATA_ROOT + entry["wav"]}


# SpeechBrain passes every string of a manifest through str.format: a brace
# in a transcript or a file name must be written twice to come out once.
def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _unescape(text: str) -> str:
    return text.replace("{{", "{").replace("}}", "}")


def read_manifest(
    path: str | Path, required: Iterable[str] = FIELDS
) -> list[Utterance]:
    """Read a manifest.

    Arguments
    ---------
    path : str or Path
        The JSON file.
    required : iterable of str
        Keys every utterance must have; by default all of them.

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
    entries = read_json(path)
    required = tuple(required)
    raise_all(
        f"{path}: {{count}} problems:",
        [
            f"utterance {utt_id}: {problem}"
            for utt_id, entry in sorted(entries.items())
            for problem in _entry_problems(entry, required)
        ],
    )
    return [_from_entry(*item) for item in sorted(entries.items())]


def _entry_problems(entry: object, required: tuple[str, ...]) -> list[str]:
    if not isinstance(entry, dict):
        return ["an object {...} is expected"]
    problems = [f"'{key}' is missing" for key in required if key not in entry]
    # Speech-text pairs have no emotion; whoever needs one requires it.
    if "emo" in required and not str(entry.get("emo", "x")).strip():
        problems.append(f"'emo' is {entry['emo']!r}, {_expected('emo')}")
    for key in FIELDS:
        if key in entry and not _has_type(key, entry[key]):
            problems.append(f"'{key}' is {entry[key]!r}, {_expected(key)}")
    return problems


def _has_type(key: str, value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key == "length":
        return 0 <= _seconds(value) < math.inf
    if key == "wav":
        return isinstance(value, str) and value.strip() != ""
    return isinstance(value, str) or (key == "session" and number)


def _seconds(value: object) -> float:
    """A length, which SpeechBrain's manifests also have as text; or NaN."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _expected(key: str) -> str:
    if key == "length":
        return "a number of seconds is expected"
    return "a text is expected"


def _from_entry(utt_id: str, entry: dict) -> Utterance:
    known = {
        key: _unescape(value) if isinstance(value, str) else value
        for key, value in entry.items()
        if key in FIELDS
    }
    known["length"] = _seconds(entry.get("length", 0.0))
    known["wav"] = _unescape(entry.get("wav", "").removeprefix(DATA_ROOT))
    return Utterance(utt_id, **{"emo": "", **known})


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
    """Refuse splits that cannot be trained on or would leak.

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
    places = defaultdict(set)
    for name in SPLITS:
        for utterance in splits[name]:
            places[utterance.utt_id].add(name)
            if utterance.wav:  # has been spoken already
                wav = posixpath.normpath(utterance.wav)
                places[f"audio file {wav}"].add(name)
    problems += [
        f"{what} is in {' and in '.join(s for s in SPLITS if s in names)}"
        for what, names in sorted(places.items())
        if len(names) > 1
    ]
    raise_all("The split is not sound ({count} problems):", problems)


def measure_splits(splits: Splits, data_folder: str | Path) -> Splits:
    """`measure` all splits in one pass, so that one error lists all files.

    Arguments
    ---------
    splits : dict
        Utterances of train, valid and test.
    data_folder : str or Path
        The data root.

    Returns
    -------
    dict
        The same with lengths.
    """
    check_splits(splits)  # costs nothing, whereas decoding takes minutes
    everything = [u for name in SPLITS for u in splits[name]]
    measured = {u.utt_id: u for u in measure(everything, data_folder)}
    return {name: [measured[u.utt_id] for u in splits[name]] for name in SPLITS}


def write_splits(
    splits: Splits, output_folder: str | Path, options: dict
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

    Raises
    ------
    CorpusError
        See `check_splits`.
    """
    check_splits(splits)
    folder = Path(output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The old options go first and the new ones come last: an interruption in
    # between leaves no folder that looks finished.
    (folder / OPTIONS_FILE).unlink(missing_ok=True)
    for name in SPLITS:
        write_manifest(splits[name], folder / f"{name}.json")
    write_json(options, folder / OPTIONS_FILE)


def prepared(output_folder: str | Path, options: dict) -> bool:
    """Whether `write_splits` has finished here with these very options.

    Arguments
    ---------
    output_folder : str or Path
        Where the manifests are.
    options : dict
        As given to `write_splits`.

    Returns
    -------
    bool
        True if prepare.json holds the same options and all three manifests
        exist.

    Example
    -------
    >>> prepared(getfixture("tmp_path"), {"fold": 1})
    False
    """
    folder = Path(output_folder)
    names = [f"{name}.json" for name in SPLITS]
    if not all((folder / name).is_file() for name in [*names, OPTIONS_FILE]):
        return False
    try:
        stored = read_json(folder / OPTIONS_FILE)
    except CorpusError:
        return False
    same = stored == json.loads(json.dumps(options))
    if same:
        logger.info("%s is prepared already, with the same options.", folder)
    return same
