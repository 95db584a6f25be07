"""A trained model in a program: audio in, emotions out, with torch alone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from qieemo_sb import audio
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError
from qieemo_sb.frames import FRAME_SECONDS, WINDOW_FRAMES, frame_mask
from qieemo_sb.lobes.normalization import Moments
from qieemo_sb.lobes.ppg import greedy
from qieemo_sb.lobes.speaker import speaker_moments
from qieemo_sb.lobes.tokens import Tokenizer
from qieemo_sb.model import PPGModel, PPGOutput, Qieemo, QieemoOutput
from qieemo_sb.serving.folder import UNKNOWN, check_threshold, load_folder
from qieemo_sb.serving.onednn import accelerate

FILES_AT_ONCE = 500  # sorted by length together; then their results come
NO_EMOTION = (
    "This model transcribes and knows no emotion: it is of train_ppg.py. Give "
    "it to train.py as ppg_source."
)
WINDOW_SECONDS = WINDOW_FRAMES * FRAME_SECONDS  # 30
BATCH_SECONDS = 60.0  # of audio: near the best on a processor

Paths: TypeAlias = Iterable[str | Path]
Listed = TypeVar("Listed", bound=Iterable)
Row: TypeAlias = torch.Tensor | AudioError  # a file's vector, or its error


@dataclasses.dataclass
class Prediction:
    """The emotion of a recording.

    Arguments
    ---------
    file : str
        Its path.
    emotion : str
        The most probable one, or "unknown" below the classifier's threshold.
    scores : dict of str to float
        Probability of each emotion; they add up to one.
    speaker : str or None
        The speaker that the model was adapted to.
    """

    file: str
    emotion: str
    scores: dict[str, float]
    speaker: str | None = None


@dataclasses.dataclass
class PPG:
    """A phonetic posteriorgram with its axes.

    Arguments
    ---------
    posteriors : torch.Tensor
        [B, T, V] probabilities; each row adds up to one. Zero past the
        lengths.
    tokens : list of str
        V names; the first is the CTC blank's.
    times : torch.Tensor
        [T] seconds at which frames begin, 20 ms apart.
    lengths : torch.Tensor
        [B] frames of each utterance.
    """

    posteriors: torch.Tensor
    tokens: list[str]
    times: torch.Tensor
    lengths: torch.Tensor


def load_model(
    folder: str | Path,
    device: str | torch.device = "cpu",
    threshold: float = 0.0,
) -> EmotionClassifier:
    """Load a trained model.

    Arguments
    ---------
    folder : str or Path
        A model folder.
    device : str or torch.device
        Where to compute.
    threshold : float
        Least probability of an emotion: a prediction below is "unknown".

    Returns
    -------
    EmotionClassifier

    Raises
    ------
    ModelFolderError
        The folder is incomplete or damaged; the message names the file.
    QieemoError
        The threshold is not 0 to 1.
    """
    loaded = load_folder(folder)
    loaded.model.to(device).requires_grad_(False).eval()
    classifier = EmotionClassifier(loaded.model, loaded.labels, loaded.tokens)
    classifier.threshold = check_threshold(threshold)
    return classifier


class EmotionClassifier:
    """A trained model that classifies audio, and transcribes where it can.

    ::

        classifier = load_model("model")
        for prediction in classifier(["a.wav", "b.wav"]):
            print(prediction.emotion, prediction.scores)

    Arguments
    ---------
    model : Qieemo or PPGModel
        On its device; its linear layers are replaced by faster ones.
    labels : list of str or None
        Emotions in the order of the outputs; None for a PPGModel.
    tokens : Tokenizer or None
        Of the PPG, if it was trained to transcribe.
    autocast : context manager or None
        Entered around all computing.

    Attributes
    ----------
    max_batch_seconds : float
        Most audio in a batch of files, 60 s at first: set it to as much as
        the memory of your GPU takes.
    threshold : float
        Least probability of an emotion, 0 at first; see ``load_model``.
    """

    def __init__(
        self,
        model: Qieemo | PPGModel,
        labels: list[str] | None,
        tokens: Tokenizer | None = None,
        autocast: contextlib.AbstractContextManager | None = None,
    ):
        self.model = accelerate(model)
        self._labels = labels or []
        self._tokens = tokens
        self._autocast = autocast or contextlib.nullcontext()
        self.max_batch_seconds = BATCH_SECONDS
        self.threshold = 0.0

    @property
    def labels(self) -> list[str]:
        """Emotions in the order of the log-probabilities.

        Raises
        ------
        ModelFolderError
            The model was trained to transcribe only.
        """
        self._emotion_model()
        return self._labels

    @property
    def tokens(self) -> Tokenizer:
        """Tokens of the PPG.

        Raises
        ------
        ModelFolderError
            The PPG was not trained to transcribe.
        """
        if self._tokens is None:
            raise ModelFolderError(
                "The PPG of this model was not trained to transcribe: train "
                "it with train_ppg.py, or train.py with a ctc_weight above 0."
            )
        return self._tokens

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def __call__(self, paths: Paths) -> list[Prediction]:
        """Classify audio files of any rate, channels and length.

        Arguments
        ---------
        paths : iterable of (str or Path)
            Local files.

        Returns
        -------
        list of Prediction
            In order.

        Raises
        ------
        AudioError
            A file cannot be used; names it. ``predict`` goes on instead.
        """
        return _raise_errors(self.predict(paths))

    def predict(
        self, paths: Paths, speaker: Moments | None = None
    ) -> Iterator[Prediction | AudioError]:
        """Classify many audio files, in batches of like length.

        Arguments
        ---------
        paths : iterable of (str or Path)
            Local files.
        speaker : Moments or None
            Of ``adapt``, who speaks in all of them.

        Yields
        ------
        Prediction or AudioError
            For each file, in order.
        """
        for path, vector in self.embed_files(paths):
            yield self._result(path, vector, speaker)

    def predict_conversation(
        self, paths: Paths, speakers: Sequence[str]
    ) -> list[Prediction | AudioError]:
        """Classify all turns of a conversation, or of a whole corpus.

        Each speaker is adapted to by all of their turns, and no result
        depends on other speakers.

        Arguments
        ---------
        paths : iterable of (str or Path)
            N audio files, a turn each.
        speakers : sequence of str
            N names: who speaks each turn.

        Returns
        -------
        list of (Prediction or AudioError)
            For each turn, in order.

        Raises
        ------
        QieemoError
            More or fewer names than files, or one text in place of a list.
        """
        paths = list(check_list(paths))
        if len(paths) != len(check_list(speakers)):
            raise QieemoError(
                f"{len(paths)} files, but {len(speakers)} speakers: a "
                "conversation needs a name for each."
            )
        turns = list(zip(speakers, self.embed_files(paths), strict=True))
        moments = {}
        for name in set(speakers):
            own = [x for n, (_, x) in turns if n == name and torch.is_tensor(x)]
            moments[name] = self._moments(own) if own else None
        return [self._result(*turn, moments[n], n) for n, turn in turns]

    def adapt(self, paths: Paths) -> Moments:
        """Learn a speaker's usual voice, from clips without labels.

        A voice that is always loud is not always angry. ::

            ann = classifier.adapt(["ann/1.wav", "ann/2.wav", "ann/3.wav"])
            classifier.predict(["ann/4.wav"], speaker=ann)

        The emotions of the clips need not be known: see ``SpeakerModel``. A
        model without one, of a corpus with fewer than three speakers, takes
        all that the clips have in common for the voice.

        Arguments
        ---------
        paths : iterable of (str or Path)
            The speaker's audio files, one or more; ten do most of it.

        Returns
        -------
        Moments
            ``torch.save`` and ``torch.load`` keep them.

        Raises
        ------
        AudioError
            A file cannot be used; names it.
        QieemoError
            There is no file, or one text in place of a list.
        """
        files = self.embed_files(paths)
        vectors = _raise_errors(vector for _, vector in files)
        if not vectors:
            raise QieemoError("adapt needs at least one audio file.")
        return self._moments(vectors)

    def analyse_batch(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> QieemoOutput | PPGOutput:
        """Full output of the model for a batch, frame by frame too.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S] or [S] at 16 kHz, floating point.
        lengths : torch.Tensor or None
            [B] samples of each utterance; None: every row is full.

        Returns
        -------
        QieemoOutput or PPGOutput

        Raises
        ------
        AudioError
            See ``check_batch``.
        """
        with self._context():
            return self.model(self._batch(wavs), lengths)

    def embed_batch(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Pooled vectors [B, E]; arguments as of ``analyse_batch``."""
        model = self._emotion_model()
        with self._context():
            output = model(self._batch(wavs), lengths, frame_wise=False)
        return output.embedding

    def embed_file(self, path: str | Path) -> torch.Tensor:
        """Pooled vector [1, E] of a file, in constant memory."""
        model = self._emotion_model()
        windows = map(torch.from_numpy, audio.read_windows(path))
        with self._context():
            return model.embed(x.to(self.device) for x in windows)

    def embed_files(self, paths: Paths) -> Iterator[tuple[str | Path, Row]]:
        """Files in order, each with its pooled vector [1, E] or its error."""
        paths = iter(check_list(paths))
        while group := list(itertools.islice(paths, FILES_AT_ONCE)):
            rows = self._embed_group(list(dict.fromkeys(group)))
            yield from ((path, rows[path]) for path in group)

    def log_probs(
        self, embedding: torch.Tensor, speaker: Moments | None = None
    ) -> torch.Tensor:
        """Log-probabilities [B, C] of pooled vectors [B, E].

        Raises
        ------
        QieemoError
            The speaker was adapted to with another model.
        """
        width = embedding.shape[-1]
        if speaker is not None and speaker.mean.shape[-1:] != (width,):
            raise QieemoError(
                f"The speaker's moments are {list(speaker.mean.shape)}, this "
                f"model's vectors [{width}]: adapt with this model."
            )
        with self._context():
            return self._emotion_model().classifier(embedding, speaker)

    def ppg_batch(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> PPG:
        """Phonetic posteriorgram; arguments as of ``analyse_batch``.

        Raises
        ------
        ModelFolderError
            The PPG was not trained to transcribe.
        """
        names = self.tokens.names
        output = self.analyse_batch(wavs, lengths)
        ppg: Any = output.ppg  # there, as there are tokens
        size = ppg.shape[1]
        mask = frame_mask(output.lengths, size).unsqueeze(2)
        return PPG(
            posteriors=ppg.exp().masked_fill(~mask, 0.0),
            tokens=list(names),
            times=torch.arange(size) * FRAME_SECONDS,
            lengths=output.lengths,
        )

    def transcribe_batch(
        self, wavs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[list[str], list[list[int]]]:
        """Greedy CTC: the best token of each frame, repeats and blanks off.

        Arguments and errors as of ``ppg_batch``.

        Returns
        -------
        texts : list of str
            The transcript of each utterance.
        tokens : list of list of int
            The indices that it is made of.
        """
        ppg = self.ppg_batch(wavs, lengths)
        indices = greedy(ppg.posteriors, ppg.lengths)
        return [self.tokens.decode_ids(row) for row in indices], indices

    def transcribe_file(self, path: str | Path) -> str:
        """The transcript of an audio file; errors as of ``ppg_batch``."""
        wav = torch.from_numpy(audio.read_audio(path))
        return self.transcribe_batch(wav)[0][0]

    def _emotion_model(self) -> Qieemo:
        """The model; ModelFolderError for one of stage 1."""
        if not isinstance(self.model, Qieemo):
            raise ModelFolderError(NO_EMOTION)
        return self.model

    def _batch(self, wavs):
        """[B, S] or [S] → [B, S] in float32 on the model's device."""
        wavs = torch.atleast_2d(wavs)
        # Integers stay what they are: check_batch refuses them.
        wavs = wavs.float() if wavs.is_floating_point() else wavs
        return wavs.to(self.device)

    def _result(self, path, vector, moments, speaker=None):
        """Result for a file's vector [1, E]; an error stays what it is."""
        if isinstance(vector, AudioError):
            return vector
        return self._answer(self.log_probs(vector, moments), path, speaker)

    def _answer(self, log_probs, path, speaker) -> Any:
        """Log-probabilities [1, C] → the result that users get."""
        scores = log_probs[0].exp().tolist()
        named = dict(zip(self.labels, scores, strict=True))
        emotion = self.labels[int(log_probs.argmax())]
        if max(scores) < self.threshold:
            emotion = UNKNOWN
        return Prediction(str(path), emotion, named, speaker)

    def _moments(self, vectors):
        """Moments of the speaker of vectors [1, E]."""
        model = self._emotion_model()
        vectors = torch.cat(vectors)
        return speaker_moments(vectors, model.classifier, model.speaker_model)

    def _embed_group(self, paths):
        """Vectors or errors of some different files, by their paths."""
        rows = {
            path: audio.result_or_error(self.embed_file, path)
            for path in paths
            if (audio.audio_seconds(path) or 0) > WINDOW_SECONDS
        }
        short = [path for path in paths if path not in rows]
        for batch in audio.read_batches(short, self.max_batch_seconds):
            signals = {short[i]: signal for i, signal in batch}
            rows.update(signals)  # the errors among them stay
            good = [p for p, x in signals.items() if isinstance(x, np.ndarray)]
            if good:
                wavs = [torch.from_numpy(signals[path]) for path in good]
                lengths = torch.tensor([len(wav) for wav in wavs])
                wavs = pad_sequence(wavs, batch_first=True)
                vectors = self.embed_batch(wavs, lengths).split(1)
                rows.update(zip(good, vectors, strict=True))
        return rows

    @contextlib.contextmanager
    def _context(self):
        """Gradients where a parameter trains, and autocast."""
        trains = any(p.requires_grad for p in self.model.parameters())
        enabled = torch.is_grad_enabled() and trains
        with torch.set_grad_enabled(enabled), self._autocast:
            yield


def _raise_errors(results):
    """Results as a list; raises the first AudioError among them."""
    results = list(results)
    for result in results:
        if isinstance(result, AudioError):
            raise result
    return results


def check_list(values: Listed) -> Listed:
    """Return files or names; QieemoError for a single one in their place."""
    if isinstance(values, str | bytes | Path):
        raise QieemoError(
            f"A list is needed: [{values!r}] for {values!r} alone."
        )
    return values
