"""Errors on the wire: RFC 9457 problem details with a stable `code`. The payload is never echoed.

{"type": "urn:hesse:problem:not-scalar", "title": "Not scalar", "status": 422, "detail": "...", "code": "not-scalar",
 "pointer": "/function", "hint": "...", "retryable": false, "request_id": "..."}
"""

from __future__ import annotations

import logging
import math
import re
from typing import Any

from fastapi import FastAPI, Request
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from hesse_engine.derivatives import DERIVATIVES
from hesse_engine.errors import CODES, HesseError, StateError
from hesse_service.evaluator import internal
from hesse_service.journal import Exchange, exchange_of, server_timing

logger = logging.getLogger("hesse.service")

MEDIA_TYPE = "application/problem+json"
LONGEST = 800  # characters of a detail or a hint
RETRY_AFTER_S = {
    "busy": 1, "not-ready": 1, "draining": 1, "worker-died": 1, "store-unavailable": 5, "shared-memory-full": 1,
    "job-not-finished": 1, "idempotency-running": 1, "too-many-jobs": 10,
    "over-quota": 60,  # of a job, which was refused some time ago
}


def problem(error: HesseError, request_id: str) -> dict[str, Any]:
    """The members of the problem; those without a value are left out."""
    members = {
        "type": f"urn:hesse:problem:{error.code}",
        "title": error.code.replace("-", " ").capitalize(),
        "status": error.status,
        "detail": _bounded(error.message),
        "code": error.code,
        "pointer": error.pointer,
        "node": error.node,
        "hint": None if error.hint is None else _bounded(error.hint),
        "retryable": error.is_retryable,
        "request_id": request_id,
    }
    return {k: v for k, v in members.items() if v is not None}


def _bounded(text: str) -> str:
    """A message may name what is wrong, an unknown name say, but not carry the payload."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def problem_response(error: HesseError, exchange: Exchange, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that failed, noted in its record."""
    exchange.code = error.code
    headers = dict(headers or {})
    wait_s = RETRY_AFTER_S.get(error.code) if error.retry_after_s is None else error.retry_after_s
    if wait_s is not None and wait_s < math.inf:
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if exchange.seconds is not None:
        headers["Server-Timing"] = server_timing({**exchange.seconds, "total": exchange.elapsed()})
    return Response(to_json(problem(error, exchange.request_id)), error.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HesseError)
        return problem_response(error, exchange_of(request.scope))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = _routing_error(request, error.status_code)
        headers = {"Allow": ", ".join(_allowed(app, request))} if found.status == 405 else None
        return problem_response(found, exchange_of(request.scope), headers)

    app.add_exception_handler(HesseError, on_error)
    app.add_exception_handler(HTTPException, on_http)


def _routing_error(request: Request, status: int) -> HesseError:
    if status == 405:
        return StateError("method-not-allowed", "This path does not answer the request's method; see the header Allow.")
    if status != 404:
        logger.error("unexpected HTTP exception %d", status)
        return internal()
    if request.method == "POST" and re.fullmatch(r"/v1/[^/]+", request.scope["path"]):
        return StateError("unknown-operation", f"The operations are {', '.join(DERIVATIVES)}.")
    return StateError("not-found", "There is nothing at this path; /openapi.json describes what there is.")


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """Methods of all routes at the request's path."""
    methods: set[str] = set()
    for route in app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ())
    return sorted(methods)


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of these error statuses, each with the codes that it may carry."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted(statuses):
        codes = sorted([c for c in CODES if StateError(c, "").status == status])
        responses[status] = {
            "description": f"Problem, with one of the codes: {', '.join(codes)}.",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return responses
