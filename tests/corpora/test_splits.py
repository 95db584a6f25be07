"""The protocols on a small corpus of five sessions."""

import random

import pytest

from qieemo_sb.corpora.splits import (
    by_speakers,
    leave_one_session_out,
    leave_one_speaker_out,
    random_split,
    seeded_speaker_split,
)
from qieemo_sb.errors import CorpusError


@pytest.fixture
def corpus(clip):
    """Five sessions of two speakers, each 10 sad and 10 angry utterances."""
    return [
        clip(
            f"Ses0{session}{gender}_{emo}{index}",
            emo,
            spk_id=f"Ses0{session}{gender}",
            session=session,
            gender=gender,
        )
        for session in range(1, 6)
        for gender in "FM"
        for emo in ("sad", "angry")
        for index in range(10)
    ]


def sizes(splits):
    return {name: len(part) for name, part in splits.items()}


def values(splits, field):
    return {
        name: sorted({getattr(u, field) for u in part})
        for name, part in splits.items()
    }


def counts(part, field):
    found = [getattr(u, field) for u in part]
    return {value: found.count(value) for value in sorted(set(found))}


PROTOCOLS = {
    "session": leave_one_session_out,
    "speaker": leave_one_speaker_out,
    "random": random_split,
    "speakers": lambda utts, fold: by_speakers(utts, [f"Ses0{fold}F"]),
    "seeded": lambda utts, fold: seeded_speaker_split(utts, seed=fold),
}


@pytest.fixture(params=PROTOCOLS, ids=list(PROTOCOLS))
def protocol(request):
    return PROTOCOLS[request.param]


def test_each_utterance_is_in_one_part(corpus, protocol):
    splits = protocol(corpus, fold=2)
    parts = [u for part in splits.values() for u in part]
    assert sorted(parts, key=str) == sorted(corpus, key=str)


def test_order_of_input_does_not_matter(corpus, protocol):
    shuffled = random.Random(0).sample(corpus, len(corpus))
    assert protocol(shuffled, fold=2) == protocol(corpus, fold=2)


def test_global_random_state_is_left_alone(corpus, protocol):
    random.seed(0)
    before = random.getstate()
    protocol(corpus, fold=2)
    assert random.getstate() == before


# -- Leave one session out


@pytest.mark.parametrize(
    "fold, valid, train",
    [(1, 2, [3, 4, 5]), (4, 5, [1, 2, 3]), (5, 1, [2, 3, 4])],
)
def test_next_session_validates(corpus, fold, valid, train):
    splits = leave_one_session_out(corpus, fold)
    assert values(splits, "session") == {
        "train": train,
        "valid": [valid],
        "test": [fold],
    }
    assert sizes(splits) == {"train": 120, "valid": 40, "test": 40}


@pytest.mark.parametrize("fold", [0, 6, -1, "1", None])
def test_session_folds_that_exist_are_named(corpus, fold):
    with pytest.raises(CorpusError, match="one of 1, 2, 3, 4, 5"):
        leave_one_session_out(corpus, fold)


def test_two_sessions_are_too_few(corpus):
    with pytest.raises(CorpusError, match="There are 2"):
        leave_one_session_out([u for u in corpus if u.session < 3], 1)


# -- Leave one speaker out


@pytest.mark.parametrize(
    "fold, test, valid",
    [
        (1, "Ses01F", "Ses01M"),
        (2, "Ses01M", "Ses01F"),
        (10, "Ses05M", "Ses05F"),
    ],
)
def test_partner_validates(corpus, fold, test, valid):
    splits = leave_one_speaker_out(corpus, fold)
    assert values(splits, "spk_id")["test"] == [test]
    assert values(splits, "spk_id")["valid"] == [valid]
    assert splits["test"][0].session not in values(splits, "session")["train"]
    assert sizes(splits) == {"train": 160, "valid": 20, "test": 20}


def test_speaker_folds_that_exist_are_named(corpus):
    with pytest.raises(CorpusError, match="one of 1, 2, .* 9, 10"):
        leave_one_speaker_out(corpus, 11)


def test_speaker_alone_in_a_session_is_named(clip):
    alone = [clip(x, spk_id=x, session=x) for x in "abc"]
    with pytest.raises(CorpusError, match="Speaker b is alone"):
        leave_one_speaker_out(alone, 2)


# -- Random


def test_random_split_is_80_10_10_in_each_label(corpus):
    splits = random_split(corpus, fold=3)
    assert counts(splits["train"], "emo") == {"angry": 80, "sad": 80}
    assert counts(splits["valid"], "emo") == {"angry": 10, "sad": 10}
    assert counts(splits["test"], "emo") == {"angry": 10, "sad": 10}


def test_ten_random_folds_test_everything_once(corpus):
    tested = [
        u for fold in range(1, 11) for u in random_split(corpus, fold)["test"]
    ]
    assert sorted(tested, key=str) == sorted(corpus, key=str)


def test_next_tenth_validates(corpus):
    assert random_split(corpus, 10)["valid"] == random_split(corpus, 1)["test"]


def test_rare_labels_do_not_pile_up_in_one_tenth(clip):
    """Ten labels of one utterance: each tenth has one."""
    utts = [clip(f"u{x}", emo=f"label{x}") for x in range(10)]
    assert all(
        len(random_split(utts, fold)["test"]) == 1 for fold in range(1, 11)
    )


def test_seed_changes_the_random_split(corpus):
    one, other = random_split(corpus, seed=1), random_split(corpus, seed=2)
    assert one["test"] != other["test"]
    assert random_split(corpus, seed=1) == one


def test_random_folds_that_exist_are_named(corpus):
    with pytest.raises(CorpusError, match="one of 1, 2, .* 9, 10"):
        random_split(corpus, fold=11)


# -- By speakers


def test_given_speakers_are_tested(corpus):
    splits = by_speakers(corpus, ["Ses01F", "Ses04M"])
    assert values(splits, "spk_id")["test"] == ["Ses01F", "Ses04M"]
    assert sizes(splits) == {"train": 128, "valid": 32, "test": 40}


def test_validation_is_a_fifth_of_each_label_and_of_each_speaker(corpus):
    """Eight speakers of ten utterances a label: two of each validate."""
    valid = by_speakers(corpus, ["Ses01F", "Ses04M"])["valid"]
    assert counts(valid, "emo") == {"angry": 16, "sad": 16}
    assert set(counts(valid, "spk_id").values()) == {4}


def test_seed_changes_the_validation_part(corpus):
    one = by_speakers(corpus, ["Ses01F"], seed=1)
    other = by_speakers(corpus, ["Ses01F"], seed=2)
    assert one["valid"] != other["valid"]
    assert one["test"] == other["test"]


def test_unknown_test_speakers_are_named(corpus):
    with pytest.raises(CorpusError, match=r"Not in the corpus: Ann, Bob\."):
        by_speakers(corpus, ["Bob", "Ses01F", "Ann"])


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 20])
def test_fraction_is_a_fraction(corpus, fraction):
    with pytest.raises(CorpusError, match="between 0 and 1"):
        by_speakers(corpus, ["Ses01F"], fraction)


# -- Seeded


def test_seeded_split_divides_ten_speakers_into_six_two_two(corpus):
    """15 % of ten is 1.5, which rounds to two."""
    splits = seeded_speaker_split(corpus)
    assert {k: len(v) for k, v in values(splits, "spk_id").items()} == {
        "train": 6,
        "valid": 2,
        "test": 2,
    }


def test_three_speakers_are_one_each(clip):
    utts = [clip(x, spk_id=x) for x in "abc"]
    assert sizes(seeded_speaker_split(utts)) == {
        "train": 1,
        "valid": 1,
        "test": 1,
    }


def test_two_speakers_are_too_few(clip):
    with pytest.raises(CorpusError, match="There are 2: a, b"):
        seeded_speaker_split([clip(x, spk_id=x) for x in "ab"])


def test_a_woman_and_a_man_are_in_each_part(clip):
    """Three women, seven men: two of ten test, as 15 % round to."""
    utts = [clip(x, spk_id=x, gender="FM"[x > "c"]) for x in "abcdefghij"]
    for seed in range(9):
        splits = seeded_speaker_split(utts, seed)
        assert [len(part) for part in splits.values()] == [6, 2, 2]
        for part in splits.values():
            assert {u.gender for u in part} == {"F", "M"}


def test_small_corpora_keep_a_speaker_to_train_on(clip):
    utts = [clip(x, spk_id=x, gender="FM"[x > "b"]) for x in "abcd"]
    assert sizes(seeded_speaker_split(utts)) == {
        "train": 2,
        "valid": 1,
        "test": 1,
    }


def test_nobody_is_tested_if_a_test_part_exists(clip):
    splits = seeded_speaker_split(
        [clip(x, spk_id=x) for x in "ab"], tested=False
    )
    assert sizes(splits) == {"train": 1, "valid": 1, "test": 0}
    with pytest.raises(CorpusError, match="takes two speakers: .* There are 1"):
        seeded_speaker_split([clip("a", spk_id="a")], tested=False)
