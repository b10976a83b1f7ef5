"""What the log holds of known requests, and what it never holds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from serving import Server, call, running, slow_request, wait_for

GOOD = {"function": {"expression": "sum(zquark**2)", "inputs": ["zquark"]}, "inputs": [[1.2345678, 2.0]]}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with running(log, compute_processes=1, queue_length=2) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def lines(server: Server) -> list[dict[str, Any]]:
    """Every line is an object by itself; a line that is being written is left out."""
    text = server.log.read_text("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def line_of(server: Server, request_id: str) -> dict[str, Any]:
    """The one access line of a request."""
    found: list[dict[str, Any]] = wait_for(
        lambda: [n for n in lines(server) if n.get("request_id") == request_id and n["logger"] == "hesse.access"], 10
    )
    assert len(found) == 1
    return found[0]


def test_a_request_has_one_line_with_its_split(server: Server, client: httpx2.Client) -> None:
    response = client.post("/v1/hessian", json=GOOD, headers={"x-request-id": "one.line_of-1"})
    line = line_of(server, "one.line_of-1")
    assert TIME.fullmatch(line["time"])
    assert (line["level"], line["operation"], line["status"], line["code"], line["place"]) == (
        "INFO", "hessian", 200, "ok", "process")
    assert set(line["seconds"]) == {"queue", "decode", "plan", "compute", "encode", "total"}
    spent = sum([v for k, v in line["seconds"].items() if k != "total"])
    assert 0 < spent <= line["seconds"]["total"] + 1e-5
    assert line["body_bytes"] == int(response.request.headers["content-length"])
    assert line["answer_bytes"] == len(response.content)
    assert "owner" not in line, "no keys are in use"


def test_an_error_has_its_code_and_nothing_of_the_payload(server: Server, client: httpx2.Client) -> None:
    body = {"function": {"expression": "zgluon(x"}, "inputs": [[1.0]]}
    response = client.post("/v1/hessian?zquery=1", json=body, headers={"authorization": "Bearer zsecret"})
    line = line_of(server, response.headers["x-request-id"])
    assert (line["status"], line["code"]) == (422, response.json()["code"])
    call(client, "hessian", **GOOD)
    client.get("/zpath")
    text = server.log.read_text()
    for hidden in ("zgluon", "zquark", "1.2345678", "zsecret", "zquery", "zpath"):
        assert hidden not in text


@pytest.mark.parametrize("hostile", [
    'a"b', "a\\", "x" * 65, "a b", "\x01", "",
])
def test_a_request_id_cannot_forge_a_line(server: Server, client: httpx2.Client, hostile: str) -> None:
    response = client.post("/v1/grad", json=GOOD, headers={"x-request-id": hostile.encode("latin-1")})
    given = response.headers.get("x-request-id")
    if given is None:  # refused before it was a request
        assert response.status_code == 400
        return
    assert re.fullmatch("[0-9a-f]{32}", given)
    assert line_of(server, given)["operation"] == "grad"


def test_health_is_not_logged(server: Server, client: httpx2.Client) -> None:
    for path in ("/livez", "/readyz"):
        client.get(path, headers={"x-request-id": "a-probe"})
    line = call_and_line(server, client)
    assert line["operation"] == "hessian"
    assert not [n for n in lines(server) if n.get("request_id") == "a-probe"]


def call_and_line(server: Server, client: httpx2.Client) -> dict[str, Any]:
    return line_of(server, client.post("/v1/hessian", json=GOOD).headers["x-request-id"])


def test_a_client_that_leaves_is_logged(server: Server) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{server.url}/v1/value", json=slow_request(), headers={"x-request-id": "left"}, timeout=1)
    line = line_of(server, "left")
    assert line["status"] == 499


# ---- traces ----------------------------------------------------------------------------------------------------------
def test_a_trace_is_continued(server: Server, client: httpx2.Client) -> None:
    response = client.post("/v1/hessian", json=GOOD, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    line = line_of(server, response.headers["x-request-id"])
    assert (line["trace_id"], line["parent_id"]) == (TRACE, PARENT)
    assert re.fullmatch("[0-9a-f]{16}", line["span_id"])
    assert line["span_id"] != PARENT


@pytest.mark.parametrize("malformed", [
    "", "00", f"00-{TRACE}-{PARENT}", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-extra",
    f"0-{TRACE}-{PARENT}-01", f"00-{TRACE[:-1]}-{PARENT}-01", f"00-{TRACE}-{PARENT}-1", f"00_{TRACE}_{PARENT}_01",
    f"00-{TRACE}-{PARENT}-0g", f"01-{TRACE}-{PARENT}-01.", f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
])
def test_a_malformed_trace_starts_anew(server: Server, client: httpx2.Client, malformed: str) -> None:
    response = client.post("/v1/grad", json=GOOD, headers={"traceparent": malformed})
    assert response.status_code == 200
    line = line_of(server, response.headers["x-request-id"])
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])
    assert line["trace_id"] != TRACE
    assert "parent_id" not in line


def test_a_later_version_is_read_as_far_as_it_is_known(server: Server, client: httpx2.Client) -> None:
    response = client.post("/v1/grad", json=GOOD, headers={"traceparent": f"01-{TRACE}-{PARENT}-01-more"})
    assert line_of(server, response.headers["x-request-id"])["trace_id"] == TRACE


def test_two_parents_are_none(server: Server, client: httpx2.Client) -> None:
    headers = [("traceparent", f"00-{TRACE}-{PARENT}-01")] * 2
    response = client.post("/v1/grad", json=GOOD, headers=headers)
    assert line_of(server, response.headers["x-request-id"])["trace_id"] != TRACE


# ---- settings --------------------------------------------------------------------------------------------------------
def test_only_errors(tmp_path: Path) -> None:
    with running(tmp_path / "log", compute_processes=1, access_log="errors") as server:
        httpx2.post(f"{server.url}/v1/hessian", json=GOOD, headers={"x-request-id": "good"}, timeout=60)
        httpx2.post(f"{server.url}/v1/hessian", json={}, headers={"x-request-id": "bad"}, timeout=60)
        assert line_of(server, "bad")["status"] == 422
    assert "good" not in server.log.read_text()


def test_text_has_a_line_a_request(tmp_path: Path) -> None:
    with running(tmp_path / "log", compute_processes=1, log_format="text") as server:
        httpx2.post(f"{server.url}/v1/hessian", json=GOOD, headers={"x-request-id": "seen"}, timeout=60)
    found = [n for n in server.log.read_text().splitlines() if n.endswith("request_id=seen")]
    assert len(found) == 1
    assert re.match(rf"{TIME.pattern} INFO hesse\.access hessian 200 ok \d+\.\d{{3}} ms \d+ bytes ", found[0])


def test_the_last_lines_are_written_at_the_end(tmp_path: Path) -> None:
    """Also those that were in the queue when the signal came, and uvicorn's own in the same format."""
    with running(tmp_path / "log", compute_processes=1) as server:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            for k in range(100):
                client.get("/v1/ops", headers={"x-request-id": f"last-{k}"})
        os.kill(server.pid, signal.SIGTERM)
        wait_for(lambda: "Finished server process" in server.log.read_text(), 30)
    found = lines(server)
    assert {n["request_id"] for n in found if n["logger"] == "hesse.access"} == {f"last-{k}" for k in range(100)}
    assert found[-1]["logger"] == "uvicorn.error"


COMPUTE = """
import logging
from hesse_service import logs
from hesse_service.journal import CURRENT, Exchange
from hesse_service.tracing import trace_from
logs.configure_process("json")
CURRENT.set(Exchange("abc", trace_from("00-{trace}-{parent}-01")))
try:
    raise ValueError("one\\ntwo \\u2028 three")
except ValueError:
    logging.getLogger("hesse.service").exception("failed\\n{{\\"level\\": \\"forged\\"}}")
"""


def test_a_compute_process_logs_with_the_ids_of_its_request() -> None:
    script = COMPUTE.format(trace=TRACE, parent=PARENT)
    path = os.pathsep.join([p for p in sys.path if p])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": path})
    assert done.stderr.count("\n") == 1, "neither a message nor a traceback breaks the line"
    line = json.loads(done.stderr)
    assert (line["level"], line["request_id"], line["trace_id"], line["span_id"]) == ("ERROR", "abc", TRACE, PARENT)
    assert line["message"] == 'failed\n{"level": "forged"}'
    assert "ValueError: one\ntwo" in line["exception"]


LIBRARY = """
import logging, logging.config
from hesse_service.logs import log_config
logging.config.dictConfig(log_config("ERROR", "json", is_background=False))
logging.getLogger("asyncio").info("unheard")
logging.getLogger("asyncio").warning("one\\ntwo")
"""


def test_what_libraries_say_has_the_same_format() -> None:
    path = os.pathsep.join([p for p in sys.path if p])
    done = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": path})
    line = json.loads(done.stderr)
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "asyncio", "one\ntwo")
