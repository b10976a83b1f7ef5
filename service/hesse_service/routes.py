"""The routes. One for each operation of the derivatives table, so that a new row there is a new route here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from starlette.responses import PlainTextResponse, Response

from hesse_engine import derivatives
from hesse_engine.derivatives import DERIVATIVES, Derivative
from hesse_engine.ir import rows
from hesse_engine.ir.wire import FORMAT
from hesse_service import codec, examples, job_routes, listing, schemas
from hesse_service.exchange import JSON
from hesse_service.openapi import CALL_ERRORS, KEYED, answers, body, by_job
from hesse_service.problems import declared
from hesse_service.responses import of_document
from hesse_service.security import owner_of
from hesse_service.service import Service

OPERATIONS = "operations"  # the tag of what computes
FunctionId = Annotated[
    str, Path(alias="id", description="The function's id.", json_schema_extra={"pattern": schemas.ID})
]


def install(app: FastAPI) -> None:
    for row in DERIVATIVES.values():
        _add_operation(app, row)
    _add_functions(app)
    _add_list(app)
    job_routes.install(app)
    _add_about(app)
    _add_health(app)
    _add_metrics(app)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _add_operation(app: FastAPI, row: Derivative) -> None:
    async def call(request: Request) -> Response:
        return await _service(request).answer("call", row.name, request)

    accepted, parameters = by_job()
    spoken = body(schemas.CallRequest, examples.OPERATIONS[row.name], is_call=True)
    app.add_api_route(
        f"/v1/{row.name}",
        call,
        methods=["POST"],
        operation_id=row.name,
        name=row.name,
        summary=row.summary,
        description=f"{row.summary} Law: {row.law}.",
        tags=[OPERATIONS],
        response_model=None,
        responses={**answers(schemas.CallAnswer, *CALL_ERRORS, 410), **accepted},
        openapi_extra={**spoken, "parameters": [*spoken["parameters"], *parameters]},
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
        service = _service(request)
        document = await service.document(name, owner_of(request))
        return await of_document(request, document, service.settings.compress_bytes)

    async def delete(request: Request, name: FunctionId) -> Response:
        """Forget a registered function."""
        await _service(request).delete(name, owner_of(request))
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
        responses=answers(schemas.FunctionDocument, *KEYED, 404, 406),
    )
    app.add_api_route(
        "/v1/functions/{id}",
        delete,
        methods=["DELETE"],
        operation_id="delete",
        status_code=204,
        summary="Delete a registered function.",
        **shared,
        response_description="The function is forgotten.",
        responses=declared(*KEYED, 404),
    )


def _add_list(app: FastAPI) -> None:
    async def functions(request: Request) -> Response:
        """The registered functions, oldest first. The next page is at the path `next`; the last page has none."""
        limit, place = listing.asked(request.query_params, len(request.query_params.multi_items()))
        page, following = await _service(request).functions(limit, place, owner_of(request))
        headers = None if following is None else {"Link": f'<{following}>; rel="next"'}
        return Response(page, headers=headers, media_type=JSON)

    count = {"type": "integer", "minimum": 1, "maximum": listing.MOST, "default": listing.USUAL}
    app.add_api_route(
        "/v1/functions",
        functions,
        methods=["GET"],
        operation_id="functions",
        summary="List the registered functions.",
        tags=["functions"],
        response_model=None,
        responses=answers(schemas.FunctionList, *KEYED, 422),
        openapi_extra={"parameters": [
            {"name": "limit", "in": "query", "schema": count, "description": "Functions of a page."},
            {"name": "after", "in": "query", "schema": {"type": "string", "pattern": schemas.CURSOR},
             "description": "Where the page starts: as the link next of the page before has it."},
        ]},
    )


def _add_about(app: FastAPI) -> None:
    async def ops(request: Request) -> Response:
        """The ops that a graph may use, the operations offered, and this server's limits."""
        settings = _service(request).settings
        limits = settings.model_dump(include=set(PUBLIC_LIMITS))
        about = {"format": FORMAT, "ops": rows.describe(), "operations": derivatives.describe(), "limits": limits}
        return await of_document(request, codec.encode(about), settings.compress_bytes)

    app.add_api_route(
        "/v1/ops",
        ops,
        methods=["GET"],
        operation_id="ops",
        summary="List ops, operations and limits.",
        tags=["about"],
        response_model=None,
        responses=answers(schemas.OpsAnswer, *KEYED, 406),
    )


PUBLIC_LIMITS = (
    "max_body_bytes",
    "max_inflated_bytes",
    "max_nodes",
    "max_rank",
    "max_elements",
    "max_memory_bytes",
    "max_flops",
    "max_result_bytes",
    "max_threads",
    "deadline_s",
)


def _add_health(app: FastAPI) -> None:
    async def livez() -> Response:
        """Whether the process answers."""
        return Response(b'{"status":"ok"}', media_type=JSON)

    async def readyz(request: Request) -> Response:
        """Whether to send requests here: the VM is loaded, the store can be read, and the server is not ending."""
        await _service(request).check_ready()
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


def _add_metrics(app: FastAPI) -> None:
    async def metrics(request: Request) -> Response:
        """Metrics of all server processes, in the format that Prometheus reads."""
        _service(request).guard_metrics(request)
        text, media_type = await request.app.state.metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": media_type})

    app.add_api_route(
        "/metrics",
        metrics,
        methods=["GET"],
        operation_id="metrics",
        summary="Metrics.",
        tags=["about"],
        response_model=None,
        response_class=PlainTextResponse,
        response_description="Metrics.",
        responses=declared(*KEYED),
    )
