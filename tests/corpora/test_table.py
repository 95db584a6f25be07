"""One's own corpus: a CSV file or three manifests."""

import json
import logging

import pytest

from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.corpora.table import prepare_table
from qieemo_sb.errors import CorpusError

SPEAKERS = ("anna", "ben", "cleo", "dan")


@pytest.fixture
def data(tmp_path, sound):
    """Four speakers, a happy and a sad file each: anna/happy.wav ..."""
    root = tmp_path / "data"
    for speaker in SPEAKERS:
        (root / speaker).mkdir(parents=True)
        for label in ("happy", "sad"):
            (root / speaker / f"{label}.wav").write_bytes(sound)
    return root


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines, encoding="utf-8"):
        path = tmp_path / "list.csv"
        path.write_text("\n".join(lines), encoding=encoding)
        return path

    return write_lines


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


HEADER = "path,label,speaker,transcript"
LINES = [
    f"{speaker}/{label}.wav,{label},{speaker},So {label}!"
    for speaker in SPEAKERS
    for label in ("happy", "sad")
]


def load(output):
    return {
        name: read_manifest(output / f"{name}.json")
        for name in ("train", "valid", "test")
    }


def prepare_csv(file, data, output, labels=None):
    prepare_table(output, data, file, labels=labels)


def prepare_manifests(train, valid, test, data, output, *options):
    prepare_table(output, data, None, train, valid, test, *options)


def refusal(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# -- CSV


def test_speakers_are_divided(data, write, output):
    prepare_csv(write(HEADER, *LINES), data, output)
    speakers = {
        name: sorted({u.spk_id for u in part})
        for name, part in load(output).items()
    }
    assert [len(x) for x in speakers.values()] == [2, 1, 1]
    assert sorted(sum(speakers.values(), [])) == list(SPEAKERS)


def test_a_line_becomes_an_utterance(data, write, output):
    prepare_csv(write(HEADER, *LINES), data, output)
    utterances = sum(load(output).values(), [])
    (utterance,) = [u for u in utterances if u.utt_id == "ben/sad"]
    assert utterance.wav == "ben/sad.wav"
    assert (utterance.emo, utterance.wrd) == ("sad", "So sad!")
    assert (utterance.spk_id, utterance.length) == ("ben", 0.1)


def test_spreadsheets_are_read(data, write, output):
    """Byte order mark, capitals, spaces, other columns, backslashes, gaps."""
    lines = [f" {line},x".replace("/", "\\") for line in LINES]
    file = write(
        "Path, Label,Speaker,Transcript,Note", *lines, "", encoding="utf-8-sig"
    )
    prepare_csv(file, data, output)
    assert sum(len(part) for part in load(output).values()) == 8


def test_split_column_is_followed(data, write, output):
    splits = {"anna": "train", "ben": "train", "cleo": "valid", "dan": "test"}
    lines = [f"{line},{splits[line.split(',')[2]]}" for line in LINES]
    prepare_csv(write(f"{HEADER},split", *lines), data, output)
    assert [len(part) for part in load(output).values()] == [4, 2, 2]
    assert {u.spk_id for u in load(output)["test"]} == {"dan"}


def test_absolute_path_in_the_data_folder_becomes_relative(data, write, output):
    prepare_csv(
        write(HEADER, *(f"{data}/{line}" for line in LINES)), data, output
    )
    wavs = [u.wav for part in load(output).values() for u in part]
    assert "anna/happy.wav" in wavs


def test_all_wrong_lines_are_listed_at_once(data, write):
    (data / "ben/sad.wav").write_bytes(b"")
    file = write(
        HEADER,
        LINES[0],
        "anna/sad.wav,,anna,",
        "ben/sad.wav,bored,ben,",
        LINES[0],
        "/elsewhere/a.wav,sad,ben,x",
        "ben/happy.wav,happy,ben,Well, well",
        ",sad,,x",
    )
    labels = ["happy", "sad"]
    message = refusal(prepare_csv, file, data, data / "out", labels)
    lines = message.splitlines()
    assert lines[0] == f"{file}: 8 problems:"
    assert lines[1] == "  line 3: label is empty"
    assert lines[2] == "  line 4: label 'bored' is none of happy, sad"
    assert lines[3] == "  line 5: anna/happy is in line 2 too"
    outside = f"/elsewhere/a.wav is not in the data folder {data}"
    assert lines[4] == f"  line 6: {outside}"
    assert lines[5].startswith("  line 7: more cells than columns")
    assert lines[6:] == [
        "  line 8: path is empty",
        "  line 8: speaker is empty",
        f"  {data}/ben/sad.wav is empty (0 bytes); record or copy it again.",
    ]


@pytest.mark.parametrize(
    "header, missing",
    [
        ("path,emotion,speaker", "no column label"),
        ("path;label;speaker", "no column path, label, speaker"),
        ("", "no column path, label, speaker"),
    ],
)
def test_header_without_the_columns(data, write, output, header, missing):
    message = refusal(prepare_csv, write(header, *LINES), data, output)
    assert f"line 1: {missing}" in message


def test_column_that_is_there_twice(data, write, output):
    message = refusal(prepare_csv, write(f"{HEADER},label"), data, output)
    assert "line 1: label is there twice" in message


def test_split_must_be_known_and_whole(data, write, output):
    lines = [f"{line},train" for line in LINES]
    file = write(f"{HEADER},split", *lines[1:], f"{LINES[0]},dev")
    message = refusal(prepare_csv, file, data, output)
    assert "line 9: split is 'dev', none of train, valid, test" in message
    file = write(f"{HEADER},split", *lines[1:], f"{LINES[0]},")
    message = refusal(prepare_csv, file, data, output)
    assert "1 of 8 lines have no split" in message


def test_other_encoding_is_named(data, write, output):
    file = write(HEADER, "anna/sad.wav,traurig,anna,schön", encoding="latin-1")
    assert "is no CSV file in UTF-8" in refusal(prepare_csv, file, data, output)


def test_all_bad_audio_is_listed(data, write, output):
    (data / "anna/sad.wav").unlink()
    (data / "dan/sad.wav").write_bytes(b"")
    message = refusal(prepare_csv, write(HEADER, *LINES), data, output)
    assert "2 of 8 audio files cannot be used" in message


def test_changed_list_prepares_again(data, write, output):
    prepare_csv(write(HEADER, *LINES), data, output)
    prepare_csv(write(HEADER, *LINES[:6]), data, output)
    assert sum(len(part) for part in load(output).values()) == 6


def test_unchanged_list_does_not(data, write, output):
    prepare_csv(write(HEADER, *LINES), data, output)
    (data / "anna/sad.wav").unlink()
    prepare_csv(write(HEADER, *LINES), data, output)


def test_two_speakers_are_too_few(data, write, output):
    message = refusal(prepare_csv, write(HEADER, *LINES[:4]), data, output)
    assert "There are 2: anna, ben" in message


# -- Manifests


@pytest.fixture
def manifests(tmp_path):
    """Least that is needed, and one of each way to name a file."""
    entries = {
        "train": {
            "a1": {"wav": "anna/happy.wav", "emo": "happy", "wrd": "Yes"},
            "a2": {"wav": "{data_root}/anna/sad.wav", "emo": "sad"},
        },
        "valid": {"b": {"wav": "ben/sad.wav", "emo": "sad", "wrd": "No"}},
        "test": {"c": {"wav": "./cleo/sad.wav", "emo": "sad", "wrd": "No"}},
    }

    def write(**changes):
        paths = []
        for name, part in entries.items():
            path = tmp_path / f"my_{name}.json"
            path.write_text(json.dumps({**part, **changes.get(name, {})}))
            paths.append(path)
        return paths

    return write


def test_manifests_are_put_in_form(data, manifests, output):
    prepare_manifests(*manifests(), data, output)
    splits = load(output)
    wavs = [u.wav for part in splits.values() for u in part]
    assert wavs == [
        "anna/happy.wav",
        "anna/sad.wav",
        "ben/sad.wav",
        "cleo/sad.wav",
    ]
    assert splits["train"][0].length == 0.1
    assert splits["train"][0].spk_id == ""


def test_all_problems_of_all_manifests_are_listed(data, manifests, output):
    paths = manifests(
        valid={"x": {"wav": "ben/happy.wav", "emo": "bored", "wrd": "No"}},
        test={"y": {"emo": "sad"}, "z": {"wav": "a.wav"}},
    )
    message = refusal(prepare_manifests, *paths, data, output, ["happy", "sad"])
    assert message.startswith("The manifests have 2 problems:")
    assert f"{paths[1]}: utterance x: label 'bored' is none of" in message
    assert "utterance y: 'wav' is missing" in message
    assert "utterance z: 'emo' is missing" in message


def test_utterance_in_two_manifests(data, manifests, output):
    paths = manifests(test={"b": {"wav": "ben/sad.wav", "emo": "sad"}})
    message = refusal(prepare_manifests, *paths, data, output)
    assert "b is in valid and in test" in message


def test_own_manifests_are_never_overwritten(data, manifests, tmp_path):
    train, valid, test = manifests()
    train = train.rename(tmp_path / "train.json")
    message = refusal(prepare_manifests, train, valid, test, data, tmp_path)
    assert f"would be overwritten; keep them outside of {tmp_path}" in message


def test_test_speakers_that_were_heard_are_warned_of(
    data, manifests, output, caplog
):
    paths = manifests(
        train={"t": {"wav": "dan/sad.wav", "emo": "sad", "spk_id": "dan"}},
        test={"u": {"wav": "dan/happy.wav", "emo": "happy", "spk_id": "dan"}},
    )
    with caplog.at_level(logging.WARNING):
        prepare_manifests(*paths, data, output)
    assert "1 test speakers are in train or valid too" in caplog.text


# -- Either


def test_csv_or_manifests(data, write, manifests, output):
    prepare_table(output, data, csv_file=write(HEADER, *LINES))
    assert sum(len(part) for part in load(output).values()) == 8
    train, valid, test = manifests()
    prepare_table(
        output,
        data,
        train_manifest=train,
        valid_manifest=valid,
        test_manifest=test,
    )
    assert sum(len(part) for part in load(output).values()) == 4


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"train_manifest": "a"},
        {"csv_file": "a", "test_manifest": "b"},
        {"train_manifest": "a", "valid_manifest": "b"},
    ],
)
def test_neither_both_or_half(data, output, given):
    message = refusal(prepare_table, output, data, **given)
    assert message.startswith("Give either csv_file or all of")


@pytest.mark.parametrize("folder", [None, "", "no"])
def test_data_folder_must_be_there(write, output, folder):
    message = refusal(prepare_table, output, folder, write(HEADER))
    assert "the folder that audio paths are relative to" in message


def test_missing_list_is_named(data, output):
    assert "no.csv cannot be read" in refusal(
        prepare_table, output, data, "no.csv"
    )
