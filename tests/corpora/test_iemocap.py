"""IEMOCAP, on a miniature of the tree with all its untidiness."""

import json
from collections import Counter
from pathlib import Path

import pytest

from qieemo_sb.corpora.iemocap import (
    EXPECTED_COUNTS,
    LABEL_SETS,
    check_counts,
    prepare_iemocap,
    read_iemocap,
)
from qieemo_sb.corpora.manifest import Utterance, read_manifest
from qieemo_sb.errors import CorpusError


@pytest.fixture
def prepare(iemocap, tmp_path):
    """Prepare the miniature; give back its three manifests."""

    def run(**options):
        output = tmp_path / "out"
        options = {"expected_counts": iemocap.counts, **options}
        prepare_iemocap(iemocap.root, output, **options)
        return {
            name: read_manifest(output / f"{name}.json")
            for name in ("train", "valid", "test")
        }

    return run


def evaluation(iemocap, dialog="Ses01F_impro01"):
    session = f"Session{int(dialog[3:5])}"
    return iemocap.root / session / f"dialog/EmoEvaluation/{dialog}.txt"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def refusal(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# -- Published figures


def test_published_counts_add_up():
    total = EXPECTED_COUNTS[0, "turns"]
    labels = {c: n for (s, c), n in EXPECTED_COUNTS.items() if s == 0}
    assert sum(labels.values()) == 2 * total == 2 * 10_039
    assert sum(labels[x] for x in LABEL_SETS[4]) == 5_531
    four = [n for (_, c), n in EXPECTED_COUNTS.items() if c == "4 labels"]
    assert four == [1_085, 1_023, 1_151, 1_031, 1_241]
    assert labels["hap"] + labels["exc"] == 1_636


@pytest.fixture
def published():
    """10 039 turns with the published counts, dealt to sessions in order."""
    sessions = [
        session
        for (session, column), number in EXPECTED_COUNTS.items()
        for _ in range(number if column == "4 labels" else 0)
    ]
    turns = []
    for (session, label), number in EXPECTED_COUNTS.items():
        for _ in range(number if session == 0 and label != "turns" else 0):
            place = sessions.pop() if label in LABEL_SETS[4] else 1
            turns.append(Utterance("", "", emo=label, session=place))
    return turns


def test_published_counts_are_accepted(iemocap, published):
    check_counts(iemocap.root, published)


def test_one_turn_less_is_refused(iemocap, published):
    """The first is neu, of the last session."""
    assert refusal(check_counts, iemocap.root, published[1:]).splitlines() == [
        f"{iemocap.root} does not hold the corpus that is expected "
        "(3 differences):",
        "  all sessions, turns: 10038 found, 10039 expected",
        "  all sessions, neu: 1707 found, 1708 expected",
        "  Session5, 4 labels: 1240 found, 1241 expected",
    ]


def test_miniature_is_not_taken_for_iemocap(prepare):
    message = refusal(prepare, expected_counts=None)
    assert "all sessions, turns: 210 found, 10039 expected" in message
    assert "Session1, 4 labels: 30 found, 1085 expected" in message


# -- Parsing


def test_a_turn_becomes_an_utterance(iemocap):
    turns = {u.utt_id: u for u in read_iemocap(iemocap.root, 4, iemocap.counts)}
    assert turns["Ses03M_impro05a_F002"] == Utterance(
        utt_id="Ses03M_impro05a_F002",
        wav="Session3/sentences/wav/Ses03M_impro05a/Ses03M_impro05a_F002.wav",
        emo="hap",
        wrd="I am exc.",
        spk_id="Ses03F",
        corpus="IEMOCAP",
        language="en",
        session=3,
        gender="F",
    )


def test_half_of_the_turns_are_women_whatever_the_dialog_is_called(iemocap):
    turns = read_iemocap(iemocap.root, 4, iemocap.counts)
    assert Counter(u.gender for u in turns) == {"F": 75, "M": 75}
    assert Counter(u.spk_id for u in turns)["Ses05F"] == 15
    assert all(u.utt_id[-4] == u.gender == u.spk_id[-1] for u in turns)


@pytest.mark.parametrize(
    "labels, expected",
    [
        (4, {"neu": 30, "hap": 60, "ang": 30, "sad": 30}),
        (5, {"neu": 30, "hap": 60, "ang": 30, "sad": 30, "fru": 30}),
        (6, dict.fromkeys(("neu", "hap", "ang", "sad", "exc", "fru"), 30)),
    ],
)
def test_label_sets(iemocap, labels, expected):
    turns = read_iemocap(iemocap.root, labels, iemocap.counts)
    assert Counter(u.emo for u in turns) == expected


def test_turns_are_sorted(iemocap):
    ids = [u.utt_id for u in read_iemocap(iemocap.root, 4, iemocap.counts)]
    assert ids == sorted(ids)


def test_stray_byte_costs_a_letter(iemocap):
    path = iemocap.root / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    path.write_bytes(path.read_bytes().replace(b"I am neu.", b"Caf\xe9."))
    first = read_iemocap(iemocap.root, 4, iemocap.counts)[0]
    assert first.wrd == "Caf\N{REPLACEMENT CHARACTER}."


def test_windows_line_ends(iemocap):
    for path in iemocap.root.glob("*/dialog/*/Ses*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    first = read_iemocap(iemocap.root, 4, iemocap.counts)[0]
    assert first.wrd == "I am neu."


# -- Protocols


def test_session_out(prepare):
    splits = prepare(protocol="loso", fold=5)
    assert {u.session for u in splits["test"]} == {5}
    assert {u.session for u in splits["valid"]} == {1}
    assert {u.session for u in splits["train"]} == {2, 3, 4}
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 90,
        "valid": 30,
        "test": 30,
    }


def test_speaker_out(prepare):
    splits = prepare(protocol="speaker", fold=3)
    assert {u.spk_id for u in splits["test"]} == {"Ses02F"}
    assert {u.spk_id for u in splits["valid"]} == {"Ses02M"}
    assert {u.session for u in splits["train"]} == {1, 3, 4, 5}
    assert [len(part) for part in splits.values()] == [120, 15, 15]


def test_random(prepare):
    splits = prepare(protocol="random", fold=1)
    assert [len(part) for part in splits.values()] == [120, 15, 15]
    assert Counter(u.emo for u in splits["test"])["hap"] == 6


def test_lengths_are_those_of_the_audio(prepare):
    assert {u.length for u in prepare()["test"]} == {0.1}


def test_changed_options_prepare_again(prepare):
    assert {u.session for u in prepare(fold=1)["test"]} == {1}
    assert {u.session for u in prepare(fold=2)["test"]} == {2}
    assert "fru" in {u.emo for u in prepare(fold=2, labels=6)["test"]}


def test_same_options_do_not(prepare, iemocap):
    before = prepare()
    for wav in iemocap.root.glob("*/sentences/wav/*/*.wav"):
        wav.unlink()
    assert prepare() == before


def test_changed_expected_counts_prepare_again(prepare, iemocap):
    prepare()
    edit(iemocap.counts, '"neu": 6', '"neu": 7')
    assert "Session1, neu: 6 found, 7 expected" in refusal(prepare)


# -- Options


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"protocol": "LOSO"}, "must be one of loso, speaker, random"),
        ({"labels": 3}, "must be one of 4, 5, 6"),
        ({"fold": 6}, "fold is 6; it must be one of 1, 2, 3, 4, 5"),
        ({"protocol": "speaker", "fold": 11}, "fold is 11; .* 9, 10"),
        ({"protocol": "random", "fold": 0}, "fold is 0; .* 9, 10"),
    ],
)
def test_options_that_do_not_exist(prepare, options, problem):
    with pytest.raises(CorpusError, match=problem):
        prepare(**options)


@pytest.mark.parametrize("folder", ["", None])
def test_no_data_folder_says_where_the_corpus_is(tmp_path, folder):
    message = refusal(prepare_iemocap, folder, tmp_path)
    assert "https://sail.usc.edu/iemocap/" in message
    assert "python train.py hparams/demo.yaml" in message


def test_folder_that_is_not_there(tmp_path):
    message = refusal(prepare_iemocap, tmp_path / "no", tmp_path)
    assert f"{tmp_path / 'no'} is no folder." in message


@pytest.mark.parametrize("text", ["{}", '{"turns": 3}', '{"turns": {"1": 2}}'])
def test_expected_counts_of_another_form(prepare, tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    message = refusal(prepare, expected_counts=path)
    assert f"{path}: turns by session and label are expected" in message


# -- Wrong trees


@pytest.mark.parametrize("folder", ["..", "Session1", "Session1/dialog"])
def test_folder_above_or_below_is_put_right(iemocap, tmp_path, folder):
    message = refusal(prepare_iemocap, iemocap.root / folder, tmp_path / "out")
    assert f"data_folder should be {iemocap.root}" in message


def test_missing_session_is_named(prepare, iemocap):
    (iemocap.root / "Session4").rename(iemocap.root / "elsewhere")
    message = refusal(prepare)
    assert "Session4/sentences/wav is missing" in message
    assert "Session4, turns: 0 found, 42 expected" in message


@pytest.mark.parametrize("part", ["sentences/wav", "dialog/EmoEvaluation"])
def test_missing_part_of_a_session_is_named(prepare, iemocap, part):
    (iemocap.root / "Session2" / part).rename(iemocap.root / "elsewhere")
    assert f"Session2/{part} is missing" in refusal(prepare)


def test_label_that_was_not_expected(prepare, iemocap):
    edit(evaluation(iemocap), "\tneu\t", "\tfea\t")
    message = refusal(prepare)
    assert "Session1, neu: 4 found, 6 expected" in message
    assert "all sessions, fea: 2 found, 0 expected" in message


def test_turn_that_occurs_twice(prepare, iemocap):
    path = evaluation(iemocap)
    Path(path).with_name("copy.txt").write_text(
        "[6.2901 - 8.2357]\tSes01F_impro01_M000\tneu\t[2.5, 2.5, 2.5]\n"
    )
    message = refusal(prepare)
    assert "1 turns occur twice:\n  Ses01F_impro01_M000" in message


def test_all_turns_without_transcript_are_named(prepare, iemocap):
    folder = iemocap.root / "Session1/dialog/transcriptions"
    edit(folder / "Ses01F_impro01.txt", "Ses01F_impro01_F000", "M")
    edit(folder / "Ses01M_impro05a.txt", "Ses01M_impro05a_M003", "F")
    assert refusal(prepare).splitlines()[1:] == [
        "  Ses01F_impro01_F000",
        "  Ses01M_impro05a_M003",
    ]


def test_turn_that_is_not_kept_needs_neither_transcript_nor_wav(
    prepare, iemocap
):
    """Turn 6 of each speaker is "xxx"."""
    folder = iemocap.root / "Session1/dialog/transcriptions"
    edit(folder / "Ses01F_impro01.txt", "Ses01F_impro01_F006", "M")
    wavs = iemocap.root / "Session1/sentences/wav/Ses01F_impro01"
    (wavs / "Ses01F_impro01_F006.wav").unlink()
    assert len(prepare()["test"]) == 30


def test_all_bad_wavs_are_listed_at_once(prepare, iemocap, tmp_path):
    wavs = iemocap.root / "Session3/sentences/wav/Ses03F_impro01"
    (wavs / "Ses03F_impro01_F000.wav").unlink()
    (wavs / "Ses03F_impro01_M001.wav").write_bytes(b"RIFF?")
    first, *lines = refusal(prepare).splitlines()
    assert first == "2 of 150 audio files cannot be used:"
    assert "Ses03F_impro01_F000.wav does not exist" in lines[0]
    assert "Ses03F_impro01_M001.wav cannot be decoded" in lines[1]
    assert not (tmp_path / "out").exists()


def test_manifests_hold_no_path_of_this_machine(prepare, tmp_path):
    prepare()
    for name in ("train", "valid", "test"):
        text = (tmp_path / "out" / f"{name}.json").read_text()
        assert str(tmp_path) not in text
        assert all(
            entry["wav"].startswith("{data_root}/Session")
            for entry in json.loads(text).values()
        )
