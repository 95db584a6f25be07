"""Corpora named by their files, on clips of a tenth of a second or none."""

import hashlib
import itertools
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from qieemo_sb.corpora.entries import CORPORA, CREMAD, EMOTIONS, RAVDESS
from qieemo_sb.corpora.manifest import Utterance, measure, read_manifest
from qieemo_sb.corpora.named import (
    emotion_names,
    find_corpus,
    fold_numbers,
    named_clip,
    prepare_all_clips,
    prepare_named,
    read_named,
    split_named,
)
from qieemo_sb.errors import CorpusError

SPLITS = ("train", "valid", "test")


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


def write_names(root, names, suffix=".flac"):
    """Empty files, since reading looks at names alone."""
    root.mkdir()
    for name in names:
        (root / f"{name}{suffix}").touch()
    return root


@pytest.fixture
def flat(tmp_path):
    return write_names(tmp_path / "flat", clip_names())


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("ravdess") / "flat"
    return read_named(RAVDESS, write_names(root, clip_names()))


def refusal(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def speakers(splits):
    return {name: {u.spk_id for u in splits[name]} for name in SPLITS}


# -- RAVDESS


def test_name_becomes_an_utterance(clips):
    by_id = {u.utt_id: u for u in clips}
    assert by_id["03-01-06-02-02-01-12"] == Utterance(
        utt_id="03-01-06-02-02-01-12",
        wav="03-01-06-02-02-01-12.flac",
        emo="fearful",
        wrd="dogs are sitting by the door",
        spk_id="Actor_12",
        corpus="RAVDESS",
        language="en",
        gender="F",
    )
    assert by_id["03-01-01-01-01-01-01"].emo == "neutral"
    assert by_id["03-01-01-01-01-01-01"].gender == "M"


def test_counts_are_those_of_the_corpus(clips):
    assert Counter(u.emo for u in clips) == {
        "neutral": 96,
        **dict.fromkeys(emotion_names("RAVDESS")[1:], 192),
    }
    assert Counter(u.gender for u in clips) == {"F": 720, "M": 720}


def test_each_actor_is_tested_once():
    assert fold_numbers("RAVDESS") == [1, 2, 3, 4, 5, 6]
    tested = sorted(itertools.chain(*RAVDESS.folds.values()))
    assert tested == [f"Actor_{number:02}" for number in range(1, 25)]


def test_first_fold_of_the_archive(tree, tmp_path):
    prepare_named("RAVDESS", tree, tmp_path / "out", fold=1)
    splits = {
        name: read_manifest(tmp_path / "out" / f"{name}.json")
        for name in SPLITS
    }
    assert [len(part) for part in splits.values()] == [960, 240, 240]
    found = speakers(splits)
    assert found["test"] == {"Actor_01", "Actor_11", "Actor_20", "Actor_21"}
    assert len(found["train"]) == 20 and not found["train"] & found["test"]
    assert Counter(u.emo for u in splits["valid"]) == {
        "neutral": 16,
        **dict.fromkeys(emotion_names("RAVDESS")[1:], 32),
    }
    assert splits["test"][0].wav == "Actor_01/03-01-01-01-01-01-01.wav"
    assert splits["test"][0].length == 0.1


def test_validation_clips_are_those_of_the_published_runs(clips):
    ids = [
        u.utt_id
        for fold in fold_numbers("RAVDESS")
        for u in split_named(RAVDESS, clips, fold)["valid"]
    ]
    digest = hashlib.sha256(" ".join(ids).encode()).hexdigest()
    assert digest.startswith("81e8d1f7134ac31c")


def test_song_video_and_rubbish_are_left_alone(flat):
    for name in (
        "03-02-01-01-01-01-01.wav",
        "01-01-01-01-01-01-01.mp4",
        "._03-01-01-01-01-01-01.flac",
        "03-01-01-01-01-01-01.txt",
        "README.md",
    ):
        (flat / name).touch()
    assert len(read_named(RAVDESS, flat)) == 1_440


def test_all_that_is_wrong_is_listed(flat):
    """No actor 7, two clips lost, one twice; a strong neutral, actor 25."""
    for path in flat.glob("*-07.flac"):
        path.unlink()
    for name in ("03-01-08-02-02-02-24", "03-01-01-01-01-01-24"):
        (flat / f"{name}.flac").unlink()
    (flat / "speech/Actor_05").mkdir(parents=True)
    (flat / "speech/Actor_05/03-01-02-01-01-01-05.wav").touch()
    for name in ("03-01-01-02-01-01-01", "03-01-02-01-01-01-25"):
        (flat / f"{name}.flac").touch()
    (flat / "03-01-09-01-01-01-01.ogg").touch()
    lines = refusal(read_named, RAVDESS, flat).splitlines()
    assert lines[0] == f"{flat} is not all of RAVDESS (6 problems):"
    assert lines[1:4] == [
        "  03-01-01-02-01-01-01 is no clip of RAVDESS",
        "  03-01-02-01-01-01-25 is no clip of RAVDESS",
        "  03-01-09-01-01-01-01 is no clip of RAVDESS",
    ]
    assert lines[4:] == [
        "  03-01-02-01-01-01-05 is there twice: 03-01-02-01-01-01-05.flac "
        "and speech/Actor_05/03-01-02-01-01-01-05.wav",
        "  Actor_07: 60 of 60 clips are missing",
        "  Actor_24: 2 of 60 clips are missing: "
        "03-01-01-01-01-01-24, 03-01-08-02-02-02-24",
    ]


@pytest.mark.parametrize("fold", [0, 7, "1"])
def test_folds_that_exist_are_named(tmp_path, fold):
    message = refusal(
        prepare_named, "RAVDESS", tmp_path, tmp_path / "out", fold
    )
    assert "it must be one of 1, 2, 3, 4, 5, 6" in message


@pytest.mark.parametrize("folder", ["", "no", "empty"])
def test_no_corpus_says_where_it_is(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    folder = folder and tmp_path / folder
    message = refusal(prepare_named, "RAVDESS", folder, tmp_path / "out")
    assert "https://zenodo.org/records/1188976" in message


def test_an_unknown_corpus_is_told(tmp_path):
    message = refusal(prepare_named, "TIMIT", tmp_path, tmp_path / "out")
    assert "'TIMIT'; it must be one of RAVDESS, CREMA-D" in message


def test_all_clips_go_to_one_manifest(tree, tmp_path):
    prepare_all_clips("RAVDESS", tree, tmp_path / "statements.json")
    clips = read_manifest(tmp_path / "statements.json", ("length", "wrd"))
    assert len(clips) == 1_440
    assert {clip.wrd for clip in clips} == set(RAVDESS.sentences.values())


# -- All entries

TOTALS = {
    "RAVDESS": 1_440,
    "CREMA-D": 7_441,  # and a silent one
    "EmoDB": 535,
    "TESS": 2_800,
    "nEMO": 4_481,
    "ASED": 2_474,
    "TurEV-DB": 1_735,
    "SAVEE": 480,
    "EMOVO": 588,
    "URDU": 400,
    "ESD": 35_000,
}


def test_numbers_of_clips_are_the_published_ones():
    totals = {
        name: len(entry.stems) + sum(entry.counts.values())
        for name, entry in CORPORA.items()
    }
    speakers = {x: e.counts.get("speakers", 0) for x, e in CORPORA.items()}
    assert {x: n - speakers[x] for x, n in totals.items()} == TOTALS


@pytest.mark.parametrize("entry", CORPORA.values(), ids=list(CORPORA))
def test_an_entry_is_consistent(entry):
    labels = set(entry.emotions.values())
    assert labels <= set(EMOTIONS)
    assert set(entry.counts) in (set(), labels | {"speakers"})
    assert set(entry.votes.values()) <= labels
    assert {find_corpus(name).name for name in entry.names} == {entry.name}


@pytest.mark.parametrize(
    "corpus, wav, utt_id, emo, spk_id, gender",
    [
        ("emodb", "wav/03a01Fa.wav", "03a01Fa", "happy", "03", "M"),
        ("emodb", "16b10Lb.flac", "16b10Lb", "bored", "16", "F"),
        ("tess", "a/OAF_bite_ps.wav", "OAF_bite_ps", "surprised", "OAF", "F"),
        ("tess", "OA_bite_sad.wav", "OAF_bite_sad", "sad", "OAF", "F"),
        ("nemo", "EB0_anger_1.wav", "EB0_anger_1", "angry", "EB0", "F"),
        ("ased", "S4-04-02-01-29.wav", "S4-04-02-01-29", "sad", "29", "F"),
        # a man's clip whose code of gender is the women's
        ("ased", "n1-01-01-01-45.wav", "n1-01-01-01-45", "neutral", "45", "M"),
        ("turev", "1157_sk_dil.wav", "1157_sk_dil", "calm", "1157", ""),
        ("savee", "DC/sa01.wav", "DC_sa01", "sad", "DC", "M"),
        ("savee", "all/DC_su15.wav", "DC_su15", "surprised", "DC", "M"),
        ("emovo", "f1/pau-f1-b1.wav", "pau-f1-b1", "fearful", "f1", "F"),
        ("urdu", "SM5_F61_N089.wav", "SM5_F61_N089", "neutral", "SM5", "M"),
        ("esd", "0001/Happy/0001_000701.wav", "0001_000701", "happy", "0001",
         ""),
        ("esd", "0011/Sad/test/0011_001071.wav", "0011_001071", "sad", "0011",
         ""),
    ],
)  # fmt: skip
def test_a_name_is_read(corpus, wav, utt_id, emo, spk_id, gender):
    clip = named_clip(find_corpus(corpus), wav)
    assert (clip.utt_id, clip.wav, clip.emo) == (utt_id, wav, emo)
    assert (clip.spk_id, clip.gender) == (spk_id, gender)


def test_words_and_language_are_those_of_the_clip():
    tess = named_clip(find_corpus("tess"), "YAF_bite_ps.wav")
    assert tess.wrd == "Say the word bite"
    emodb = named_clip(find_corpus("emodb"), "03b10Fa.wav")
    assert (
        emodb.wrd == "Die wird auf dem Platz sein, wo wir sie immer hinlegen."
    )
    esd = [
        named_clip(CORPORA["ESD"], f"Sad/00{x}_001071.wav") for x in (10, 11)
    ]
    assert [clip.language for clip in esd] == ["zh", "en"]


def test_speakers_who_are_not_there_are_no_clip():
    assert named_clip(CORPORA["ASED"], "n1-01-01-01-66.wav") is None
    assert named_clip(CORPORA["ASED"], "README.md") is None


def test_aiff_that_is_called_wav_is_read(tmp_path):
    """As copies of SAVEE and EMOVO have it."""
    entry = replace(find_corpus("emovo"), counts={})
    for name in ("dis-f1-b1.wav", "gio-f1-b1.wav"):
        path = tmp_path / "data" / "f1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            soundfile.write(file, np.ones(4_800) / 9, 48_000, format="AIFF")
    clips = measure(read_named(entry, tmp_path / "data"), tmp_path / "data")
    assert [(clip.utt_id, clip.length) for clip in clips] == [
        ("dis-f1-b1", 0.1),
        ("gio-f1-b1", 0.1),
    ]


# -- ASED, whose words give the emotion away


@pytest.fixture
def ased(tmp_path):
    """Seven sentences by ten speakers, each with two emotions."""
    names = [
        f"{emotion}-{sentence:02}-01-01-{speaker:02}"
        for emotion in ("n1", "a5")
        for sentence in range(1, 8)
        for speaker in range(1, 11)
    ]
    entry = replace(CORPORA["ASED"], counts={})
    return entry, read_named(entry, write_names(tmp_path / "ased", names))


def test_a_sentence_is_in_one_part_only(ased):
    entry, clips = ased
    splits = split_named(entry, clips, 7, apart="sentences")
    told = {x: {u.utt_id[3:5] for u in part} for x, part in splits.items()}
    assert told == {
        "train": {"02", "03", "04", "05", "06"},
        "valid": {"01"},
        "test": {"07"},
    }
    assert [len(part) for part in splits.values()] == [100, 20, 20]
    assert {u.session for u in splits["train"]} == {""}


def test_folds_by_sentences_are_where_words_tell():
    assert fold_numbers("ASED") == [1, 2, 3, 4, 5]
    assert fold_numbers("ASED", "sentences") == [1, 2, 3, 4, 5, 6, 7]
    message = refusal(fold_numbers, "TESS", "sentences")
    assert message == "apart is 'sentences'; it must be one of speakers."


# -- CREMA-D, and other shapes of an entry


CREMAD_NAMES = [
    f"{actor}_{sentence}_{emotion}_XX"
    for actor in range(1001, 1011)
    for sentence in ("IEO", "TSI")
    for emotion in CREMAD.emotions
]
TEN_ACTORS = replace(
    CREMAD, counts=dict.fromkeys(emotion_names("CREMA-D"), 20), left_out={}
)


def test_cremad_is_read_from_its_entry(tmp_path):
    clips = read_named(
        TEN_ACTORS, write_names(tmp_path / "c", CREMAD_NAMES, ".opus")
    )
    by_id = {u.utt_id: u for u in clips}
    assert by_id["1001_IEO_ANG_XX"] == Utterance(
        utt_id="1001_IEO_ANG_XX",
        wav="1001_IEO_ANG_XX.opus",
        emo="angry",
        wrd="It's eleven o'clock",
        spk_id="1001",
        corpus="CREMA-D",
        language="en",
        gender="M",
    )
    assert (len(CREMAD.genders), len(CREMAD.sentences)) == (91, 12)
    assert Counter(CREMAD.genders.values()) == {"M": 48, "F": 43}


def test_speakers_are_dealt_where_no_folds_are_official(tmp_path):
    clips = read_named(TEN_ACTORS, write_names(tmp_path / "c", CREMAD_NAMES))
    found = [speakers(split_named(TEN_ACTORS, clips, k)) for k in range(1, 6)]
    tested = [fold["test"] for fold in found]
    assert [len(test) for test in tested] == [2] * 5
    assert len(set.union(*tested)) == 10
    assert all(len(fold["train"] & fold["test"]) == 0 for fold in found)


def test_wrong_counts_are_told(tmp_path):
    folder = write_names(tmp_path / "c", CREMAD_NAMES[1:])
    lines = refusal(
        read_named, replace(TEN_ACTORS, counts=CREMAD.counts), folder
    ).splitlines()
    assert "  neutral: 19 found, 1087 expected" in lines
    assert lines[-1] == "  speakers: 10 found, 91 expected"


def test_a_silent_clip_is_left_out_and_told(tmp_path, caplog):
    entry = replace(
        CREMAD, left_out={"1001_IEO_SAD_XX": "it is silent"}, counts={"sad": 19}
    )
    folder = write_names(tmp_path / "c", CREMAD_NAMES)
    with caplog.at_level(logging.WARNING):
        clips = read_named(entry, folder)
    assert len(clips) == len(CREMAD_NAMES) - 1
    assert caplog.messages == ["1001_IEO_SAD_XX: left out, it is silent"]


def test_votes_are_read_from_the_table_beside_the_clips(tmp_path):
    folder = write_names(tmp_path / "c", CREMAD_NAMES)
    table = folder / "voice_votes.csv"
    header = "file,anger,disgust,fear,happy,neutral,sad\n"
    table.write_text(
        f"{header}1001_IEO_ANG_XX,4,1,0,0,6,0\n1001_IEO_SAD_XX,0,0,0,0,0,0\n"
    )
    votes = {u.utt_id: u.votes for u in read_named(TEN_ACTORS, folder)}
    assert votes["1001_IEO_ANG_XX"] == {"angry": 4, "disgust": 1, "neutral": 6}
    assert votes["1001_IEO_SAD_XX"] is votes["1001_IEO_NEU_XX"] is None
    table.write_text(f"{header}1001_IEO_ANG_XX,4,1\n")
    assert f"{table}, line 2: not as CREMA-D has it" in refusal(
        read_named, TEN_ACTORS, folder
    )


def test_transcripts_are_read_from_the_table_beside_the_clips(tmp_path):
    folder = write_names(tmp_path / "n", ["EB0_anger_1", "EB0_fear_1"])
    (folder / "data.tsv").write_text(
        "file_id\temotion\traw_text\nEB0_fear_1.wav\tfear\tTak, już.\n",
        encoding="utf-8",
    )
    clips = read_named(replace(CORPORA["nEMO"], counts={}), folder)
    assert [clip.wrd for clip in clips] == ["", "Tak, już."]


def test_a_new_table_prepares_again(tmp_path, sound, monkeypatch):
    monkeypatch.setitem(CORPORA, "CREMA-D", TEN_ACTORS)
    folder = tmp_path / "c"
    folder.mkdir()
    for name in CREMAD_NAMES:
        (folder / f"{name}.wav").write_bytes(sound)
    for table in (None, "file,anger,disgust,fear,happy,neutral,sad\n"):
        if table:
            (folder / "voice_votes.csv").write_text(
                f"{table}1001_IEO_ANG_XX,4,1,0,0,6,0\n"
            )
        prepare_named("cremad", folder, tmp_path / "out")
        voted = [
            u.utt_id
            for name in SPLITS
            for u in read_manifest(tmp_path / "out" / f"{name}.json")
            if u.votes
        ]
        assert voted == (["1001_IEO_ANG_XX"] if table else [])


def test_folders_and_templates_can_be_part_of_an_entry(tmp_path):
    """As in ESD, whose emotion is a folder, and TESS, said as one sentence."""
    entry = replace(
        TEN_ACTORS,
        pattern=r"(?P<speaker>\d{4})/(?P<emotion>[A-Z]+)/\d+_(?P<sentence>\w+)",
        speaker="speaker {speaker}",
        sentences="Say the word {sentence}",
        genders={},
        counts={},
    )
    path = tmp_path / "x" / "1001" / "ANG" / "7_bite.wav"
    path.parent.mkdir(parents=True)
    path.touch()
    (clip,) = read_named(entry, tmp_path)
    assert (clip.emo, clip.wrd, clip.gender) == (
        "angry",
        "Say the word bite",
        "",
    )
    assert (clip.utt_id, clip.spk_id) == ("7_bite", "speaker 1001")
    assert clip.wav == "x/1001/ANG/7_bite.wav"
