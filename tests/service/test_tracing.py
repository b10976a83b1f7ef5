"""Spans of a real server, as OpenTelemetry's console exporter writes them; and the grammar of the W3C headers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hesse_service.tracing import parent_of, state_of
from serving import running, wait_for

GOOD: dict[str, Any] = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
STAGES = ["queue", "decode", "plan", "compute", "encode"]
CONSOLE = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "hesse-test"}


def spans(log: Path) -> list[dict[str, Any]]:
    """The objects of several lines among the lines of the log."""
    text, found, at = log.read_text(), [], 0
    decoder = json.JSONDecoder()
    while (at := text.find("{\n", at)) >= 0:
        try:
            span, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:  # still being written
            break
        found.append(span)
    return found


def test_spans_of_a_request(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(log, compute_processes=1, environment=CONSOLE) as server:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=value", "x-request-id": "traced"}
        response = httpx2.post(f"{server.url}/v1/hessian", json=GOOD, headers=headers, timeout=60)
        assert response.status_code == 200
        function = {"function": {**GOOD["function"], "inputs": ["x"]}, "inputs": [{"name": "x", "shape": [2]}]}
        body = {"operation": "hessian", **function}
        plan = httpx2.post(f"{server.url}/v1/plan", json=body, timeout=60).json()["plan"]
        wait_for(lambda: [s for s in spans(log) if s["attributes"].get("hesse.request_id") == "traced"], 20)
    found = [s for s in spans(log) if s["context"]["trace_id"] == f"0x{TRACE}"]
    (root,) = [s for s in found if s["parent_id"] == f"0x{PARENT}"]
    assert (root["name"], root["kind"]) == ("hessian", "SpanKind.SERVER")
    assert root["context"]["trace_state"] == "['vendor=value']" or "vendor" in str(root["context"]["trace_state"])
    assert root["resource"]["attributes"]["service.name"] == "hesse-test"
    attributes = root["attributes"]
    assert (attributes["hesse.operation"], attributes["hesse.place"], attributes["http.response.status_code"]) == (
        "hessian", "process", 200)
    assert (attributes["hesse.strategy"], attributes["hesse.columns"]) == (plan["strategy"], plan["columns"])
    stages = sorted([s for s in found if s["parent_id"] == root["context"]["span_id"]], key=lambda s: s["start_time"])
    assert sorted([s["name"] for s in stages]) == sorted(STAGES)
    assert len(found) == 1 + len(STAGES)
    assert all([root["start_time"] <= s["start_time"] <= s["end_time"] <= root["end_time"] for s in stages])
    line = next(json.loads(n) for n in log.read_text().splitlines() if '"request_id":"traced"' in n)
    assert f"0x{line['span_id']}" == root["context"]["span_id"], "logs and spans tell of the same"


def test_a_request_without_a_trace_starts_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(log, compute_processes=1, environment=CONSOLE) as server:
        httpx2.post(f"{server.url}/v1/hessian", json={}, timeout=60)
    (root,) = [s for s in spans(log) if s["name"] == "hessian"]
    assert root["parent_id"] is None
    assert root["attributes"]["error.type"] == "bad-request"


def test_a_caller_that_does_not_sample_is_heard(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(log, compute_processes=1, environment=CONSOLE) as server:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        httpx2.post(f"{server.url}/v1/hessian", json=GOOD, headers=headers, timeout=60)
    assert not [s for s in spans(log) if s["context"]["trace_id"] == f"0x{TRACE}"]


def test_nothing_is_imported_without_an_exporter() -> None:
    script = ("import sys; from hesse_service.app import create_app; create_app(); "
              "sys.exit(any(n.startswith('opentelemetry.sdk') for n in sys.modules))")
    environment = {"PYTHONPATH": ":".join([p for p in sys.path if p]), "PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0


def test_a_missing_exporter_is_said_and_harms_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(log, compute_processes=1, environment={"OTEL_TRACES_EXPORTER": "nobody"}) as server:
        assert httpx2.post(f"{server.url}/v1/hessian", json=GOOD, timeout=60).status_code == 200
    assert "OTEL_TRACES_EXPORTER is set, and the exporter nobody is missing" in log.read_text()


# ---- the headers -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("text", "expected"), [
    (f"00-{TRACE}-{PARENT}-01", (TRACE, PARENT, "01")),
    (f"00-{TRACE}-{PARENT}-00", (TRACE, PARENT, "00")),
    (f"cc-{TRACE}-{PARENT}-09-what-comes", (TRACE, PARENT, "09")),
    (f"cc-{TRACE}-{PARENT}-09.", None),
    (f"ff-{TRACE}-{PARENT}-01", None),
    (f"00-{TRACE}-{PARENT}-01-", None),
    (f" 00-{TRACE}-{PARENT}-01", None),
    (f"00-{TRACE}-{PARENT}-01\n", None),
])
def test_parents(text: str, expected: tuple[str, str, str] | None) -> None:
    assert parent_of(text) == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("a=1", "a=1"),
    ("a=1, b=2 ,,c@d=3", "a=1,b=2,c@d=3"),
    ("tenant@vendor=x y", "tenant@vendor=x y"),
    ("a=1,a=2", ""),
    ("A=1", ""),
    ("a", ""),
    ("a=", ""),
    ("a=b=c", ""),
    ("a=\x07", ""),
    (",".join([f"k{k}=v" for k in range(32)]), ",".join([f"k{k}=v" for k in range(32)])),
    (",".join([f"k{k}=v" for k in range(33)]), ""),
    ("a=" + "v" * 256, "a=" + "v" * 256),
    ("a=" + "v" * 257, ""),
    (f"a={'v' * 256},b={'v' * 256}", ""),
])
def test_states(text: str, expected: str) -> None:
    assert state_of(text) == expected
