"""The OpenAPI document: what FastAPI derives from the routes, with the component schemas of `schemas.py`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hesse_engine.ir import frames
from hesse_service import schemas
from hesse_service.exchange import FRAME, JSON, NPY, NPZ
from hesse_service.problems import declared

DESCRIPTION = """\
Exact derivatives of functions that travel with the request: values, gradients, Jacobians, Hessians and their products
with vectors, with the conventions of `torch.autograd.functional` and `torch.func`.

**Functions** are sent as a formula (`{"expression": "sum(x**3)", "inputs": ["x"]}`), as a graph
(`{"graph": {"format": "hesse-graph/1", ...}}`, see `GET /v1/ops`), or by the id of a registered one
(`{"id": "..."}`, see `PUT /v1/functions`). Calls by id are the fastest.

**Tensors** are `{"shape", "dtype", "data"}` with data nested or flat in row-major order; answers send it flat. JSON
knows no NaN or infinity: these are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. Finite numbers keep every bit.
Large ones travel as bytes, in frames of the Open Inference Protocol's kind (`application/octet-stream`): JSON whose
tensors are `{"shape", "dtype", "parameters": {"binary_data_size"}}`, then their bytes, little-endian, in that order.
`Accept` chooses how the answer is written. `Content-Encoding` of a body may be gzip or zstd, as may that of answers.

**Errors** are RFC 9457 problems with a stable `code`, a JSON pointer or node at the fault, and a hint. Where
`retryable` is true the same request may succeed later.

**Limits** are listed by `GET /v1/ops`. `options.deadline_s` and `options.max_memory_bytes` lower them for one request.
"""

MODELS: tuple[type[BaseModel], ...] = (
    schemas.Tensor,
    schemas.GraphDocument,
    schemas.CallRequest,
    schemas.PlanRequest,
    schemas.FunctionRequest,
    schemas.CallAnswer,
    schemas.PlanAnswer,
    schemas.FunctionAnswer,
    schemas.FunctionDocument,
    schemas.FunctionList,
    schemas.JobDocument,
    schemas.JobsAnswer,
    schemas.OpsAnswer,
    schemas.Status,
    schemas.Problem,
)
TAGS = [
    {"name": "operations", "description": "Values and derivatives of a function at a point. Every call may become a "
                                          "job, by the header Prefer."},
    {"name": "functions", "description": "Functions kept by the service, which calls then name by their id."},
    {"name": "jobs", "description": "Calls that are computed while nobody waits, and whose answers are kept."},
    {"name": "about", "description": "What the service can do, and how it does."},
    {"name": "health", "description": "For load balancers and supervisors; no key is asked for."},
]
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the server asks for keys."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same in a header of its own."},
}
KEYED = (401, 403, 429, 500, 503)  # of every route but health
CALL_ERRORS = (*KEYED, 400, 404, 406, 408, 409, 413, 415, 422, 504)  # of what reads a body and computes
REF = "#/components/schemas/{model}"


BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def _text(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "required": False, "description": description, "schema": {"type": "string"}}


LENGTH = _text(frames.LENGTH, f"Of a frame ({FRAME}): the length of its JSON part [bytes].")
QUERY = (
    _text("function", "With an npy or npz body: the id of a registered function."),
    _text("expression", "With an npy or npz body: the function as a formula."),
    _text("inputs", "With an npy or npz body: names of the formula's inputs, separated by commas."),
    _text("options", "With an npy or npz body: the options, as a JSON object."),
)


def body(model: type[BaseModel], examples: dict[str, Any], is_call: bool = False) -> dict[str, Any]:
    """The `requestBody` of a route that reads its body itself, and what goes with it; of a call, arrays, too."""
    schema = {"$ref": REF.format(model=model.__name__)}
    content: dict[str, Any] = {JSON: {"schema": schema, "examples": examples}, FRAME: BINARY}
    parameters = [{**LENGTH, "in": "header"}]
    if is_call:
        content |= dict.fromkeys((NPY, NPZ), BINARY)
        parameters += [{**p, "in": "query"} for p in QUERY]
    return {"parameters": parameters, "requestBody": {"required": True, "content": content}}


def answers(model: type[BaseModel], *errors: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: an answer, of a call in any format, and problems."""
    content: dict[str, Any] = {JSON: {"schema": {"$ref": REF.format(model=model.__name__)}}}
    answer: dict[str, Any] = {"description": str(model.__doc__), "content": content}
    if model is schemas.CallAnswer:
        content |= dict.fromkeys((FRAME, NPY, NPZ), BINARY)
        answer["headers"] = {frames.LENGTH: {k: LENGTH[k] for k in ("description", "schema")}}
    return {200: answer, **declared(*errors)}


def by_job() -> tuple[dict[int | str, dict[str, Any]], list[dict[str, Any]]]:
    """The answer of a request that became a job, and the headers that make one."""
    schema = {"$ref": REF.format(model=schemas.JobDocument.__name__)}
    shown = {
        "Location": "The job's path.",
        "Retry-After": "When to ask again [s].",
        "Preference-Applied": "What of the header Prefer was followed.",
    }
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in shown.items()}
    content = {"application/json": {"schema": schema}}
    asked = {
        "Prefer": ("`respond-async`: answer 202 with a job at once; `wait=5`: after 5 s. RFC 7240.", "respond-async"),
        "Idempotency-Key": ("Makes a request for a job safe to repeat: the same key gives the same job.", '"a1b2c3"'),
    }
    parameters = [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"},
         "examples": {"first": {"value": value}}}
        for name, (text, value) in asked.items()
    ]
    return {202: {"description": "The job that will answer.", "headers": headers, "content": content}}, parameters


def install(app: FastAPI) -> None:
    """Serve the completed document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, definitions = models_json_schema([(m, "validation") for m in MODELS], ref_template=REF)
            made["components"] = {"schemas": dict(sorted(definitions["$defs"].items())), "securitySchemes": SCHEMES}
            made["security"] = [{}, *[{name: []} for name in SCHEMES]]  # a server without keys asks for none
            _drop_default_errors(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _drop_default_errors(document: dict[str, Any]) -> None:
    """FastAPI declares its own 422 body wherever a path has a parameter; no route here answers with it."""
    for path in document["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
