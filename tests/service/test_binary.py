"""Binary frames over real sockets: the same bits as JSON, in every operation and layout, both ways."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from hesse_engine.derivatives import DERIVATIVES
from serving import Server, register, running, tensor, wait_for

Array = NDArray[Any]
FRAME = "application/octet-stream"
LENGTH = "Inference-Header-Content-Length"
CODES = {"float64": "d", "float32": "f", "int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint64": "Q",
         "uint32": "I", "uint16": "H", "uint8": "B", "bool": "?"}
PAIRED = {"expression": "sum(x**3 * sin(y)) + sum(x)*sum(y)", "inputs": ["x", "y"]}
POINT = [np.array([0.5, -1.25, 3.0]), np.array([1.0, 0.1, -7.5])]


def thawed(body: bytes, stated: str) -> Any:
    """A frame by the Open Inference Protocol's rules: JSON of the length stated, then raw tensors, in order."""
    header, at = json.loads(body[: int(stated)]), int(stated)

    def read(value: Any) -> Any:
        nonlocal at
        if isinstance(value, list):
            return [read(v) for v in value]
        if not isinstance(value, dict):
            return value
        size = value.get("parameters", {}).get("binary_data_size")
        if size is None:
            return {k: read(v) for k, v in value.items()}
        code = CODES[value["dtype"]]
        data = struct.unpack_from(f"<{size // struct.calcsize(code)}{code}", body, at)
        at += size
        return {"shape": value["shape"], "dtype": value["dtype"], "data": list(data)}

    found = read(header)
    assert at == len(body)
    return found


def frozen(value: Any) -> tuple[bytes, dict[str, str]]:
    """A frame of `value`, whose arrays become tensors, and its HTTP headers. No blanks align the tensors here."""
    tail = b""

    def write(part: Any) -> Any:
        nonlocal tail
        if isinstance(part, np.ndarray):
            data = part.tobytes()
            tail += data
            return {"shape": list(part.shape), "dtype": str(part.dtype), "parameters": {"binary_data_size": len(data)}}
        if isinstance(part, dict):
            return {k: write(v) for k, v in part.items()}
        return [write(p) for p in part] if isinstance(part, list) else part

    header = json.dumps(write(value)).encode()
    return header + tail, {"Content-Type": FRAME, LENGTH: str(len(header))}


def post(client: httpx2.Client, operation: str, value: Any, accept: str = FRAME) -> Any:
    """The answer to a frame, read as `accept` says."""
    body, headers = frozen(value)
    response = client.post(f"/v1/{operation}", content=body, headers={**headers, "Accept": accept})
    assert response.status_code == 200, response.text
    if accept != FRAME:
        return response.json()
    assert response.headers["content-type"] == FRAME
    return thawed(response.content, response.headers[LENGTH])


def refused(client: httpx2.Client, body: bytes, headers: dict[str, str], status: int, code: str) -> Any:
    response = client.post("/v1/hessian", content=body, headers=headers)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    return problem


def plain(value: Any) -> Any:
    """`value` with nested lists for arrays."""
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "dtype": str(value.dtype), "data": value.ravel().tolist()}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def assert_same(one: Any, two: Any) -> None:
    """Equal structure, equal bits."""
    assert type(one) is type(two)
    if isinstance(one, dict) and "layout" in one:
        assert {k: one[k] for k in ("layout", "shape", "dtype")} == {k: two[k] for k in ("layout", "shape", "dtype")}
        for name in {"indptr", "rows", "indices", "data"} & set(one):
            kind = one["dtype"] if name == "data" else "int32"
            lists = [v[name]["data"] if isinstance(v[name], dict) else v[name] for v in (one, two)]
            assert np.array(lists[0], kind).tobytes() == np.array(lists[1], kind).tobytes()
    elif isinstance(one, dict) and "data" in one:
        assert (one["shape"], one["dtype"]) == (two["shape"], two["dtype"])
        assert tensor(one).tobytes() == tensor(two).tobytes()
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for name in one:
            assert_same(one[name], two[name])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two


def cases() -> list[tuple[str, str, dict[str, Any]]]:
    found: list[tuple[str, str, dict[str, Any]]] = []
    vectors = [np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 1e-3])]
    for name in DERIVATIVES:
        body: dict[str, Any] = {"function": PAIRED, "inputs": POINT}
        if name in ("jvp", "hvp", "vhp"):
            body["v"] = vectors
        if name == "vjp":
            body["v"] = [np.array(1.5)]
        found.append((name, name, body))
        found.append((f"{name} by func", name, {**body, "options": {"api": "func", "argnums": [0, 1]}}))
    found += [(f"{operation} {layout}", operation, {"function": PAIRED, "inputs": POINT, "options": {"layout": layout}})
              for operation in ("hessian", "value_grad_hessian") for layout in ("csr", "coo", "diag", "packed")]
    found += [
        ("jacobian csr", "jacobian", {"function": {"expression": "sin(x[1:]) * x[:-1]"}, "inputs": [np.arange(5.0)],
                                      "options": {"layout": "csr"}}),
        ("hessian in float32", "hessian", {"function": {"expression": "sum(x**3)"},
                                           "inputs": [np.array([1.1, 2.2], np.float32)]}),
        ("hessian of a scalar", "hessian", {"function": {"expression": "x**3"}, "inputs": [np.array(1.1)]}),
        ("gradient of nothing", "grad", {"function": {"expression": "sum(x)"}, "inputs": [np.empty(0)]}),
        ("a comparison", "value", {"function": {"expression": "x > 1"}, "inputs": [np.arange(4.0)]}),
        ("columns", "hessian", {"function": PAIRED, "inputs": POINT, "options": {"columns": [0, 4]}}),
        ("a batch", "hessian", {"function": {"expression": "sum(x**3)"}, "inputs": [np.arange(6.0).reshape(3, 2)],
                                "options": {"batched": True}}),
        ("many vectors", "hvp", {"function": {"expression": "sum(x**3)"}, "inputs": [np.arange(2.0)],
                                 "v": [np.eye(2)], "options": {"many": True}}),
        ("weights", "hessian", {"function": {"expression": "x**2 * x[::-1]"}, "inputs": [np.array([1.0, 2.0])],
                                "weights": [np.array([0.5, -1.0])]}),
        ("infinities", "value", {"function": {"expression": "log(x)"}, "inputs": [np.array([0.0, 1.0])]}),
        ("large", "hessian", {"function": {"expression": "sum(x)**3"}, "inputs": [np.linspace(0, 1, 150)]}),
    ]
    return found


CASES = {name: (operation, body) for name, operation, body in cases()}


@pytest.mark.parametrize("name", CASES)
def test_frames_carry_the_bits_of_json(warm_client: httpx2.Client, name: str) -> None:
    client = warm_client  # one interpreter for all of its answers
    operation, body = CASES[name]
    response = client.post(f"/v1/{operation}", json=plain(body), headers={"Accept": FRAME})
    assert response.status_code == 200, response.text
    of_json = client.post(f"/v1/{operation}", json=plain(body)).json()
    answers = [thawed(response.content, response.headers[LENGTH]), post(client, operation, body),
               post(client, operation, body, "application/json")]
    for found in answers:
        assert_same(found["result"], of_json["result"])
        assert set(found["stats"]) == set(of_json["stats"])


def test_auxiliary_outputs_travel_as_bytes(client: httpx2.Client) -> None:
    graph = {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}],
             "nodes": [{"id": "y", "op": "sum", "args": ["x"]}, {"id": "z", "op": "exp", "args": ["x"]}],
             "outputs": ["y", "z"]}
    body = {"function": {"graph": graph}, "inputs": [np.array([0.0, 1.0])], "options": {"aux": 1}}
    found = post(client, "hessian", body)
    assert_same(found["aux"], post(client, "hessian", body, "application/json")["aux"])
    assert found["aux"][0]["data"][0] == 1.0


def test_nan_payloads_travel(client: httpx2.Client) -> None:
    bits = np.array([0x7FF8_0000_DEAD_BEEF, 0xFFF8_0000_0000_0001, 1, 1 << 63], np.uint64)
    body, headers = frozen({"function": {"expression": "x", "inputs": ["x"]}, "inputs": [bits.view(np.float64)]})
    response = client.post("/v1/value", content=body, headers={**headers, "Accept": FRAME})
    assert response.status_code == 200, response.text
    assert response.content[int(response.headers[LENGTH]):] == bits.tobytes()


def test_constants_of_a_registered_function_travel_as_bytes(client: httpx2.Client) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((90, 90))  # a body that crosses in shared memory
    graph = {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [90], "dtype": "float64"}],
             "constants": [matrix],
             "nodes": [{"id": "a", "op": "matmul", "args": [{"constant": 0}, "x"]},
                       {"id": "b", "op": "multiply", "args": ["x", "a"]}, {"id": "y", "op": "sum", "args": ["b"]}],
             "outputs": ["y"]}
    body, headers = frozen({"function": {"graph": graph}})
    response = client.put("/v1/functions", content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    name = response.json()["id"]
    assert name == register(client, function={"graph": plain(graph)})
    for _ in range(3):
        found = post(client, "hessian", {"function": {"id": name}, "inputs": [rng.standard_normal(90)]})
        value = found["result"][0][0] if isinstance(found["result"], list) else found["result"]
        np.testing.assert_allclose(tensor(value), matrix + matrix.T, rtol=1e-14, atol=1e-14)


def test_small_frames_by_id_are_answered_on_the_event_loop(warm_client: httpx2.Client) -> None:
    client = warm_client
    name = register(client, function={"expression": "sum(x**3)"},
                    inputs=[{"name": "x", "shape": [3], "dtype": "float64"}])

    def is_inline() -> bool:
        body, headers = frozen({"function": {"id": name}, "inputs": [np.array([1.0, 2.0, 3.0])]})
        response = client.post("/v1/hessian", content=body, headers={**headers, "Accept": FRAME})
        assert response.headers["content-type"] == FRAME
        value = thawed(response.content, response.headers[LENGTH])["result"]
        value = value[0][0] if isinstance(value, list) else value
        assert np.diag(tensor(value)).tolist() == [6.0, 12.0, 18.0]
        return "queue;dur=0.000," in response.headers["server-timing"]

    wait_for(is_inline, 30)


SUM = {"function": {"expression": "sum(x**2)"}}


def test_damaged_frames_are_refused(client: httpx2.Client) -> None:
    body, headers = frozen({**SUM, "inputs": [np.arange(4.0)]})
    for length in (0, -1, len(body) + 1, 10**30):
        refused(client, body, {**headers, LENGTH: str(length)}, 400, "bad-frame")
    refused(client, body, {"Content-Type": FRAME}, 400, "bad-frame")
    refused(client, body, {**headers, LENGTH: "ten"}, 400, "bad-frame")
    refused(client, body, {**headers, LENGTH: "5"}, 400, "malformed-json")
    refused(client, body + b"x", headers, 400, "bad-frame")
    problem = refused(client, body[:-1], headers, 400, "bad-frame")
    assert problem["pointer"] == "/inputs/0"
    client.post("/v1/hessian", content=body, headers=headers).raise_for_status()


def test_large_damaged_frames_are_refused_with_their_place(client: httpx2.Client) -> None:
    body, headers = frozen({**SUM, "inputs": [np.arange(9000.0)]})
    assert refused(client, body[:-8], headers, 400, "bad-frame")["pointer"] == "/inputs/0"
    part = {"shape": [10**12], "dtype": "float64", "parameters": {"binary_data_size": 8 * 10**12}}
    header = json.dumps({**SUM, "inputs": [part]}).encode()
    problem = refused(client, header, {"Content-Type": FRAME, LENGTH: str(len(header))}, 413, "too-many-elements")
    assert problem["pointer"] == "/inputs/0/shape"


def test_tensors_stand_only_where_tensors_may(client: httpx2.Client) -> None:
    for value in ({**SUM, "inputs": [np.arange(3.0)], "options": np.arange(3.0)},
                  {"function": np.arange(3.0), "inputs": []},
                  {**SUM, "inputs": np.arange(3.0)},
                  {**SUM, "inputs": [np.arange(3.0)], "options": {"rows": np.arange(2)}}):
        body, headers = frozen(value)
        refused(client, body, headers, 422, "bad-request")
    graph = {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": np.arange(1), "dtype": "float64"}],
             "nodes": np.arange(3), "outputs": ["x"]}
    body, headers = frozen({"function": {"graph": graph}, "inputs": [np.arange(3.0)]})
    refused(client, body, headers, 422, "graph-format")


# ---- what is taken back ---------------------------------------------------------------------------------------------
ANSWERED = [
    ("*/*", "application/json"), ("application/json", "application/json"), ("application/*", "application/json"),
    (FRAME, FRAME), (f"{FRAME}, application/json;q=0.9", FRAME),
    (f"{FRAME};q=0.5, application/json", "application/json"),
    (f"{FRAME}, */*", FRAME), (f"{FRAME};q=0, */*;q=0.1", "application/json"), (FRAME.upper(), FRAME),
    (f"text/html, {FRAME}; q=0.2", FRAME), ("application/x-npy;q=0.3, application/x-npz;q=0.4", "application/x-npz"),
    ("application/json;q=0, application/*", FRAME), ("application/problem+json, application/json", "application/json"),
]


@pytest.mark.parametrize(("accept", "media"), ANSWERED)
def test_the_answer_is_what_accept_likes_best(client: httpx2.Client, accept: str, media: str) -> None:
    response = client.post("/v1/laplacian", json={**SUM, "inputs": [[1.0]]}, headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (200, media)
    assert "accept" in response.headers["vary"].lower()


@pytest.mark.parametrize("accept", ["text/html", "application/msgpack", "*/*;q=0", f"{FRAME};q=0", "image/*", ",,,",
                                    "application/json;q=nan"])
def test_what_cannot_be_written_is_not_acceptable(client: httpx2.Client, accept: str) -> None:
    response = client.post("/v1/hessian", json={**SUM, "inputs": [[1.0]]}, headers={"Accept": accept})
    assert (response.status_code, response.json()["code"]) == (406, "not-acceptable")
    assert response.headers["content-type"] == "application/problem+json"
    assert FRAME in response.json()["detail"]


def test_documents_are_json(client: httpx2.Client) -> None:
    assert client.get("/v1/ops", headers={"Accept": f"{FRAME}, application/json;q=0.9"}).status_code == 200
    assert client.get("/v1/ops", headers={"Accept": FRAME}).json()["code"] == "not-acceptable"


def test_problems_are_problems_whatever_is_accepted(client: httpx2.Client) -> None:
    body, headers = frozen({**SUM, "inputs": [np.arange(3.0)], "options": {"layout": "best"}})
    refused(client, body, {**headers, "Accept": FRAME}, 422, "bad-layout")


# ---- large ones -----------------------------------------------------------------------------------------------------
def segments_of(server: Server) -> list[Path]:
    return list(Path("/dev/shm").glob(f"hesse_{server.pid}_*"))


def test_large_answers_travel_whole_in_memory_that_is_kept(server: Server, client: httpx2.Client) -> None:
    """Each answer is longer or shorter than what its memory held before."""
    rng = np.random.default_rng(1)
    for size in (400, 700, 300, 700, 900):
        point = rng.standard_normal(size)
        value = post(client, "hessian", {"function": {"expression": "sum(x)**3 + sum(x**4)"}, "inputs": [point]})
        wanted = 6 * point.sum() + np.diag(12 * point**2)
        np.testing.assert_allclose(tensor(value["result"]), wanted, rtol=1e-12)
    assert sum([p.stat().st_size for p in segments_of(server)]) <= 64 << 20


def test_an_abandoned_answer_leaves_nothing(tmp_path: Path) -> None:
    body, headers = frozen({"function": {"expression": "sum(x)**3"}, "inputs": [np.ones(2500)]})
    head = "".join([f"{k}: {v}\r\n" for k, v in {**headers, "Accept": FRAME, "Content-Length": len(body),
                                                 "Host": "x"}.items()])
    with running(tmp_path / "log", compute_processes=1, kept_segment_bytes=0) as server:
        host, port = server.url.removeprefix("http://").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as opened:
                opened.sendall(f"POST /v1/hessian HTTP/1.1\r\n{head}\r\n".encode() + body)
                assert opened.recv(1000).startswith(b"HTTP/1.1 200")
                wait_for(lambda: segments_of(server), 10)  # 50 MB do not fit into the socket: the rest waits
        wait_for(lambda: not segments_of(server), 10)
        status = Path(f"/proc/{server.pid}/maps").read_text()
        assert "/dev/shm/hesse" not in status
        assert httpx2.get(f"{server.url}/livez").status_code == 200
