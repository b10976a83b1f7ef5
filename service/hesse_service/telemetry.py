"""Request ids, traces, security headers, the origin check, refusals while draining and the last resort for exceptions.

One ASGI layer around the app; what it saw of an exchange goes to the journal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hesse_engine.errors import HesseError, StateError
from hesse_service.evaluator import internal
from hesse_service.journal import CURRENT, KEY, Exchange, Journal
from hesse_service.lifecycle import Lifecycle, draining
from hesse_service.problems import problem_response
from hesse_service.tracing import Trace, Tracer, trace_of

logger = logging.getLogger("hesse.service")

REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


UNREFUSED = ("/livez", "/readyz", "/metrics")  # they answer to the last
CLOSE = (b"connection", b"close")


class Envelope:
    """Wraps every HTTP exchange."""

    def __init__(
        self, app: ASGIApp, allowed_origins: tuple[str, ...], journal: Journal, lifecycle: Lifecycle,
        tracer: Tracer | None = None,
    ) -> None:
        self.app, self.allowed_origins = app, allowed_origins
        self.journal, self.lifecycle, self.tracer = journal, lifecycle, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = scope["hesse.headers"] = dict(scope["headers"])
        exchange = self._begin(scope, headers)
        added = [*HEADERS, (b"x-request-id", exchange.request_id.encode())]

        async def send_wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                if self.lifecycle.is_draining:
                    added.append(CLOSE)
                message["headers"] = [*message.get("headers", ()), *added]
            elif message["type"] == "http.response.body":
                exchange.answer_bytes += len(message.get("body", b""))
                exchange.is_complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._answer(scope, receive, send_wrapped, exchange, self._refusal(scope, headers))
        finally:
            route = scope.get("route")
            if route is not None:
                exchange.operation = route.name
            self.journal.end(exchange)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, refusal: HesseError | None
    ) -> None:
        try:
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await problem_response(refusal, exchange)(scope, receive, send)
        except asyncio.CancelledError:  # while draining: the server waits no longer
            if not self.lifecycle.is_refusing:
                raise
            if not exchange.status:
                await problem_response(draining(), exchange)(scope, receive, send)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            if exchange.status:
                exchange.code = "internal"
                raise
            await problem_response(internal(), exchange)(scope, receive, send)

    def _begin(self, scope: Scope, headers: dict[bytes, bytes]) -> Exchange:
        """The record of the exchange, under the caller's request id and in its trace where they are well-formed."""
        fresh = os.urandom(24).hex()
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        if b"traceparent" in headers:
            trace = trace_of(scope["headers"], fresh[:32], fresh[32:])
        else:
            trace = Trace(fresh[:32], fresh[32:])
        exchange = scope[KEY] = Exchange(given if REQUEST_ID.fullmatch(given) else fresh[:32], trace)
        scope["hesse.request_id"] = exchange.request_id
        CURRENT.set(exchange)
        if self.tracer is not None:
            self.tracer.start(exchange)
        self.journal.begin()
        return exchange

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> HesseError | None:
        if not self._is_allowed(headers):
            return StateError(
                "cross-origin",
                "Web pages of this origin may not call the service.",
                hint="The server's operator can allow it: HESSE_ALLOWED_ORIGINS.",
            )
        if self.lifecycle.is_refusing and scope["path"] not in UNREFUSED:
            return draining()
        return None

    def _is_allowed(self, headers: dict[bytes, bytes]) -> bool:
        """A browser names the page's origin; any other client sends none."""
        origin = headers.get(b"origin")
        if origin is None or origin.decode("latin-1") in self.allowed_origins:
            return True
        return origin.partition(b"://")[2] == headers.get(b"host")
