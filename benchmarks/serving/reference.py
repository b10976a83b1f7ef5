"""The least that the framework does: routes without work, under the same server and settings.

    POST /empty     reads and validates the same request model, and answers a constant
    POST /bytes/N   the same, and answers N bytes that are there already
"""

from __future__ import annotations

from functools import lru_cache

from fastapi import FastAPI
from starlette.responses import Response

from hesse_service.schemas import CallRequest

ANSWER = b'{"status":"ok"}'


@lru_cache(maxsize=4)
def _ready(count: int) -> bytes:
    return bytes(range(256)) * (count // 256) + bytes(count % 256)


def create_app() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/empty", response_model=None)
    async def empty(call: CallRequest) -> Response:
        return Response(ANSWER, media_type="application/json")

    @app.post("/bytes/{count}", response_model=None)
    async def ready(count: int, call: CallRequest) -> Response:
        return Response(_ready(count), media_type="application/octet-stream")

    return app
