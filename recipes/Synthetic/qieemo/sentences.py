"""English sentences to be spoken: of a user's text, or made up.

The made-up ones follow a few patterns over everyday words of words.txt: a
CTC head learns sounds from them, not sense.

Authors
 * The Qieemo-SB authors 2026
"""

import random
import re
from pathlib import Path

from qieemo_sb.corpora.manifest import read_text
from qieemo_sb.errors import CorpusError

WORDS = (3, 14)  # of a sentence


def _read_words():
    """Symbol → what it stands for; sections of the file, one a symbol."""
    path = Path(__file__).with_name("words.txt")
    sections = path.read_text(encoding="utf-8").strip().split("\n\n")
    words = {}
    for symbol, *lines in (section.split("\n") for section in sections):
        if symbol == "PATTERN":
            words[symbol] = lines
        elif "," in lines[0]:
            words[symbol] = " ".join(lines).split(", ")
        else:
            words[symbol] = " ".join(lines).split()
    return words


DRAWN = _read_words()
# In a pattern, a word in capitals is drawn; * before one may be left out.
PATTERNS = DRAWN.pop("PATTERN")


def made_up(seed: int | str) -> str:
    """A sentence of 3 to 14 everyday words; equal seeds, equal sentences.

    Example
    -------
    >>> made_up(1) == made_up(1), WORDS[0] <= len(made_up(1).split())
    (True, True)
    """
    rng = random.Random(f"sentence {seed}")
    words = []
    for symbol in rng.choice(PATTERNS).split():
        if symbol[0] == "*" and rng.random() < 0.5:
            continue
        symbol = symbol.removeprefix("*")
        if symbol == "PLACED":
            symbol = f"WHERE {rng.choice(('WHICH THING', 'PLACE'))}"
        words += [
            rng.choice(DRAWN[s]) if s in DRAWN else s for s in symbol.split()
        ]
    return " ".join(words[: WORDS[1]])


def sentences_of(path: str | Path) -> list[str]:
    """Sentences of a text, each once, in the order of the text.

    Arguments
    ---------
    path : str or Path
        Plain English text in UTF-8, e.g. a book of Project Gutenberg.
        Sentences with a digit, or with fewer than 3 or more than 14 words,
        are left out.

    Returns
    -------
    list of str

    Raises
    ------
    CorpusError
        The file cannot be read or has no sentence.
    """
    text = re.sub(r"\s+", " ", read_text(path))
    parts = re.split(r"(?<=[.!?;:,])\s+|\s*--+\s*", text)
    found = dict.fromkeys(
        part
        for part in (part.strip(" \"'()") for part in parts)
        if WORDS[0] <= len(part.split()) <= WORDS[1]
        and not re.search(r"[\d_*\[\]<>@#/\\|{}]", part)
    )
    if not found:
        raise CorpusError(
            f"{path} has no sentence of {WORDS[0]} to {WORDS[1]} words."
        )
    return list(found)
