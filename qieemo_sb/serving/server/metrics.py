"""Counts and times of a server, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.types import ASGIApp, Receive, Scope, Send


class Metrics:
    """Measurements of one application."""

    MEDIA_TYPE = CONTENT_TYPE_LATEST

    def __init__(self):
        self._registry = CollectorRegistry()
        common = {"registry": self._registry}
        self.requests = Counter(
            "qieemo_requests",
            "Requests answered",
            ["route", "status"],
            **common,
        )
        self.seconds = Histogram(
            "qieemo_request_seconds",
            "Time from a request's headers to its whole answer",
            ["route"],
            **common,
        )
        self.audio_seconds = Counter(
            "qieemo_audio_seconds", "Length of the sound classified", **common
        )
        self.batch_size = Histogram(
            "qieemo_batch_size",
            "Short recordings that were computed together",
            buckets=[1, 2, 4, 8, 16, 32, 64],
            **common,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value as it is when somebody looks."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)


class Measured:
    """Counts and times the HTTP requests of an application.

    Arguments
    ---------
    app : ASGI application
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, begin = 500, time.perf_counter()

        async def note(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            # Paths that are not ours are one, or callers could make many.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status).inc()
            spent = time.perf_counter() - begin
            self._metrics.seconds.labels(route).observe(spent)
