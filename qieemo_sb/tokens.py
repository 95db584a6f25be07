"""Characters as the tokens of the PPG.

Authors
 * The Qieemo-SB authors 2026
"""

import unicodedata

from speechbrain.dataio.encoder import CTCTextEncoder

ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
N_TOKENS = len(ALPHABET) + 1  # with the blank, which is token 0


def normalise(text: str) -> str:
    """A transcript in the letters of ``ALPHABET``.

    Lower case, accents off, everything else a space.

    Arguments
    ---------
    text : str
        Any transcript.

    Returns
    -------
    str

    Example
    -------
    >>> normalise("Café? It's  9 o'clock, [LAUGHTER].")
    "cafe it's o'clock laughter"
    """
    text = unicodedata.normalize("NFKD", text.lower())
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = "".join(c if c in ALPHABET else " " for c in text)
    return " ".join(text.split())


def character_encoder() -> CTCTextEncoder:
    """Index → character, with the CTC blank first.

    Returns
    -------
    CTCTextEncoder

    Example
    -------
    >>> encoder = character_encoder()
    >>> len(encoder) == N_TOKENS
    True
    >>> encoder.encode_sequence("ab")
    [3, 4]
    """
    encoder = CTCTextEncoder()
    encoder.insert_blank(index=0)
    encoder.update_from_iterable(ALPHABET, sequence_input=False)
    encoder.expect_len(N_TOKENS)
    return encoder


def frames_needed(tokens: list[int]) -> int:
    """The fewest frames that CTC can align with a token sequence.

    One a token, and one more for the blank between two equal ones (Graves et
    al., 2006).

    Example
    -------
    >>> frames_needed([3, 4, 4])
    4
    """
    pairs = zip(tokens, tokens[1:], strict=False)
    return len(tokens) + sum(a == b for a, b in pairs)
