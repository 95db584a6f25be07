"""The application: its routes, and what each of them does."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from qieemo_sb import __version__
from qieemo_sb.audio import read_blocks, read_windows
from qieemo_sb.errors import AudioError, QieemoError
from qieemo_sb.serving.predictor import Predictor
from qieemo_sb.serving.results import Prediction
from qieemo_sb.serving.server.limits import CLOSE, Limits, Places, Refusal
from qieemo_sb.serving.server.metrics import Measured, Metrics
from qieemo_sb.serving.server.streams import converse
from qieemo_sb.serving.server.uploads import BODY, decode, received
from qieemo_sb.serving.server.worker import Steps, Worker

LINGER_SECONDS = 2.0
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No token, or a wrong one"},
    408: {"description": "The request took too long to arrive"},
    413: {"description": "The file is too large, or the recording too long"},
    422: {"description": "No recording that can be used"},
    429: {"description": "The server is busy; see Retry-After"},
}


def create_app(
    predictor: Predictor,
    limits: Limits | None = None,
    token: str | None = None,
) -> FastAPI:
    """An ASGI application that answers with a model.

    ``POST /v1/emotions`` classifies a recording, ``WS /v1/stream`` sound while
    it comes in; ``GET /health`` and ``/metrics``; ``/docs`` for people.

    Arguments
    ---------
    predictor : Predictor
        Of ``load_model`` or ``load_any``. Nothing else may use it meanwhile.
    limits : Limits or None
        None: the default ones.
    token : str or None
        Callers send it as ``Authorization: Bearer TOKEN``. None: anyone who
        reaches the server may use it.

    Returns
    -------
    FastAPI
        For uvicorn, or any other ASGI server.
    """
    server = _Server(predictor, limits or Limits(), token)
    app = FastAPI(title="Qieemo", version=__version__, lifespan=server.lifespan)
    app.add_middleware(Measured, metrics=server.metrics)
    app.add_exception_handler(QieemoError, _explain)
    secured = [Depends(server.check_token)]
    app.post(
        "/v1/emotions",
        response_model=Prediction | list[Prediction],
        openapi_extra=BODY,
        responses=REFUSALS,
        dependencies=secured,
    )(server.emotions)
    app.websocket("/v1/stream", dependencies=secured)(server.stream)
    app.get("/health")(server.health)
    app.get("/metrics", dependencies=secured)(server.measurements)
    return app


class _Server:
    """The routes, and what they share; arguments as of ``create_app``."""

    def __init__(self, predictor, limits, token):
        self.predictor, self.limits, self.token = predictor, limits, token
        self.labels = list(predictor.labels)  # a model without any fails here
        self.metrics = Metrics()
        self.recordings = Places(limits.waiting, "recordings")
        self.streams = Places(limits.streams, "streams")
        self.metrics.watch(
            "qieemo_recordings",
            "Recordings received, waiting and in work",
            lambda: self.recordings.taken,
        )
        self.metrics.watch(
            "qieemo_streams", "Streams now", lambda: self.streams.taken
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """The threads live as long as the application."""
        self.worker = Worker(self.predictor, self.metrics.batch_size.observe)
        # One for each, or a few long recordings would hold up all others.
        threads = self.limits.waiting
        with ThreadPoolExecutor(threads, "decode") as self.pool:
            yield
            self.worker.stop()

    def check_token(self, connection: HTTPConnection) -> None:
        """Refuse who does not send the token, if there is one."""
        given = connection.headers.get("authorization", "").encode()
        if self.token is not None and not hmac.compare_digest(
            given, f"Bearer {self.token}".encode()
        ):
            message = (
                "This server needs its token, in the header Authorization: "
                "Bearer TOKEN."
            )
            raise Refusal(401, message, {"WWW-Authenticate": "Bearer"})

    async def emotions(
        self, request: Request, timeline: bool = False
    ) -> Response:
        """Emotion of a recording; with timeline=true, of its segments."""
        if timeline and not hasattr(self.predictor, "timeline"):
            raise Refusal(
                501, "The model of this server is an export: no timeline."
            )
        prepare = self._timeline if timeline else self._whole
        loop = asyncio.get_running_loop()
        with self.recordings.take():
            async with received(request, self.limits) as (path, name):
                try:
                    future = await loop.run_in_executor(
                        self.pool, prepare, path
                    )
                    found = await _unless_gone(request, future)
                except AudioError as error:  # by our name for the file
                    message = str(error).replace(str(path), name)
                    raise Refusal(422, message) from error
        for prediction in found:
            prediction.file = name
        self.metrics.audio_seconds.inc(found[-1].end if found else 0.0)
        rows = [prediction.to_dict() for prediction in found]
        return JSONResponse(rows if timeline else rows[0])

    def _whole(self, path: Path) -> Future:
        """Future list of the one prediction for a recording."""
        signal = decode(path, self.limits)
        if signal is not None:
            return self.worker.classify(signal)
        return self.worker.run(_hear(self.predictor, path))

    def _timeline(self, path: Path) -> Future:
        """Future list of the segments of a recording."""
        from qieemo_sb.serving.timeline import find_turns

        turns = find_turns(self.limits.checked(read_blocks(path)))
        return self.worker.run(_cut(self.predictor, path, turns))

    async def stream(self, socket: WebSocket) -> None:
        """Emotions while somebody speaks; see ``converse``."""
        with self.streams.take():
            seconds = await converse(
                socket, self.predictor, self.worker, self.limits
            )
        self.metrics.audio_seconds.inc(seconds)

    async def health(self) -> dict[str, Any]:
        """State of the server, for those that restart it."""
        if not self.worker.is_alive():
            raise Refusal(503, "The thread of the model has ended: restart.")
        return {"status": "ok", "version": __version__, "labels": self.labels}

    async def measurements(self) -> Response:
        """Counts and times, for Prometheus."""
        return Response(self.metrics.text(), media_type=Metrics.MEDIA_TYPE)


def _hear(predictor: Predictor, path: Path) -> Steps:
    """Classify a long recording window by window."""
    running = predictor.running()
    for window in read_windows(path):
        running.update(window)
        yield
    log_probs = running.log_probs()
    return [predictor.prediction(log_probs, end=running.seconds)]


def _cut(predictor: Any, path: Path, turns: list) -> Steps:
    """Cut a recording into segments one by one."""
    from qieemo_sb.serving.timeline import join, segments

    found = []
    for segment in segments(predictor, path, turns):
        found.append(segment)
        yield
    return join(found)


async def _unless_gone(request: Request, future: Future) -> Any:
    """Result of a future, which is cancelled when the caller goes away."""

    async def gone():
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, leaving = asyncio.wrap_future(future), asyncio.create_task(gone())
    try:
        await asyncio.wait(
            {answer, leaving}, return_when=asyncio.FIRST_COMPLETED
        )
        if not answer.done():
            raise Refusal(400, "The caller went away.")
        return answer.result()
    finally:
        answer.cancel()
        leaving.cancel()


async def _explain(_request: Request, error: Exception) -> Response:
    """An error as JSON."""
    status = getattr(error, "status", 500)
    headers = getattr(error, "headers", None) or {}
    kind = _Farewell if CLOSE.items() <= headers.items() else JSONResponse
    return kind({"detail": str(error)}, status, headers)


class _Farewell(JSONResponse):
    """An answer before all of the request was read, and then no more.

    A connection that is closed with something unread is reset, and the caller
    may not see the answer: so what comes is read, and forgotten, for a while.
    """

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send the answer."""
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)

        async def send_unfinished(message):
            is_body = message["type"] == "http.response.body"
            await send({**message, "more_body": True} if is_body else message)

        async def read():
            while (await receive()).get("more_body"):
                pass

        await super().__call__(scope, receive, send_unfinished)
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(read(), LINGER_SECONDS)
        await send({"type": "http.response.body"})
