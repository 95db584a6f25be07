"""A trained model in a program: audio in, emotions out, with torch alone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

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
from qieemo_sb.model import (
    PooledStatistics,
    PPGModel,
    PPGOutput,
    Qieemo,
    QieemoOutput,
)
from qieemo_sb.serving.folder import load_folder
from qieemo_sb.serving.models import check_device, find_model
from qieemo_sb.serving.onednn import accelerate, has_bfloat16
from qieemo_sb.serving.predictor import (
    FILES_AT_ONCE,
    Predictor,
    Source,
    Sources,
    as_list,
    check_list,
    check_threshold,
    raise_errors,
)
from qieemo_sb.serving.results import Prediction

if TYPE_CHECKING:
    from qieemo_sb.serving.timeline import Turn

# Tensors, NumPy arrays, or lists of numbers or of rows
Numbers: TypeAlias = torch.Tensor | np.ndarray | Sequence

NO_EMOTION = (
    "This model transcribes and knows no emotion: it is of train_ppg.py. Give "
    "it to train.py as ppg_source."
)
WINDOW_SECONDS = WINDOW_FRAMES * FRAME_SECONDS  # 30
BATCH_SECONDS = 60.0  # of audio: near the best on a processor


class Embedded(NamedTuple):
    """Pooled vector [1, E] of a recording, and its length in seconds."""

    vector: torch.Tensor
    seconds: float


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
    bf16: bool = False,
) -> EmotionClassifier:
    """Load a trained model.

    Arguments
    ---------
    folder : str or Path
        A model folder; or the name of a model that ships, "open"; or of one on
        the Hugging Face hub, "user/name". They are sought in this order.
    device : str or torch.device
        Where to compute.
    threshold : float
        Least probability of an emotion: a prediction below is "unknown".
    bf16 : bool
        Compute the encoder's linear layers in bfloat16, on processors that
        have it: up to 1.5 times as fast; log-probabilities move by 0.02.

    Returns
    -------
    EmotionClassifier

    Raises
    ------
    ModelFolderError
        There is no such model, or a file of it, which the message names, is
        missing or damaged.
    QieemoError
        The device cannot be used here, or the threshold is not 0 to 1.
    """
    check_device(device)
    folder = find_model(folder)
    loaded = load_folder(folder)
    loaded.model.to(device).requires_grad_(False).eval()
    if bf16 and has_bfloat16():
        accelerate(loaded.model.encoder, torch.bfloat16)
    classifier = EmotionClassifier(loaded.model, loaded.labels, loaded.tokens)
    classifier.threshold = check_threshold(threshold)
    classifier.folder = folder
    return classifier


class EmotionClassifier(Predictor):
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
    folder : Path or None
        Where ``load_model`` found the model.
    """

    folder: Path | None = None

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
    def labels(self) -> list[str]:  # type: ignore[override]
        """Emotions in the order of the log-probabilities.

        Raises
        ------
        ModelFolderError
            The model was trained to transcribe only.
        """
        if not self._labels:
            raise ModelFolderError(NO_EMOTION)
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
    def transcribes(self) -> bool:
        """There are tokens: the PPG was trained to transcribe."""
        return self._tokens is not None

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def running(self) -> Utterance:
        """A new utterance, to be heard window by window."""
        return Utterance(self)

    def predict(
        self, sources: Sources, speaker: Moments | None = None
    ) -> Iterator[Any]:
        """Classify many recordings, in batches of like length.

        Arguments
        ---------
        sources
            As of ``__call__``.
        speaker : Moments or None
            Of ``adapt``, who speaks in all of them.

        Yields
        ------
        Prediction or AudioError
            For each recording, in order.
        """
        for source, found in self._embed(sources):
            yield self._result(source, found, speaker)

    def timeline(
        self,
        path: str | Path,
        turns: str | Path | Sequence[Turn] | None = None,
        speaker: Moments | None = None,
    ) -> list[Prediction]:
        """Emotion over time: segments of a recording; see ``timeline``.

        Arguments
        ---------
        path : str or Path
            An audio file, of any length.
        turns : str, Path, sequence of Turn, or None
            Who speaks when (diarisation), perhaps an RTTM file: each speaker is
            adapted to. None: speech is found, and its speakers are not.
        speaker : Moments or None
            Of ``adapt``, who speaks where no name is given.

        Returns
        -------
        list of Prediction
            In order of time.
        """
        from qieemo_sb.serving.timeline import timeline

        return timeline(self, path, turns, speaker)

    def predict_conversation(
        self, paths: Iterable[Source], speakers: Sequence[str]
    ) -> list[Any]:
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
        turns = list(zip(speakers, self._embed(paths), strict=True))
        vectors: dict[str, list[torch.Tensor]] = {name: [] for name in speakers}
        for name, (_, found) in turns:
            if isinstance(found, Embedded):
                vectors[name].append(found.vector)
        moments = {n: self.moments(x) for n, x in vectors.items() if x}
        return [
            self._result(source, found, moments.get(name), name)
            for name, (source, found) in turns
        ]

    def adapt(self, paths: Iterable[Source]) -> Moments:
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
        found = raise_errors(x for _, x in self._embed(check_list(paths)))
        if not found:
            raise QieemoError("adapt needs at least one audio file.")
        return self.moments([x.vector for x in found])

    def moments(self, vectors: Sequence[torch.Tensor]) -> Moments:
        """Moments of the speaker of vectors [1, E]."""
        model, joined = self.emotion_model, torch.cat(list(vectors))
        return speaker_moments(joined, model.classifier, model.speaker_model)

    def analyse_batch(
        self, wavs: Numbers, lengths: Numbers | None = None
    ) -> QieemoOutput | PPGOutput:
        """Full output of the model for a batch, frame by frame too.

        Arguments
        ---------
        wavs : torch.Tensor, np.ndarray or sequence
            [B, S] or [S] at 16 kHz, floating point.
        lengths : torch.Tensor, np.ndarray, sequence or None
            [B] samples of each utterance; None: every row is full.

        Returns
        -------
        QieemoOutput or PPGOutput

        Raises
        ------
        AudioError
            See ``check_batch``.
        """
        with self.context():
            return self.model(self._batch(wavs), lengths)

    def embed_batch(
        self, wavs: Numbers, lengths: Numbers | None = None
    ) -> torch.Tensor:
        """Pooled vectors [B, E]; arguments as of ``analyse_batch``."""
        model = self.emotion_model
        with self.context():
            output = model(self._batch(wavs), lengths, frame_wise=False)
        return output.embedding

    def embed_file(self, path: str | Path) -> torch.Tensor:
        """Pooled vector [1, E] of a file, in constant memory."""
        return self._embed_file(path).vector

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
        with self.context():
            return self.emotion_model.classifier(embedding, speaker)

    def ppg_batch(self, wavs: Numbers, lengths: Numbers | None = None) -> PPG:
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
        self, wavs: Numbers, lengths: Numbers | None = None
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

    def push_to_hub(self, repo_id: str, private: bool = False) -> str:
        """Upload the model's folder to the Hugging Face hub.

        Arguments, result and errors are those of ``hub.push_to_hub``.
        """
        from qieemo_sb.serving.hub import push_to_hub

        if self.folder is None:
            raise ModelFolderError(
                "This classifier is of no folder: save its model with "
                "save_model, and load that with load_model."
            )
        return push_to_hub(self.folder, repo_id, private)

    @property
    def emotion_model(self) -> Qieemo:
        """The model; ModelFolderError for one of stage 1."""
        if not isinstance(self.model, Qieemo):
            raise ModelFolderError(NO_EMOTION)
        return self.model

    def _batch(self, wavs):
        """[B, S] or [S] → [B, S] in float32 on the model's device."""
        wavs = torch.atleast_2d(as_tensor(wavs, "wavs"))
        # Integers stay what they are: check_batch refuses them.
        wavs = wavs.float() if wavs.is_floating_point() else wavs
        return wavs.to(self.device)

    def _result(self, source, found, moments, speaker=None):
        """Result for a recording's vector; an error stays what it is."""
        if isinstance(found, AudioError):
            return found
        log_probs = self.log_probs(found.vector, moments)
        return self._answer(log_probs, source, found.seconds, speaker)

    def _answer(self, log_probs, source, seconds, speaker) -> Any:
        """Log-probabilities [1, C] → the result that users get."""
        row = log_probs[0].detach().float().cpu().numpy()
        return self.prediction(row, source, 0.0, seconds, speaker)

    def _embed(self, sources):
        """Recordings in order, each with Embedded or its error."""
        sources = iter(as_list(sources))
        while group := list(itertools.islice(sources, FILES_AT_ONCE)):
            yield from zip(group, self._embed_group(group), strict=True)

    def _embed_file(self, source):
        """Embedded of one recording, window by window."""
        utterance = self.running()
        for window in audio.read_windows(source):
            utterance.update(window)
        return Embedded(utterance.embedding(), utterance.seconds)

    def _embed_group(self, sources):
        """Embedded or error of each of some recordings, in order."""
        found: dict[int, Embedded | AudioError] = {
            i: audio.result_or_error(self._embed_file, source)
            for i, source in enumerate(sources)
            if (audio.audio_seconds(source) or 0) > WINDOW_SECONDS
        }
        short = [i for i in range(len(sources)) if i not in found]
        batches = audio.read_batches(
            [sources[i] for i in short], self.max_batch_seconds
        )
        for batch in batches:
            signals = {short[i]: signal for i, signal in batch}
            found |= {i: x for i, x in signals.items() if _is_error(x)}
            good = [i for i, x in signals.items() if not _is_error(x)]
            if good:
                wavs = [torch.from_numpy(signals[i]) for i in good]
                lengths = torch.tensor([len(wav) for wav in wavs])
                padded = pad_sequence(wavs, batch_first=True)
                vectors = self.embed_batch(padded, lengths).split(1)
                seconds = (lengths / audio.SAMPLE_RATE).tolist()
                pairs = map(Embedded, vectors, seconds)
                found |= dict(zip(good, pairs, strict=True))
        return [found[i] for i in range(len(sources))]

    @contextlib.contextmanager
    def context(self):
        """Gradients where a parameter trains, and autocast."""
        trains = any(p.requires_grad for p in self.model.parameters())
        enabled = torch.is_grad_enabled() and trains
        with torch.set_grad_enabled(enabled), self._autocast:
            yield


class Utterance:
    """An utterance that a classifier hears window by window.

    Arguments
    ---------
    classifier : EmotionClassifier
    """

    def __init__(self, classifier: EmotionClassifier):
        self._classifier = classifier
        self._statistics = PooledStatistics()
        self.seconds = 0.0

    def update(self, window: np.ndarray) -> None:
        """Hear a window [S] of at most 30 s, as ``Windows`` cuts."""
        classifier = self._classifier
        wav = torch.from_numpy(window).to(classifier.device)
        with classifier.context():
            classifier.emotion_model.update(self._statistics, wav)
        self.seconds += len(window) / audio.SAMPLE_RATE

    def embedding(self) -> torch.Tensor:
        """Pooled vector [1, E] of all that was heard."""
        model = self._classifier.emotion_model
        with self._classifier.context():
            return model.embedding(self._statistics.result())

    def log_probs(self, speaker: Moments | None = None) -> np.ndarray:
        """Emotion log-probabilities [C] of all that was heard."""
        rows = self._classifier.log_probs(self.embedding(), speaker)
        return rows[0].detach().float().cpu().numpy()


def as_tensor(values: Numbers, name: str) -> torch.Tensor:
    """Numbers of any kind as a tensor; AudioError for anything else."""
    if isinstance(values, torch.Tensor):
        return values
    try:
        if not isinstance(values, np.ndarray):
            values = [np.asarray(row) for row in values]
        return torch.from_numpy(np.ascontiguousarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(
            f"{name} must be numbers, in rows of one length: {error}"
        ) from error


def _is_error(value):
    return isinstance(value, AudioError)
