"""Voice activity by Silero's detector, while sound comes in.

The package ``silero-vad`` carries the weights (MIT licence). Only its graph is
used, by onnxruntime, so that an export needs no torch here either.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np

from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import WINDOW_SAMPLES

HOP = 512  # samples of a decision: 32 ms
CONTEXT = 64  # samples before them that the network hears as well
BEGIN, END = 0.5, 0.35  # probabilities at which speech begins and ends
PAUSE = 10  # hops of silence that end speech: 0.32 s
PADDING = 3 * HOP  # samples kept before and after speech: 0.1 s
SHORTEST = 8 * HOP  # samples; a shorter sound, 0.26 s, is none
LONGEST = WINDOW_SAMPLES // HOP - 2 * PADDING // HOP  # hops of one window
GRAPH = "data/silero_vad_16k_sequence.onnx"


class SpeechDetector:
    """Finds stretches of speech in a signal that is given chunk by chunk.

    They are at least 0.26 s long, 0.3 s of silence apart or cut at the
    quietest moment where somebody speaks for 30 s, and have 0.1 s around
    them. They do not depend on the chunks.

    Raises
    ------
    QieemoError
        The detector is not installed.
    """

    def __init__(self):
        self._session = _session()
        self._state = [np.zeros((1, 1, 128), np.float32)] * 2
        self._held = np.zeros(CONTEXT, np.float32)
        self._hops = 0  # decided
        self._first: int | None = None  # hop at which speech began
        self._last = 0  # hop after the last one with speech
        self._heard: list[float] = []  # probabilities since it began
        self._ended = 0  # samples up to the end of the last speech

    @property
    def speaking(self) -> bool:
        """True while somebody speaks, up to the pause that ends it."""
        return self._first is not None

    def update(self, samples: np.ndarray) -> list[tuple[int, int]]:
        """Hear [S] samples at 16 kHz → speech that ended: (start, end)."""
        signal = np.concatenate([self._held, samples], dtype=np.float32)
        hops = (len(signal) - CONTEXT) // HOP
        if not hops:
            self._held = signal
            return []
        rows = np.lib.stride_tricks.sliding_window_view(signal, CONTEXT + HOP)
        inputs = np.ascontiguousarray(rows[: hops * HOP : HOP])
        names = dict(zip(("h", "c"), self._state, strict=True))
        found, *self._state = self._session.run(
            None, {"input": inputs, **names}
        )
        self._held = signal[hops * HOP :].copy()
        spans = map(self._decide, np.ravel(found).tolist())
        return [span for span in spans if span]

    def finish(self) -> list[tuple[int, int]]:
        """Speech that goes on at the end, cut there: [(start, end)] or []."""
        total = self._hops * HOP + len(self._held) - CONTEXT
        span = self._close(self._last) if self.speaking else None
        return [(span[0], min(span[1], total))] if span else []

    def _decide(self, probability):
        """Count a hop of speech or silence; the speech that ends with it."""
        hop, self._hops = self._hops, self._hops + 1
        if self._first is None:
            if probability < BEGIN:
                return None
            self._first, self._heard = hop, []
        self._heard.append(probability)
        if probability >= END:
            self._last = hop + 1
        if self._hops - self._last >= PAUSE:
            return self._close(self._last)
        if len(self._heard) < LONGEST:
            return None
        half = LONGEST // 2
        quietest = half + int(np.argmin(self._heard[half:]))
        cut, rest = self._first + quietest, self._heard[quietest:]
        span = self._close(cut, padding=0)
        self._first, self._heard = cut, rest
        return span

    def _close(self, end, padding=PADDING):
        """(start, end) in samples of speech up to a hop; None if too short."""
        start, self._first = self._first, None
        if (end - start) * HOP < SHORTEST:
            return None
        start = max(self._ended, start * HOP - PADDING)
        self._ended = end * HOP + padding
        return start, self._ended


def speech_spans(blocks) -> list[tuple[int, int]]:
    """Stretches of speech (start, end) in blocks [S] of a 16 kHz signal."""
    detector, spans = SpeechDetector(), []
    for block in blocks:
        spans += detector.update(block)
    return spans + detector.finish()


@functools.cache
def _session():
    """The detector's graph, loaded once."""
    import onnxruntime

    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise QieemoError(
            "Finding speech needs silero-vad: pip install silero-vad"
        )
    path = Path(package.submodule_search_locations[0]) / GRAPH
    if not path.is_file():
        raise QieemoError(
            f"{path} is missing: pip install --upgrade 'silero-vad>=6.2'"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # small products: more threads wait
    return onnxruntime.InferenceSession(path, options)
