"""What is said to the service and what its answers mean. Pure: no input or output happens here.

A conversation is a generator: it yields a `Request` to be sent or a `Pause` to be slept, receives the `Reply` (or the
`TransportError` that came in its place), and returns the user's value. Clients, sync or async, only perform its steps,
so retries, registration by id and decoding are written once.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Mapping, MutableSet
from dataclasses import dataclass, fields
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np

from hesse.errors import TransportError
from hesse.plans import Plan
from hesse.slow import watched
from hesse_engine.errors import HesseError, StateError, rebuild
from hesse_engine.ir.graph import Array, Graph
from hesse_engine.ir.tensor import decode_tensor, encode_tensor
from hesse_engine.ir.wire import graph_to_json
from hesse_engine.options import Options
from hesse_engine.result import Result, SparseMatrix

PAIRS = ("jvp", "vjp", "hvp", "vhp")
TRIPLES = ("value_grad_hessian",)
FLAGS = {"batch": "batched", "tangents": "many"}  # options that the service counts in the tensors
MAX_RETRY_AFTER_S = 60.0
Finish = Callable[[Result], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One computation: what is asked, and how its result becomes the user's value.

    `id` is set for a function that is sent once and then called by its id.
    """

    operation: str
    graph: Graph
    inputs: tuple[Array, ...]
    v: tuple[Array, ...] | None
    options: Options
    finish: Finish
    id: str | None = None
    weights: tuple[Array, ...] | None = None
    out: Any = None  # where an embedded client writes the result; others leave it to `finish`


@dataclass(frozen=True, slots=True)
class Calls:
    """Several computations whose results are combined; only an embedded client is given these."""

    calls: tuple[Call, ...]
    finish: Callable[[list[Result]], Any]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = Request | Pause
Steps = Generator[Step, Reply | TransportError | None, Any]


# ---- requests --------------------------------------------------------------------------------------------------------
def options_to_json(options: Options) -> dict[str, Any]:
    """The options that differ from their defaults."""
    found: dict[str, Any] = {}
    for field in fields(Options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        name = FLAGS.get(field.name)
        if name is not None:
            found[name] = True
        else:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def _dumps(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def call_request(call: Call) -> Request:
    """`POST /v1/{operation}`."""
    body: dict[str, Any] = {
        "function": {"graph": graph_to_json(call.graph)} if call.id is None else {"id": call.id},
        "inputs": [encode_tensor(a) for a in call.inputs],
        "options": options_to_json(call.options),
    }
    if call.v is not None:
        body["v"] = [encode_tensor(a) for a in call.v]
    if call.weights is not None:
        body["weights"] = [encode_tensor(a) for a in call.weights]
    return Request("POST", f"/v1/{call.operation}", _dumps(body))


def register_request(graph: Graph) -> Request:
    """`PUT /v1/functions`."""
    signature = [{"name": n.attrs["name"], "shape": list(n.shape), "dtype": str(n.dtype)} for n in graph.inputs]
    return Request("PUT", "/v1/functions", _dumps({"function": {"graph": graph_to_json(graph)}, "inputs": signature}))


def plan_request(call: Call) -> Request:
    """`POST /v1/plan`."""
    lead = [] if call.options.batch is None else [call.options.batch]
    return Request("POST", "/v1/plan", _dumps({
        "operation": call.operation,
        "function": {"graph": graph_to_json(call.graph)},
        "inputs": [{"name": n.attrs["name"], "shape": [*lead, *n.shape], "dtype": str(n.dtype)}
                   for n in call.graph.inputs],
        "options": options_to_json(call.options),
    }))


# ---- answers ---------------------------------------------------------------------------------------------------------
def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def decode_result(reply: Reply, operation: str) -> Result:
    """The result that a successful answer carries.

    Raises:
        TransportError: `bad-answer`, where what answered is not the service.
    """
    body = _json(reply)
    try:
        result, aux = body["result"], [decode_tensor(t) for t in body.get("aux") or []]
        report = _verification(body.get("verification"))
        if operation in PAIRS:
            product, output = _nested(result["product"]), _nested(result["output"])
            return Result(product, output, aux, body["stats"], verification=report)
        if operation in TRIPLES:
            value, slope = _nested(result["value"]), _nested(result["gradient"])
            return Result(_nested(result["hessian"]), value, aux, body["stats"], slope, report)
        return Result(_nested(result), None, aux, body["stats"], verification=report)
    except (KeyError, TypeError, AttributeError, HesseError):
        raise _bad_answer(reply) from None


def _verification(report: Any) -> dict[str, Any] | None:
    """With non-finite numbers, which travel by name, as numbers."""
    return None if report is None else {k: float(v) if isinstance(v, str) else v for k, v in report.items()}


def _nested(value: Any) -> Any:
    if isinstance(value, list):
        return [_nested(v) for v in value]
    return _sparse(value) if "layout" in value else decode_tensor(value)


def _sparse(value: Any) -> SparseMatrix:
    rows, columns = value["shape"]
    numbers = {name: np.array(value[name], np.int32) for name in ("indptr", "rows", "indices") if name in value}
    data = decode_tensor({"shape": [len(value["data"])], "dtype": value["dtype"], "data": value["data"]})
    return SparseMatrix(value["layout"], (rows, columns), data, **numbers)


def _bad_answer(reply: Reply) -> TransportError:
    return TransportError("bad-answer", f"The server answered {reply.status} with a body that Hesse does not send.",
                          hint="Is the base URL that of a Hesse service?")


def failure(reply: Reply) -> HesseError | None:
    """The exception that an answer stands for: the same class, code and text as embedded. None for a success."""
    if reply.status < 400:
        return None
    body = _json(reply)
    error: HesseError
    if isinstance(body, dict) and isinstance(body.get("code"), str):
        more = [body.get(name) for name in ("hint", "pointer", "node")]
        error = rebuild(body["code"], str(body.get("detail", "")), *more)
    else:
        error = _bad_answer(reply)
    error.request_id = reply.headers.get("x-request-id") or (body.get("request_id") if isinstance(body, dict) else None)
    if error.request_id:
        error.add_note(f"request id: {error.request_id}")
    return error


# ---- conversations ---------------------------------------------------------------------------------------------------
def is_worth_retrying(status: int | None, error: HesseError) -> bool:
    """No connection, 408, 429 and 5xx are; an answer that came too late would come too late again."""
    if status is None:
        return error.code == "connection-failed"
    return status in (408, 429) or (status >= 500 and error.code != "deadline-exceeded")


def delay(attempt: int, headers: Mapping[str, str]) -> float:
    """Seconds to wait: what the server asks for if that is reasonable, else 0.5 * 2^attempt up to 8, less a jitter."""
    asked = _retry_after(headers)
    if asked is not None and 0 <= asked <= MAX_RETRY_AFTER_S:
        return asked
    return float(min(0.5 * 2.0**attempt, 8.0) * (1 - 0.25 * random.random()))  # noqa: S311 (no secret)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return None


def exchange(request: Request, retries: int) -> Generator[Step, Reply | TransportError | None, Reply]:
    """The successful reply to `request`, after at most `retries` repetitions."""
    attempt = 0
    while True:
        answer = yield request
        assert answer is not None
        if isinstance(answer, Reply):
            status, headers, error = answer.status, answer.headers, failure(answer)
            if error is None:
                return answer
        else:
            status, headers, error = None, {}, answer
        if attempt >= retries or not is_worth_retrying(status, error):
            raise error
        yield Pause(delay(attempt, headers))
        attempt += 1


def converse(call: Call, registered: MutableSet[str], retries: int) -> Steps:
    """One call. A function with an id is registered first where this client has not, or where the server forgot it."""
    if call.id is None:
        reply = yield from exchange(call_request(call), retries)
        return call.finish(watched(call, decode_result(reply, call.operation)))
    request = call_request(call)
    is_fresh = call.id not in registered
    if is_fresh:
        yield from exchange(register_request(call.graph), retries)
        registered.add(call.id)
    try:
        reply = yield from exchange(request, retries)
    except StateError as error:
        if error.code != "unknown-function" or is_fresh:
            raise
        yield from exchange(register_request(call.graph), retries)
        reply = yield from exchange(request, retries)
    return call.finish(watched(call, decode_result(reply, call.operation)))


def converse_plan(call: Call, retries: int) -> Steps:
    """The plan of one call."""
    reply = yield from exchange(plan_request(call), retries)
    body = _json(reply)
    if not isinstance(body, dict) or not isinstance(body.get("plan"), dict):
        raise _bad_answer(reply)
    return Plan(body["plan"], str(body.get("text", "")))
