"""EmoBox's folds, on lists of some lines."""

import json

import pytest

from qieemo_sb.corpora.emobox import (
    emobox_emotions,
    emobox_folds,
    prepare_emobox,
    read_emobox,
)
from qieemo_sb.corpora.manifest import read_manifest
from qieemo_sb.errors import CorpusError


@pytest.fixture
def write(tmp_path):
    """Write a fold: lists of (path, label) by part."""

    def write_fold(corpus, fold=1, label_map=None, **parts):
        folder = tmp_path / "EmoBox" / "data" / corpus
        (folder / f"fold_{fold}").mkdir(parents=True)
        for part, rows in parts.items():
            lines = [
                json.dumps({"key": f"{corpus}-{wav}", "wav": wav, "emo": emo})
                for wav, emo in rows
            ]
            path = folder / f"fold_{fold}/{corpus}_{part}_fold_{fold}.jsonl"
            path.write_text("\n".join(lines) + "\n")
        if label_map:
            (folder / "label_map.json").write_text(json.dumps(label_map))
        return tmp_path / "EmoBox"

    return write_fold


@pytest.fixture
def audio(tmp_path):
    root = tmp_path / "audio"

    def touch(*names):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root

    return touch


def refusal(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def train_rows(number=10):
    """03a01Fa, 03a01Fb ... are no names of EmoDB: 03a01F, 03a02F ... are."""
    return [(f"x/wav/03a{n:02}F.wav", "happy") for n in range(1, number + 1)]


# -- Labels


def test_labels_of_emodb_are_read_although_its_map_lacks_one(write, audio):
    emobox = write(
        "emodb",
        label_map={"anger": "Angry", "boredem": "Boredom", "Neutral": "N"},
        train=[("w/03a01Wa.wav", "anger"), ("w/03a01La.wav", "boredem")],
        valid=[("w/03a01Na.wav", "neutral")],
        test=[("w/08a01Wa.wav", "anger")],
    )
    root = audio("03a01Wa.opus", "03a01La.opus", "03a01Na.opus", "08a01Wa.opus")
    splits = read_emobox("emodb", 1, emobox, root)
    told = {u.utt_id: u.emo for part in splits.values() for u in part}
    assert told == {
        "03a01Wa": "angry",
        "03a01La": "bored",
        "03a01Na": "neutral",
        "08a01Wa": "angry",
    }
    assert emobox_emotions("emodb", emobox) == ["neutral", "angry", "bored"]


def test_labels_without_a_map_are_our_codes_of_the_corpus(write):
    emobox = write(
        "emovo", train=[("gio-f1-b1.wav", "gio")], test=[("a.wav", "Proud")]
    )
    assert emobox_emotions("emovo", emobox) == ["happy", "proud"]


# -- Parts and audio


def test_a_row_has_what_our_entry_knows(write, audio):
    emobox = write(
        "cremad",
        label_map={"HAP": "Happy"},
        train=[("a/1002_IEO_HAP_XX.wav", "HAP")],
        valid=[("a/1003_IEO_HAP_XX.wav", "HAP")],
        test=[("a/1001_IEO_HAP_XX.wav", "HAP")],
    )
    root = audio(*(f"b/{n}_IEO_HAP_XX.flac" for n in (1001, 1002, 1003)))
    (root / "voice_votes.csv").write_text(
        "file,anger,disgust,fear,happy,neutral,sad\n"
        "1001_IEO_HAP_XX,0,0,0,3,6,0\n"
    )
    (clip,) = read_emobox("cremad", 1, emobox, root)["test"]
    assert (clip.wav, clip.emo) == ("b/1001_IEO_HAP_XX.flac", "happy")
    assert (clip.spk_id, clip.gender, clip.language) == ("1001", "M", "en")
    assert clip.wrd == "It's eleven o'clock"
    assert clip.votes == {"happy": 3, "neutral": 6}


def test_a_corpus_of_another_layout_is_found(write, audio):
    emobox = write(
        "savee",
        train=[("savee/KL_su02.wav", "su")],
        valid=[("savee/KL_a02.wav", "a")],
        test=[("savee/DC_su02.wav", "su")],
    )
    root = audio("KL/su02.wav", "KL/a02.wav", "DC/su02.wav")
    splits = read_emobox("savee", 1, emobox, root)
    assert splits["train"][0].wav == "KL/su02.wav"
    assert splits["test"][0].wav == "DC/su02.wav"
    assert splits["test"][0].emo == "surprised"


def test_a_corpus_that_we_do_not_know_keeps_emobox_keys(write, audio):
    """Two files of one name are told apart by their folders."""
    emobox = write(
        "meld",
        label_map={"joy": "Happy"},
        train=[("downloads/meld/train/dia0_utt0.wav", "joy")],
        valid=[("downloads/meld/dev/dia0_utt0.wav", "joy")],
        test=[("downloads/meld/test/dia0_utt0.wav", "joy")],
    )
    root = audio(*(f"{x}/dia0_utt0.flac" for x in ("train", "dev", "test")))
    splits = read_emobox("meld", 1, emobox, root)
    (clip,) = splits["valid"]
    assert clip.utt_id == "meld-downloads/meld/dev/dia0_utt0.wav"
    assert (clip.wav, clip.emo, clip.spk_id) == (
        "dev/dia0_utt0.flac",
        "happy",
        "",
    )


def test_a_fifth_of_each_label_validates_where_emobox_has_no_part(write, audio):
    rows = train_rows(10)
    sad = [(f"x/wav/08b{n:02}T.wav", "sad") for n in range(1, 6)]
    test = [("x/wav/03b01Fa.wav", "happy")]  # of a speaker who is trained on
    emobox = write("emodb", train=rows + sad, test=test)
    root = audio(*(f"{wav.removesuffix('.wav')}.opus" for wav, _ in rows))
    audio(*(wav for wav, _ in sad + test))
    splits = read_emobox("emodb", 1, emobox, root)
    assert [u.emo for u in splits["valid"]].count("happy") == 2
    assert [u.emo for u in splits["valid"]].count("sad") == 1
    assert len(splits["train"]) == 12
    assert [u.utt_id for u in splits["test"]] == ["03b01Fa"]
    again = read_emobox("emodb", 1, emobox, root)
    assert again == splits
    assert read_emobox("emodb", 1, emobox, root, seed=1) != splits


def test_new_speakers_validate_where_new_speakers_are_tested(write, audio):
    speakers = ("03", "08", "10", "11", "12")
    rows = [(f"{x}a0{n}Fa.wav", "happy") for x in speakers for n in (1, 2)]
    emobox = write("emodb", train=rows, test=[("09a01Fa.wav", "happy")])
    root = audio("09a01Fa.wav", *(wav for wav, _ in rows))
    splits = read_emobox("emodb", 1, emobox, root, valid_fraction=0.4)
    trained, validated, tested = (
        {u.spk_id for u in splits[name]} for name in ("train", "valid", "test")
    )
    assert (len(trained), len(validated), len(tested)) == (3, 2, 1)
    assert len(trained | validated | tested) == 6


def test_a_fold_is_prepared(write, audio, sound, tmp_path):
    rows = train_rows(5)
    emobox = write("emodb", train=rows, test=[("09a01Fa.wav", "happy")])
    root = audio("09a01Fa.wav", *(wav for wav, _ in rows))
    for path in root.rglob("*.wav"):
        path.write_bytes(sound)
    prepare_emobox("emodb", 1, emobox, root, tmp_path / "out")
    sizes = [
        len(read_manifest(tmp_path / "out" / f"{name}.json", ("length",)))
        for name in ("train", "valid", "test")
    ]
    assert sizes == [4, 1, 1]


# -- Errors


def test_missing_clips_are_listed_at_once(write, audio):
    emobox = write("emodb", train=train_rows(3), test=[("a/b.wav", "sad")])
    root = audio("03a01F.wav")
    assert refusal(read_emobox, "emodb", 1, emobox, root).splitlines() == [
        f"{root}: 3 of 4 clips of emodb have no audio:",
        "  a/b.wav is missing",
        "  x/wav/03a02F.wav is missing",
        "  x/wav/03a03F.wav is missing",
    ]


def test_corpora_and_folds_that_exist_are_named(write, tmp_path):
    write("tess", train=[], test=[])
    emobox = write("ased", fold=2, train=[], test=[])
    write("ased", train=[], test=[])
    assert emobox_folds("ased", emobox) == emobox_folds("ased", emobox / "data")
    assert emobox_folds("ased", emobox) == [1, 2]
    message = refusal(emobox_folds, "TESS", emobox)
    assert "'TESS'; it must be one of ased, tess" in message
    message = refusal(read_emobox, "ased", 3, emobox, tmp_path)
    assert "fold is 3; it must be one of 1, 2" in message
    message = refusal(emobox_folds, "tess", None)
    assert "https://github.com/emo-box/EmoBox" in message


def test_a_line_that_is_no_row_is_named(write, tmp_path):
    emobox = write("tess", train=[("a.wav", "ps")], test=[("b.wav", "ps")])
    path = emobox / "data/tess/fold_1/tess_test_fold_1.jsonl"
    path.write_text(path.read_text() + '{"key": "c"}\n')
    message = refusal(read_emobox, "tess", 1, emobox, tmp_path)
    assert message.startswith(f"{path}, line 2: a JSON object with key, wav")


def test_a_clip_that_is_twice_in_a_list_is_named(write, audio):
    rows = train_rows(5)
    emobox = write("emodb", train=rows + rows[:1], test=rows[1:2])
    root = audio(*(wav for wav, _ in rows))
    message = refusal(read_emobox, "emodb", 1, emobox, root)
    assert "emodb, fold 1, train: 1 clips are twice there:\n  03a01F" in message
