"""The routes. One for each operation of the derivatives table, so that a new row there is a new route here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from starlette.responses import Response

from hesse_engine import derivatives
from hesse_engine.derivatives import DERIVATIVES, Derivative
from hesse_engine.errors import StateError
from hesse_engine.ir import rows
from hesse_engine.ir.wire import FORMAT
from hesse_service import codec, examples, schemas
from hesse_service.exchange import JSON
from hesse_service.openapi import answers, body
from hesse_service.problems import declared
from hesse_service.service import Service

CALL_ERRORS = (400, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)
FunctionId = Annotated[
    str, Path(alias="id", description="The function's id.", json_schema_extra={"pattern": schemas.ID})
]


def install(app: FastAPI) -> None:
    for row in DERIVATIVES.values():
        _add_operation(app, row)
    _add_functions(app)
    _add_about(app)
    _add_health(app)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _add_operation(app: FastAPI, row: Derivative) -> None:
    async def call(request: Request) -> Response:
        return await _service(request).answer("call", row.name, request)

    app.add_api_route(
        f"/v1/{row.name}",
        call,
        methods=["POST"],
        operation_id=row.name,
        name=row.name,
        summary=row.summary,
        description=f"{row.summary} Law: {row.law}.",
        tags=["operations"],
        response_model=None,
        responses=answers(schemas.CallAnswer, *CALL_ERRORS),
        openapi_extra=body(schemas.CallRequest, examples.OPERATIONS[row.name]),
    )


def _add_functions(app: FastAPI) -> None:
    async def plan(request: Request) -> Response:
        """How an operation would be computed and what it would cost, without computing it."""
        return await _service(request).answer("plan", "", request)

    async def register(request: Request) -> Response:
        """Register a function. Its id is the SHA-256 of the canonical graph: the same function has the same id."""
        return await _service(request).answer("register", "", request)

    async def describe(request: Request, name: FunctionId) -> Response:
        """A registered function: inputs, outputs and graph."""
        return Response(await _service(request).document(name), media_type=JSON)

    async def delete(request: Request, name: FunctionId) -> Response:
        """Forget a registered function."""
        await _service(request).delete(name)
        return Response(status_code=204)

    shared: dict[str, Any] = {"tags": ["functions"], "response_model": None}
    app.add_api_route(
        "/v1/plan",
        plan,
        methods=["POST"],
        operation_id="plan",
        summary="Plan an operation.",
        **shared,
        responses=answers(schemas.PlanAnswer, *CALL_ERRORS),
        openapi_extra=body(schemas.PlanRequest, examples.PLANS),
    )
    app.add_api_route(
        "/v1/functions",
        register,
        methods=["PUT"],
        operation_id="register",
        summary="Register a function.",
        **shared,
        responses=answers(schemas.FunctionAnswer, *CALL_ERRORS),
        openapi_extra=body(schemas.FunctionRequest, examples.FUNCTIONS),
    )
    app.add_api_route(
        "/v1/functions/{id}",
        describe,
        methods=["GET"],
        operation_id="describe",
        summary="Describe a registered function.",
        **shared,
        responses=answers(schemas.FunctionDocument, 403, 404, 500, 503),
    )
    app.add_api_route(
        "/v1/functions/{id}",
        delete,
        methods=["DELETE"],
        operation_id="delete",
        status_code=204,
        summary="Delete a registered function.",
        **shared,
        responses=declared(403, 404, 500, 503),
    )


def _add_about(app: FastAPI) -> None:
    async def ops(request: Request) -> Response:
        """The ops that a graph may use, the operations offered, and this server's limits."""
        settings = _service(request).settings
        limits = settings.model_dump(include=set(PUBLIC_LIMITS))
        return Response(
            codec.encode(
                {"format": FORMAT, "ops": rows.describe(), "operations": derivatives.describe(), "limits": limits}
            ),
            media_type=JSON,
        )

    app.add_api_route(
        "/v1/ops",
        ops,
        methods=["GET"],
        operation_id="ops",
        summary="List ops, operations and limits.",
        tags=["about"],
        response_model=None,
        responses=answers(schemas.OpsAnswer, 403, 500),
    )


PUBLIC_LIMITS = (
    "max_body_bytes",
    "max_nodes",
    "max_rank",
    "max_elements",
    "max_memory_bytes",
    "max_threads",
    "deadline_s",
)


def _add_health(app: FastAPI) -> None:
    async def livez() -> Response:
        """Whether the process answers."""
        return Response(b'{"status":"ok"}', media_type=JSON)

    async def readyz(request: Request) -> Response:
        """Whether the server is warm and not draining. Requests are answered before, by the slower interpreter."""
        if not _service(request).is_ready:
            raise StateError("not-ready", "The server is warming up or draining.")
        return Response(b'{"status":"ok"}', media_type=JSON)

    for name, endpoint, summary, errors in (
        ("livez", livez, "Liveness.", (403, 500)),
        ("readyz", readyz, "Readiness.", (403, 500, 503)),
    ):
        app.add_api_route(
            f"/{name}",
            endpoint,
            methods=["GET"],
            operation_id=name,
            summary=summary,
            tags=["health"],
            response_model=None,
            responses=answers(schemas.Status, *errors),
        )
        app.add_api_route(f"/{name}", endpoint, methods=["HEAD"], include_in_schema=False, response_model=None)
