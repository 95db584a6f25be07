"""Tokenizers: transcripts as indices and back, as plain values."""

import json
import pickle

import pytest
import torch

from qieemo_sb.errors import TokenError
from qieemo_sb.lobes.tokens import (
    ALPHABET,
    BLANK,
    Characters,
    Pieces,
    Tokenizer,
    Vocabulary,
    display_name,
    frames_needed,
    load_tokenizer,
    make_tokenizer,
    normalise,
    transcript_problem,
)

TRANSCRIPTS = ["Kids are talking by the door.", "[LAUGHTER] Dogs are sitting!"]
SEA = ["see the sea", "the sea sees"]


@pytest.fixture(params=["characters", "unigram", "bpe"])
def kind(request):
    return request.param


@pytest.fixture
def tokenizer(kind):
    return make_tokenizer(kind, 20, keep_events=True).fit(TRANSCRIPTS)


# Normalised text


@pytest.mark.parametrize(
    "text, normalised",
    [
        ("Kids are talking.", "kids are talking"),
        ("it's  9\to'clock!", "it's o'clock"),
        ("Ärger über Café", "arger uber cafe"),
        ("ﬁne", "fine"),  # one letter that is two
        ("İ", "i"),  # lower case is two code points
        ("[LAUGHTER] no--way", "no way"),
        ("well <breath> yes", "well yes"),
        ("it’s ours", "it's ours"),
        ("# 5", ""),
        ("", ""),
        (" 42 ", ""),
    ],
)
def test_normalised(text, normalised):
    assert normalise(text) == normalised
    assert normalise(normalised) == normalised


def test_an_event_can_be_kept_as_a_word():
    assert normalise("Well[LAUGHTER]yes <cough>.", True) == "well # yes #"
    assert normalise("a [x] # b") == "a b"


# Every tokenizer


def test_index_zero_is_the_blank_and_in_no_text(tokenizer):
    assert tokenizer.names[0] == BLANK
    assert len(set(tokenizer.names)) == len(tokenizer)
    for text in TRANSCRIPTS:
        assert 0 not in tokenizer.encode_as_ids(text)


def test_writing_does_not_matter_and_an_event_is_one_token(tokenizer):
    assert tokenizer.encode_as_ids(
        "DOGS, are [cough] talking"
    ) == tokenizer.encode_as_ids("dogs are <laugh> talking!")
    indices = tokenizer.encode_as_ids("[LAUGHTER]")
    names = [tokenizer.names[i] for i in indices]
    assert names[-1] == "#" and set(names) <= {"#", "▁"}


def test_decoding_gives_the_normalised_text(kind):
    tokenizer = make_tokenizer(kind, 19).fit(TRANSCRIPTS)
    indices = tokenizer.encode_as_ids(TRANSCRIPTS[0])
    assert tokenizer.decode_ids(indices) == "kids are talking by the door"


def test_facts_are_json_and_give_the_same_tokenizer(tokenizer):
    facts = json.loads(json.dumps(tokenizer.facts))
    loaded = load_tokenizer(facts, "tokens.json")
    assert loaded == tokenizer and type(loaded) is type(tokenizer)
    text = TRANSCRIPTS[0]
    assert loaded.encode_as_ids(text) == tokenizer.encode_as_ids(text)
    assert loaded.keep_events
    copy = pickle.loads(pickle.dumps(tokenizer))  # to another process
    assert copy.encode_as_ids(text) == tokenizer.encode_as_ids(text)


def test_different_tokenizers_are_not_equal():
    assert Characters() == Characters()
    assert Characters() != Characters(keep_events=True)
    assert Characters() != Pieces(9).fit(SEA)
    assert Characters() != "characters"


def test_unknown_kinds_are_refused():
    with pytest.raises(TokenError, match="'words'; it must be 'unigram'"):
        make_tokenizer("words")
    with pytest.raises(TokenError, match="'unigram' or 'bpe'"):
        Pieces(algorithm="word")


# Loading


def test_a_kind_that_is_not_known_decodes_only():
    facts = {"kind": "phonemes", "keep_events": False}
    tokenizer = load_tokenizer({**facts, "names": [BLANK, "k", "ɪ"]}, "here")
    assert type(tokenizer) is Tokenizer and len(tokenizer) == 3
    assert tokenizer.decode_ids([1, 2]) == "kɪ"
    with pytest.raises(TokenError, match="3 phonemes can be decoded, not"):
        tokenizer.encode_as_ids("kid")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": None},
        {"kind": 3},
        {"kind": ["characters"]},
        {"keep_events": 1},
        {"names": []},
        {"names": 3},
        {"names": ["a", "b"]},
        {"names": [BLANK, 3]},
        {"names": [BLANK, "a", "a"]},
        {"names": [BLANK, "a"]},  # not those of characters
        {"kind": "phonemes", "more": 1},
        {"kind": "bpe pieces"},  # without a model
        {"kind": "bpe pieces", "sentencepiece": "no base 64"},
        {"kind": "bpe pieces", "sentencepiece": ""},
        {"kind": "bpe pieces", "sentencepiece": "bm8gbW9kZWw="},
    ],
)
def test_damaged_facts_are_refused(change):
    with pytest.raises(TokenError, match="^tokens.json is damaged"):
        load_tokenizer({**Characters().facts, **change}, "tokens.json")


@pytest.mark.parametrize("facts", [[], {}, {"kind": "characters"}, None])
def test_facts_that_are_incomplete_are_refused(facts):
    with pytest.raises(TokenError, match="^tokens.json is damaged"):
        load_tokenizer(facts, "tokens.json")


def test_names_and_model_must_belong_together():
    facts = Pieces(9).fit(SEA).facts
    other = Pieces(10).fit([*SEA, "zoo"]).facts
    with pytest.raises(TokenError, match="damaged"):
        load_tokenizer({**facts, "names": other["names"]}, "here")


# Each kind


def test_characters_are_the_alphabet_in_order():
    tokens = Characters().encode_as_ids("a" + ALPHABET + "z")
    assert tokens == [3, 1, 2, *range(3, 29), 28]  # spaces at the ends go
    assert (len(Characters()), len(Characters(True))) == (29, 30)


def test_pieces_are_as_many_as_asked_for_and_the_same_each_time():
    assert len(Pieces(9).fit(SEA)) == 9
    assert Pieces(9).fit(SEA) == Pieces(9).fit(SEA)


def test_pieces_that_the_texts_do_not_give():
    with pytest.raises(TokenError, match="do not give 500 unigram pieces"):
        Pieces(500).fit(SEA)
    with pytest.raises(TokenError, match="'zoo' has letters .*: oz"):
        Pieces(9).fit(SEA).encode_as_ids("zoo")


def test_letters_of_a_checkpoint():
    letters = Vocabulary(" äöß")
    assert load_tokenizer(letters.facts, "here") == letters
    assert letters.encode_as_ids("Ö? -ß") == [3, 1, 4]
    cased = Vocabulary(" sST")
    assert cased.encode_as_ids("Sst") == [3, 2]  # no "t" there
    with pytest.raises(TokenError, match="no letters"):
        Vocabulary(["tʃ", "n"]).encode_as_ids("china")


# CTC


@pytest.mark.parametrize(
    "tokens, frames",
    [([], 0), ([3], 1), ([3, 4, 5], 3), ([3, 3], 3), ([3, 3, 3, 4], 6)],
)
def test_frames_that_ctc_needs(tokens, frames):
    assert frames_needed(tokens) == frames


def test_ctc_agrees_on_the_frames_needed():
    tokens = [3, 3, 4]
    for frames, possible in ((frames_needed(tokens), True), (3, False)):
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(frames, 1, 5).log_softmax(-1),
            torch.tensor([tokens]),
            torch.tensor([frames]),
            torch.tensor([len(tokens)]),
        )
        assert bool(torch.isfinite(loss)) == possible


@pytest.mark.parametrize(
    "text, frames, problem",
    [
        ("see", 4, None),  # s, e, blank, e
        ("see", 3, "4 frames for the text, 3 are there"),
        ("", 9, "no transcript"),
        (None, 9, "no transcript"),
        ("[BREATHING]", 9, "'[BREATHING]' has no token"),
    ],
)
def test_why_ctc_cannot_learn(text, frames, problem):
    assert transcript_problem(Characters(), text, frames) == problem


def test_an_unknown_token_is_a_problem_too():
    assert "oz" in transcript_problem(Pieces(9).fit(SEA), "zoo", 99)


def test_names_in_figures():
    assert [display_name(n) for n in " #a"] == ["<space>", "<event>", "a"]
