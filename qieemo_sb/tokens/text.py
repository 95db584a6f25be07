"""Transcripts as people write them, in the letters that are read.

Authors
 * The Qieemo-SB authors 2026
"""

import re
import unicodedata

ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
EVENT = "#"  # stands for a sound that is no word: a laugh, a breath

# IEMOCAP writes [LAUGHTER] or [BREATHING], others <laugh>.
_EVENTS = re.compile(r"\[[^\[\]]*\]|<[^<>]*>")
_APOSTROPHES = str.maketrans("‘’ʼ`´", "'''''")


def normalise(text: str, keep_events: bool = False) -> str:
    """A transcript in the letters of ``ALPHABET``.

    Lower case, accents off, events dropped, everything else a space. Digits
    are dropped too: how a number was read is not written, so spell it.

    Arguments
    ---------
    text : str
        Any transcript.
    keep_events : bool
        Whether what stands in [] or <> becomes ``EVENT``, a word of its own.

    Returns
    -------
    str

    Example
    -------
    >>> normalise("Café? It’s  9 o'clock, [LAUGHTER].")
    "cafe it's o'clock"
    >>> normalise("[LAUGHTER] Stop it!", keep_events=True)
    '# stop it'
    """
    text = _EVENTS.sub(" \0 ", text.translate(_APOSTROPHES))
    text = unicodedata.normalize("NFKD", text.lower())
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = "".join(c if c in ALPHABET + "\0" else " " for c in text)
    return " ".join(text.replace("\0", EVENT if keep_events else " ").split())
