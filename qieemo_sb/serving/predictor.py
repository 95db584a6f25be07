"""Common ground of the engines, torch and exports: recordings and results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from qieemo_sb.audio import Source, read_windows
from qieemo_sb.errors import AudioError, ModelFolderError, QieemoError
from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.serving.results import UNKNOWN, Prediction

if TYPE_CHECKING:
    from qieemo_sb.serving.streaming import Stream

Sources: TypeAlias = "Source | Iterable[Source]"
Listed = TypeVar("Listed", bound=Iterable)
FILES_AT_ONCE = 100  # sorted by length together; then their results come


class Running(Protocol):
    """An utterance that is heard window by window."""

    seconds: float  # heard so far

    def update(self, window: np.ndarray) -> None:
        """Hear a window [S] of at most 30 s, as ``Windows`` cuts."""

    def log_probs(self, speaker: Any = None) -> np.ndarray:
        """Emotion log-probabilities [C] of all that was heard."""


class Predictor:
    """Predictions by an engine that can hear an utterance window by window.

    Attributes
    ----------
    labels : list of str
        Emotions in the order of the log-probabilities.
    threshold : float
        Least probability of an emotion, 0 at first: one below is "unknown".
    """

    labels: list[str]
    threshold: float = 0.0

    def running(self) -> Running:
        """A new utterance."""
        raise NotImplementedError

    def __call__(self, sources: Sources) -> list[Prediction]:
        """Classify recordings of any rate, channels and length.

        Arguments
        ---------
        sources : path, array, dict, or iterable of these
            Local files; or samples, as NumPy arrays or torch tensors of 16 kHz
            or with their rate: ``{"array": x, "sampling_rate": 48_000}``.

        Returns
        -------
        list of Prediction
            In order; one for a single recording, too.

        Raises
        ------
        AudioError
            A recording cannot be used; names it. ``predict`` goes on instead.
        """
        return raise_errors(self.predict(sources))

    def predict(
        self, sources: Sources, speaker: Any = None
    ) -> Iterator[Prediction | AudioError]:
        """Classify many recordings.

        Arguments
        ---------
        sources
            As of ``__call__``.
        speaker : Moments or None
            Of ``adapt``, who speaks in all of them; not with an export.

        Yields
        ------
        Prediction or AudioError
            For each recording, in order.
        """
        for source in as_list(sources):
            running = self.running()
            try:
                for window in read_windows(source):
                    running.update(window)
            except AudioError as error:
                yield error
                continue
            yield self.prediction(
                running.log_probs(speaker), source, end=running.seconds
            )

    def stream(self, rate: int = SAMPLE_RATE, **options) -> Stream:
        """Classify sound while it comes in; see ``Stream``."""
        from qieemo_sb.serving.streaming import Stream

        return Stream(self, rate, **options)

    def prediction(
        self,
        log_probs: np.ndarray,
        source: Source | None = None,
        start: float = 0.0,
        end: float = 0.0,
        speaker: str | None = None,
    ) -> Prediction:
        """The result for log-probabilities [C] of some seconds of a source.

        Raises
        ------
        ModelFolderError
            As of ``check_output``.
        """
        check_output(log_probs)
        values = np.exp(log_probs.astype(np.float64)).tolist()
        scores = dict(zip(self.labels, values, strict=True))
        emotion = max(scores, key=scores.__getitem__)
        if scores[emotion] < self.threshold:
            emotion = UNKNOWN
        file = str(source) if isinstance(source, str | Path) else None
        return Prediction(file, start, end, emotion, scores, speaker)


def check_output(log_probs: Any) -> None:
    """Raise ModelFolderError for log-probabilities that are not finite.

    No model that works gives such.
    """
    if not math.isfinite(log_probs.sum()):
        raise ModelFolderError(
            "The model's output is not finite: the model is damaged, or the "
            "precision too low. Load it again, in float32."
        )


def as_list(sources: Sources) -> Iterable[Source]:
    """Recordings as an iterable, a single one as well."""
    one = isinstance(sources, str | bytes | Path | Mapping)
    one = one or not hasattr(sources, "__iter__")  # a number is refused later
    alone: Any = [sources] if one or hasattr(sources, "shape") else sources
    return alone


def check_list(values: Listed) -> Listed:
    """Return files or names; QieemoError for a single one in their place."""
    one = isinstance(values, str | bytes | Path)
    # Arrays without any axis have __iter__, which raises.
    one = one or getattr(values, "shape", None) == ()
    if one or not hasattr(values, "__iter__"):
        raise QieemoError(
            f"A list is needed: [{values!r}] for {values!r} alone."
        )
    return values


def check_threshold(threshold: float) -> float:
    """Return a least probability; QieemoError unless it is 0 to 1."""
    if not 0 <= threshold <= 1:
        raise QieemoError(
            f"The threshold is {threshold}; a probability, 0 to 1, is needed."
        )
    return threshold


def raise_errors(results: Iterable) -> list:
    """Results as a list; raises the first AudioError among them."""
    results = list(results)
    for result in results:
        if isinstance(result, AudioError):
            raise result
    return results
