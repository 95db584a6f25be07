"""A tokenizer by its kind, and the one that a folder keeps.

Authors
 * The Qieemo-SB authors 2026
"""

import json
from pathlib import Path

from qieemo_sb.folder import TOKENS
from qieemo_sb.tokens.base import TokenError, Tokenizer
from qieemo_sb.tokens.characters import Characters
from qieemo_sb.tokens.phonemes import Phonemes
from qieemo_sb.tokens.pieces import Pieces
from qieemo_sb.tokens.vocabulary import Vocabulary

KINDS = ("characters", "unigram", "bpe", "phonemes")


def make_tokenizer(
    kind: str, n_tokens: int = 500, keep_events: bool = False
) -> Tokenizer:
    """A tokenizer that has yet to be fitted.

    Arguments
    ---------
    kind : str
        "characters", "unigram" or "bpe" (pieces of words, by sentencepiece)
        or "phonemes" (by espeak-ng).
    n_tokens : int
        V of "unigram" and "bpe".
    keep_events : bool
        Whether [LAUGHTER] and its like are a token.

    Returns
    -------
    Tokenizer

    Raises
    ------
    ValueError
        There is no such kind.

    Example
    -------
    >>> str(make_tokenizer("characters"))
    '29 characters'
    """
    if kind not in KINDS:
        raise ValueError(f"tokens is {kind!r}; it must be one of {KINDS}.")
    if kind == "characters":
        return Characters(keep_events)
    if kind == "phonemes":
        return Phonemes(keep_events=keep_events)
    return Pieces(n_tokens, kind, keep_events)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer that was saved in a folder, whatever its kind.

    Arguments
    ---------
    folder : str or Path
        Where ``Tokenizer.save`` wrote.

    Returns
    -------
    Tokenizer

    Raises
    ------
    TokenError
        A file is missing or damaged.
    """
    path = Path(folder) / TOKENS
    try:
        kind = str(json.loads(path.read_text(encoding="utf-8"))["kind"])
        if kind.endswith(" pieces"):
            empty = Pieces(algorithm=kind.removesuffix(" pieces"))
        elif kind.endswith(" phonemes"):
            empty = Phonemes(kind.removesuffix(" phonemes"))
        elif kind == Vocabulary.kind:
            empty = Vocabulary()
        else:
            empty = Characters()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise TokenError(f"{path} cannot be read: {error!r}") from error
    return empty.load(folder)
