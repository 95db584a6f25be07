"""Emotion while somebody speaks: chunks of sound in, predictions out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from qieemo_sb.audio import Resampler, Windows, check_signal, to_mono
from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.frames import SAMPLE_RATE, WINDOW_SAMPLES
from qieemo_sb.serving.predictor import Predictor
from qieemo_sb.serving.results import Prediction
from qieemo_sb.serving.speech import SpeechDetector

NAME = "The stream"  # in error messages, where a file's name stands
LONGEST = 86_400  # seconds between predictions: a day
STEP = SAMPLE_RATE // 10  # samples heard at once: 0.1 s


@dataclasses.dataclass
class StreamPrediction(Prediction):
    """The emotion of a part of a stream.

    Arguments
    ---------
    event : str
        "now" for the last seconds, every interval; "speech" for a stretch of
        speech that has ended; "end" for the whole stream.
    """

    event: str = "now"


class Stream:
    """A sound that is classified while it comes in.

    ::

        stream = classifier.stream(rate=48_000)
        for chunk in microphone:
            for prediction in stream.feed(chunk):
                print(prediction.event, prediction)
        (*_, whole) = stream.finish()

    Every interval in which somebody speaks there is a prediction for the last
    seconds, and one for each stretch of speech when it has ended. ``finish``
    gives one for the whole: that of a file with the same samples. Predictions
    do not depend on how the sound is cut into chunks; time and memory for a
    chunk do not grow.

    Arguments
    ---------
    predictor : Predictor
        The classifier.
    rate : int
        Samples a second of the chunks.
    interval : float
        Seconds between predictions for the last seconds.
    span : float
        How many last seconds these are, at most 30.
    speaker : Moments or None
        Of ``adapt``, who speaks.

    Raises
    ------
    QieemoError
        A rate, interval or span that cannot be used.
    """

    def __init__(
        self,
        predictor: Predictor,
        rate: int = SAMPLE_RATE,
        interval: float = 1.0,
        span: float = 4.0,
        speaker: Any = None,
    ):
        if not 0.1 <= interval <= LONGEST or not 0.5 <= span <= 30:
            raise QieemoError(
                f"A stream's interval is {interval} s and its span {span} s: "
                f"give an interval of 0.1 to {LONGEST} and a span of 0.5 to 30."
            )
        self._predictor = predictor
        self._speaker = speaker
        self._interval = round(interval * SAMPLE_RATE)
        self._span = round(span * SAMPLE_RATE)
        self._resampler = Resampler(rate)
        self._windows = Windows()
        self._whole = predictor.running()
        self._detector = SpeechDetector()
        self._kept = np.empty(0, np.float32)  # the last 30 s and some more
        self._heard = 0  # samples at 16 kHz
        self._pending = np.empty(0, np.float32)  # less than a step

    @property
    def seconds(self) -> float:
        """Length of what was heard so far."""
        return (self._heard + len(self._pending)) / SAMPLE_RATE

    def feed(self, chunk: np.ndarray) -> list[StreamPrediction]:
        """Hear a chunk.

        Arguments
        ---------
        chunk : np.ndarray or torch.Tensor
            [S] or [S, channels] of any size: floating point from -1 to 1, or
            int16 as microphones give.

        Returns
        -------
        list of StreamPrediction
            Those that are due, by the time of their ends; often none.

        Raises
        ------
        AudioError
            Samples that are NaN, infinite or beyond 1e15, or of another type.
        """
        return self._hear(self._resampler.update(to_mono(chunk)))

    def finish(self) -> list[StreamPrediction]:
        """End the stream → the speech that went on, and the whole.

        Raises
        ------
        AudioError
            It lasted less than 25 ms.
        """
        predictions = self._hear(self._resampler.finish())
        predictions += self._step(self._pending)
        self._pending = self._pending[:0]
        predictions += map(self._speech, self._detector.finish())
        for window in self._windows.finish():
            check_signal(NAME, window)  # long enough
            self._whole.update(window)
        end = self._heard / SAMPLE_RATE
        return [*predictions, self._predict(self._whole, "end", 0.0, end)]

    def predict(
        self, chunks: Iterable[np.ndarray]
    ) -> Iterator[StreamPrediction]:
        """Predictions for all chunks of an iterable, and for the end."""
        for chunk in chunks:
            yield from self.feed(chunk)
        yield from self.finish()

    def _hear(self, samples):
        """Hear samples at 16 kHz, in steps that chunks have no part in."""
        samples = np.concatenate([self._pending, samples])
        whole = len(samples) // STEP * STEP
        self._pending = samples[whole:]
        if not np.isfinite(samples).all():
            raise AudioError(f"{NAME} has samples that are NaN or infinite.")
        predictions = []
        for first in range(0, whole, STEP):
            predictions += self._step(samples[first : first + STEP])
        return predictions

    def _step(self, samples):
        """Predictions that are due after at most a step of samples."""
        for window in self._windows.update(samples):
            self._whole.update(window)
        most = max(self._span, WINDOW_SAMPLES) + SAMPLE_RATE
        self._kept = np.concatenate([self._kept, samples])[-most:]
        before, self._heard = self._heard, self._heard + len(samples)
        spans = self._detector.update(samples)
        predictions = list(map(self._speech, spans))
        due = before // self._interval != self._heard // self._interval
        if due and (self._detector.speaking or spans):
            predictions.append(self._now())
        return predictions

    def _now(self):
        """Prediction for the last seconds."""
        return self._part("now", max(0, self._heard - self._span), self._heard)

    def _speech(self, span):
        """Prediction for a stretch of speech (start, end) in samples."""
        return self._part("speech", *span)

    def _part(self, event, start, end):
        """Prediction for a part of what was kept."""
        first = self._heard - len(self._kept)
        running = self._predictor.running()
        running.update(self._kept[max(0, start - first) : end - first])
        times = start / SAMPLE_RATE, min(end, self._heard) / SAMPLE_RATE
        return self._predict(running, event, *times)

    def _predict(self, running, event, start, end):
        """The result for a running utterance."""
        log_probs = running.log_probs(self._speaker)
        found = self._predictor.prediction(log_probs, None, start, end)
        return StreamPrediction(**vars(found), event=event)
