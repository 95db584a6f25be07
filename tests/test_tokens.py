"""Characters as tokens."""

import pytest
import torch

from qieemo_sb.tokens import (
    ALPHABET,
    N_TOKENS,
    character_encoder,
    frames_needed,
    normalise,
)


@pytest.mark.parametrize(
    "text, normalised",
    [
        ("Kids are talking.", "kids are talking"),
        ("it's  9\to'clock!", "it's o'clock"),
        ("Ärger über Café", "arger uber cafe"),
        ("ﬁne", "fine"),  # one letter that is two
        ("İ", "i"),  # lower case is two code points
        ("[LAUGHTER] no--way", "laughter no way"),
        ("", ""),
        (" 42 ", ""),
    ],
)
def test_normalised(text, normalised):
    assert normalise(text) == normalised


def test_normalising_twice_changes_nothing():
    once = normalise("Schön -- 'tis 1 DAY!")
    assert normalise(once) == once


def test_blank_is_token_zero():
    encoder = character_encoder()
    assert encoder.get_blank_index() == 0
    assert len(encoder) == N_TOKENS == 29


def test_tokens_are_the_alphabet_in_order():
    encoder = character_encoder()
    tokens = encoder.encode_sequence(ALPHABET)
    assert tokens == list(range(1, N_TOKENS))
    assert "".join(encoder.decode_ndim(tokens)) == ALPHABET


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
