"""A stream over a websocket: sound in, predictions out."""

from __future__ import annotations

import asyncio
from typing import Literal

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, ValidationError

from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.serving.predictor import Predictor
from qieemo_sb.serving.server.limits import Limits, Refusal
from qieemo_sb.serving.server.worker import Worker

END = "end"  # the text that ends a stream
BAD_DATA, REFUSED = 1007, 1008  # codes of closing, RFC 6455
SAMPLES = {"float32": "<f4", "int16": "<i2"}


class Start(BaseModel):
    """The first message of a stream.

    Arguments
    ---------
    rate : int
        Samples a second.
    format : str
        Of the chunks, mono and little endian: "float32", from -1 to 1, or
        "int16".
    interval, span : float
        See ``Stream``.
    """

    model_config = ConfigDict(extra="forbid")

    rate: int
    format: Literal["float32", "int16"] = "float32"
    interval: float = 1.0
    span: float = 4.0


async def converse(
    socket: WebSocket, predictor: Predictor, worker: Worker, limits: Limits
) -> float:
    """Answer a stream, from its first message to its end.

    The first message is a ``Start`` as JSON text; chunks follow as binary
    messages, and the text "end". Predictions are sent as JSON texts when they
    are due. A fault is sent as ``{"error": ...}`` before the socket is closed.

    Arguments
    ---------
    socket : WebSocket
        Not yet accepted.
    predictor : Predictor
    worker : Worker
    limits : Limits

    Returns
    -------
    float
        Seconds that were heard.
    """
    await socket.accept()
    conversation = _Conversation(socket, predictor, worker, limits)
    try:
        await conversation.begin()
        while isinstance(message := await conversation.receive(), bytes):
            await conversation.hear(message)
        await conversation.end(message)
    except WebSocketDisconnect:
        pass
    except QieemoError as error:
        await _refuse(socket, error)
    return conversation.seconds


class _Conversation:
    """A caller's stream and its messages; arguments as of ``converse``."""

    def __init__(self, socket, predictor, worker, limits):
        self._socket, self._predictor = socket, predictor
        self._worker, self._limits = worker, limits
        self._stream = None

    @property
    def seconds(self):
        return self._stream.seconds if self._stream else 0.0

    async def begin(self):
        """Make the stream that the first message asks for."""
        message = await self.receive()
        try:
            start = Start.model_validate_json(message)
        except ValidationError as error:
            faults = (
                f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"
                for fault in error.errors()
            )
            raise AudioError(
                f"The first message is to be JSON such as "
                f'{{"rate": 16000, "format": "int16"}}; {"; ".join(faults)}.'
            ) from error
        self._format, self._rate = start.format, start.rate
        options = start.model_dump(exclude={"format"})
        self._stream = await self._compute(
            lambda: self._predictor.stream(**options)
        )

    async def receive(self):
        """The next message, text or bytes."""
        seconds = self._limits.idle_seconds
        try:
            message = await asyncio.wait_for(self._socket.receive(), seconds)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise Refusal(
                408,
                f"Nothing came for {seconds:g} s, the limit of this server: "
                f'send silence, or the text "{END}".',
            ) from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        data = message.get("bytes")
        return message["text"] if data is None else data

    async def hear(self, data):
        """Hear a chunk, and send the predictions that are due."""
        samples = _samples(data, self._format)
        # A second at a time, for others to be heard meanwhile.
        for first in range(0, len(samples), self._rate):
            part = samples[first : first + self._rate]
            await self._send(await self._compute(self._stream.feed, part))
            self._limits.check_seconds(self.seconds)

    async def end(self, message):
        """Send the last predictions, if the message means the end."""
        if message != END:
            raise AudioError(
                f'After the first message come chunks and the text "{END}", '
                f"not the text {message[:40]!r}."
            )
        await self._send(await self._compute(self._stream.finish))
        await self._socket.close()

    def _compute(self, function, *arguments):
        return asyncio.wrap_future(self._worker.call(function, *arguments))

    async def _send(self, predictions):
        for prediction in predictions:
            await self._socket.send_json(prediction.to_dict())


def _samples(data, kind):
    """Bytes of a chunk → samples [S]."""
    dtype = np.dtype(SAMPLES[kind])
    if len(data) % dtype.itemsize:
        raise AudioError(
            f"A chunk of {len(data)} bytes is no whole number of {kind} "
            f"samples of {dtype.itemsize} bytes: send whole samples."
        )
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))


async def _refuse(socket, error):
    """Say why, and close."""
    code = REFUSED if isinstance(error, Refusal) else BAD_DATA
    try:
        await socket.send_json({"error": str(error)})
        await socket.close(code)
    except WebSocketDisconnect:
        pass
