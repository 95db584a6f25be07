"""Several corpora together: three toys of some speakers each."""

import logging
from collections import Counter

import pytest
from toys import toy

from qieemo_sb.corpora.entries import CORPORA
from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.corpora.multi import corpus_emotions, prepare_corpora
from qieemo_sb.errors import CorpusError

FOUR = ("neutral", "happy", "sad", "angry")


@pytest.fixture
def root(tmp_path, sound, monkeypatch):
    """Ann: ten women, ten men; Bob: three women, three men; Cem: two women."""
    people = {
        "Ann": ("ns", "ann", "fm", range(10)),
        "Bob": ("csb", "", "fm", range(3)),
        "Cem": ("ns", "cem", "f", range(2)),
    }
    for name, (codes, folder, sexes, numbers) in people.items():
        monkeypatch.setitem(CORPORA, name, toy(name, codes, folder))
        place = tmp_path / "data" / (folder or name) / "clips"
        place.mkdir(parents=True)
        for sex in sexes:
            for code in codes:
                for number in numbers:
                    path = place / f"{sex}{number}_{code}.wav"
                    path.write_bytes(sound)
    return tmp_path / "data"


@pytest.fixture
def prepare(root, tmp_path):
    def run(corpora=("ann", "Bob", "cem"), **options):
        options = {
            "emotions": ["neutral", "sad"],
            "label_map": {"calm": "neutral"},
            **options,
        }
        prepare_corpora(corpora, root, tmp_path / "out", **options)
        return {
            name: read_manifest(tmp_path / "out" / f"{name}.json", ("length",))
            for name in ("train", "valid", "test")
        }

    return run


def speakers(part, corpus):
    return {u.spk_id for u in part if u.corpus == corpus}


def refusal(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_read_speech_is_neutral_and_tested_by_its_own_part(prepare, root):
    for part, names in (("train", "abcdefghij"), ("test", "xyz")):
        folder = root / "read" / part
        folder.mkdir(parents=True)
        lines = {"text": "A WORD", "utt2spk": "{0}"}
        for file, value in lines.items():
            rows = [f"{x}1 {value.format(x)}" for x in names]
            (folder / file).write_text("\n".join(rows) + "\n")
        for name in names:
            clip = next((root / "ann/clips").glob("*.wav"))
            (root / "read" / f"{name}1.wav").write_bytes(clip.read_bytes())
    splits = prepare(test_corpora=["cem"], read_speech=["read"])
    assert speakers(splits["test"], "read") == {"read/x", "read/y", "read/z"}
    assert len(speakers(splits["train"], "read")) == 8
    assert len(speakers(splits["valid"], "read")) == 2
    (clip,) = [u for u in splits["test"] if u.utt_id == "read/x1"]
    assert (clip.emo, clip.wrd) == ("neutral", "A WORD")
    assert clip.wav == "read/x1.wav"


def test_names_begin_with_their_corpus(prepare):
    clips = {u.utt_id: u for part in prepare().values() for u in part}
    clip = clips["Bob/f1_c"]
    assert clip.wav == "Bob/clips/f1_c.wav"
    assert (clip.spk_id, clip.emo, clip.gender) == ("Bob/f1", "neutral", "F")
    assert clips["Ann/f1_n"].wav == "ann/clips/f1_n.wav"
    assert len(clips) == 40 + 12 + 4  # and six bored ones are left out


def test_speakers_of_each_corpus_are_apart(prepare):
    """15 % of twenty are three; of six, one, but a woman and a man."""
    splits = prepare()
    sizes = {"Ann": [14, 3, 3], "Bob": [2, 2, 2], "Cem": [2, 0, 0]}
    for corpus, expected in sizes.items():
        found = [speakers(part, corpus) for part in splits.values()]
        assert [len(x) for x in found] == expected
        assert len(set.union(*found)) == sum(expected)
    for part in (splits["valid"], splits["test"]):
        for corpus in ("Ann", "Bob"):
            genders = {u.gender for u in part if u.corpus == corpus}
            assert genders == {"F", "M"}


def test_a_corpus_is_left_out_to_be_tested(prepare):
    splits = prepare(test_corpora=["Bob"])
    assert {u.corpus for u in splits["test"]} == {"Bob"}
    assert len(splits["test"]) == 12
    assert {u.corpus for u in splits["train"]} == {"Ann", "Cem"}
    assert len(speakers(splits["train"], "Ann")) == 17
    assert len(speakers(splits["valid"], "Ann")) == 3
    assert prepare(["cem", "ann"], test_corpora=["Bob"]) == splits


def test_the_order_of_corpora_does_not_matter_and_the_seed_does(prepare):
    splits = prepare()
    assert prepare(["Cem", "Bob", "Ann"], seed=1986) == splits
    assert prepare(seed=1) != splits


def test_clips_without_a_label_of_the_task_are_counted(prepare, caplog):
    with caplog.at_level(logging.INFO):
        splits = prepare(label_map=None)
    assert "Bob: 6 clips of calm left out" in caplog.messages
    assert "Bob: 6 clips of bored left out" in caplog.messages
    assert "Cem: 2 speakers, all of them train" in caplog.messages
    counts = Counter(u.emo for part in splits.values() for u in part)
    assert counts == {"neutral": 22, "sad": 28}


def test_votes_follow_the_labels(prepare, root):
    (root / "Bob/votes.csv").write_text(
        "file,calm,neutral,bored\nf1_c,2,1,4\nf1_s,0,0,4\n"
    )
    clips = {u.utt_id: u for part in prepare().values() for u in part}
    assert clips["Bob/f1_c"].votes == {"neutral": 3}
    assert clips["Bob/f1_s"].votes is None


def test_same_options_do_not_prepare_again(prepare, root):
    splits = prepare()
    for path in root.rglob("*.wav"):
        path.unlink()
    assert prepare() == splits


def test_labels_of_a_corpus_are_those_of_the_task_that_it_has():
    found = corpus_emotions(["turev", "CREMA-D"], FOUR, {"calm": "neutral"})
    assert found == {"TurEV-DB": list(FOUR), "CREMA-D": list(FOUR)}
    assert corpus_emotions(["turev"], FOUR)["TurEV-DB"] == list(FOUR[1:])


def test_corpora_that_are_not_there_are_named(prepare, root):
    message = refusal(prepare, ["Ann", "emodb", "CREMA-D"])
    assert message.splitlines() == [
        f"{root} lacks 2 corpora:",
        "  EmoDB: no folder emodb or EmoDB",
        "  CREMA-D: no folder cremad or CREMA-D",
    ]
    assert "'dan'; it must be one of RAVDESS" in refusal(prepare, ["dan"])
    assert "1 corpora are named twice:\n  Ann" in refusal(
        prepare, ["ann", "Ann"]
    )


def test_emotions_that_are_not_there_are_named(prepare):
    message = refusal(prepare, emotions=["neutral", "sad", "proud"])
    assert message.splitlines()[1:] == ["  proud"]
    message = refusal(prepare, emotions=["neutral"], label_map=None)
    assert "Bob has none of the emotions neutral; it has bored, calm" in message
