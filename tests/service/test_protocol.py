"""What the service says beside numbers: routes, headers, registered functions, limits, the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from hesse_engine.derivatives import DERIVATIVES
from hesse_service import examples
from hesse_service.journal import Journal
from hesse_service.lifecycle import Lifecycle
from hesse_service.telemetry import Envelope
from serving import Server, call, register, tensor, wait_for

GOOD = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
JSON = {"content-type": "application/json"}


def problem(response: httpx2.Response, status: int, code: str) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    members = response.json()
    assert members["code"] == code
    return members


# ---- routes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/", 404, "not-found"),
    ("GET", "/v2", 404, "not-found"),
    ("POST", "/v1/hessian/", 404, "not-found"),
    ("POST", "/v1/inverse", 404, "unknown-operation"),
    ("GET", "/v1/../etc/passwd", 404, "not-found"),
    ("GET", "/v1/functions/..%2F..%2Fetc%2Fpasswd", 404, "not-found"),
    ("GET", f"/v1/functions/{'0' * 64}", 404, "unknown-function"),
    ("GET", "/v1/functions/short", 404, "unknown-function"),
    ("DELETE", f"/v1/functions/{'0' * 64}", 404, "unknown-function"),
    ("GET", "/docs", 404, "not-found"),
    ("GET", "/v1/hessian", 405, "method-not-allowed"),
    ("PUT", "/v1/hessian", 405, "method-not-allowed"),
    ("POST", "/livez", 405, "method-not-allowed"),
    ("POST", "/v1/functions", 405, "method-not-allowed"),
    ("OPTIONS", "/v1/hessian", 405, "method-not-allowed"),
    ("PATCH", f"/v1/functions/{'0' * 64}", 405, "method-not-allowed"),
])
def test_unknown_paths_and_methods(client: httpx2.Client, method: str, path: str, status: int, code: str) -> None:
    problem(client.request(method, path), status, code)


def test_allow_lists_every_method_of_the_path(client: httpx2.Client) -> None:
    response = client.post(f"/v1/functions/{'0' * 64}", json={})
    assert response.headers["allow"] == "DELETE, GET"
    assert client.get("/v1/hessian").headers["allow"] == "POST"


def test_health(warm_client: httpx2.Client) -> None:
    for path in ("/livez", "/readyz"):
        assert warm_client.get(path).json() == {"status": "ok"}
        assert warm_client.head(path).status_code == 200


# ---- bodies --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content_type", [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp",
    "application/json; charset=latin-1", "application/x-protobuf", "",
])
def test_content_type(client: httpx2.Client, content_type: str) -> None:
    response = client.post("/v1/hessian", content=json.dumps(GOOD), headers={"content-type": content_type})
    assert "application/json" in problem(response, 415, "unsupported-media-type")["hint"]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON", "application/json; charset=UTF-8"])
def test_accepted_content_types(client: httpx2.Client, content_type: str) -> None:
    response = client.post("/v1/hessian", content=json.dumps(GOOD), headers={"content-type": content_type})
    assert response.status_code == 200


def test_unknown_content_codings_are_refused(client: httpx2.Client) -> None:
    response = client.post("/v1/hessian", content=b"x", headers={**JSON, "content-encoding": "br"})
    problem(response, 415, "unsupported-media-type")


def read_answer(raw: socket.socket) -> bytes:
    """Head and JSON body."""
    found = b""
    while not found.endswith(b"}"):
        found += raw.recv(65536)
    return found


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(b"POST /v1/hessian HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 999999999999\r\n\r\n{")
        head = read_answer(raw)
    assert head.startswith(b"HTTP/1.1 413")
    assert b"body-too-large" in head


def test_a_chunked_body_is_counted(client: httpx2.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * (1 << 20)

    try:
        response = client.post("/v1/hessian", content=chunks(), headers=JSON)
    except httpx2.WriteError:  # the server closes without reading the rest
        return
    problem(response, 413, "body-too-large")


def test_a_chunked_body_is_read(client: httpx2.Client) -> None:
    text = json.dumps(GOOD).encode()
    response = client.post("/v1/hessian", content=iter([text[:9], text[9:]]), headers=JSON)
    assert response.status_code == 200


def test_a_body_that_does_not_come(server: Server) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(b"POST /v1/hessian HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 100\r\n\r\n{")
        head = read_answer(raw)
    assert head.startswith(b"HTTP/1.1 408")
    assert b"body-timeout" in head


# ---- headers -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("given", ["abc-123", "A.b_c", "x" * 64])
def test_a_request_id_is_kept(client: httpx2.Client, given: str) -> None:
    assert client.get("/nowhere", headers={"x-request-id": given}).json()["request_id"] == given


@pytest.mark.parametrize("given", ["x" * 65, "a b", "<script>", "a;b", "", "é".encode("latin-1")])
def test_a_strange_request_id_is_replaced(client: httpx2.Client, given: str | bytes) -> None:
    response = client.get("/livez", headers={"x-request-id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_every_answer_is_hardened(client: httpx2.Client) -> None:
    for response in (client.get("/livez"), client.get("/nowhere"), client.post("/v1/hessian", json=GOOD)):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "server" not in response.headers
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_web_pages_of_other_origins_are_refused(client: httpx2.Client, origin: str) -> None:
    problem(client.post("/v1/hessian", json=GOOD, headers={"origin": origin}), 403, "cross-origin")


def test_a_page_of_the_server_itself_may_call(client: httpx2.Client, server: Server) -> None:
    assert client.post("/v1/hessian", json=GOOD, headers={"origin": server.url}).status_code == 200


def test_server_timing(client: httpx2.Client) -> None:
    timing = client.post("/v1/hessian", json=GOOD).headers["server-timing"]
    parts = dict(part.split(";dur=") for part in timing.split(", "))
    assert list(parts) == ["queue", "decode", "plan", "compute", "encode", "total"]
    spent = {name: float(value) for name, value in parts.items()}
    assert all([value >= 0 for value in spent.values()])
    assert sum(spent.values()) - spent["total"] <= spent["total"] + 0.005  # each is rounded to 1 us


# ---- functions -----------------------------------------------------------------------------------------------------
def test_a_function_from_put_to_delete(client: httpx2.Client) -> None:
    body = {"function": {"expression": "sum(x**2 * 5)", "inputs": ["x"]}, "inputs": [{"name": "x", "shape": [2]}]}
    answer = client.put("/v1/functions", json=body).json()
    assert answer["inputs"] == [{"name": "x", "shape": [2], "dtype": "float64"}]
    assert answer["outputs"] == [{"shape": [], "dtype": "float64"}]
    name = answer["id"]
    assert client.put("/v1/functions", json=body).json() == answer
    document = client.get(f"/v1/functions/{name}").json()
    assert {k: document[k] for k in answer} == answer
    assert client.put("/v1/functions", json={"function": document["function"]}).json() == answer
    by_id = {"function": {"id": name}, "inputs": [[1.0, 2.0]]}
    assert call(client, "hessian", **by_id)["result"]["data"] == [10.0, 0.0, 0.0, 10.0]
    assert client.delete(f"/v1/functions/{name}").status_code == 204
    problem(client.delete(f"/v1/functions/{name}"), 404, "unknown-function")
    problem(client.post("/v1/hessian", json=by_id), 404, "unknown-function")


def test_ids_tell_functions_apart(client: httpx2.Client) -> None:
    signature = [{"name": "x", "shape": [2]}]
    same = {register(client, function={"expression": e, "inputs": ["x"]}, inputs=signature)
            for e in ("sum(x**2)", "sum( x ** 2 )", "(sum(x**2))")}
    assert len(same) == 1
    other = register(client, function={"expression": "sum(x**2)", "inputs": ["x"]},
                     inputs=[{"name": "x", "shape": [3]}])
    assert other not in same


def test_guards_are_asked_on_every_call(client: httpx2.Client) -> None:
    graph = {
        "format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [1], "dtype": "float64"}],
        "nodes": [{"id": "y", "op": "sum", "args": ["x"]}, {"id": "c", "op": "greater", "args": ["y", 0.0]}],
        "outputs": ["y"], "guards": [{"node": "c", "value": True}],
    }
    name = register(client, function={"graph": graph})
    assert call(client, "value", function={"id": name}, inputs=[[3.0]])["result"]["data"] == [3.0]
    response = client.post("/v1/value", json={"function": {"id": name}, "inputs": [[-3.0]]})
    assert problem(response, 409, "graph-point-specific")["pointer"] == "/inputs"


def test_tiny_calls_by_id_move_to_the_event_loop(warm_client: httpx2.Client) -> None:
    """A hop to a process takes time in the queue, by Server-Timing; a call that ran here never was in it."""
    name = register(warm_client, function={"expression": "sum(x**2 * 7)", "inputs": ["x"]},
                    inputs=[{"name": "x", "shape": [2]}])
    hops, answers = [], []
    for k in range(200):
        body = {"function": {"id": name}, "inputs": [[1.0, float(k)]]}
        response = warm_client.post("/v1/hessian", json=body)
        hops.append("queue;dur=0.000," not in response.headers["server-timing"])
        answers.append(response.json()["result"])
    assert hops[0]
    assert not all(hops)
    assert all([a == {"shape": [2, 2], "dtype": "float64", "data": [14.0, 0.0, 0.0, 14.0]} for a in answers])
    bad = warm_client.post("/v1/hessian", json={"function": {"id": name}, "inputs": [[1.0]]})
    assert problem(bad, 422, "wrong-inputs")["pointer"] == "/inputs/0"
    assert warm_client.delete(f"/v1/functions/{name}").status_code == 204
    gone = warm_client.post("/v1/hessian", json={"function": {"id": name}, "inputs": [[1.0, 2.0]]})
    problem(gone, 404, "unknown-function")


# ---- documents -----------------------------------------------------------------------------------------------------
def test_plan(client: httpx2.Client) -> None:
    answer = client.post("/v1/plan", json=examples.PLANS["hessian"]["value"]).json()
    assert answer["plan"]["operation"] == "hessian"
    assert answer["plan"]["result_bytes"] == 8 * 1000**2
    assert answer["text"].startswith("hessian by ")
    name = register(client, function={"expression": "sum(x**2)"}, inputs=[{"name": "x", "shape": [4]}])
    by_id = client.post("/v1/plan", json={"operation": "hvp", "function": {"id": name}}).json()
    assert by_id["plan"]["operation"] == "hvp"


def test_ops(client: httpx2.Client) -> None:
    answer = client.get("/v1/ops").json()
    assert answer["format"] == "hesse-graph/1"
    assert {"matmul", "sin", "where"} <= {op["name"] for op in answer["ops"]}
    assert [o["name"] for o in answer["operations"]] == list(DERIVATIVES)
    assert answer["limits"]["max_body_bytes"] == 8 << 20


EXAMPLES = [(op, name, e["value"]) for op, named in examples.OPERATIONS.items() for name, e in named.items()]


@pytest.mark.parametrize(("operation", "value"), [(o, v) for o, _, v in EXAMPLES],
                         ids=[f"{o}-{n}" for o, n, _ in EXAMPLES])
def test_examples_work(client: httpx2.Client, operation: str, value: Any) -> None:
    assert "result" in call(client, operation, **value)


@pytest.mark.parametrize("name", examples.FUNCTIONS)
def test_examples_of_functions_work(client: httpx2.Client, name: str) -> None:
    assert re.fullmatch("[0-9a-f]{64}", register(client, **examples.FUNCTIONS[name]["value"]))


def test_the_example_of_the_readme(client: httpx2.Client) -> None:
    value = examples.OPERATIONS["hessian"]["infinite"]["value"]
    result = call(client, "hessian", **value)["result"]
    assert tensor(result).diagonal().tolist() == [6.0, 12.0, float("inf")]


def test_openapi(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    operations = {o["operationId"]: o for path in document["paths"].values() for o in path.values()}
    others = {
        "plan", "register", "describe", "delete", "functions", "ops", "livez", "readyz", "metrics",
        "job", "list_jobs", "delete_job", "job_result", "job_events",
    }
    assert set(DERIVATIVES) | others == set(operations)
    for name in set(operations) - {"livez", "readyz"}:  # what a key, a quota, an origin and draining are answered with
        assert {"401", "403", "429", "500", "503"} <= set(operations[name]["responses"]), name
    asked = {"Inference-Header-Content-Length", "function", "expression", "inputs", "options", "Prefer",
             "Idempotency-Key"}
    for name in DERIVATIVES:
        operation = operations[name]
        assert {p["name"] for p in operation["parameters"]} == asked
        assert {"200", "202", "400", "404", "406", "408", "409", "410", "413", "415", "422", "503", "504"} <= set(
            operation["responses"])
        content = operation["requestBody"]["content"]["application/json"]
        assert content["examples"] == examples.OPERATIONS[name]
        asked = {p["name"] for p in operation["parameters"]}
        assert asked == {"Prefer", "Idempotency-Key", "Inference-Header-Content-Length", "function", "expression",
                         "inputs", "options"}
    assert [p["name"] for o in operations.values() for p in o.get("parameters", []) if not p.get("description")] == []
    assert "Successful Response" not in json.dumps(document)
    tags = {tag for o in operations.values() for tag in o["tags"]}
    assert tags == {t["name"] for t in document["tags"] if t["description"]}
    assert list(operations["metrics"]["responses"]["200"]["content"]) == ["text/plain"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references == references & set(document["components"]["schemas"])


def test_metrics_and_logs_name_routes_as_the_document_does(client: httpx2.Client) -> None:
    assert client.get("/v1/jobs").status_code == 200

    def told() -> set[str]:
        return set(re.findall(r'hesse_requests_total{.*operation="([^"]*)"', client.get("/metrics").text))

    assert wait_for(lambda: "list_jobs" in told(), 10)
    document = client.get("/openapi.json").json()
    assert told() - {"other", "openapi"} <= {o["operationId"] for p in document["paths"].values() for o in p.values()}


# ---- the last resort -------------------------------------------------------------------------------------------------
def test_an_unexpected_exception_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("the secret")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", b"abc")]}
    asyncio.run(Envelope(broken, (), Journal(), Lifecycle())(scope, receive, send))
    start, body = sent
    members = json.loads(body["body"])
    assert start["status"] == members["status"] == 500
    assert (members["code"], members["request_id"]) == ("internal", "abc")
    assert "secret" not in str(sent)
    assert "the secret" in caplog.text


def test_without_a_keys_file_no_key_is_asked_for(client: httpx2.Client) -> None:
    body = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
    response = client.post("/v1/value", json=body, headers={"Authorization": "Bearer whatever"})
    assert response.status_code == 200
    assert "ratelimit" not in response.headers
