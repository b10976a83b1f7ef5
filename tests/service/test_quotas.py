"""Quotas: the bucket's arithmetic against exact fractions, its file, and what servers charge and say."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

import keyed
from hesse_engine.compute import prepare
from hesse_engine.errors import HesseError
from hesse_engine.frontends.expression import parse
from hesse_engine.options import Options
from hesse_service.quotas import SLOTS, Ledger, Meter, Quota, cost_of, over_quota
from serving import Server, running, wait_for

MINUTE = Quota("ada", 60, 100)  # a unit a second


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "quotas", clock)
    yield made
    made.close()


def test_a_bucket_starts_full_and_fills_at_its_rate(ledger: Ledger, clock: Clock) -> None:
    assert ledger.level(MINUTE) == 100.0
    assert ledger.take(MINUTE, 30.0) is None
    assert ledger.level(MINUTE) == 70.0
    clock.now += 10
    assert ledger.level(MINUTE) == 80.0
    clock.now += 1000
    assert ledger.level(MINUTE) == 100.0
    assert ledger.take(MINUTE, 100.0) is None
    assert ledger.take(MINUTE, 0.5) == 0.0


def test_a_refusal_takes_what_is_owed_anyway(ledger: Ledger) -> None:
    ledger.take(MINUTE, 98.0)
    assert ledger.take(MINUTE, 50.0, 0.5) == 1.5
    assert ledger.level(MINUTE) == 1.5
    assert ledger.take(MINUTE, math.inf, 7.0) == 0.0
    assert ledger.level(MINUTE) == 0.0


def test_against_exact_fractions(ledger: Ledger, clock: Clock) -> None:
    """2000 random steps against a bucket kept in fractions; steps are dyadic, so that floats are exact, too."""
    draw, level, refused = random.Random(5), Fraction(100), 0
    for _ in range(2000):
        step = Fraction(draw.randrange(0, 64), 16)
        clock.now += float(step)
        level = min(Fraction(100), level + step)
        units = Fraction(draw.randrange(0, 256), 32)
        found = ledger.take(MINUTE, float(units))
        assert found == (None if units <= level else float(level))
        refused += units > level
        level -= units if units <= level else 0
    assert 100 < refused < 1900


def test_wall_clock_jumps_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "quotas")
    still = Quota("ada", 1, 100)
    ledger.take(still, 40.0)
    for wall in (0.0, 4e9):
        monkeypatch.setattr("time.time", lambda wall=wall: wall)
        assert 60.0 <= ledger.level(still) < 61.0
    ledger.close()


def test_a_reboot_gives_nothing_and_takes_nothing(ledger: Ledger, clock: Clock) -> None:
    ledger.take(MINUTE, 60.0)
    clock.now = 5.0  # the clock starts anew
    assert ledger.level(MINUTE) == 40.0
    assert ledger.take(MINUTE, 10.0) is None
    assert ledger.level(MINUTE) == 30.0
    clock.now = 15.0
    assert ledger.level(MINUTE) == 40.0


def test_buckets_outlive_their_process(tmp_path: Path, clock: Clock) -> None:
    one = Ledger(tmp_path / "quotas", clock)
    one.take(MINUTE, 60.0)
    one.close()
    two = Ledger(tmp_path / "quotas", clock)
    assert two.level(MINUTE) == 40.0
    two.close()


def test_owners_have_buckets_of_their_own(ledger: Ledger) -> None:
    ledger.take(MINUTE, 60.0)
    assert ledger.level(replace(MINUTE, owner="bob")) == 100.0
    assert ledger.level(MINUTE) == 40.0


def test_a_changed_quota(ledger: Ledger, clock: Clock) -> None:
    ledger.take(MINUTE, 10.0)
    assert ledger.level(replace(MINUTE, burst=50)) == 50.0
    assert ledger.level(replace(MINUTE, burst=500)) == 90.0


@pytest.mark.parametrize("content", [b"", b"\xff" * 100_000, os.urandom(4096)], ids=["empty", "NaN", "noise"])
def test_a_damaged_file_is_a_full_bucket_at_worst(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "quotas").write_bytes(content)
    ledger = Ledger(tmp_path / "quotas")
    assert ledger.level(MINUTE) == 100.0
    assert ledger.take(MINUTE, 60.0) is None
    assert 40.0 <= ledger.level(MINUTE) < 100.0
    ledger.close()


def test_a_damaged_level(ledger: Ledger, tmp_path: Path) -> None:
    ledger.take(MINUTE, 60.0)
    whole = (tmp_path / "quotas").read_bytes()
    at = whole.index(struct.pack("<d", 40.0))
    for wrong in (math.nan, math.inf, -5.0, 1e300):
        with (tmp_path / "quotas").open("r+b") as file:
            file.seek(at)
            file.write(struct.pack("<d", wrong))
        assert ledger.level(MINUTE) == 100.0


def test_more_owners_than_slots(ledger: Ledger) -> None:
    """Whoever is forgotten has a full bucket; nobody loses, nothing fails."""
    for k in range(SLOTS + 50):
        assert ledger.take(Quota(f"owner {k}", 60, 100), 60.0) is None
    levels = [ledger.level(Quota(f"owner {k}", 60, 100)) for k in range(SLOTS + 50)]
    assert set(levels) == {40.0, 100.0}
    assert levels.count(100.0) <= 100


def _spend(path: Path, barrier: Any, granted: Any) -> None:
    ledger = Ledger(path, lambda: 0.0)
    barrier.wait()
    count = sum([ledger.take(Quota("ada", 1, 10_000), 1.0) is None for _ in range(4000)])
    with granted.get_lock():
        granted.value += count
    ledger.close()


def test_processes_never_grant_more_than_there_is(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, granted = context.Barrier(4), context.Value("q", 0)
    started = [context.Process(target=_spend, args=(tmp_path / "quotas", barrier, granted)) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(100)
        assert process.exitcode == 0
    assert granted.value == 10_000


# ---- costs ---------------------------------------------------------------------------------------------------------
def plan(expression: str, n: int, operation: str = "hessian", **options: Any) -> Any:
    graph = parse(expression, [("x", (n,), np.dtype(np.float64))])
    return prepare(graph, operation, Options(**options)).plan


def test_costs_grow_with_the_work() -> None:
    costs = [cost_of(plan("log(sum(exp(x)))", n)) for n in (1, 10, 100, 1000)]
    assert costs == sorted(costs)
    assert costs[-1] > 100 * costs[0]
    assert cost_of(plan("sum(x**3)", 500, "value")) < cost_of(plan("sum(x**3)", 500))
    assert cost_of(plan("sum(x**3)", 500, batch=50)) > 20 * cost_of(plan("sum(x**3)", 500))
    made = plan("sum(x**3)", 10)
    for name in ("flops", "bytes_read", "bytes_written", "predicted_peak_bytes", "result_bytes"):
        assert cost_of(replace(made, **{name: getattr(made, name) + 10**9})) > cost_of(made) + 100


def test_costs_do_not_depend_on_the_machine() -> None:
    made = plan("sum(x**3)", 10)
    assert cost_of(replace(made, predicted_seconds=100.0)) == cost_of(made)


def test_what_a_refusal_says() -> None:
    error = over_quota(50.0, 20.0, MINUTE)
    assert (error.code, error.status, error.retry_after_s, error.is_retryable) == ("over-quota", 429, 30.0, True)
    never = over_quota(101.0, 20.0, MINUTE)
    assert (never.code, never.status, never.is_retryable) == ("over-quota", 429, False)
    assert never.retry_after_s == math.inf
    import pickle

    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.retry_after_s, str(again)) == (type(error), 30.0, str(error))


def test_a_meter_without_quota_charges_nobody(ledger: Ledger) -> None:
    Meter(None).charge(MINUTE, 1e9)
    Meter(ledger).charge(None, 1e9)
    Meter(ledger).charge(MINUTE, 60.0, 10.0)
    assert ledger.level(MINUTE) == 30.0
    with pytest.raises(HesseError, match=r"24\.9 are left"):
        Meter(ledger).charge(MINUTE, 31.0, 5.0)
    assert ledger.level(MINUTE) == pytest.approx(24.9)
    Meter(ledger).charge_failed(MINUTE, 0.01)
    assert ledger.level(MINUTE) == pytest.approx(14.8)


# ---- servers -------------------------------------------------------------------------------------------------------
FREE, RICH, SLOW, POOR, SHARED = 1, 2, 3, 4, 5
SMALL = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
LARGE = {"function": {"expression": "log(sum(exp(x)))"}, "inputs": [[0.5] * 700]}  # 4 MB: about 50 units
LIMIT = re.compile(r'"default";r=(\d+);t=(\d+)')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("quotas")
    path = keyed.write(folder / "keys", keyed.line("free", FREE), keyed.line("rich", RICH, quota=60_000),
                       keyed.line("slow", SLOW, quota=6, burst=100), keyed.line("poor", POOR, quota=6, burst=20),
                       keyed.line("shared", SHARED, quota=1, burst=1000))
    with running(folder / "server.log", workers=2, compute_processes=1, keys_file=path,
                 data_dir=folder / "data") as started:
        yield started


def left(response: httpx2.Response) -> tuple[int, int]:
    """(r, t) of the header RateLimit."""
    match = LIMIT.fullmatch(response.headers["ratelimit"])
    assert match is not None
    return int(match[1]), int(match[2])


def test_headers_of_every_answer(server: Server) -> None:
    with keyed.holder(server.url, RICH) as client:
        answers = [client.post("/v1/value", json=SMALL), client.get("/v1/functions"), client.get("/nothing"),
                   client.post("/v1/value", json={}), client.post("/v1/value", content=b"{")]
        assert [a.status_code for a in answers] == [200, 200, 404, 422, 415]
        for answer in answers:
            assert answer.headers["ratelimit-policy"] == '"default";q=60000;w=60'
            units, seconds = left(answer)
            assert 0 <= units <= 60_000
            assert 0 <= seconds <= 60
    with keyed.holder(server.url, FREE) as client:
        assert "ratelimit" not in client.post("/v1/value", json=SMALL).headers


def test_a_refusal_comes_before_the_work_and_says_when(server: Server) -> None:
    with keyed.holder(server.url, SLOW) as client:
        first = client.post("/v1/hessian", json=LARGE)
        assert first.status_code == 200, first.text
        before, _ = left(first)
        assert before < 60
        refused = [client.post("/v1/hessian", json=LARGE) for _ in range(2)][-1]
        problem = refused.json()
        assert (refused.status_code, problem["code"], problem["retryable"]) == (429, "over-quota", True)
        units, seconds = left(refused)
        assert int(refused.headers["retry-after"]) == seconds > 0
        needed = float(re.search(r"costs ([0-9.]+) units", problem["detail"])[1])  # type: ignore[index]
        assert math.isclose(seconds, (needed - units) / 0.1, abs_tol=12)
        assert client.post("/v1/value", json=SMALL).status_code == 200  # what is left is enough for this


def test_what_can_never_be_answered(server: Server) -> None:
    with keyed.holder(server.url, POOR) as client:
        response = client.post("/v1/hessian", json=LARGE)
        problem = response.json()
        assert (response.status_code, problem["code"], problem["retryable"]) == (429, "over-quota", False)
        assert "never" in problem["hint"]
        assert "retry-after" not in response.headers
        while client.post("/v1/value", json=SMALL).status_code == 200:
            pass
        spent = client.post("/v1/value", json=SMALL)  # refused before its body is read, or after
        assert (spent.status_code, spent.json()["code"]) == (429, "over-quota")
        assert int(spent.headers["retry-after"]) >= 1
        assert client.get("/v1/functions").status_code == 200
        assert client.get("/livez").status_code == 200


def test_server_processes_share_a_bucket(server: Server) -> None:
    """Each request on a connection of its own: both processes answer, and one level falls."""
    spent = []
    for _ in range(20):
        with keyed.holder(server.url, SHARED) as client:
            response = client.post("/v1/value", json=SMALL)
            assert response.status_code == 200
            spent.append(1000 - left(response)[0])
    assert spent == sorted(spent)
    each = spent[-1] / 20
    with keyed.holder(server.url, SHARED) as client:
        client.post("/v1/hessian", json=LARGE)
        assert 1000 - left(client.get("/v1/functions"))[0] > 20 * each + 40


def test_failures_are_charged(server: Server) -> None:
    with keyed.holder(server.url, SHARED) as client:
        before = left(client.get("/v1/functions"))[0]
        for _ in range(30):
            assert client.post("/v1/hessian", json={"function": {"expression": "sum(x**2) +"}, "inputs": [[1.0]]}
                               ).status_code == 422
        assert left(client.get("/v1/functions"))[0] < before - 2


def test_calls_by_id_are_charged_inline(server: Server) -> None:
    with keyed.holder(server.url, SHARED) as client:
        made = client.put("/v1/functions", json={"function": {"expression": "sum(x**2)"},
                                                 "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}]})
        call = {"function": {"id": made.json()["id"]}, "inputs": [[1.0, 2.0]]}

        def is_inline() -> bool:
            return "queue;dur=0.000," in client.post("/v1/hessian", json=call).headers["server-timing"]

        wait_for(is_inline, 60)
        before = left(client.get("/v1/functions"))[0]
        for _ in range(100):
            assert client.post("/v1/hessian", json=call).status_code == 200
        assert 8 <= before - left(client.get("/v1/functions"))[0] <= 20


def test_a_server_that_cannot_keep_quotas_does_not_start(tmp_path: Path) -> None:
    path = keyed.write(tmp_path / "keys", keyed.line("ada", 1, quota=5))
    (tmp_path / "data" / "quotas").mkdir(parents=True)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HESSE_KEYS_FILE": str(path),
           "HESSE_DATA_DIR": str(tmp_path / "data"), "HESSE_COMPUTE_PROCESSES": "1"}
    done = subprocess.run([sys.executable, "-m", "hesse", "serve", "--port", "0"], env=env, capture_output=True,
                          text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert "quotas" in done.stderr
