"""Characters, pieces, phonemes: what is special to each."""

import pickle

import pytest

from qieemo_sb.errors import TokenError
from qieemo_sb.lobes.tokens import ALPHABET, Characters, Phonemes, Pieces
from qieemo_sb.serving.folder import PIECES, TOKENS

SEA = ["see the sea", "the sea sees"]


def test_characters_are_the_alphabet_in_order():
    tokens = Characters().encode_as_ids("a" + ALPHABET + "z")
    assert tokens == [3, 1, 2, *range(3, 29), 28]  # spaces at the ends go


def test_characters_are_29_and_30_with_events():
    assert (len(Characters()), len(Characters(True))) == (29, 30)


def test_pieces_are_as_many_as_asked_for():
    assert len(Pieces(9).fit(SEA)) == 9


def test_more_pieces_than_the_text_gives_are_told():
    with pytest.raises(TokenError, match="do not give 500 unigram pieces"):
        Pieces(500).fit(SEA)


def test_a_letter_without_a_piece_is_told():
    with pytest.raises(TokenError, match="'zoo' has letters .*: oz"):
        Pieces(9).fit(SEA).encode_as_ids("zoo")


def test_pieces_are_the_same_each_time():
    assert Pieces(9).fit(SEA) == Pieces(9).fit(SEA)


def test_an_unknown_algorithm_is_told():
    with pytest.raises(ValueError, match="'unigram' or 'bpe'"):
        Pieces(algorithm="word")


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_damaged_model_is_told(content, tmp_path):
    Pieces(9).fit(SEA).save(tmp_path)
    (tmp_path / PIECES).write_bytes(content)
    with pytest.raises(TokenError, match=f"{PIECES} (is damaged|has other)"):
        Pieces().load(tmp_path)


def test_a_missing_model_is_told(tmp_path):
    Pieces(9).fit(SEA).save(tmp_path)
    (tmp_path / PIECES).unlink()
    with pytest.raises(TokenError, match=f"{PIECES} is missing"):
        Pieces().load(tmp_path)


def test_names_and_model_must_belong_together(tmp_path):
    (tmp_path / "other").mkdir()
    Pieces(9).fit(SEA).save(tmp_path)
    Pieces(10).fit([*SEA, "zoo"]).save(tmp_path / "other")
    (tmp_path / "other" / TOKENS).replace(tmp_path / TOKENS)
    with pytest.raises(TokenError, match="other pieces"):
        Pieces().load(tmp_path)


def test_pieces_can_go_to_another_process():
    pieces = Pieces(9).fit(SEA)
    copy = pickle.loads(pickle.dumps(pieces))
    assert copy.encode_as_ids("the sea") == pieces.encode_as_ids("the sea")


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
