"""Tokenizers of the PPG: text → token indices and back."""

import io
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from pathlib import Path

import sentencepiece

from qieemo_sb.corpora.files import replacing
from qieemo_sb.errors import TokenError
from qieemo_sb.espeak import phonemes
from qieemo_sb.rebuild import Remembering
from qieemo_sb.serving.folder import PIECES, TOKENS

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


BLANK = "<blank>"  # token 0, CTC's "nothing new"


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


_START = "▁"  # sentencepiece's mark of a word's start


class Pieces(Tokenizer):
    """A sentencepiece model of any size, trained on the transcripts.

    Its unknown piece, which normalised text never needs, has index 0: the
    blank's.

    Arguments
    ---------
    n_tokens : int
        V, with the blank.
    algorithm : str
        "unigram" or "bpe".
    keep_events : bool
        Whether [LAUGHTER] and its like are a token.

    Example
    -------
    >>> pieces = Pieces(n_tokens=9).fit(["see the sea", "the sea sees"])
    >>> len(pieces), pieces.decode_ids(pieces.encode_as_ids("The sea"))
    (9, 'the sea')
    """

    FILES = (TOKENS, PIECES)

    def __init__(
        self,
        n_tokens: int = 500,
        algorithm: str = "unigram",
        keep_events: bool = False,
    ):
        super().__init__(keep_events)
        if algorithm not in ("unigram", "bpe"):
            raise ValueError(
                f"algorithm is {algorithm!r}; it must be 'unigram' or 'bpe'."
            )
        self.n_tokens = n_tokens
        self.kind = f"{algorithm} pieces"
        self.algorithm = algorithm
        self._model = b""
        self._processor = None

    def fit(self, transcripts: Iterable[str]) -> "Pieces":
        """Train the pieces; see ``Tokenizer.fit``."""
        texts = [self.normalise(text) for text in transcripts]
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
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
        return self._use(model.getvalue())

    def encode_as_ids(self, text: str) -> list[int]:
        """Indices of a transcript's pieces."""
        text = self.normalise(text)
        indices = self._processor.encode(text)
        if 0 in indices:
            unknown = sorted(set(text) - set("".join(self.names)) - {" "})
            raise TokenError(
                f"'{text}' has letters that no transcript for the pieces had: "
                f"{''.join(unknown)}"
            )
        return indices

    def decode_ids(self, indices: Iterable[int]) -> str:
        """Text of pieces."""
        text = "".join(self.names[i] for i in indices)
        return " ".join(text.replace(_START, " ").split())

    def save(self, folder: str | Path) -> None:
        """Write the names and sentencepiece's model."""
        super().save(folder)
        with replacing(Path(folder) / PIECES) as partial:
            partial.write_bytes(self._model)

    def load(self, folder: str | Path) -> "Pieces":
        """Read the names and sentencepiece's model."""
        super().load(folder)
        path = Path(folder) / PIECES
        if not path.is_file():
            raise TokenError(f"{path} is missing.")
        expected = self.names
        try:
            self._use(path.read_bytes())
        except (RuntimeError, ValueError) as error:
            raise TokenError(f"{path} is damaged: {error}") from error
        if self.names != expected:
            raise TokenError(f"{path} has other pieces than {TOKENS}.")
        return self

    def _use(self, model):
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model)
        self._model = model
        size = self._processor.get_piece_size()
        self.names = [self._processor.id_to_piece(i) for i in range(size)]
        return self

    def __getstate__(self):
        return {**self.__dict__, "_processor": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self._model:
            self._use(self._model)


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
