"""Manifests survive what people do to them; splits are checked."""

import json
import os
from dataclasses import replace

import pytest
from speechbrain.dataio.dataset import DynamicItemDataset

from qieemo_sb.corpora import manifest as utterance
from qieemo_sb.corpora.manifest import (
    Utterance,
    check_splits,
    measure,
    prepared,
    read_manifest,
    replacing,
    write_manifest,
    write_splits,
)
from qieemo_sb.errors import CorpusError

ONE = Utterance(
    "Ses01F_impro01_F000",
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
    1.9457,
    "neu",
    "Excuse me.",
    "Ses01F",
    corpus="IEMOCAP",
    language="en",
    votes={"neu": 2, "fru": 1},
    session=1,
    gender="F",
)


@pytest.fixture
def splits(clip):
    return {name: [clip(name)] for name in ("train", "valid", "test")}


def write_text(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text, encoding="utf-8")
    return path


# -- Files


def names(folder):
    return sorted(os.listdir(folder))


def test_file_and_its_folder_appear(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with replacing(path) as partial:
        partial.write_text("hello")
        assert not path.exists()
    assert path.read_text() == "hello"
    assert names(path.parent) == ["a.txt"]


def test_old_file_stays_until_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_crash_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_suffix_stays(tmp_path):
    with replacing(tmp_path / "a.npy") as partial:
        assert partial.suffix == ".npy"
        assert partial.parent == tmp_path
        partial.touch()


def test_two_writers_at_once_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as slow:
        slow.write_text("slow")
        with replacing(path) as fast:
            fast.write_text("fast")
        assert path.read_text() == "fast"
    assert path.read_text() == "slow"


# -- Manifests


def test_manifest_is_the_one_of_the_contract(tmp_path):
    write_manifest([ONE], tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text()) == {
        "Ses01F_impro01_F000": {
            "wav": "{data_root}/Session1/sentences/wav/Ses01F_impro01/"
            "Ses01F_impro01_F000.wav",
            "length": 1.9457,
            "emo": "neu",
            "wrd": "Excuse me.",
            "spk_id": "Ses01F",
            "corpus": "IEMOCAP",
            "language": "en",
            "votes": {"neu": 2, "fru": 1},
            "session": 1,
            "gender": "F",
        }
    }


def test_what_is_unknown_is_absent(tmp_path):
    write_manifest([Utterance("a", "a.wav")], tmp_path / "m.json")
    text = (tmp_path / "m.json").read_text()
    assert json.loads(text) == {"a": {"wav": "{data_root}/a.wav"}}
    assert read_manifest(tmp_path / "m.json") == [Utterance("a", "a.wav")]


def test_manifest_reads_as_it_was_written(tmp_path, clip):
    written = [clip("b", wrd="¿Qué?"), ONE, clip("a", emo="happy")]
    write_manifest(written, tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json") == [ONE, written[2], written[0]]


def test_order_of_utterances_does_not_change_the_file(tmp_path, clip):
    write_manifest([clip("a"), clip("b")], tmp_path / "ab.json")
    write_manifest([clip("b"), clip("a")], tmp_path / "ba.json")
    assert (tmp_path / "ab.json").read_bytes() == (
        tmp_path / "ba.json"
    ).read_bytes()


def test_speechbrain_reads_the_manifest_braces_and_all(tmp_path, clip):
    write_manifest(
        [clip("a", wav="{x}/a.wav", wrd="{laughs} so")], tmp_path / "m.json"
    )
    dataset = DynamicItemDataset.from_json(
        tmp_path / "m.json",
        replacements={"data_root": "/data"},
        output_keys=["id", "wav", "wrd"],
    )
    assert dataset[0] == {
        "id": "a",
        "wav": "/data/{x}/a.wav",
        "wrd": "{laughs} so",
    }
    assert read_manifest(tmp_path / "m.json")[0].wrd == "{laughs} so"


def test_repeated_ids_are_named(tmp_path, clip):
    with pytest.raises(CorpusError, match=r"1 utterance ids.*\n  twin"):
        write_manifest([clip("twin"), clip("twin")], tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()


def test_failed_write_leaves_the_old_file_and_no_draft(tmp_path, clip):
    path = tmp_path / "m.json"
    write_manifest([clip("old")], path)
    with pytest.raises(TypeError):
        utterance.write_json({"new": object()}, path)
    assert [u.utt_id for u in read_manifest(path)] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_missing_keys_are_named_all_at_once(tmp_path):
    path = write_text(
        tmp_path, '{"a": {"wav": "a.wav"}, "b": {"emo": "sad", "length": 1}}'
    )
    with pytest.raises(CorpusError) as caught:
        read_manifest(path, required=("wav", "emo"))
    assert str(caught.value).splitlines() == [
        f"{path}: 2 problems:",
        "  utterance a: 'emo' is missing",
        "  utterance b: 'wav' is missing",
    ]


@pytest.mark.parametrize(
    "entry, problem",
    [
        ('{"length": "long"}', "'length' is 'long', a number of seconds"),
        ('{"length": -1}', "'length' is -1, a number of seconds"),
        ('{"length": "inf"}', "'length' is 'inf', a number of seconds"),
        ('{"emo": 3}', "'emo' is 3, a text is expected"),
        ('{"wrd": null}', "'wrd' is None, a text is expected"),
        ('{"votes": ["neu"]}', "'votes' is ['neu'], an object {emotion:"),
        ('{"wav": " "}', "'wav' is ' ', a text is expected"),
        ('"a.wav"', "an object {...} is expected"),
        (f'{{"length": 1{"0" * 400}}}', "'length' is 1000"),
        ('{"votes": {"neu": "many"}}', "'votes' is {'neu': 'many'}, an"),
    ],
)
def test_wrong_types_are_named(tmp_path, entry, problem):
    path = write_text(tmp_path, f'{{"a": {entry}}}')
    with pytest.raises(CorpusError) as caught:
        read_manifest(path, required=())
    assert f"utterance a: {problem}" in str(caught.value)


def test_key_that_occurs_twice_is_named(tmp_path):
    path = write_text(tmp_path, '{"a": {}, "b": {}, "a": {}}')
    with pytest.raises(CorpusError, match=r"m\.json: .*twice: a\."):
        read_manifest(path)


def test_line_of_bad_json_is_named(tmp_path):
    path = write_text(tmp_path, '{\n"a": {},\n}')
    with pytest.raises(CorpusError, match=r"m\.json, line [23], .*not JSON"):
        read_manifest(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": ' * 100_000,
        f'{{"a": {{"length": 1{"0" * 5_000}}}}}',
        r'{"a": {"wav": "\ud800.wav"}}',
        '{"a": {"wav": "\udce9.wav"}}',
    ],
    ids=["list", "object", "number", "half a character", "no UTF-8"],
)
def test_json_that_cannot_be_used(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CorpusError, match="m.json cannot be read"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_anything_but_an_object_is_refused(tmp_path, text):
    with pytest.raises(CorpusError, match="an object"):
        read_manifest(write_text(tmp_path, text))


def test_missing_manifest_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"no\.json cannot be read"):
        read_manifest(tmp_path / "no.json")


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "zero.json"):
        for read in (read_manifest, utterance.digest):
            with pytest.raises(CorpusError, match=f"{name} cannot be read"):
                read(tmp_path / name)


# -- Audio


@pytest.mark.parametrize("length", ["1.76", "1", 1.76, 1])
def test_a_length_may_be_text(tmp_path, length):
    # As in the samples that SpeechBrain's own tests take.
    path = write_text(
        tmp_path, json.dumps({"a": {"wav": "a.wav", "length": length}})
    )
    (found,) = read_manifest(path, required=("wav",))
    assert found.length == float(length)


def test_lengths_are_measured(tmp_path, sound, clip):
    (tmp_path / "a.wav").write_bytes(sound)
    assert measure([clip("a", length=99.0)], tmp_path) == [
        clip("a", length=0.1)
    ]


def test_all_bad_files_are_listed_at_once(tmp_path, sound, splits):
    (tmp_path / "valid.wav").write_bytes(sound)
    (tmp_path / "test.wav").touch()
    with pytest.raises(CorpusError) as caught:
        write_splits(splits, tmp_path / "out", {}, tmp_path)
    first, missing, empty = str(caught.value).splitlines()
    assert first == "2 of 3 audio files cannot be used:"
    assert "train.wav does not exist" in missing
    assert "test.wav is empty" in empty


# -- Splits


def test_sound_split_passes(splits):
    check_splits(splits)


def test_everything_unsound_is_named(clip):
    with pytest.raises(CorpusError) as caught:
        check_splits(
            {
                "train": [clip("a", wav="1.wav"), clip("b", wav="2.wav")],
                "valid": [],
                "test": [
                    clip("a", wav="3.wav"),
                    clip("c", wav="./2.wav", emo="angry"),
                ],
            }
        )
    assert str(caught.value).splitlines() == [
        "The split is not sound (4 problems):",
        "  valid is empty",
        "  test has label angry, train does not",
        "  a is in train and in test",
        "  audio file 2.wav is in train and in test",
    ]


def test_same_options_need_no_second_preparation(tmp_path, splits):
    assert not prepared(tmp_path, {"fold": 1})
    write_splits(splits, tmp_path, {"fold": 1})
    assert prepared(tmp_path, {"fold": 1})


def test_other_options_do(tmp_path, splits):
    write_splits(splits, tmp_path, {"fold": 1})
    assert not prepared(tmp_path, {"fold": 2})
    assert not prepared(tmp_path, {"fold": 1, "seed": 3})


@pytest.mark.parametrize("name", ["train", "valid", "test", "prepare"])
def test_a_lost_file_needs_a_second_preparation(tmp_path, splits, name):
    write_splits(splits, tmp_path, {"fold": 1})
    (tmp_path / f"{name}.json").unlink()
    assert not prepared(tmp_path, {"fold": 1})


def test_damaged_options_need_a_second_preparation(tmp_path, splits):
    write_splits(splits, tmp_path, {"fold": 1})
    (tmp_path / "prepare.json").write_text('{"fold"')
    assert not prepared(tmp_path, {"fold": 1})


def test_tuple_in_options_is_remembered(tmp_path, splits):
    write_splits(splits, tmp_path, {"labels": ("a", "b")})
    assert prepared(tmp_path, {"labels": ("a", "b")})


@pytest.mark.parametrize("survivors", [0, 1, 2, 3])
def test_interruption_is_not_taken_for_success(
    tmp_path, splits, monkeypatch, survivors
):
    """Old manifests are there, new ones stop half way."""
    write_splits(splits, tmp_path, {"fold": 1})
    written = []

    def write_json(value, path, whole=utterance.write_json):
        if len(written) == survivors:
            raise KeyboardInterrupt
        written.append(path)
        whole(value, path)

    monkeypatch.setattr(utterance, "write_json", write_json)
    changed = {
        name: [replace(u, emo="x") for u in splits[name]] for name in splits
    }
    with pytest.raises(KeyboardInterrupt):
        write_splits(changed, tmp_path, {"fold": 2})
    assert not prepared(tmp_path, {"fold": 1})
    assert not prepared(tmp_path, {"fold": 2})


def test_unsound_split_leaves_the_old_one(tmp_path, splits):
    write_splits(splits, tmp_path, {"fold": 1})
    with pytest.raises(CorpusError):
        write_splits({**splits, "test": []}, tmp_path, {"fold": 2})
    assert prepared(tmp_path, {"fold": 1})
