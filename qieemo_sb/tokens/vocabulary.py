"""The letters of a checkpoint that was tuned to read, in any script.

Authors
 * The Qieemo-SB authors 2026
"""

from collections.abc import Iterable

from qieemo_sb.tokens.base import BLANK, TokenError, Tokenizer


class Vocabulary(Tokenizer):
    """Letters as given; whatever else stands in a transcript is a space.

    Arguments
    ---------
    letters : iterable of str
        Names of the tokens after the blank; what a bundle is loaded into
        starts with none.
    keep_events : bool
        Always False: a checkpoint knows no event.

    Example
    -------
    >>> vocabulary = Vocabulary(" äß")
    >>> vocabulary.encode_as_ids("Ä-ß"), vocabulary.decode_ids([2, 1, 3])
    ([2, 1, 3], 'ä ß')
    """

    kind = "letters"

    def __init__(self, letters: Iterable[str] = (), keep_events: bool = False):
        super().__init__(keep_events)
        self.names = [BLANK, *letters]

    def rebuild_config(self) -> dict:
        """Nothing: the letters travel in a file."""
        return {}

    def normalise(self, text: str) -> str:
        """A transcript in the letters that there are."""
        cased = any(name != name.lower() for name in self.names)
        text = text if cased else text.lower()
        known = "".join(c if c in self.names else " " for c in text)
        return " ".join(known.split())

    def fit(self, transcripts: Iterable[str]) -> "Vocabulary":
        """Nothing to find; see ``Tokenizer.fit``."""
        return self

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's letters."""
        long = [n for n in self.names[1:] if len(n) > 1]
        if long:
            raise TokenError(
                f"The checkpoint's tokens are no letters ({long[0]}, …): it is "
                "not known how a transcript is written in them."
            )
        normal = self.normalise(text)
        return [self.names.index(c) for c in normal if c in self.names]
