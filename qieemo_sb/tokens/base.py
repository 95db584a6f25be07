"""What every tokenizer of the PPG can do.

Authors
 * The Qieemo-SB authors 2026
"""

import json
from collections.abc import Iterable
from pathlib import Path

from qieemo_sb.files import replacing
from qieemo_sb.folder import TOKENS
from qieemo_sb.rebuild import Remembering
from qieemo_sb.tokens.text import EVENT, normalise

BLANK = "<blank>"  # token 0, CTC's "nothing new"


class TokenError(ValueError):
    """A tokenizer's file, or a text, that cannot be used."""


class Tokenizer(Remembering):
    """Text → token indices and back; index 0 is the CTC blank.

    A child sets ``kind`` and writes ``fit`` and ``encode_as_ids``; one that
    keeps more than names adds to ``FILES``, ``save`` and ``load``. Whatever
    it does with a text starts with ``self.normalise``.

    Arguments
    ---------
    keep_events : bool
        Whether a sound in brackets, such as [LAUGHTER], is a token; otherwise
        it is dropped.
    """

    kind: str
    FILES = (TOKENS,)

    def __init__(self, keep_events: bool = False):
        self.keep_events = keep_events
        self.names: list[str] = []

    def __len__(self):
        return len(self.names)

    def __str__(self):
        return f"{len(self)} {self.kind}"

    def __eq__(self, other):
        """Whether both turn every text into the same indices."""
        return isinstance(other, Tokenizer) and self._facts() == other._facts()

    __hash__ = None

    def normalise(self, text: str) -> str:
        """A transcript as it is tokenized."""
        return normalise(text, self.keep_events)

    def fit(self, transcripts: Iterable[str]) -> "Tokenizer":
        """Find the tokens in transcripts; return self.

        Arguments
        ---------
        transcripts : iterable of str
            Of the training data, as they are.

        Raises
        ------
        TokenError
            The transcripts do not give the tokens that were asked for.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fit")

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's tokens.

        Arguments
        ---------
        text : str
            Any transcript.

        Returns
        -------
        list of int
            Without blanks.

        Raises
        ------
        TokenError
            The text has a token that is not known.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encode_as_ids")

    def decode_ids(self, indices: Iterable[int]) -> str:
        """Text of token indices without blanks."""
        return " ".join("".join(self.names[i] for i in indices).split())

    def save(self, folder: str | Path) -> None:
        """Write the files that ``load`` reads.

        Arguments
        ---------
        folder : str or Path
            Must exist.
        """
        text = json.dumps(self._facts(), ensure_ascii=False, indent=1)
        with replacing(Path(folder) / TOKENS) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    def load(self, folder: str | Path) -> "Tokenizer":
        """Read what ``save`` wrote; return self.

        Arguments
        ---------
        folder : str or Path
            Holds this tokenizer's ``FILES``.

        Raises
        ------
        TokenError
            A file is missing or damaged, or is another kind's.
        """
        path = Path(folder) / TOKENS
        facts = _read(path)
        if facts["kind"] != self.kind:
            raise TokenError(
                f"{path} has {facts['kind']}, the model reads {self.kind}."
            )
        self.names, self.keep_events = facts["names"], facts["keep_events"]
        return self

    def _facts(self):
        """All that ``encode_as_ids`` depends on, as JSON values."""
        return {
            "kind": self.kind,
            "keep_events": self.keep_events,
            "names": self.names,
        }


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


def transcript_problem(
    tokenizer: Tokenizer, text: str, frames: int
) -> str | None:
    """Why CTC cannot learn from an utterance.

    Arguments
    ---------
    tokenizer : Tokenizer
        Fitted.
    text : str
        The transcript.
    frames : int
        Encoder frames of the utterance.

    Returns
    -------
    str or None
        None where nothing is wrong.
    """
    try:
        tokens = tokenizer.encode_as_ids(text or "")
    except TokenError as error:
        return str(error)
    if not tokens:
        return f"'{text}' has nothing to read" if text else "no transcript"
    needed = frames_needed(tokens)
    if needed > frames:
        return f"{needed} frames for the text, {frames} are there"
    return None


def spoken_name(name: str) -> str:
    """A token's name for people: a space and the event are spelled out.

    Example
    -------
    >>> spoken_name(" "), spoken_name("#"), spoken_name("a")
    ('<space>', '<event>', 'a')
    """
    return {" ": "<space>", EVENT: "<event>"}.get(name, name)


def _read(path):
    """The facts that a tokenizer has written."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        names = facts["names"]
        whole = (
            isinstance(facts["kind"], str)
            and isinstance(facts["keep_events"], bool)
            and all(isinstance(name, str) for name in names)
            and names[0] == BLANK
            and len(set(names)) == len(names)
        )
    except FileNotFoundError as error:
        raise TokenError(f"{path} is missing.") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise TokenError(f"{path} is damaged: {error!r}") from error
    if not whole:
        raise TokenError(
            f"{path} is damaged: names must be different texts, the first "
            f"{BLANK}."
        )
    return facts
