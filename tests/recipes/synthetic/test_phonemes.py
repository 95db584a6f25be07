"""Phonemes as tokens: encoded by espeak-ng, decoded by the library."""

import pytest
from phonemes import Phonemes, make_tokenizer

from qieemo_sb.errors import TokenError
from qieemo_sb.lobes.tokens import (
    Characters,
    load_tokenizer,
    transcript_problem,
)


def test_kinds_are_phonemes_and_those_of_the_library():
    assert make_tokenizer("characters") == Characters()
    assert make_tokenizer("phonemes", keep_events=True).keep_events


def test_what_is_saved_is_decoded_without_espeak():
    tokenizer = make_tokenizer("phonemes").fit(["see the kid"])
    loaded = load_tokenizer(tokenizer.facts, "tokens.json")
    assert loaded == tokenizer
    assert loaded.decode_ids(tokenizer.encode_as_ids("the kid")) == "ðə kɪd"
    with pytest.raises(TokenError, match="can be decoded, not encoded"):
        loaded.encode_as_ids("kid")


def test_events_are_tokens_of_their_own():
    tokenizer = Phonemes(keep_events=True).fit(["[LAUGH] kid"])
    assert tokenizer.decode_ids(tokenizer.encode_as_ids("<x> kid")) == "# kɪd"


def test_an_unknown_phoneme_is_a_problem():
    assert "dog" in transcript_problem(Phonemes().fit(["kid"]), "dog", 99)


def test_phonemes_are_those_of_the_transcripts():
    tokenizer = Phonemes().fit(["kid"])
    assert tokenizer.names == ["<blank>", " ", "d", "k", "ɪ"]
    assert tokenizer.encode_as_ids("kid") == [3, 4, 2]


def test_words_that_sound_alike_have_the_same_phonemes():
    tokenizer = Phonemes().fit(["see sea two too"])
    assert tokenizer.encode_as_ids("see two") == tokenizer.encode_as_ids(
        "sea too"
    )


def test_a_phoneme_that_was_never_heard_is_told():
    with pytest.raises(TokenError, match="'dog' has phonemes .*: ɑː ɡ"):
        Phonemes().fit(["kid"]).encode_as_ids("dog")


def test_nothing_to_pronounce_is_told():
    with pytest.raises(TokenError, match="No transcript has a phoneme"):
        Phonemes().fit(["[BREATHING]", ""])
