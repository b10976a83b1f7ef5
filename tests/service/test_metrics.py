"""What a scrape tells after known requests, read by Prometheus' own parser."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import Server, call, register, running, slow_request, wait_for

GOOD = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
STAGES = ("queue", "decode", "plan", "compute", "encode")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(server: Server) -> Samples:
    response = httpx2.get(f"{server.url}/metrics", timeout=30)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Sum over the series of this name that have these labels."""
    return sum([v for (n, pairs), v in samples.items() if n == name and labels.items() <= dict(pairs).items()])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("metrics") / "server.log"
    with running(log, compute_processes=1, queue_length=3, inline_s=0.05) as started:
        wait_for(lambda: httpx2.get(f"{started.url}/readyz").status_code == 200, 120)
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def test_requests_are_counted_exactly(server: Server, client: httpx2.Client) -> None:
    before = scrape(server)
    for _ in range(3):
        call(client, "hessian", **GOOD)
    for _ in range(2):
        assert client.post("/v1/grad", json={"function": {"expression": "sum(x"}, "inputs": [[1.0]]}).status_code == 422
    for path in ("/secret-of-a-client", "/v1/functions/a/b", "/v1/nothing"):
        assert client.get(path).status_code == 404
    assert client.get("/v1/hessian").status_code == 405
    after = scrape(server)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("hesse_requests_total", operation="hessian", status="200", code="ok") == 3
    assert grown("hesse_requests_total", operation="grad", status="422", code="expression-syntax") == 2
    assert grown("hesse_requests_total", operation="hessian", status="405", code="method-not-allowed") == 1
    assert grown("hesse_requests_total", operation="other", status="404", code="not-found") == 3
    assert grown("hesse_requests_total") == 3 + 2 + 3 + 1 + 1, "the first scrape is counted in the second"
    assert grown("hesse_request_seconds_count", operation="hessian") == 4
    assert grown("hesse_request_seconds_bucket", operation="hessian", le="+Inf") == 4
    for stage in STAGES:
        assert grown("hesse_stage_seconds_count", operation="hessian", stage=stage) == 3
    assert grown("hesse_answers_total", place="process") == 5
    assert grown("hesse_prepared_hits_total", place="process") == 2
    size = len(httpx2.Request("POST", server.url, json=GOOD).read())
    assert grown("hesse_body_bytes_total", operation="hessian") == 3 * size
    assert grown("hesse_answer_bytes_total", operation="hessian") > 3 * 50


def test_sums_of_histograms_agree_with_server_timing(server: Server, client: httpx2.Client) -> None:
    before = scrape(server)
    told = dict.fromkeys((*STAGES, "total"), 0.0)
    for _ in range(4):
        response = client.post("/v1/jacobian", json=GOOD)
        for part in response.headers["server-timing"].split(", "):
            name, _, text = part.partition(";dur=")
            told[name] += float(text) / 1e3
    after = scrape(server)
    for stage in STAGES:
        labels = {"operation": "jacobian", "stage": stage}
        grown = value(after, "hesse_stage_seconds_sum", **labels) - value(before, "hesse_stage_seconds_sum", **labels)
        assert grown == pytest.approx(told[stage], abs=4e-6)
    whole = value(after, "hesse_request_seconds_sum", operation="jacobian")
    assert whole - value(before, "hesse_request_seconds_sum", operation="jacobian") >= told["total"] - 4e-6
    assert sum([told[stage] for stage in STAGES]) <= told["total"] + 1e-5


def test_buckets_are_cumulative_and_hold_the_observation(server: Server, client: httpx2.Client) -> None:
    call(client, "vjp", function={"expression": "x**2"}, inputs=[[1.0]], v=[1.0])
    samples = scrape(server)
    found = sorted([(float(dict(pairs)["le"]), v) for (name, pairs), v in samples.items()
                    if name == "hesse_request_seconds_bucket" and dict(pairs)["operation"] == "vjp"])
    total = value(samples, "hesse_request_seconds_sum", operation="vjp")
    assert [v for bound, v in found] == [float(bound >= total) for bound, v in found]
    assert (found[0][0], found[-2][0], found[-1][0]) == (5e-5, 100.0, float("inf"))


def test_inline_answers_and_levels(server: Server, client: httpx2.Client) -> None:
    name = register(client, function={"expression": "sum(x**2 * 3)", "inputs": ["x"]},
                    inputs=[{"name": "x", "shape": [2]}])
    body = {"function": {"id": name}, "inputs": [[1.0, 2.0]]}

    def inline() -> float:
        assert client.post("/v1/hessian", json=body).status_code == 200
        return value(scrape(server), "hesse_answers_total", place="inline")

    before = value(scrape(server), "hesse_answers_total", place="inline")
    wait_for(lambda: inline() >= before + 3, 60)
    response = client.post("/v1/hessian", json=body)
    assert response.headers["server-timing"].startswith("queue;dur=0.000, decode;dur=")
    samples = scrape(server)
    assert value(samples, "hesse_prepared_hits_total", place="inline") >= 4
    assert value(samples, "hesse_prepared_functions", process="server") == 1
    assert value(samples, "hesse_prepared_bytes", process="server") > 0
    for process in ("server", "compute-0"):
        assert 30e6 < value(samples, "hesse_resident_bytes", process=process) < 4e9
    assert value(samples, "hesse_requests_in_flight") == 1, "the scrape itself"
    levels = {"hesse_queue_length": 0, "hesse_queue_capacity": 3, "hesse_compute_processes": 1, "hesse_warm": 1,
              "hesse_compute_processes_busy": 0, "hesse_draining": 0, "hesse_build_info": 1}
    assert {level: value(samples, level) for level in levels} == levels


def test_the_store_is_counted(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", compute_processes=1) as server:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            for size in (1, 2, 3):
                register(client, function={"expression": "sum(x**2)", "inputs": ["x"]},
                         inputs=[{"name": "x", "shape": [size]}])
        samples = scrape(server)
        assert value(samples, "hesse_store_functions") == 3
        assert value(samples, "hesse_store_bytes") > 300


def test_a_busy_process_a_queue_and_a_restart(server: Server, client: httpx2.Client) -> None:
    before = scrape(server)
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{server.url}/v1/value", json=slow_request(), timeout=2.0)
    assert client.post("/v1/value", json=slow_request(deadline_s=0.5)).json()["code"] == "deadline-exceeded"
    wait_for(lambda: value(scrape(server), "hesse_disconnects_total", operation="value")
             == value(before, "hesse_disconnects_total", operation="value") + 1, 10)
    after = scrape(server)
    for reason in ("canceled", "deadline"):
        name, labels = "hesse_compute_process_restarts_total", {"reason": reason}
        assert value(after, name, **labels) - value(before, name, **labels) == 1
    assert value(after, "hesse_requests_total", operation="value", status="499", code="disconnected") == 1
    assert value(after, "hesse_requests_total", operation="value", code="deadline-exceeded") == 1


def test_labels_hold_nothing_of_a_client(server: Server, client: httpx2.Client) -> None:
    call(client, "hessian", function={"expression": "sum(zq**2)", "inputs": ["zq"]}, inputs=[[1.0]])
    client.get("/zq", headers={"x-request-id": "zq", "user-agent": "zq", "traceparent": "zq"})
    client.request("ZQ", "/v1/hessian")
    text = httpx2.get(f"{server.url}/metrics").text
    assert "zq" not in text.lower()
    assert not re.search(r"[0-9a-f]{32}", text)


def test_the_newer_format_is_offered(server: Server) -> None:
    response = httpx2.get(f"{server.url}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_one_scrape_tells_of_all_server_processes(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", workers=2, may_leak=True, compute_processes=1) as server:
        wait_for(lambda: value(scrape(server), "hesse_compute_processes") == 2, 60)
        for _ in range(20):  # a connection each, so that both processes get some
            assert httpx2.post(f"{server.url}/v1/hessian", json=GOOD, timeout=60).status_code == 200
        wait_for(lambda: value(scrape(server), "hesse_requests_total", operation="hessian") == 20, 10)
        samples = scrape(server)
        assert value(samples, "hesse_request_seconds_count", operation="hessian") == 20
        assert value(samples, "hesse_stage_seconds_count", operation="hessian", stage="compute") == 20
        pids = {dict(pairs)["pid"] for (name, pairs) in samples if name == "hesse_resident_bytes"}
        assert len(pids) == 2
        assert pids <= {str(p) for p in server.children()}, "compute processes write no files of their own"
        os.kill(int(min(pids)), signal.SIGKILL)

        def survivors() -> set[str]:
            try:
                return {dict(pairs)["pid"] for (name, pairs) in scrape(server) if name == "hesse_resident_bytes"}
            except httpx2.TransportError:  # a connection that the killed process had accepted
                return set()

        wait_for(lambda: len(survivors()) == 2 and min(pids) not in survivors(), 60)
        assert value(scrape(server), "hesse_requests_total", operation="hessian") == 20, "counters never go back"
        wait_for(lambda: value(scrape(server), "hesse_compute_processes") == 2, 10)
