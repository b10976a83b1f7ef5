"""Requests that become jobs: what is answered, when, and to whom; over real connections."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hesse_service.job_store import STATES, JobStore
from hesse_service.settings import Settings
from serving import Server, running, slow_request, wait_for

GOOD = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
BAD = {"function": {"expression": "x"}, "inputs": [[1.0, 2.0]]}  # no scalar: known only once it is computed
LOCAL_URL = "http://127.0.0.1:8000"
PLAIN = {"Accept-Encoding": "identity"}  # what a result's bytes are counted by
ASYNC = {"Prefer": "respond-async"}
WAIT = {"Prefer": "respond-async, wait=60"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(folder / "server.log", compute_processes=2, jobs_at_once=1, max_jobs=3, data_dir=folder / "data",
                 segment_bytes=32_768, inline_body_bytes=100_000) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=90) as opened:
        yield opened
        for state in ("queued", "running"):  # in this order: a place that is free is taken at once
            for job in opened.get("/v1/jobs", params={"state": state}).json()["jobs"]:
                opened.delete(job["links"]["self"])


def submit(client: httpx2.Client, body: Any = GOOD, operation: str = "hessian", **headers: str) -> httpx2.Response:
    response = client.post(f"/v1/{operation}", json=body, headers={**ASYNC, **headers})
    assert response.status_code == 202, response.text
    return response


def state(client: httpx2.Client, path: str) -> str:
    found: str = client.get(path).json()["state"]
    return found


def finished(client: httpx2.Client, path: str) -> dict[str, Any]:
    wait_for(lambda: state(client, path) not in ("queued", "running"), 60)
    found: dict[str, Any] = client.get(path).json()
    return found


def slow(client: httpx2.Client) -> str:
    """The path of a job that runs, for tens of seconds."""
    path = submit(client, slow_request(), "value").headers["location"]
    wait_for(lambda: state(client, path) == "running", 20)
    return path


def events(text: str) -> list[tuple[int, str]]:
    """(id, event) of each, read by the rules of the format: blocks end with an empty line."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        if lines:
            members = dict(lines)
            found.append((int(members["id"]), members["event"]))
    return found


# ---- answers ---------------------------------------------------------------------------------------------------------
def test_a_job_is_accepted_run_and_asked_for(client: httpx2.Client) -> None:
    response = submit(client)
    body = response.json()
    path = response.headers["location"]
    assert path == body["links"]["self"] == f"/v1/jobs/{body['id']}"
    assert len(body["id"]) == 32
    assert response.headers["preference-applied"] == "respond-async"
    assert int(response.headers["retry-after"]) >= 1
    assert body["state"] in ("queued", "running", "succeeded")
    done = finished(client, path)
    assert done["state"] == "succeeded"
    assert done["attempts"] == 1
    assert done["created"] <= done["started"] <= done["finished"] < done["expires"]
    answer = client.get(f"{path}/result")
    direct = client.post("/v1/hessian", json=GOOD)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == direct.headers["content-type"]
    assert answer.json()["result"] == direct.json()["result"]


def test_who_waits_gets_the_answer_itself(client: httpx2.Client) -> None:
    for headers in (WAIT, {"Prefer": "wait=60"}):
        response = client.post("/v1/hessian", json=GOOD, headers=headers)
        assert response.status_code == 200
        assert response.json()["result"]["data"] == [2.0, 0.0, 0.0, 2.0]
        assert response.headers["preference-applied"] == headers["Prefer"]
        assert state(client, response.headers["location"]) == "succeeded"


def test_who_waits_in_vain_gets_the_job(client: httpx2.Client) -> None:
    response = client.post("/v1/value", json=slow_request(), headers={"Prefer": "wait=1"})
    assert response.status_code == 202
    assert response.json()["state"] in ("queued", "running")


def test_who_waits_hears_what_it_failed_with(client: httpx2.Client) -> None:
    response = client.post("/v1/hessian", json=BAD, headers=WAIT)
    assert response.status_code == 422
    assert response.json()["code"] == client.post("/v1/hessian", json=BAD).json()["code"] == "not-scalar"


def test_a_failed_job_has_its_problem(client: httpx2.Client) -> None:
    path = submit(client, BAD).headers["location"]
    done = finished(client, path)
    assert (done["state"], done["error"]["code"]) == ("failed", "not-scalar")
    answer = client.get(f"{path}/result")
    assert (answer.status_code, answer.json()["code"]) == (422, "not-scalar")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_large_answer_is_kept_whole_and_given_in_ranges(client: httpx2.Client) -> None:
    body = {"function": {"expression": "sum(x**3)"}, "inputs": [[0.5 * k for k in range(300)]]}
    path = submit(client, body, **PLAIN).headers["location"]
    assert finished(client, path)["state"] == "succeeded"
    whole = client.get(f"{path}/result")
    direct = client.post("/v1/hessian", json=body).json()
    assert whole.json()["result"] == direct["result"]
    part = client.get(f"{path}/result", headers={"Range": "bytes=1000-"})
    assert part.status_code == 206
    assert part.content == whole.content[1000:]
    for nonsense in ("bytes=999999999-", "lines=1-2", "bytes=9-3", "bytes=", "bytes=-"):
        assert client.get(f"{path}/result", headers={"Range": nonsense}).content == whole.content


def test_deadline_s_lowers_the_deadline_of_a_job(client: httpx2.Client) -> None:
    path = submit(client, slow_request(deadline_s=1.0), "value").headers["location"]
    assert finished(client, path)["error"]["code"] == "deadline-exceeded"


@pytest.mark.parametrize("value", ["", "respond-async=yes", "wait=soon", "wait=-1", "wait=", "wait", "handling=lenient",
                                   'respond-async="x"', "respond-async wait", '"', "=", "wait=1.5", "€" * 3])
def test_preferences_that_are_malformed_or_unknown_change_nothing(client: httpx2.Client, value: str) -> None:
    response = client.post("/v1/hessian", json=GOOD, headers={"Prefer": value.encode()})  # type: ignore[dict-item]
    assert response.status_code == 200
    assert "location" not in response.headers
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(("value", "status"), [
    ("respond-async", 202), ("Respond-Async", 202), ('foo; bar="a,b", respond-async', 202), ("respond-async;x=1", 202),
    ("wait=60, wait=0", 200), ("wait=0", 202), ('respond-async=""', 202), ('wait="60"', 200),
    ("return=minimal,respond-async,wait=60", 200)])
def test_preferences_as_they_may_be_written(client: httpx2.Client, value: str, status: int) -> None:
    assert client.post("/v1/hessian", json=GOOD, headers={"Prefer": value}).status_code == status


def test_a_malformed_request_makes_no_job(client: httpx2.Client) -> None:
    before = [j["id"] for j in client.get("/v1/jobs").json()["jobs"]]
    for content, code in ((b"{", "malformed-json"), (b"{}", "bad-request"), (b"", "malformed-json")):
        response = client.post("/v1/hessian", content=content, headers={**ASYNC, "Content-Type": "application/json"})
        assert response.json()["code"] == code
    assert [j["id"] for j in client.get("/v1/jobs").json()["jobs"]] == before


# ---- cancel, list, limits --------------------------------------------------------------------------------------------
def test_cancel_ends_the_computation(client: httpx2.Client, server: Server) -> None:
    path = slow(client)
    assert client.get(f"{path}/result").json()["code"] == "job-not-finished"
    pids = set(server.children())
    response = client.delete(path)
    assert (response.status_code, response.json()["state"]) == (200, "canceled")
    wait_for(lambda: pids - set(server.children()), 20)
    assert client.get(f"{path}/result").json()["code"] == "job-canceled"
    assert client.get(f"{path}/result").status_code == 409
    assert client.delete(path).status_code == 204
    for answer in (client.get(path), client.get(f"{path}/result"), client.get(f"{path}/events"), client.delete(path)):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-job")
    assert client.post("/v1/hessian", json=GOOD, headers=WAIT).status_code == 200


def test_a_queued_job_is_canceled_and_never_runs(client: httpx2.Client) -> None:
    first = slow(client)
    second = submit(client).headers["location"]
    assert client.delete(second).json()["state"] == "canceled"
    client.delete(first)
    assert client.post("/v1/hessian", json=GOOD, headers=WAIT).status_code == 200
    assert client.get(second).json()["attempts"] == 0


def test_room_is_left_for_requests_that_are_waited_for(client: httpx2.Client) -> None:
    slow(client)
    submit(client, slow_request(), "value")
    assert client.post("/v1/hessian", json=GOOD).status_code == 200
    assert len(client.get("/v1/jobs", params={"state": "running"}).json()["jobs"]) == 1


def test_too_many_jobs(client: httpx2.Client) -> None:
    slow(client)
    for _ in range(3):
        submit(client)
    response = client.post("/v1/hessian", json=GOOD, headers=ASYNC)
    assert (response.status_code, response.json()["code"]) == (429, "too-many-jobs")
    assert response.json()["retryable"] is True
    assert int(response.headers["retry-after"]) >= 1
    assert client.post("/v1/hessian", json=GOOD).status_code == 200


def test_pages_of_jobs(client: httpx2.Client) -> None:
    made = [client.post("/v1/hessian", json=GOOD, headers=WAIT).headers["location"] for _ in range(5)]
    seen: list[str] = []
    page: dict[str, Any] = {"next": None}
    for _ in range(3):
        after = {} if page["next"] is None else {"after": page["next"]}
        page = client.get("/v1/jobs", params={"limit": 2, "state": "succeeded", **after}).json()
        seen += [j["links"]["self"] for j in page["jobs"]]
    assert seen[:5] == made[::-1]
    for query in ("limit=0", "limit=x", "limit=101", "state=lost"):
        assert client.get(f"/v1/jobs?{query}").json()["code"] == "bad-request"
    assert client.get("/v1/jobs?after=nothing").json()["code"] == "unknown-job"


@pytest.mark.parametrize("name", ["0" * 32, "x", "%2e%2e", "a" * 4000, "%00", "0' OR '1'='1"])
def test_ids_of_no_job(client: httpx2.Client, name: str) -> None:
    for tail in ("", "/result", "/events"):
        response = client.get(f"/v1/jobs/{name}{tail}")
        assert response.status_code == 404
        assert response.json()["code"] in ("unknown-job", "not-found")


# ---- events ----------------------------------------------------------------------------------------------------------
def test_events_of_a_finished_job_are_told_again_and_end(client: httpx2.Client) -> None:
    path = client.post("/v1/hessian", json=GOOD, headers=WAIT).headers["location"]
    response = client.get(f"{path}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response.text)
    assert [e for _, e in told if e != "progress"] == ["state", "state", "end"]
    assert [k for k, _ in told] == list(range(1, len(told) + 1))
    rest = client.get(f"{path}/events", headers={"Last-Event-ID": "1"})
    assert events(rest.text) == told[1:]
    assert events(client.get(f"{path}/events", headers={"Last-Event-ID": str(len(told))}).text) == []
    for nonsense in ("-1", "x", "99999999999999999999"):
        assert events(client.get(f"{path}/events", headers={"Last-Event-ID": nonsense}).text) == told


def test_events_of_a_running_job_come_as_they_happen_and_resume(client: httpx2.Client, folder: Path) -> None:
    """Another process that opens the store, as the tests do here, writes progress that this one tells."""
    path = slow(client)
    other = JobStore(folder / "data" / "jobs.sqlite", folder / "data" / "jobs", Settings(), "a/b/1/1")
    job = other.get("", path.rpartition("/")[2])
    assert job is not None
    assert job.lease is not None
    seen: list[tuple[int, str]] = []
    for done in range(1, 4):
        other.progress(job.lease, done, 4)
        last = {"Last-Event-ID": str(seen[-1][0])} if seen else {}
        with client.stream("GET", f"{path}/events", headers=last) as response:
            for line in response.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                if line.startswith("id: "):
                    seen.append((int(line.removeprefix("id: ")), kind))
                    if kind == "progress":
                        break  # and come back with its id
    assert client.get(path).json()["progress"] == {"done": 3, "total": 4}
    other.close()
    client.delete(path)
    rest = events(client.get(f"{path}/events", headers={"Last-Event-ID": str(seen[-1][0])}).text)
    assert [*seen, *rest] == [(1, "state"), (2, "state"), (3, "progress"), (4, "progress"), (5, "progress"), (6, "end")]


# ---- idempotency -----------------------------------------------------------------------------------------------------
def test_the_same_key_and_request_is_the_same_job(client: httpx2.Client) -> None:
    for key in ('"first key"', '"first key"'):
        made = submit(client, **{"Idempotency-Key": key}).json()["id"]
        finished(client, f"/v1/jobs/{made}")
        assert submit(client, **{"Idempotency-Key": '"first key"'}).json()["id"] == made
    waited = client.post("/v1/hessian", json=GOOD, headers={**WAIT, "Idempotency-Key": '"first key"'})
    assert (waited.status_code, waited.headers["location"]) == (200, f"/v1/jobs/{made}")
    bare = submit(client, **{"Idempotency-Key": "bare-key"}).json()["id"]
    assert submit(client, **{"Idempotency-Key": '"bare-key"'}).json()["id"] == bare != made


def test_a_repeated_request_may_have_another_name_and_trace(client: httpx2.Client) -> None:
    made = [submit(client, **{"Idempotency-Key": "traced", "X-Request-ID": f"r{k}",
                              "traceparent": f"00-{k:032x}-{k:016x}-01"}).json()["id"] for k in (1, 2)]
    assert made[0] == made[1]


def test_a_key_with_another_request_is_refused(client: httpx2.Client) -> None:
    submit(client, **{"Idempotency-Key": "taken"})
    other = {**GOOD, "inputs": [[1.0, 3.0]]}
    for operation, body in (("hessian", other), ("grad", GOOD)):
        response = client.post(f"/v1/{operation}", json=body, headers={**ASYNC, "Idempotency-Key": "taken"})
        assert (response.status_code, response.json()["code"]) == (422, "idempotency-conflict")


def test_a_key_whose_first_request_still_arrives(server: Server, client: httpx2.Client) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /v1/hessian HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                     b"Prefer: respond-async\r\nIdempotency-Key: slow\r\nContent-Length: 1000\r\n\r\n{")
        response = wait_for(lambda: _refused(client, {**ASYNC, "Idempotency-Key": "slow"}), 10)
        assert response.json()["code"] == "idempotency-running"
        assert int(response.headers["retry-after"]) >= 1
    wait_for(lambda: _refused(client, {**ASYNC, "Idempotency-Key": "slow"}) is None, 10)


def _refused(client: httpx2.Client, headers: dict[str, str]) -> httpx2.Response | None:
    response = client.post("/v1/hessian", json=BAD, headers=headers)
    if response.status_code == 202:  # came first: the key is taken by another request now
        client.delete(finished(client, response.headers["location"])["links"]["self"])
    return response if response.status_code == 409 else None


@pytest.mark.parametrize("key", ["", '""', "k" * 256, '"' + "k" * 256 + '"', 'a"b', '"a', "a b", '"a";p=1', "é"])
def test_malformed_keys(client: httpx2.Client, key: str) -> None:
    headers = {"Prefer": b"respond-async", "Idempotency-Key": key.encode()}
    response = client.post("/v1/hessian", json=GOOD, headers=headers)  # type: ignore[arg-type]
    assert (response.status_code, response.json()["code"]) == (400, "bad-header")
    assert "kkkk" not in response.text


def test_two_keys_are_malformed(client: httpx2.Client) -> None:
    response = client.post("/v1/hessian", json=GOOD, headers=[("Prefer", "respond-async"), ("Idempotency-Key", "a"),
                                                              ("Idempotency-Key", "b")])
    assert response.json()["code"] == "bad-header"


# ---- expiry ----------------------------------------------------------------------------------------------------------
def test_results_expire_and_jobs_are_forgotten(tmp_path: Path) -> None:
    with (running(tmp_path / "server.log", compute_processes=1, job_keep_s=2, data_dir=tmp_path / "data") as server,
          httpx2.Client(base_url=server.url, timeout=60) as client):
        headers = {**WAIT, "Idempotency-Key": "k"}
        first = client.post("/v1/hessian", json=GOOD, headers=headers).headers["location"]
        failed = submit(client, BAD).headers["location"]
        wait_for(lambda: state(client, first) == "expired", 20)
        answer = client.get(f"{first}/result")
        assert (answer.status_code, answer.json()["code"]) == (410, "job-expired")
        assert not list((tmp_path / "data" / "jobs").iterdir())
        assert client.post("/v1/hessian", json=GOOD, headers=headers).headers["location"] != first
        for path in (first, failed):
            wait_for(lambda path=path: client.get(path).status_code == 404, 20)


def test_results_are_kept_within_their_bytes(tmp_path: Path) -> None:
    point = {"function": {"expression": "sum(x**3)"}, "inputs": [[1.0] * 40]}  # some 7 kB
    with (running(tmp_path / "server.log", compute_processes=1, job_bytes=20_000, jobs_kept=4,
                  data_dir=tmp_path / "data") as server,
          httpx2.Client(base_url=server.url, timeout=60) as client):
        plain = {**WAIT, **PLAIN}
        paths = [client.post("/v1/hessian", json=point, headers=plain).headers["location"] for _ in range(4)]
        assert [state(client, p) for p in paths] == ["expired", "expired", "succeeded", "succeeded"]
        assert sum([p.stat().st_size for p in (tmp_path / "data" / "jobs").iterdir()]) <= 20_000
        last = client.post("/v1/hessian", json=GOOD, headers=WAIT).headers["location"]
        assert client.get(paths[0]).status_code == 404
        assert state(client, last) == "succeeded"
        large = {**point, "inputs": [[1.0] * 100]}
        response = client.post("/v1/hessian", json=large, headers=plain)
        assert (response.status_code, response.json()["code"]) == (413, "result-too-large")
        assert sum([p.stat().st_size for p in (tmp_path / "data" / "jobs").iterdir()]) <= 20_000


# ---- the page --------------------------------------------------------------------------------------------------------
PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text("utf-8")


def test_the_page_shows_requests_that_work(client: httpx2.Client) -> None:
    first, more = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    words = shlex.split(first)
    headers = dict([words[k + 1].split(": ", 1) for k, word in enumerate(words) if word == "-H"])
    made = client.post(words[2].replace(LOCAL_URL, ""), content=words[words.index("-d") + 1], headers=headers)
    assert made.status_code == 202
    finished(client, made.headers["location"])
    for line in more.splitlines():
        words = shlex.split(line, comments=True)
        url = next(w for w in words if w.startswith("http")).replace(LOCAL_URL, "").replace("$ID", made.json()["id"])
        response = client.request("DELETE" if "DELETE" in words else "GET", url)
        assert response.status_code in (200, 204)


def test_the_page_shows_a_program_that_works(server: Server) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(LOCAL_URL, server.url), "jobs.md", "exec"), {})
    assert "end {'state': 'succeeded'}" in printed.getvalue()
    assert printed.getvalue().rpartition("}\n")[2].split() == ["[[", "6.", "0.]", "[", "0.", "12.]]"]


def test_the_page_names_every_state_and_code() -> None:
    assert all([f"| `{name}` |" in PAGE for name in STATES])
    for code in ("job-not-finished", "job-canceled", "job-expired", "unknown-job", "idempotency-conflict",
                 "idempotency-running", "bad-header", "too-many-jobs", "store-unavailable", "worker-died"):
        assert f"`{code}`" in PAGE
