"""What is charged, refused and told apart where keys are asked for: streams, plans, jobs, metrics."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

import keyed
from serving import Server, running, wait_for

ADA, BOB, OPS, SAVER = 1, 2, 3, 4
FLOPS = 10**9
UNITS = re.compile(r"r=(\d+)")
STREAM = {"Accept": "application/octet-stream"}
ASYNC = {"Prefer": "respond-async"}
SMALL = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accounting")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Buckets here hardly fill up again: a unit a minute."""
    path = keyed.write(folder / "keys", keyed.line("ada", ADA, quota=1, burst=100_000),
                       keyed.line("bob", BOB, quota=1, burst=100_000), keyed.line("ops", OPS, role="operator"),
                       keyed.line("saver", SAVER, quota=1, burst=30))
    with running(folder / "server.log", compute_processes=1, keys_file=path, data_dir=folder / "data", max_flops=FLOPS,
                 stream_block_bytes=1 << 16, jobs_at_once=1) as started:
        yield started


@pytest.fixture
def ada(server: Server) -> Iterator[httpx2.Client]:
    with keyed.holder(server.url, ADA) as client:
        yield client


@pytest.fixture
def bob(server: Server) -> Iterator[httpx2.Client]:
    with keyed.holder(server.url, BOB) as client:
        yield client


def units(client: httpx2.Client) -> int:
    found = UNITS.search(client.get("/v1/functions").headers["ratelimit"])
    assert found is not None
    return int(found[1])


def dense(n: int, **options: Any) -> dict[str, Any]:
    return {"function": {"expression": "log(sum(exp(x)))"}, "inputs": [[0.5] * n], "options": options}


# ---- streams -------------------------------------------------------------------------------------------------------
def test_a_stream_is_charged_as_the_matrix_it_is(ada: httpx2.Client) -> None:
    """Once for all of its blocks, of which there are many."""
    before = units(ada)
    assert ada.post("/v1/hessian", json=dense(400), headers=STREAM).status_code == 200
    whole = before - units(ada)
    before = units(ada)
    answer = ada.post("/v1/hessian", json=dense(400, stream=True), headers=STREAM)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) > 400 * 400 * 8
    blocks = json.loads(answer.content[:int(answer.headers["inference-header-content-length"])])["stats"]["blocks"]
    assert blocks >= 20
    assert 0.5 * whole < before - units(ada) < 2 * whole


def test_a_stream_beyond_the_quota_is_refused_before_it_is_computed(server: Server) -> None:
    with keyed.holder(server.url, SAVER) as client:
        answer = client.post("/v1/hessian", json=dense(2000, stream=True), headers=STREAM)
        assert (answer.status_code, answer.json()["code"]) == (429, "over-quota")
        assert answer.json()["retryable"] is False
        assert units(client) >= 25


@pytest.mark.parametrize("headers", [STREAM, {**STREAM, **ASYNC, "Prefer": "wait=60"}], ids=["direct", "job"])
def test_a_stream_keeps_to_the_flops(ada: httpx2.Client, headers: dict[str, str]) -> None:
    answer = ada.post("/v1/hessian", json=dense(30_000, stream=True), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-much-work")


def test_checking_a_result_is_work(ada: httpx2.Client) -> None:
    """`verify` computes some 50 times the function."""
    n = 600
    graph = {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [n], "dtype": "float64"}], "outputs": ["y"],
             "nodes": [{"id": "row", "op": "reshape", "args": ["x"], "attrs": {"shape": [1, n]}},
                       {"id": "column", "op": "reshape", "args": ["x"], "attrs": {"shape": [n, 1]}},
                       {"id": "outer", "op": "multiply", "args": ["row", "column"]},
                       {"id": "sines", "op": "sin", "args": ["outer"]},
                       {"id": "y", "op": "sum", "args": ["sines"]}]}
    body = {"function": {"graph": graph}, "inputs": [[0.001] * n], "v": [[1.0] * n]}
    spent = []
    for options in ({}, {"verify": True}):
        before = units(ada)
        answer = ada.post("/v1/hvp", json={**body, "options": options})
        assert answer.status_code == 200, answer.text
        spent.append(before - units(ada))
    assert spent[1] > spent[0] + 20


# ---- what fails before its cost is known ----------------------------------------------------------------------------
def bad_plan(client: httpx2.Client) -> httpx2.Response:
    formula = "+".join(["x"] * 800) + "+"
    return client.post("/v1/plan", json={"operation": "hessian", "function": {"expression": formula},
                                         "inputs": [{"shape": [3], "dtype": "float64"}]})


def bad_stream(client: httpx2.Client) -> httpx2.Response:
    return client.post("/v1/hessian", json=dense(3, stream=True, max_memory_bytes=1), headers=STREAM)


def bad_gzip(client: httpx2.Client) -> httpx2.Response:
    return client.post("/v1/hessian", content=gzip.compress(b"[" + b"0," * 2_000_000),
                       headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


def bad_json(client: httpx2.Client) -> httpx2.Response:
    return client.post("/v1/hessian", content=b"[" * 9000, headers={"Content-Type": "application/json"})


def bad_registration(client: httpx2.Client) -> httpx2.Response:
    return client.put("/v1/functions", json={"function": {"expression": "sum(x) +", "inputs": ["x"]},
                                             "inputs": [{"shape": [3], "dtype": "float64"}]})


@pytest.mark.parametrize("ask", [bad_plan, bad_stream, bad_gzip, bad_json, bad_registration])
def test_failures_of_every_kind_are_charged(
    ada: httpx2.Client, ask: Callable[[httpx2.Client], httpx2.Response]
) -> None:
    before = units(ada)
    for _ in range(25):
        assert 400 <= ask(ada).status_code < 500
    assert before - units(ada) >= 2  # at least 0.1 each


# ---- jobs ----------------------------------------------------------------------------------------------------------
UNEQUAL = ("x-request-id", "date", "ratelimit")  # the quota fills up with time


def facts(response: httpx2.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    body = response.json()
    body.pop("request_id")
    return response.status_code, body, {k: v for k, v in response.headers.items() if k not in UNEQUAL}


def test_jobs_are_their_owner_s(ada: httpx2.Client, bob: httpx2.Client) -> None:
    key = {"Idempotency-Key": '"the same of both"'}
    made = ada.post("/v1/hessian", json=SMALL, headers={**ASYNC, **key})
    assert made.status_code == 202, made.text
    path, absent = made.headers["location"], f"/v1/jobs/{'0' * 32}"
    other = bob.post("/v1/value", json=SMALL, headers={**ASYNC, **key})  # no conflict, no job of hers
    assert other.status_code == 202
    assert other.headers["location"] != path
    for owner, job in ((ada, path), (bob, other.headers["location"])):  # until then they are charged
        wait_for(lambda: owner.get(job).json()["state"] == "succeeded", 60)  # noqa: B023
    before = units(bob)
    for ask in (lambda p: bob.get(p), lambda p: bob.delete(p), lambda p: bob.get(f"{p}/result"),
                lambda p: bob.get(f"{p}/events"), lambda p: bob.get("/v1/jobs", params={"after": p.split("/")[-1]})):
        assert facts(ask(path)) == facts(ask(absent))
        assert facts(ask(path))[:2][0] == 404
        assert ask(path).json()["code"] == "unknown-job"
    assert units(bob) >= before
    assert path.split("/")[-1] not in {j["id"] for j in bob.get("/v1/jobs").json()["jobs"]}
    assert path.split("/")[-1] in {j["id"] for j in ada.get("/v1/jobs").json()["jobs"]}
    assert ada.get(f"{path}/result").status_code == 200
    assert "event: end" in ada.get(f"{path}/events").text


def test_a_job_cannot_use_another_s_function(ada: httpx2.Client, bob: httpx2.Client) -> None:
    made = ada.put("/v1/functions", json={"function": SMALL["function"],
                                          "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}]})
    answers = [bob.post("/v1/hessian", json={"function": {"id": name}, "inputs": [[1.0, 2.0]]},
                        headers={"Prefer": "respond-async, wait=60"}) for name in (made.json()["id"], "0" * 64)]
    assert [a.status_code for a in answers] == [404, 404]
    assert answers[0].json()["code"] == answers[1].json()["code"] == "unknown-function"
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


def test_a_job_is_charged_to_its_owner(ada: httpx2.Client, bob: httpx2.Client, server: Server) -> None:
    before, others = units(ada), units(bob)
    answer = ada.post("/v1/hessian", json=dense(300), headers={"Prefer": "wait=60"})
    assert answer.status_code == 200
    assert before - units(ada) >= 5
    assert units(bob) == others
    with keyed.holder(server.url, SAVER) as saver:
        refused = saver.post("/v1/hessian", json=dense(700), headers={"Prefer": "wait=60"})
        assert (refused.status_code, refused.json()["code"]) == (429, "over-quota")
        assert refused.json()["retryable"] is False  # it costs more than the burst
        assert "retry-after" not in refused.headers
        found = saver.get(refused.headers["location"]).json() if "location" in refused.headers else saver.get(
            "/v1/jobs").json()["jobs"][0]
        assert (found["state"], found["error"]["retryable"]) == ("failed", False)


def test_jobs_inflate_within_the_limits_and_are_known_by_their_coding(ada: httpx2.Client) -> None:
    content = json.dumps(SMALL).encode()
    headers = {"Content-Type": "application/json", "Prefer": "wait=60", "Idempotency-Key": '"coded"'}
    coded = {**headers, "Content-Encoding": "gzip"}
    packed = gzip.compress(content, mtime=0)
    first = ada.post("/v1/hessian", content=packed, headers=coded)
    again = ada.post("/v1/hessian", content=packed, headers=coded)
    assert first.status_code == again.status_code == 200
    assert first.headers["location"] == again.headers["location"]
    plain = ada.post("/v1/hessian", content=content, headers=headers)
    assert (plain.status_code, plain.json()["code"]) == (422, "idempotency-conflict")
    bomb = gzip.compress(b" " * (300 << 20), 9)
    answer = ada.post("/v1/hessian", content=bomb, headers={**coded, "Idempotency-Key": '"bomb"'})
    assert (answer.status_code, answer.json()["code"]) == (413, "inflated-too-large")


# ---- metrics, logs, problems ---------------------------------------------------------------------------------------
def test_metrics_are_the_operator_s(server: Server, ada: httpx2.Client) -> None:
    assert ada.post("/v1/value", json=SMALL).status_code == 200
    refused = ada.get("/metrics")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    stranger = httpx2.get(f"{server.url}/metrics")
    assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthorized")
    with keyed.holder(server.url, OPS) as operator:
        text = operator.get("/metrics")
        assert text.status_code == 200
        assert "hesse_requests_total" in text.text
        assert not re.search(r"owner|\bada\b|\bbob\b|hesse_0{11}", text.text)


CANARY = "canary7c1f"


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([1.0, 2.0]))
    return file.getvalue()


def queries() -> list[tuple[dict[str, str], int]]:
    return [
        ({"expression": f"sum({CANARY}**2)", "inputs": CANARY}, 200),
        ({"expression": f"sum({CANARY} +"}, 422),
        ({"expression": f"{CANARY}(x)"}, 422),
        ({"function": CANARY}, 422),
        ({CANARY: CANARY}, 422),
        ({"expression": "sum(x)", "options": f'{{"{CANARY} a strange name": 1}}'}, 422),
        ({"expression": "sum(x)", "options": f'{{"layout": "{CANARY}"}}'}, 422),
        ({"expression": "sum(x)", "options": f"{{{CANARY}"}, 400),
        ({"expression": "sum(x)", "options": "[" * 5000}, 400),
        ({"expression": "(" * 5000}, 422),
    ]


def test_logs_hold_neither_keys_nor_queries_nor_owners(tmp_path: Path) -> None:
    path = keyed.write(tmp_path / "keys", keyed.line("ownername", ADA, quota=60_000))
    log = tmp_path / "server.log"
    with running(log, compute_processes=1, keys_file=path, log_format="json") as own, \
            keyed.holder(own.url, ADA) as client:
        for query, status in queries():
            answer = client.post("/v1/hessian", params=query, content=npy(),
                                 headers={"Content-Type": "application/x-npy"})
            assert answer.status_code == status, (query, answer.text[:300])
            if status != 200 and CANARY not in query.get("expression", ""):  # a formula's unknown names are named
                assert CANARY not in answer.text, (query, answer.text)
        for headers in ({"Accept": CANARY}, {"Content-Type": CANARY}, {"Content-Encoding": CANARY},
                        {"Accept-Encoding": f"{CANARY}, identity;q=0"}, {"Origin": f"http://{CANARY}"},
                        {"Idempotency-Key": f"{CANARY} {CANARY}", **ASYNC}, {"Inference-Header-Content-Length": CANARY,
                        "Content-Type": "application/octet-stream"}, {"Authorization": f"Bearer {CANARY}"}):
            answer = client.post("/v1/hessian", content=json.dumps(SMALL).encode(),
                                 headers={"Content-Type": "application/json", **headers})
            assert 400 <= answer.status_code < 500, headers
            assert CANARY not in answer.text + str(answer.headers), headers
        for target in (f"/v1/functions?limit={CANARY}", f"/v1/jobs?state={CANARY}", f"/v1/jobs?limit={CANARY}",
                       f"/v1/jobs?after={CANARY}", f"/v1/jobs/{CANARY}", f"/v1/functions/{CANARY}", f"/{CANARY}"):
            answer = client.get(target)
            assert 400 <= answer.status_code < 500, target
            assert CANARY not in answer.text, target
    text = log.read_text()
    assert text.count('"hesse.access"') >= 20
    for secret in (CANARY, "ownername", keyed.text(ADA), keyed.text(ADA).split("_")[2]):
        assert secret not in text
