"""What the documentation shows is what happens."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from docs import tables
from hesse_engine.errors import CODES
from hesse_engine.ir import tensor, wire
from hesse_service.metrics import REGISTRY
from hesse_service.schemas import MAX_EXPRESSION
from serving import Server, running, wait_for

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
LOCAL_URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("docs") / "server.log", compute_processes=1) as started:
        yield started


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", tables.pages(), ids=lambda p: p.name)
def test_tables_state_what_the_code_states(page: Path) -> None:
    text = page.read_text("utf-8")
    assert tables.rewritten(text) == text, f"{page.name} is out of date: run `python docs/tables.py`"


def test_every_table_is_on_a_page() -> None:
    found = re.findall(r"<!-- (\w+) -->\n", "".join([p.read_text("utf-8") for p in tables.pages()]))
    assert sorted(set(found) - {"end"}) == sorted(tables.TABLES)


def test_the_readme_runs_code_in_its_first_20_lines() -> None:
    assert any(line.startswith("```python") for line in README.splitlines()[:20])


def test_the_readme_prints_what_it_says(server: Server) -> None:
    """The Python blocks in one session, each followed by what it prints."""
    names: dict[str, Any] = {}
    shown = list(zip(blocks("python"), blocks("text"), strict=True))
    assert len(shown) == 5
    for code, expected in shown:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code.replace(LOCAL_URL, server.url), "README.md", "exec"), names)
        assert printed.getvalue().split() == expected.split()
    names["client"].close()


def test_the_readme_answers_curl(server: Server) -> None:
    (command,) = [b for b in blocks("sh") if b.startswith("curl")]
    words = shlex.split(command)
    url, body = next(w for w in words if w.startswith("http")), words[words.index("-d") + 1]
    answer = httpx2.post(url.replace(LOCAL_URL, server.url), content=body, headers={"Content-Type": "application/json"})
    (expected,) = [json.loads(b) for b in blocks("json")]
    assert answer.status_code == 200
    assert answer.json()["result"] == expected["result"]
    assert answer.json()["stats"].keys() >= {"strategy", "tier", "threads", "predicted_peak_bytes"}


def test_the_wire_page_shows_requests_and_graphs_that_work(server: Server) -> None:
    page = (ROOT / "docs" / "wire.md").read_text("utf-8")
    request, graph, problem = [json.loads(b) for b in blocks("json", page)]
    with httpx2.Client(base_url=server.url) as client:
        answer = client.post("/v1/hessian", json=request)
        assert answer.json()["result"]["data"] == [6.0, 0.0, 0.0, 12.0]
        answer = client.post("/v1/grad", json={"function": {"graph": graph}, "inputs": [[1.0, 1.0, 1.0]]})
        assert answer.json()["result"]["data"] == [3.0, 24.0, 81.0]  # d/dx (k x)^3 = 3 k^3 x^2
        graph["constants"][0] = [1.0, 2.0]
        answer = client.post("/v1/grad", json={"function": {"graph": graph}, "inputs": [[1.0, 1.0, 1.0]]})
    for member in ("type", "title", "status", "code", "pointer", "node", "retryable"):
        assert answer.json()[member] == problem[member]
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_wire_page_reads_a_frame(server: Server) -> None:
    (code,) = blocks("python", (ROOT / "docs" / "wire.md").read_text("utf-8"))
    names: dict[str, Any] = {}
    exec(compile(code, "wire.md", "exec"), names)
    answer = httpx2.post(f"{server.url}/v1/hessian", headers={"Accept": "application/octet-stream"},
                         json={"function": {"expression": "sum(x**3)"}, "inputs": [[1.0, 2.0]]})
    assert names["first_float64s"](answer.headers, answer.content) == ([2, 2], (6.0, 0.0, 0.0, 12.0))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl")
def test_the_page_of_jobs_runs(server: Server) -> None:
    page = (ROOT / "docs" / "jobs.md").read_text("utf-8")
    (code,) = blocks("python", page)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(LOCAL_URL, server.url), "jobs.md", "exec"), {})
    assert "end {'state': 'succeeded'}" in printed.getvalue()
    assert printed.getvalue().split()[-6:] == ["[[", "6.", "0.]", "[", "0.", "12.]]"]
    submit, others = blocks("sh", page)
    answer = _sh(submit, server)
    assert answer.startswith("HTTP/1.1 202")
    (name,) = re.findall(r"^location: /v1/jobs/(\w+)", answer, flags=re.MULTILINE)
    wait_for(lambda: httpx2.get(f"{server.url}/v1/jobs/{name}").json()["state"] == "succeeded", 30)
    said = [_sh(f"ID={name}; {line}", server) for line in others.splitlines()]
    assert json.loads(said[0])["id"] == name
    assert json.loads(said[1])["result"]["data"] == [6.0, 0.0, 0.0, 12.0]
    assert "event: end" in said[2]
    assert said[3] == ""
    assert json.loads(said[4]) == {"jobs": [], "next": None}


def _sh(text: str, server: Server) -> str:
    done = subprocess.run(["sh", "-c", text.replace(LOCAL_URL, server.url)], capture_output=True, text=True, timeout=60,
                          check=True)
    return done.stdout


def test_the_wire_page_states_the_limits() -> None:
    page = " ".join((ROOT / "docs" / "wire.md").read_text("utf-8").split())
    assert f"{wire.MAX_INPUTS} inputs and {wire.MAX_NODES:,} nodes" in page
    assert f"a tensor {tensor.MAX_RANK} axes, an attribute {wire.MAX_ATTRIBUTE:,} entries" in page
    assert f"expression {MAX_EXPRESSION:,} characters" in page


def test_the_operations_page_names_metrics_that_exist() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    prose = page.partition("## Metrics")[2].partition("<!-- metrics -->")[0] + page.partition("### Alerts")[2]
    samples = {sample for name in REGISTRY._names_to_collectors for sample in (name, f"{name}_bucket")}
    named = set(re.findall(r"\bhesse_[a-z_]+", prose.replace("hesse_service", "")))
    assert len(named) > 20
    assert named - samples == set()
    labels = {label for c in REGISTRY._collector_to_names for label in c._labelnames}  # type: ignore[attr-defined]
    matched = {label for group in re.findall(r"hesse_\w+{([^}]*)}", prose) for label in re.findall(r"(\w+)[=!]", group)}
    assert matched <= labels


def test_the_operations_page_names_the_reasons_that_are_counted() -> None:
    """Literals of the code: an alert on a reason that nothing counts would never fire."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    text = "".join([(ROOT / "service" / "hesse_service" / f"{name}.py").read_text("utf-8")
                    for name in ("workers", "slots")])
    counted = set(re.findall(r'_renew\(slot, "(\w+)"', text))
    counted |= set(re.findall(r'return "(requests|bytes)"', text))
    told = page.partition("`reason` is")[2].partition("Time that")[0]
    assert set(re.findall(r"`([\w-]+)`", told)) == counted
    (alert,) = re.findall(r'reason=~"([^"]*)"', page)
    assert set(alert.split("|")) < counted


def test_the_operations_page_has_every_5xx() -> None:
    table = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("## What to do on 5xx")[2]
    told = dict(re.findall(r"^\| `([a-z-]+)` \| (\d+) ", table, flags=re.MULTILINE))
    assert told == {code: str(cls(code, "").status) for code, cls in CODES.items() if cls(code, "").status >= 500}


def test_the_security_page_names_tests_that_exist() -> None:
    """A name without a file is in the file named before it."""
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    file, seen = "", 0
    for path, name in re.findall(r"`((?:[a-z_]+/)*test_[a-z_]+\.py)?(?:::(test_[a-z0-9_]+))?`", page):
        file = path or file
        if not (path or name):
            continue
        text = (ROOT / "tests" / file).read_text("utf-8")
        assert not name or f"def {name}(" in text, f"{file}::{name}"
        seen += 1
    assert seen > 40


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "loadtests" / "README.md", *tables.pages(),
                 *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
