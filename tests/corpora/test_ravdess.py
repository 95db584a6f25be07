"""RAVDESS, on 1440 clips of a tenth of a second."""

import itertools
from collections import Counter

import pytest

from qieemo_sb.corpora.manifest import Utterance, read_manifest
from qieemo_sb.corpora.ravdess import (
    LABELS,
    TEST_ACTORS,
    prepare_ravdess,
    prepare_statements,
    read_ravdess,
)
from qieemo_sb.errors import CorpusError


def clip_names():
    """60 an actor, spelt out: neutral has no strong intensity."""
    codes = itertools.product(range(1, 9), (1, 2), (1, 2), (1, 2), range(1, 25))
    return [
        "03-01-" + "-".join(f"{number:02}" for number in code)
        for code in codes
        if code[:2] != (1, 2)
    ]


@pytest.fixture
def tree(tmp_path, sound):
    """As in the archive: Actor_01/03-01-....wav."""
    root = tmp_path / "ravdess"
    for name in clip_names():
        path = root / f"Actor_{name[-2:]}" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound)
    return root


def write_flat(root):
    """Names in one folder, which is all that reading looks at."""
    root.mkdir()
    for name in clip_names():
        (root / f"{name}.flac").touch()
    return root


@pytest.fixture
def flat(tmp_path):
    return write_flat(tmp_path / "flat")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return read_ravdess(write_flat(tmp_path_factory.mktemp("ravdess") / "flat"))


def refusal(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_name_becomes_an_utterance(clips):
    by_id = {u.utt_id: u for u in clips}
    assert by_id["03-01-06-02-02-01-12"] == Utterance(
        utt_id="03-01-06-02-02-01-12",
        wav="03-01-06-02-02-01-12.flac",
        length=0.0,
        emo="fearful",
        wrd="dogs are sitting by the door",
        spk_id="Actor_12",
        session=12,
        gender="F",
    )
    assert by_id["03-01-01-01-01-01-01"].emo == "neutral"
    assert by_id["03-01-01-01-01-01-01"].gender == "M"


def test_counts_are_those_of_the_corpus(clips):
    assert len(clips) == 1_440
    assert Counter(u.emo for u in clips) == {
        "neutral": 96,
        **dict.fromkeys(LABELS[1:], 192),
    }
    assert Counter(u.gender for u in clips) == {"F": 720, "M": 720}


def test_each_actor_is_tested_once():
    tested = sorted(itertools.chain(*TEST_ACTORS.values()))
    assert tested == list(range(1, 25))


def test_first_fold_of_the_archive(tree, tmp_path):
    prepare_ravdess(tree, tmp_path / "out", fold=1)
    splits = {
        name: read_manifest(tmp_path / "out" / f"{name}.json")
        for name in ("train", "valid", "test")
    }
    assert [len(part) for part in splits.values()] == [960, 240, 240]
    actors = {"Actor_01", "Actor_11", "Actor_20", "Actor_21"}
    assert {u.spk_id for u in splits["test"]} == actors
    heard = {u.spk_id for u in splits["train"] + splits["valid"]}
    assert len(heard) == 20 and not heard & actors
    assert Counter(u.emo for u in splits["valid"]) == {
        "neutral": 16,
        **dict.fromkeys(LABELS[1:], 32),
    }
    assert splits["test"][0].wav == "Actor_01/03-01-01-01-01-01-01.wav"
    assert splits["test"][0].length == 0.1


def test_song_video_and_rubbish_are_left_alone(flat):
    for name in (
        "03-02-01-01-01-01-01.wav",
        "01-01-01-01-01-01-01.mp4",
        "._03-01-01-01-01-01-01.flac",
        "README.md",
    ):
        (flat / name).touch()
    assert len(read_ravdess(flat)) == 1_440


def test_missing_clips_are_told_by_actor(flat):
    for path in flat.glob("*-07.flac"):
        path.unlink()
    (flat / "03-01-08-02-02-02-24.flac").unlink()
    (flat / "03-01-01-01-01-01-24.flac").unlink()
    assert refusal(read_ravdess, flat).splitlines() == [
        f"{flat} is not the RAVDESS of 1440 clips (2 problems):",
        "  Actor_07: all 60 clips are missing",
        "  Actor_24: 2 of 60 clips are missing: "
        "03-01-01-01-01-01-24, 03-01-08-02-02-02-24",
    ]


def test_clip_that_is_there_twice(flat):
    (flat / "Actor_05").mkdir()
    (flat / "Actor_05/03-01-02-01-01-01-05.wav").touch()
    assert (
        "03-01-02-01-01-01-05 is there twice: "
        "03-01-02-01-01-01-05.flac and Actor_05/03-01-02-01-01-01-05.wav"
    ) in refusal(read_ravdess, flat)


def test_names_that_ravdess_lacks(flat):
    """Strong neutral, a 25th actor, a ninth emotion."""
    names = [f"03-01-{x}" for x in ("01-02-01-01-01", "02-01-01-01-25")]
    names.append("03-01-09-01-01-01-01")
    for name in names:
        (flat / f"{name}.flac").touch()
    lines = refusal(read_ravdess, flat).splitlines()[1:]
    assert lines == [f"  {name} is no clip of RAVDESS" for name in names]


@pytest.mark.parametrize("fold", [0, 7, "1"])
def test_folds_that_exist_are_named(tmp_path, fold):
    message = refusal(prepare_ravdess, tmp_path, tmp_path / "out", fold)
    assert "run from 1 to 6" in message


@pytest.mark.parametrize("folder", ["", "no", "empty"])
def test_no_corpus_says_where_it_is(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    folder = folder and tmp_path / folder
    message = refusal(prepare_ravdess, folder, tmp_path / "out")
    assert "https://zenodo.org/records/1188976" in message


def test_folder_above_is_put_right(tmp_path):
    (tmp_path / "speech/Actor_01").mkdir(parents=True)
    message = refusal(read_ravdess, tmp_path)
    assert f"data_folder should be {tmp_path / 'speech'}" in message


def test_statements_of_all_actors_go_to_one_manifest(tree, tmp_path):
    prepare_statements(tree, tmp_path / "statements.json")
    clips = read_manifest(tmp_path / "statements.json")
    assert len(clips) == 1440
    assert {c.wrd.lower().rstrip(".") for c in clips} == {
        "kids are talking by the door",
        "dogs are sitting by the door",
    }
