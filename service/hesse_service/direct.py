"""The short way from the server to an operation: past routing, dependencies and layers that it does not use.

Measured: a call by id spends 70 us there, and 45 us in everything else of the application.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from hesse_engine.errors import HesseError
from hesse_service.bodies import Disconnected


class Direct:
    """Hands POST requests at the paths of `routes` to their endpoints, and all others to the application.

    The endpoint and the handlers of its errors are those of the application: only how one gets there differs.
    """

    def __init__(self, app: ASGIApp, routes: dict[str, APIRoute]) -> None:
        self.app, self.routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self.routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"], scope["endpoint"] = route, route.endpoint
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except (HesseError, Disconnected) as error:
            kind = HesseError if isinstance(error, HesseError) else Disconnected
            response = await request.app.exception_handlers[kind](request, error)
        await response(scope, receive, send)


def install(app: FastAPI, tag: str) -> None:
    """Go the short way to every POST route with `tag`; its endpoint takes the request alone."""
    tagged = [r for r in app.routes if isinstance(r, APIRoute) and tag in r.tags]
    routes = {r.path: r for r in tagged if r.methods and "POST" in r.methods}
    app.add_middleware(Direct, routes=routes)
