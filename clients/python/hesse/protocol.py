"""What is said to the service and what its answers mean. Pure: no input or output happens here.

A conversation is a generator: it yields a `Request` to be sent or a `Pause` to be slept, receives the `Reply` (or the
`TransportError` that came in its place), and returns the user's value. Clients, sync or async, only perform its steps,
so retries, registration by id and decoding are written once.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import random
import time
from collections.abc import Callable, Generator, Mapping, MutableSet
from dataclasses import dataclass, field, fields, replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import numpy as np

from hesse.errors import TransportError
from hesse.plans import Plan
from hesse.slow import watched
from hesse_engine.errors import HesseError, InputError, StateError, rebuild
from hesse_engine.ir import frames
from hesse_engine.ir.graph import Array, Graph
from hesse_engine.ir.tensor import decode_tensor, encode_tensor
from hesse_engine.ir.wire import graph_to_json
from hesse_engine.options import Options
from hesse_engine.result import Result, SparseMatrix

PAIRS = ("jvp", "vjp", "hvp", "vhp")
TRIPLES = ("value_grad_hessian",)
FLAGS = {"batch": "batched", "tangents": "many"}  # options that the service counts in the tensors
MAX_RETRY_AFTER_S = 60.0
JSON, PROBLEM = "application/json", "application/problem+json"
KEY_IS = "A client takes the key as Client(api_key=...), or from HESSE_API_KEY."
BINARY_BYTES = 256  # of tensors, from which on a frame is written in less time than JSON
COMPRESS_BYTES = 1024  # of a body that is worth compressing
Finish = Callable[[Result], Any]
T = TypeVar("T")


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
class Wire:
    """How bodies are written.

    Attributes:
        binary: tensors as frames always, never, or where that is cheaper.
        compression: content coding of bodies that are large enough for one; answers then come in gzip.
    """

    binary: bool | None = None
    compression: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What is taken back."""
        return {"Accept": JSON if self.binary is False else f"{frames.MEDIA_TYPE}, {JSON};q=0.9",
                "Accept-Encoding": "identity" if self.compression is None else "gzip"}  # HTTP libraries all read gzip


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be sent; `headers` say how its body is written."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


AS_CHEAPER = Wire()
Step = Request | Pause
Steps = Generator[Step, Reply | TransportError | None, Any]


# ---- requests --------------------------------------------------------------------------------------------------------
def options_to_json(options: Options) -> dict[str, Any]:
    """The options that differ from their defaults."""
    found: dict[str, Any] = {}
    for option in fields(Options):
        value = getattr(options, option.name)
        if value == option.default:
            continue
        name = FLAGS.get(option.name)
        if name is not None:
            found[name] = True
        else:
            found[option.name] = list(value) if isinstance(value, tuple) else value
    return found


def _request(method: str, path: str, body: Mapping[str, Any], wire: Wire) -> Request:
    """A request whose body, with arrays in the place of its tensors, is written as `wire` says."""
    tensors: list[memoryview] = []
    described = None if wire.binary is False else frames.detach(body, tensors)
    if wire.binary or sum([len(t) for t in tensors]) >= BINARY_BYTES:
        header = frames.padded(_dumps(described))
        headers = {"Content-Type": frames.MEDIA_TYPE, frames.LENGTH: str(len(header))}
        content = b"".join([header, *tensors])
    else:
        headers, content = {"Content-Type": JSON}, _dumps(body)
    if wire.compression is not None and len(content) >= COMPRESS_BYTES:
        headers["Content-Encoding"] = wire.compression
        content = _compressed(content, wire.compression)
    return Request(method, path, content, headers)


def _dumps(body: Any) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":"), default=encode_tensor).encode()


def _compressed(content: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(content, 1)
    import zstandard

    return zstandard.ZstdCompressor(1).compress(content)


def check_compression(coding: str | None) -> None:
    """Raise where this client cannot write `coding`.

    Raises:
        InputError: `bad-option`.
    """
    if coding not in (None, "gzip", "zstd"):
        raise InputError("bad-option", f"compression is None, 'gzip' or 'zstd'; got {coding!r:.80}.")
    if coding == "zstd" and importlib.util.find_spec("zstandard") is None:
        raise InputError("bad-option", "compression='zstd' needs the package zstandard.", hint="gzip needs none.")


def _graph(graph: Graph) -> dict[str, Any]:
    """A graph with arrays for constants."""
    return graph_to_json(graph, encode=lambda array: array)


def call_request(call: Call, wire: Wire = AS_CHEAPER, is_streamed: bool = False) -> Request:
    """`POST /v1/{operation}`; of a stream, whose answer is one frame, whatever `wire` says of answers."""
    body: dict[str, Any] = {
        "function": {"graph": _graph(call.graph)} if call.id is None else {"id": call.id},
        "inputs": list(call.inputs),
        "options": {**options_to_json(call.options), **({"stream": True} if is_streamed else {})},
    }
    if call.v is not None:
        body["v"] = list(call.v)
    if call.weights is not None:
        body["weights"] = list(call.weights)
    request = _request("POST", f"/v1/{call.operation}", body, wire)
    if not is_streamed:
        return request
    taken = {"Accept": f"{frames.MEDIA_TYPE}, {PROBLEM}", "Accept-Encoding": "identity"}
    return replace(request, headers={**request.headers, **taken})


def register_request(graph: Graph, wire: Wire = AS_CHEAPER) -> Request:
    """`PUT /v1/functions`."""
    signature = [{"name": n.attrs["name"], "shape": list(n.shape), "dtype": str(n.dtype)} for n in graph.inputs]
    return _request("PUT", "/v1/functions", {"function": {"graph": _graph(graph)}, "inputs": signature}, wire)


def plan_request(call: Call, wire: Wire = AS_CHEAPER) -> Request:
    """`POST /v1/plan`."""
    lead = [] if call.options.batch is None else [call.options.batch]
    return _request("POST", "/v1/plan", {
        "operation": call.operation,
        "function": {"graph": _graph(call.graph)},
        "inputs": [{"name": n.attrs["name"], "shape": [*lead, *n.shape], "dtype": str(n.dtype)}
                   for n in call.graph.inputs],
        "options": options_to_json(call.options),
    }, wire)


# ---- answers ---------------------------------------------------------------------------------------------------------
def _json(reply: Reply) -> Any:
    """The value of a body: as of JSON, with arrays in the place of tensors that came as bytes."""
    try:
        if reply.headers.get("content-type") != frames.MEDIA_TYPE:
            return json.loads(reply.body)
        header, tensors = frames.split(memoryview(reply.body), reply.headers.get(frames.LENGTH.lower()))
        return frames.attach(json.loads(header), tensors)
    except (ValueError, RecursionError, MemoryError):
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
    return _sparse(value) if isinstance(value, dict) and "layout" in value else decode_tensor(value)


def _sparse(value: Any) -> SparseMatrix:
    rows, columns = value["shape"]
    numbers = {name: np.array(value[name], np.int32) for name in ("indptr", "rows", "indices") if name in value}
    data = value["data"]
    if isinstance(data, list):
        data = {"shape": [len(data)], "dtype": value["dtype"], "data": data}
    data = decode_tensor(data)
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
        if reply.status == 401:
            more[0] = f"{more[0] or ''} {KEY_IS}".strip()
        error = rebuild(body["code"], str(body.get("detail", "")), *more)
    else:
        error = _bad_answer(reply)
    if reply.status == 429:
        is_final = isinstance(body, dict) and body.get("retryable") is False
        error.retry_after_s = math.inf if is_final else _retry_after(reply.headers)
    error.request_id = reply.headers.get("x-request-id") or (body.get("request_id") if isinstance(body, dict) else None)
    if error.request_id:
        error.add_note(f"request id: {error.request_id}")
    return error


# ---- conversations ---------------------------------------------------------------------------------------------------
def is_worth_retrying(status: int | None, error: HesseError) -> bool:
    """No connection, 408, 429 and 5xx but 501 are; an answer that came too late would come too late again.

    A quota that is back only after MAX_RETRY_AFTER_S, or never, is not waited for.
    """
    if status is None:
        return error.code == "connection-failed"
    if status == 429 and (error.retry_after_s or 0.0) > MAX_RETRY_AFTER_S:
        return False
    if error.code == "idempotency-running":
        return True
    return status in (408, 429) or (status >= 500 and status != 501 and error.code != "deadline-exceeded")


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


def converse(call: Call, registered: MutableSet[str], retries: int, wire: Wire = AS_CHEAPER) -> Steps:
    """One call. A function with an id is registered first where this client has not, or where the server forgot it."""
    if call.id is None:
        reply = yield from exchange(call_request(call, wire), retries)
        return call.finish(watched(call, decode_result(reply, call.operation)))
    request = call_request(call, wire)
    is_fresh = call.id not in registered
    if is_fresh:
        yield from exchange(register_request(call.graph, wire), retries)
        registered.add(call.id)
    try:
        reply = yield from exchange(request, retries)
    except StateError as error:
        if error.code != "unknown-function" or is_fresh:
            raise
        yield from exchange(register_request(call.graph, wire), retries)
        reply = yield from exchange(request, retries)
    return call.finish(watched(call, decode_result(reply, call.operation)))


def converse_plan(call: Call, retries: int, wire: Wire = AS_CHEAPER) -> Steps:
    """The plan of one call."""
    reply = yield from exchange(plan_request(call, wire), retries)
    body = _json(reply)
    if not isinstance(body, dict) or not isinstance(body.get("plan"), dict):
        raise _bad_answer(reply)
    return Plan(body["plan"], str(body.get("text", "")))


def read(reply: Reply, build: Callable[[Any], T]) -> T:
    """What `build` makes of an answer's JSON.

    Raises:
        TransportError: `bad-answer`, where it is not what the service sends.
    """
    try:
        return build(_json(reply))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _bad_answer(reply) from None
