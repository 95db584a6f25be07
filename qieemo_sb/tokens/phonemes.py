"""Phonemes as tokens, from espeak-ng's pronunciation.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Iterable
from functools import cache
from itertools import groupby

from qieemo_sb.espeak import phonemes
from qieemo_sb.tokens.base import BLANK, TokenError, Tokenizer
from qieemo_sb.tokens.text import EVENT

SPACE = " "


class Phonemes(Tokenizer):
    """IPA phonemes without stress, and the space between words.

    The tokens are those that the training transcripts are pronounced with.
    Needs the extra ``demo`` (espeak-ng) to encode, not to decode.

    Arguments
    ---------
    language : str
        Of espeak-ng, e.g. "en-us".
    keep_events : bool
        Whether [LAUGHTER] and its like are a token.

    Example
    -------
    >>> tokenizer = Phonemes().fit(["the kid"])
    >>> tokenizer.decode_ids(tokenizer.encode_as_ids("the kid"))
    'ðə kɪd'
    """

    def __init__(self, language: str = "en-us", keep_events: bool = False):
        super().__init__(keep_events)
        self.language = language
        self.kind = f"{language} phonemes"

    def fit(self, transcripts: Iterable[str]) -> "Phonemes":
        """Collect the phonemes; see ``Tokenizer.fit``."""
        found = {p for text in transcripts for p in self._pronounce(text)}
        if not found:
            raise TokenError("No transcript has a phoneme.")
        self.names = [BLANK, SPACE, *sorted(found - {SPACE})]
        return self

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's phonemes."""
        tokens = self._pronounce(text)
        unknown = sorted(set(tokens) - set(self.names))
        if unknown:
            raise TokenError(
                f"'{text}' has phonemes that no transcript for the tokens "
                f"had: {' '.join(unknown)}"
            )
        return [self.names.index(token) for token in tokens]

    def _pronounce(self, text):
        """Phonemes with ``SPACE`` between words."""
        tokens = []
        for is_event, words in groupby(
            self.normalise(text).split(), key=lambda word: word == EVENT
        ):
            words = list(words)
            if not is_event:
                words = _phonemes(" ".join(words), self.language)
            for word in words:
                tokens += [SPACE, *word]
        return tokens[1:]


@cache
def _phonemes(text, language):
    return phonemes(text, language)
