"""Tokenizers of the PPG: text → token indices and back.

A tokenizer is data: ``load_tokenizer`` rebuilds it from the plain values of
``Tokenizer.facts``.
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from qieemo_sb.errors import TokenError

ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
BLANK = "<blank>"  # token 0, CTC's "nothing new"
EVENT = "#"  # a sound that is no word: a laugh, a breath
START = "▁"  # sentencepiece's mark of a word's start

# IEMOCAP writes [LAUGHTER] or [BREATHING], others <laugh>.
_EVENTS = re.compile(r"\[[^\[\]]*\]|<[^<>]*>")
_APOSTROPHES = str.maketrans("‘’ʼ`´", "'''''")


def normalise(text: str, keep_events: bool = False) -> str:
    """Write a transcript in the letters of ``ALPHABET``.

    Lower case, without accents and events; all other characters become spaces.
    So do digits, whose pronunciation is unknown: spell numbers out.

    Arguments
    ---------
    text : str
        Any transcript.
    keep_events : bool
        Turn words in [] or <> into ``EVENT`` instead.

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


class Tokenizer:
    """Names of the PPG's tokens; index 0 is the CTC blank.

    The base class decodes only. Subclasses also encode, and some ``fit``.

    Arguments
    ---------
    kind : str
        A key of ``TOKENIZERS``, or any other name for tokens that are only
        decoded.
    names : iterable of str
        The tokens, the blank first.
    keep_events : bool
        Make a sound in brackets, such as [LAUGHTER], a token instead of
        dropping it.
    """

    def __init__(
        self, kind: str, names: Iterable[str], keep_events: bool = False
    ):
        self.kind = kind
        self.names = list(names)
        self.keep_events = keep_events

    def __len__(self):
        return len(self.names)

    def __str__(self):
        return f"{len(self)} {self.kind}"

    def __eq__(self, other):
        return isinstance(other, Tokenizer) and self.facts == other.facts

    __hash__ = None  # type: ignore[assignment]

    @property
    def facts(self) -> dict[str, Any]:
        """All that encoding depends on, as JSON values."""
        return {
            "kind": self.kind,
            "keep_events": self.keep_events,
            "names": self.names,
        }

    def normalise(self, text: str) -> str:
        """Write a transcript as it is tokenized."""
        return normalise(text, self.keep_events)

    def fit(self, transcripts: Iterable[str]) -> Tokenizer:
        """Learn the tokens from training transcripts, if the kind needs it.

        Raises
        ------
        TokenError
            The transcripts do not give that many tokens.
        """
        return self

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's tokens, without blanks.

        Raises
        ------
        TokenError
            The text has an unknown token.
        """
        raise TokenError(f"{self} can be decoded, not encoded, here.")

    def decode_ids(self, indices: Iterable[int]) -> str:
        """Text of token indices without blanks."""
        return " ".join("".join(self.names[i] for i in indices).split())


class Characters(Tokenizer):
    """29 tokens: blank, space, apostrophe, a to z; 30 with the event.

    Example
    -------
    >>> characters = Characters()
    >>> characters.encode_as_ids("A b!")
    [3, 1, 4]
    >>> characters.decode_ids([3, 1, 4])
    'a b'
    """

    def __init__(self, keep_events: bool = False):
        names = [BLANK, *ALPHABET, *([EVENT] if keep_events else [])]
        super().__init__("characters", names, keep_events)

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's characters."""
        return [self.names.index(c) for c in self.normalise(text)]


class Vocabulary(Tokenizer):
    """Letters in any script, of a checkpoint that was trained to transcribe.

    All other characters of a transcript become spaces.

    Arguments
    ---------
    letters : iterable of str
        Names of the tokens after the blank.

    Example
    -------
    >>> vocabulary = Vocabulary(" äß")
    >>> vocabulary.encode_as_ids("Ä-ß"), vocabulary.decode_ids([2, 1, 3])
    ([2, 1, 3], 'ä ß')
    """

    def __init__(self, letters: Iterable[str]):
        super().__init__("letters", [BLANK, *letters])

    def normalise(self, text: str) -> str:
        """Write a transcript in the letters of the vocabulary."""
        cased = any(name != name.lower() for name in self.names)
        text = text if cased else text.lower()
        known = "".join(c if c in self.names else " " for c in text)
        return " ".join(known.split())

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's letters."""
        long = [n for n in self.names[1:] if len(n) > 1]
        if long:
            raise TokenError(
                f"The checkpoint's tokens are no letters ({long[0]}, …): a "
                "transcript cannot be written in them."
            )
        normal = self.normalise(text)
        return [self.names.index(c) for c in normal if c in self.names]


class Pieces(Tokenizer):
    """Pieces of words, found by sentencepiece in the training transcripts.

    Its unknown piece, which normalised text never needs, has index 0: the
    blank's.

    Arguments
    ---------
    n_tokens : int
        V, with the blank.
    algorithm : str
        "unigram" or "bpe".
    keep_events : bool
        As of ``Tokenizer``.

    Example
    -------
    >>> pieces = Pieces(n_tokens=9).fit(["see the sea", "the sea sees"])
    >>> len(pieces), pieces.decode_ids(pieces.encode_as_ids("The sea"))
    (9, 'the sea')
    """

    def __init__(
        self,
        n_tokens: int = 500,
        algorithm: str = "unigram",
        keep_events: bool = False,
    ):
        if algorithm not in ("unigram", "bpe"):
            raise TokenError(
                f"tokens is {algorithm!r}; it must be 'unigram' or 'bpe' for "
                "pieces of words, or 'characters'."
            )
        super().__init__(f"{algorithm} pieces", [], keep_events)
        self.n_tokens = n_tokens
        self.algorithm = algorithm
        self._processor: Any = None  # sentencepiece's, once fitted

    @property
    def facts(self) -> dict[str, Any]:
        """As of ``Tokenizer``, with sentencepiece's model in base 64."""
        fitted = self._processor
        model = fitted.serialized_model_proto() if fitted else b""
        encoded = base64.b64encode(model).decode("ascii")
        return {**super().facts, "sentencepiece": encoded}

    def fit(self, transcripts: Iterable[str]) -> Pieces:
        """Train the pieces; see ``Tokenizer.fit``."""
        from sentencepiece import SentencePieceTrainer

        texts = [self.normalise(text) for text in transcripts]
        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter([text for text in texts if text]),
                model_writer=model,
                vocab_size=self.n_tokens,
                model_type=self.algorithm,
                character_coverage=1.0,
                unk_id=0,
                unk_piece=BLANK,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                user_defined_symbols=[EVENT] if self.keep_events else [],
                normalization_rule_name="identity",
                num_threads=1,  # the same pieces on every machine
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            raise TokenError(
                f"{len(texts)} transcripts do not give {self.n_tokens} "
                f"{self.kind}: {str(error).rpartition('] ')[2]}"
            ) from error
        return self.use(model.getvalue())

    def use(self, model: bytes) -> Pieces:
        """Use a trained sentencepiece model, given as bytes."""
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_proto=model)
        indices = range(self._processor.get_piece_size())
        self.names = [self._processor.id_to_piece(i) for i in indices]
        return self

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's pieces."""
        text = self.normalise(text)
        indices = self._processor.encode(text)
        if 0 in indices:
            unknown = sorted(set(text) - set("".join(self.names)) - {" "})
            raise TokenError(
                f"'{text}' has letters that the training transcripts lack: "
                f"{''.join(unknown)}"
            )
        return indices

    def decode_ids(self, indices: Iterable[int]) -> str:
        """Text of pieces."""
        text = "".join(self.names[i] for i in indices)
        return " ".join(text.replace(START, " ").split())


TOKENIZERS = {
    "characters": lambda facts: Characters(facts["keep_events"]),
    "letters": lambda facts: Vocabulary(facts["names"][1:]),
    "unigram pieces": lambda facts: _load_pieces(facts, "unigram"),
    "bpe pieces": lambda facts: _load_pieces(facts, "bpe"),
}


def load_tokenizer(facts: Mapping[str, Any], name: str) -> Tokenizer:
    """Make the tokenizer that has given ``facts``.

    Arguments
    ---------
    facts : mapping
        Of ``Tokenizer.facts``.
    name : str
        Where they come from, for messages.

    Returns
    -------
    Tokenizer

    Raises
    ------
    TokenError
        The facts are damaged.
    """
    try:
        names = facts["names"]
        whole = (
            isinstance(facts["kind"], str)
            and isinstance(facts["keep_events"], bool)
            and all(isinstance(token, str) for token in names)
            and names[0] == BLANK
            and len(set(names)) == len(names)
        )
        kind = TOKENIZERS.get(facts["kind"], lambda f: Tokenizer(**f))
        tokenizer = kind(facts) if whole else None
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise TokenError(f"{name} is damaged: {error!r}") from error
    if tokenizer is None or tokenizer.names != list(names):
        raise TokenError(
            f"{name} is damaged: names must be different texts, the first "
            f"{BLANK}, and those of their kind."
        )
    return tokenizer


def make_tokenizer(
    kind: str, n_tokens: int = 500, keep_events: bool = False
) -> Tokenizer:
    """A tokenizer that has yet to be fitted.

    Arguments
    ---------
    kind : str
        "characters", or "unigram" or "bpe" (pieces of words).
    n_tokens : int
        V of pieces.
    keep_events : bool
        As of ``Tokenizer``.

    Returns
    -------
    Tokenizer

    Raises
    ------
    TokenError
        There is no such kind.

    Example
    -------
    >>> str(make_tokenizer("characters"))
    '29 characters'
    """
    if kind == "characters":
        return Characters(keep_events)
    return Pieces(n_tokens, kind, keep_events)


def frames_needed(tokens: list[int]) -> int:
    """Fewest frames that CTC can align with a token sequence.

    One for each token, and one more for the blank between two equal tokens
    (Graves et al., 2006).
    """
    pairs = zip(tokens, tokens[1:], strict=False)
    return len(tokens) + sum(a == b for a, b in pairs)


def transcript_problem(
    tokenizer: Tokenizer, text: str | None, frames: int
) -> str | None:
    """Reason why CTC cannot learn from an utterance, or None.

    Arguments
    ---------
    tokenizer : Tokenizer
        Fitted.
    text : str or None
        The transcript.
    frames : int
        Encoder frames of the utterance.
    """
    try:
        tokens = tokenizer.encode_as_ids(text or "")
    except TokenError as error:
        return str(error)
    if not tokens:
        return f"'{text}' has no token" if text else "no transcript"
    needed = frames_needed(tokens)
    if needed > frames:
        return f"{needed} frames for the text, {frames} are there"
    return None


def display_name(token: str) -> str:
    """Name of a token in figures: the space and the event are spelled out."""
    return {" ": "<space>", EVENT: "<event>"}.get(token, token)


def _load_pieces(facts, algorithm):
    """The pieces of facts, with their sentencepiece model."""
    pieces = Pieces(len(facts["names"]), algorithm, facts["keep_events"])
    return pieces.use(base64.b64decode(facts["sentencepiece"], validate=True))
