"""The ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI, Request
from fastapi.telemetry import TelemetryConfig
from starlette.responses import Response

from hesse_service import direct, logs, metrics, openapi, problems, routes, tracing
from hesse_service.bodies import Disconnected
from hesse_service.journal import Journal, exchange_of
from hesse_service.lifecycle import Lifecycle
from hesse_service.security import Gate
from hesse_service.service import Service
from hesse_service.settings import Settings
from hesse_service.telemetry import Envelope

# of FastAPI's own, which would export paths and messages of exceptions, with ids and payload in them
UNUSED: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False,
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; its processes start and end with its lifespan."""
    chosen = settings or Settings()
    journal, lifecycle, tracer = Journal(), Lifecycle(), tracing.tracer()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(chosen, lifecycle)
        app.state.metrics = metrics.Sampler(service, journal, app.version)
        journal.samplers = [app.state.metrics]
        journal.sinks = [metrics.fold, partial(logs.access, chosen.access_log)]
        if tracer is not None:
            journal.sinks.append(tracer.end)
        await service.start()
        keeping = asyncio.create_task(journal.keep())
        try:
            with lifecycle.listening(chosen.drain_notice_s, service.drain, service.abandon):
                yield
        finally:
            await lifecycle.drained()
            await service.close()
            keeping.cancel()
            await keeping
            metrics.close()
            if tracer is not None:
                await asyncio.to_thread(tracer.close)

    app = FastAPI(
        title="Hesse",
        version=_version(),
        summary="Hessians and their relatives, over HTTP.",
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry=UNUSED,
    )
    routes.install(app)
    problems.install(app)
    openapi.install(app)
    app.add_exception_handler(Disconnected, _on_disconnect)
    direct.install(app, tag=routes.OPERATIONS)
    if chosen.keys_file is not None:
        app.add_middleware(Gate, settings=chosen)
    app.add_middleware(
        Envelope, allowed_origins=chosen.allowed_origins, journal=journal, lifecycle=lifecycle, tracer=tracer
    )
    return app


async def _on_disconnect(request: Request, error: Exception) -> Response:
    exchange_of(request.scope).code = "disconnected"
    return Response(status_code=499)  # nobody reads it


def _version() -> str:
    try:
        return version("hesse")
    except PackageNotFoundError:
        return "0"
