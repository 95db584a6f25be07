"""Pieces of words as tokens, found by sentencepiece.

Authors
 * The Qieemo-SB authors 2026
"""

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from qieemo_sb.files import replacing
from qieemo_sb.folder import PIECES, TOKENS
from qieemo_sb.tokens.base import BLANK, TokenError, Tokenizer
from qieemo_sb.tokens.text import EVENT

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
