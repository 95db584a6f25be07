"""The one thread that computes for all who ask."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.serving.predictor import Predictor

ALIKE = 1.25  # how much longer or shorter than the oldest others may be

Steps = Generator[None, None, Any]


class _Job(NamedTuple):
    """Something to compute, and where its result goes."""

    work: Any
    future: Future


class Worker:
    """A thread that owns a model and takes turns between kinds of work.

    A turn is one batch of short recordings of like length, all chunks of
    streams that wait, and one step of the oldest long recording. It never
    waits for a batch to fill: it takes what came during the last turn. Work
    whose future was cancelled is dropped.

    Arguments
    ---------
    predictor : Predictor
        The model. An export answers one by one, without batches.
    on_batch : callable or None
        Called with the size of each batch.
    """

    def __init__(
        self,
        predictor: Predictor,
        on_batch: Callable[[int], object] | None = None,
    ):
        self._predictor = predictor
        self._on_batch = on_batch or (lambda size: None)
        self._changed = threading.Condition()
        self._signals: list[_Job] = []
        self._calls: list[_Job] = []
        self._long: deque[_Job] = deque()
        self._stopped = False
        self._thread = threading.Thread(
            target=self._work, name="model", daemon=True
        )
        self._thread.start()

    def classify(self, signal: np.ndarray) -> Future:
        """Future [Prediction] for [S] at 16 kHz, of at most 30 s."""
        return self._add(self._signals, signal)

    def call(self, function: Callable, *arguments: Any) -> Future:
        """Future result of a function that takes a moment."""
        return self._add(self._calls, lambda: function(*arguments))

    def run(self, steps: Steps) -> Future:
        """Future return value of a generator, run step by step."""
        return self._add(self._long, steps)

    def stop(self) -> None:
        """End the thread after its turn; what waits is cancelled."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def is_alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def _add(self, queue, work):
        job = _Job(work, Future())
        with self._changed:
            queue.append(job)
            if self._stopped:
                job.future.cancel()
            self._changed.notify()
        return job.future

    def _work(self):
        """Take turns until stopped."""
        while self._is_needed():
            with self._changed:
                batch = self._take_alike()
                calls, self._calls[:] = list(self._calls), []
                long = self._long[0] if self._long else None
            if batch:
                self._classify(batch)
            for job in calls:
                _finish(job, _outcome(job.work))
            if long and self._is_finished(long):
                self._long.popleft()
        for job in [*self._signals, *self._calls, *self._long]:
            job.future.cancel()

    def _is_needed(self):
        """Wait for work; False if there will be none."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped or self._signals or self._calls or self._long
                )
            )
            return not self._stopped

    def _take_alike(self):
        """The recording that waits longest, and others of about its length."""
        waiting = [job for job in self._signals if not job.future.cancelled()]
        self._signals[:] = waiting
        if not waiting:
            return []
        size = len(waiting[0].work)
        seconds = getattr(self._predictor, "max_batch_seconds", 0.0)
        most = max(1, int(seconds * SAMPLE_RATE / (size * ALIKE)))
        alike = [
            i
            for i, job in enumerate(waiting)
            if size / ALIKE <= len(job.work) <= size * ALIKE
        ][:most]
        for i in reversed(alike):
            del self._signals[i]
        return [waiting[i] for i in alike]

    def _classify(self, batch):
        """Answer a batch of short recordings."""
        signals = [job.work for job in batch]
        results = _outcome(lambda: list(self._predictor.predict(signals)))
        if isinstance(results, Exception):
            results = [results] * len(batch)
        for job, result in zip(batch, results, strict=True):
            is_error = isinstance(result, Exception)
            _finish(job, result if is_error else [result])
        self._on_batch(len(batch))

    def _is_finished(self, job):
        """Make a step of a long recording; True after the last."""
        if job.future.cancelled():
            job.work.close()
            return True
        try:
            next(job.work)
            return False
        except StopIteration as end:
            _finish(job, end.value)
        except Exception as error:
            _finish(job, error)
        return True


def _outcome(function):
    """Result of a function, or the exception that it raises."""
    try:
        return function()
    except Exception as error:
        return error


def _finish(job, outcome):
    """Give a job's future its result or exception, unless it was cancelled."""
    if not job.future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        job.future.set_exception(outcome)
    else:
        job.future.set_result(outcome)
