"""The store of jobs: who gets which job, who may change it, and what is left behind; several processes at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hesse_engine.errors import StateError
from hesse_service.job_leases import is_gone, own_name
from hesse_service.job_store import Application, Job, JobStore
from hesse_service.settings import Settings

PROBLEM = '{"code": "worker-died", "message": "It died.", "hint": null, "pointer": null, "node": null}'
GONE = own_name().replace(f"/{os.getpid()}/", "/1/").rpartition("/")[0] + "/0"  # process 1 began later than that


def opened(folder: Path, runner: str = "", **settings: Any) -> JobStore:
    return JobStore(folder / "jobs.sqlite", folder / "jobs", Settings(**settings), runner or own_name())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    made = opened(tmp_path, max_jobs=5)
    yield made
    made.close()


def add(store: JobStore, owner: str = "", body: bytes = b"{}", key: str | None = None) -> Job:
    return store.add(Application(owner, "hessian", "{}", body, body, key))


def claim(store: JobStore) -> Job:
    found = store.claim()
    assert found is not None
    return found[0]


def lease_of(job: Job) -> str:
    assert job.lease is not None
    return job.lease


def again(store: JobStore, job: Job) -> Job:
    found = store.get(job.owner, job.id)
    assert found is not None
    return found


def test_a_job_comes_back_as_it_was_given(store: JobStore) -> None:
    body = bytes(range(256)) * 1000
    made = add(store, "a", body)
    found = store.claim()
    assert found is not None
    assert (found[0].id, found[1], found[2]) == (made.id, "{}", body)
    assert store.claim() is None


def test_the_oldest_first_and_owners_in_turn(store: JobStore) -> None:
    made = [add(store, owner) for owner in ("a", "a", "a", "b", "b", "c")]
    taken = [claim(store).id for _ in made]
    assert taken == [made[k].id for k in (0, 3, 5, 1, 4, 2)]


def test_jobs_that_are_canceled_do_not_pile_up(tmp_path: Path) -> None:
    store = opened(tmp_path, jobs_kept=4)
    other = add(store, "b")
    store.cancel("b", other.id)
    made = [add(store, "a") for _ in range(12)]
    for job in made:
        assert store.cancel("a", job.id) is not None
    assert [j.id for j in store.page("a", None, None, 100)] == [j.id for j in reversed(made[-4:])]
    assert store.get("b", other.id) is not None
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        assert db.execute("SELECT count(*) FROM events").fetchone()[0] == 2 * 5
    store.close()


def test_each_job_is_taken_once(tmp_path: Path) -> None:
    """Four connections at once."""
    stores = [opened(tmp_path, max_jobs=1000) for _ in range(4)]
    made = {add(stores[0]).id for _ in range(60)}

    def take(store: JobStore) -> list[str]:
        found = []
        while (job := store.claim()) is not None:
            found.append(job[0].id)
        return found

    with ThreadPoolExecutor(4) as pool:
        taken = [name for part in pool.map(take, stores) for name in part]
    assert len(taken) == 60
    assert set(taken) == made
    for store in stores:
        store.close()


def test_stores_that_are_opened_at_the_same_time(tmp_path: Path) -> None:
    code = ("import sys; sys.path[:0] = sys.argv[2:]\n"
            "from pathlib import Path; from hesse_service.job_store import JobStore\n"
            "from hesse_service.settings import Settings; folder = Path(sys.argv[1])\n"
            "JobStore(folder / 'jobs.sqlite', folder / 'jobs', Settings(), 'a/b/1/1').close()")
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *sys.path]) for _ in range(4)]
    assert [p.wait(60) for p in started] == [0] * 4


def test_who_lost_a_job_changes_nothing(store: JobStore) -> None:
    made = add(store)
    first = lease_of(claim(store))
    store.requeue(first, PROBLEM)
    second = lease_of(claim(store))
    assert first != second
    assert not store.succeed(first, "file", "[]", 1)
    assert not store.fail(first, PROBLEM)
    store.progress(first, 1, 2)
    store.requeue(first, None)
    assert store.held([first, second]) == {second}
    now = again(store, made)
    assert (now.state, now.attempts, now.total) == ("running", 2, None)
    assert store.succeed(second, "file", "[]", 1)
    assert again(store, made).state == "succeeded"
    assert not store.fail(second, PROBLEM)


def test_attempts_come_to_an_end(store: JobStore) -> None:
    made = add(store)
    for attempt in (1, 2, 3):
        job = claim(store)
        assert job.attempts == attempt
        store.requeue(lease_of(job), PROBLEM)
    assert again(store, made).state == "failed"
    assert again(store, made).problem == PROBLEM
    assert store.claim() is None


def test_what_was_returned_was_no_attempt(store: JobStore) -> None:
    made = add(store)
    for _ in range(10):
        store.requeue(lease_of(claim(store)), None)
    assert (again(store, made).state, again(store, made).attempts) == ("queued", 0)


def test_jobs_of_processes_that_ended_are_returned(tmp_path: Path) -> None:
    ended, alive = opened(tmp_path, GONE), opened(tmp_path)
    jobs = [add(alive) for _ in range(3)]
    claim(ended)
    held = [lease_of(claim(alive)), lease_of(claim(alive))]
    assert alive.reclaim(PROBLEM, held) == 1
    assert [again(alive, j).state for j in jobs] == ["queued", "running", "running"]
    assert alive.reclaim(PROBLEM, held) == 0
    ended.close()
    alive.close()


def test_a_lease_that_is_not_renewed_ends(store: JobStore, tmp_path: Path) -> None:
    made = [add(store), add(store)]
    first, second = lease_of(claim(store)), lease_of(claim(store))
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        db.execute("UPDATE jobs SET leased_until = ?", (time.monotonic() - 1,))
    store.renew([second])
    assert store.reclaim(PROBLEM, []) == 1
    assert [again(store, j).state for j in made] == ["queued", "running"]
    assert store.held([first, second]) == {second}


def test_which_processes_are_known_to_have_ended() -> None:
    machine, namespace, pid, start = own_name().split("/")
    assert not is_gone(own_name())
    assert is_gone(f"another/{namespace}/{pid}/{start}")  # the machine started since
    assert not is_gone(f"{machine}/another/{pid}/0")  # in a container that cannot be seen
    assert is_gone(f"{machine}/{namespace}/{pid}/0")  # a process that had the number before
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert is_gone(f"{machine}/{namespace}/{child.pid}/{start}")


def test_a_canceled_job_is_nobody_s(store: JobStore) -> None:
    made = add(store)
    lease = lease_of(claim(store))
    assert store.cancel("", made.id) is not None
    assert store.held([lease]) == set()
    assert not store.succeed(lease, "file", "[]", 1)
    assert again(store, made).state == "canceled"


def test_canceled_jobs_are_kept_in_bounded_number(tmp_path: Path) -> None:
    made = opened(tmp_path, jobs_kept=3)
    try:
        names = [add(made).id for _ in range(7)]
        for name in names:
            made.cancel("", name)
        assert [j.id for j in made.page("", None, None, 100)] == names[:-4:-1]
    finally:
        made.close()


def test_owners_see_only_their_own(store: JobStore) -> None:
    made = add(store, "a", key="k")
    assert store.get("b", made.id) is None
    assert store.cancel("b", made.id) is None
    assert store.page("b", None, None, 10) == []
    other = add(store, "b", b"other", key="k")  # the same key, another owner, another request
    assert other.id != made.id
    assert [j.id for j in store.page("a", None, None, 10)] == [made.id]
    for _ in range(4):
        add(store, "a")
    with pytest.raises(StateError) as caught:
        add(store, "a")
    assert caught.value.code == "too-many-jobs"
    add(store, "b")


def test_files_that_nobody_entered_are_removed(tmp_path: Path) -> None:
    store = opened(tmp_path, job_keep_s=100)
    made = add(store)
    kept, stray, fresh = [tmp_path / "jobs" / name for name in ("kept", "stray", "fresh")]
    for path in (kept, stray, fresh):
        path.write_bytes(b"x")
    os.utime(kept, (0, 0))
    os.utime(stray, (0, 0))
    assert store.succeed(lease_of(claim(store)), "kept", "[]", 1)
    store.sweep()
    assert sorted([p.name for p in (tmp_path / "jobs").iterdir()]) == ["fresh", "kept"]
    store.remove(again(store, made))
    assert not kept.exists()
    store.close()


def test_a_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="version 99") as caught:
        opened(tmp_path)
    assert caught.value.code == "store-unavailable"


def test_what_is_no_database_is_said_to_be_unavailable(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StateError) as caught:
        opened(tmp_path)
    assert caught.value.code == "store-unavailable"


def test_requests_are_forgotten_when_their_job_ends(store: JobStore, tmp_path: Path) -> None:
    for end in (lambda j: store.fail(lease_of(j), PROBLEM), lambda j: store.succeed(lease_of(j), "f", "[]", 1),
                lambda j: store.cancel("", j.id)):
        add(store)
        end(claim(store))
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        assert db.execute("SELECT count(*) FROM requests").fetchone() == (0,)
