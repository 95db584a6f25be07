"""Results of a classification, the same of every class and engine."""

from __future__ import annotations

import dataclasses
from typing import Any

UNKNOWN = "unknown"  # the emotion of a prediction below the threshold


@dataclasses.dataclass
class Prediction:
    """The emotion of a recording, or of a segment of one.

    Arguments
    ---------
    file : str or None
        Its path; None for samples that came without one.
    start, end : float
        Where in the recording, in seconds.
    emotion : str
        The most probable one, or "unknown" below the classifier's threshold.
    scores : dict of str to float
        Probability of each emotion; they add up to one.
    speaker : str or None
        The speaker that the model was adapted to.

    Example
    -------
    >>> happy = Prediction("a.wav", 0, 1.5, "happy", {"happy": 0.8, "sad": 0.2})
    >>> print(happy)
    a.wav 0.00-1.50 s: happy 0.80
    >>> happy.to_dict()["scores"]
    {'happy': 0.8, 'sad': 0.2}
    >>> list(happy.to_row())
    ['file', 'start', 'end', 'speaker', 'emotion', 'score', 'happy', 'sad']
    """

    file: str | None
    start: float
    end: float
    emotion: str
    scores: dict[str, float]
    speaker: str | None = None

    @property
    def score(self) -> float:
        """Probability of the most probable emotion."""
        return max(self.scores.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``json.dumps``; times in ms, scores in 1e-6."""
        values = dataclasses.asdict(self)
        for key in ("start", "end"):
            values[key] = round(values[key], 3)
        values["scores"] = {k: round(x, 6) for k, x in self.scores.items()}
        return values

    def to_row(self) -> dict[str, Any]:
        """Plain values without nesting, a row of a table.

        ``pandas.DataFrame(p.to_row() for p in predictions)``
        """
        values = self.to_dict()
        scores = values.pop("scores")
        first = {key: values.pop(key) for key in ("file", "start", "end")}
        about = {"speaker": values.pop("speaker"), "emotion": self.emotion}
        return {**first, **about, "score": max(scores.values()), **scores}

    def __str__(self) -> str:
        file = "" if self.file is None else f"{self.file} "
        by = "" if self.speaker is None else f"{self.speaker}, "
        return (
            f"{file}{self.start:.2f}-{self.end:.2f} s: {by}{self.emotion} "
            f"{self.score:.2f}"
        )
