"""Request ids, security headers, the origin check and the last resort for exceptions: one ASGI layer around the app."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hesse_engine.errors import StateError
from hesse_service.evaluator import internal
from hesse_service.problems import problem_response

logger = logging.getLogger("hesse.service")

REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Envelope:
    """Wraps every HTTP exchange."""

    def __init__(self, app: ASGIApp, allowed_origins: tuple[str, ...]) -> None:
        self.app, self.allowed_origins = app, allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = scope["hesse.headers"] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        scope["hesse.request_id"] = request_id
        added = [*HEADERS, (b"x-request-id", request_id.encode())]
        is_started = False

        async def send_wrapped(message: Message) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        if not self._is_allowed(headers):
            error = StateError(
                "cross-origin",
                "Web pages of this origin may not call the service.",
                hint="The server's operator can allow it: HESSE_ALLOWED_ORIGINS.",
            )
            await problem_response(error, request_id)(scope, receive, send_wrapped)
            return
        try:
            await self.app(scope, receive, send_wrapped)
        except Exception:
            logger.exception("request %s failed", request_id)
            if is_started:
                raise
            await problem_response(internal(), request_id)(scope, receive, send_wrapped)

    def _is_allowed(self, headers: dict[bytes, bytes]) -> bool:
        """A browser names the page's origin; any other client sends none."""
        origin = headers.get(b"origin")
        if origin is None or origin.decode("latin-1") in self.allowed_origins:
            return True
        return origin.partition(b"://")[2] == headers.get(b"host")


def server_timing(seconds: dict[str, float]) -> str:
    """`queue;dur=0.1, compute;dur=2.5` [ms]."""
    return ", ".join([f"{name};dur={1e3 * value:.3f}" for name, value in seconds.items()])


def log_config(level: str) -> dict[str, Any]:
    """Logging of the server processes: one line an event, to standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            name: {"handlers": ["stderr"], "level": level, "propagate": False}
            for name in ("hesse.service", "uvicorn.error")
        },
    }
