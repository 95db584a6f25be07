"""Limits of a server: what one caller may take from the others."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np

# The rest of a request is on its way and will not be read.
CLOSE = {"Connection": "close"}


class Refusal(QieemoError):
    """A request that a server does not fulfil.

    Arguments
    ---------
    status : int
        Of HTTP.
    message : str
        Says why, and what to do.
    headers : dict or None
        Of the response.
    """

    def __init__(
        self, status: int, message: str, headers: dict[str, str] | None = None
    ):
        super().__init__(message)
        self.status, self.headers = status, headers


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Arguments
    ---------
    megabytes : float
        Most of a request's body.
    minutes : float
        Most of a recording or a stream.
    waiting : int
        Most recordings at once: received, waiting and in work.
    receive_seconds : float
        Most time in which a request's body may arrive.
    streams : int
        Most streams at once.
    idle_seconds : float
        Most time in which a stream sends nothing.
    """

    megabytes: float = 100.0
    minutes: float = 120.0
    waiting: int = 64
    receive_seconds: float = 120.0
    streams: int = 16
    idle_seconds: float = 30.0

    def check_bytes(self, size: int) -> None:
        """Refusal 413 of a body of too many bytes."""
        if size > self.megabytes * 1e6:
            message = (
                f"The request is larger than {self.megabytes:g} MB, the limit "
                "of this server: send it compressed or in parts."
            )
            raise Refusal(413, message, CLOSE)

    def check_seconds(self, seconds: float) -> None:
        """Refusal 413 of a recording, or stream, that is too long."""
        if seconds > self.minutes * 60:
            message = (
                f"The recording is longer than {self.minutes:g} minutes, the "
                "limit of this server: send it in parts."
            )
            raise Refusal(413, message)

    def checked(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Blocks [S] at 16 kHz of a recording, until it is too long."""
        size = 0
        for block in blocks:
            size += len(block)
            self.check_seconds(size / SAMPLE_RATE)
            yield block


class Places:
    """So many places, each taken for a while.

    Arguments
    ---------
    most : int
    kind : str
        For what, in the message: "recordings".
    """

    def __init__(self, most: int, kind: str):
        self._most, self._kind = most, kind
        self.taken = 0

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Take a place; Refusal 429 if there is none."""
        if self.taken >= self._most:
            message = (
                f"This server is busy with {self.taken} {self._kind}, its "
                "limit: try again later."
            )
            raise Refusal(429, message, {"Retry-After": "1", **CLOSE})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
