"""What every tokenizer does: indices, files, alignment limits."""

import json

import pytest
import torch

from qieemo_sb.errors import TokenError
from qieemo_sb.lobes.tokens import (
    BLANK,
    TOKENS,
    Characters,
    Phonemes,
    Pieces,
    Vocabulary,
    frames_needed,
    load_tokenizer,
    make_tokenizer,
    spoken_name,
    transcript_problem,
)

TRANSCRIPTS = ["Kids are talking by the door.", "[LAUGHTER] Dogs are sitting!"]


@pytest.fixture(params=["characters", "unigram", "bpe", "phonemes"])
def tokenizer(request):
    return make_tokenizer(request.param, 20, keep_events=True).fit(TRANSCRIPTS)


@pytest.fixture
def characters():
    return Characters()


def test_index_zero_is_the_blank_and_no_text_has_it(tokenizer):
    assert tokenizer.names[0] == BLANK
    for text in TRANSCRIPTS:
        assert 0 not in tokenizer.encode_as_ids(text)


def test_names_are_different_and_as_many_as_the_length(tokenizer):
    assert len(set(tokenizer.names)) == len(tokenizer)


def test_same_text_however_it_is_written(tokenizer):
    assert tokenizer.encode_as_ids(
        "DOGS, are [cough] talking"
    ) == tokenizer.encode_as_ids("dogs are <laugh> talking!")


@pytest.mark.parametrize("kind", ["characters", "unigram", "bpe"])
def test_decoding_gives_the_normalised_text(kind):
    tokenizer = make_tokenizer(kind, 19).fit(TRANSCRIPTS)
    indices = tokenizer.encode_as_ids(TRANSCRIPTS[0])
    assert tokenizer.decode_ids(indices) == "kids are talking by the door"


def test_an_event_is_one_token(tokenizer):
    with_event = tokenizer.encode_as_ids("[LAUGHTER]")
    names = [tokenizer.names[i] for i in with_event]
    assert names[-1] == "#" and set(names) <= {"#", "▁"}


def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(tokenizer.FILES)
    loaded = load_tokenizer(tmp_path)
    assert loaded == tokenizer
    text = TRANSCRIPTS[0]
    assert loaded.encode_as_ids(text) == tokenizer.encode_as_ids(text)
    assert loaded.keep_events


def test_letters_of_a_checkpoint_are_kept_too(tmp_path):
    letters = Vocabulary(" äöß")
    letters.save(tmp_path)
    assert load_tokenizer(tmp_path) == letters
    assert letters.encode_as_ids("Ö? -ß") == [3, 1, 4]


def test_another_kind_of_file_is_refused(tmp_path):
    Characters().save(tmp_path)
    with pytest.raises(TokenError, match="has characters, the model reads bpe"):
        Pieces(algorithm="bpe").load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"kind": "characters"}',
        '{"kind": "characters", "keep_events": false, "names": []}',
        '{"kind": "characters", "keep_events": false, "names": ["a", "b"]}',
        '{"kind": "characters", "keep_events": 1, "names": ["<blank>"]}',
        '{"kind": "characters", "keep_events": false,'
        ' "names": ["<blank>", "a", "a"]}',
        '{"kind": "characters", "keep_events": false, "names": ["<blank>", 3]}',
    ],
)
def test_a_damaged_file_is_told(content, tmp_path):
    (tmp_path / TOKENS).write_text(content)
    with pytest.raises(TokenError, match=TOKENS):
        Characters().load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_folder_whose_kind_cannot_be_read(content, tmp_path):
    (tmp_path / TOKENS).write_text(content)
    with pytest.raises(TokenError, match="cannot be read"):
        load_tokenizer(tmp_path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(TokenError, match="is missing"):
        Characters().load(tmp_path)


def test_an_unknown_kind_is_told():
    with pytest.raises(ValueError, match="'words'; it must be one of"):
        make_tokenizer("words")


def test_different_tokenizers_are_not_equal(characters):
    assert characters == Characters()
    assert characters != Characters(keep_events=True)
    assert characters != Phonemes().fit(TRANSCRIPTS)
    assert characters != "characters"


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
        ("[BREATHING]", 9, "'[BREATHING]' has nothing to read"),
    ],
)
def test_why_ctc_cannot_learn(characters, text, frames, problem):
    assert transcript_problem(characters, text, frames) == problem


def test_an_unknown_token_is_a_problem_too():
    tokenizer = Phonemes().fit(["kid"])
    assert "dog" in transcript_problem(tokenizer, "dog", 99)


def test_names_for_people():
    assert [spoken_name(n) for n in " #a"] == ["<space>", "<event>", "a"]


def test_file_is_readable_json(characters, tmp_path):
    characters.save(tmp_path)
    facts = json.loads((tmp_path / TOKENS).read_text(encoding="utf-8"))
    assert facts["kind"] == "characters"
    assert facts["names"][:3] == [BLANK, " ", "'"]
