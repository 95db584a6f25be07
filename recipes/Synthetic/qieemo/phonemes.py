"""Phonemes as tokens of the PPG: transcripts as espeak-ng pronounces them.

A model that was trained with them decodes without this module.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Iterable
from functools import cache
from itertools import groupby

import espeak
from qieemo_sb.errors import TokenError
from qieemo_sb.lobes import tokens
from qieemo_sb.lobes.tokens import BLANK, EVENT, Tokenizer

SPACE = " "

pronounce = cache(espeak.phonemes)


class Phonemes(Tokenizer):
    """IPA phonemes of American English, and the space between words.

    The tokens are those that the training transcripts are pronounced with.

    Arguments
    ---------
    keep_events : bool
        As of ``Tokenizer``.

    Example
    -------
    >>> tokenizer = Phonemes().fit(["the kid"])
    >>> tokenizer.decode_ids(tokenizer.encode_as_ids("the kid"))
    'ðə kɪd'
    """

    def __init__(self, keep_events: bool = False):
        super().__init__("en-us phonemes", [], keep_events)

    def fit(self, transcripts: Iterable[str]) -> "Phonemes":
        """Collect the phonemes; see ``Tokenizer.fit``."""
        found = {p for text in transcripts for p in self._phonemes(text)}
        if not found:
            raise TokenError("No transcript has a phoneme.")
        self.names = [BLANK, SPACE, *sorted(found - {SPACE})]
        return self

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's phonemes."""
        found = self._phonemes(text)
        if unknown := sorted(set(found) - set(self.names)):
            raise TokenError(
                f"'{text}' has phonemes that no transcript for the tokens "
                f"had: {' '.join(unknown)}"
            )
        return [self.names.index(phoneme) for phoneme in found]

    def _phonemes(self, text):
        """Phonemes with ``SPACE`` between words."""
        found = []
        for is_event, words in groupby(
            self.normalise(text).split(), key=lambda word: word == EVENT
        ):
            words = list(words)
            if not is_event:
                words = pronounce(" ".join(words))
            for word in words:
                found += [SPACE, *word]
        return found[1:]


def make_tokenizer(
    kind: str, n_tokens: int = 500, keep_events: bool = False
) -> Tokenizer:
    """The library's ``make_tokenizer``, with "phonemes" as a further kind.

    Arguments
    ---------
    kind : str
        "phonemes", "characters", "unigram" or "bpe".
    n_tokens : int
        V of pieces.
    keep_events : bool
        As of ``Tokenizer``.

    Returns
    -------
    Tokenizer
    """
    if kind == "phonemes":
        return Phonemes(keep_events)
    return tokens.make_tokenizer(kind, n_tokens, keep_events)
