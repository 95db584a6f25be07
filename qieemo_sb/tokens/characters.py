"""Characters as tokens: blank, space, apostrophe, a to z.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Iterable

from qieemo_sb.tokens.base import BLANK, Tokenizer
from qieemo_sb.tokens.text import ALPHABET, EVENT


class Characters(Tokenizer):
    """29 tokens, or 30 with the event; there is nothing to fit.

    Arguments
    ---------
    keep_events : bool
        Whether [LAUGHTER] and its like are a token.

    Example
    -------
    >>> characters = Characters()
    >>> characters.encode_as_ids("A b!")
    [3, 1, 4]
    >>> characters.decode_ids([3, 1, 4])
    'a b'
    """

    kind = "characters"

    def __init__(self, keep_events: bool = False):
        super().__init__(keep_events)
        self.names = [BLANK, *ALPHABET, *([EVENT] if keep_events else [])]

    def fit(self, transcripts: Iterable[str]) -> "Characters":
        """Nothing to find; see ``Tokenizer.fit``."""
        return self

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's characters."""
        return [self.names.index(c) for c in self.normalise(text)]
