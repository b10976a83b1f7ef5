"""The ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI, Request
from starlette.responses import Response

from hesse_service import openapi, problems, routes
from hesse_service.bodies import Disconnected
from hesse_service.security import Gate
from hesse_service.service import Service
from hesse_service.settings import Settings
from hesse_service.telemetry import Envelope


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; its processes start and end with its lifespan."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(chosen)
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="Hesse",
        version=_version(),
        summary="Hessians and their relatives, over HTTP.",
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    routes.install(app)
    problems.install(app)
    openapi.install(app)
    app.add_exception_handler(Disconnected, _on_disconnect)
    if chosen.keys_file is not None:
        app.add_middleware(Gate, settings=chosen)
    app.add_middleware(Envelope, allowed_origins=chosen.allowed_origins)
    return app


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


def _version() -> str:
    try:
        return version("hesse")
    except PackageNotFoundError:
        return "0"
