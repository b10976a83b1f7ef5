"""Jobs, their events and requests in one SQLite file that all processes of a server share; results in files beside it.

Every change of a job's state is one transaction, and changes by whoever runs it are guarded by its lease: a process
that lost the job, by being too slow or thought dead, changes nothing. Times of people are wall-clock; leases count on
the clock that all processes of a machine share and nobody sets.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hesse_engine.errors import HesseError, StateError
from hesse_service.job_leases import is_gone
from hesse_service.settings import Settings

T = TypeVar("T")
VERSION = 1
BUSY_S = 5.0
LEASE_S = 30.0
STATES = ("queued", "running", "succeeded", "failed", "canceled", "expired")
UNFINISHED = ("queued", "running")

SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, id TEXT NOT NULL, operation TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, started REAL, finished REAL, attempts INTEGER NOT NULL DEFAULT 0,
    done INTEGER, total INTEGER, problem TEXT, result TEXT, headers TEXT, size INTEGER NOT NULL DEFAULT 0,
    runner TEXT, lease TEXT, leased_until REAL, key TEXT, fingerprint BLOB, seq INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX by_id ON jobs (owner, id);
CREATE UNIQUE INDEX by_key ON jobs (owner, key) WHERE key IS NOT NULL;
CREATE INDEX by_state ON jobs (state, owner, number);
CREATE INDEX by_lease ON jobs (lease) WHERE lease IS NOT NULL;
CREATE TABLE requests (number INTEGER PRIMARY KEY, terms TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE events (number INTEGER, seq INTEGER, kind TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (number, seq))
    WITHOUT ROWID;
"""
COLUMNS = (
    "number, owner, id, operation, state, created, started, finished, attempts, done, total, problem, result, headers, "
    "size, lease, fingerprint"
)
# the owner with the fewest running jobs first, of his the oldest
CLAIM = """
UPDATE jobs SET state = 'running', attempts = attempts + 1, runner = ?, lease = ?, leased_until = ?,
    started = coalesce(started, ?)
WHERE state = 'queued' AND number = (
    SELECT number FROM jobs WHERE state = 'queued'
    ORDER BY (SELECT count(*) FROM jobs r WHERE r.state = 'running' AND r.owner = jobs.owner), number LIMIT 1)
RETURNING number, attempts
"""
AMONG = "lease IN (SELECT value FROM json_each(?)) AND state = 'running'"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. `problem`, `headers`: JSON, of the error or the answer; `result`: the answer's file."""

    number: int
    owner: str
    id: str
    operation: str
    state: str
    created: float
    started: float | None
    finished: float | None
    attempts: int
    done: int | None
    total: int | None
    problem: str | None
    result: str | None
    headers: str | None
    size: int
    lease: str | None
    fingerprint: bytes | None

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED


@dataclass(frozen=True, slots=True)
class Application:
    """What makes a job: the request, and the key that makes it safe to repeat."""

    owner: str
    operation: str
    terms: str
    body: bytes
    fingerprint: bytes
    key: str | None


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    kind: str
    data: Any


class JobStore:
    """Thread-safe; one connection per object."""

    def __init__(self, path: Path, folder: Path, settings: Settings, runner: str) -> None:
        self.path, self.folder, self.settings, self.runner = path, folder, settings, runner
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)
        self._db = self._guarded(self._open)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _patiently(lambda: db.execute("PRAGMA journal_mode = WAL"))
        db.execute("PRAGMA synchronous = FULL")  # an accepted job outlives a loss of power
        db.execute("PRAGMA journal_size_limit = 67108864")
        db.execute("BEGIN IMMEDIATE")
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found == 0:
            for statement in SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
        if found not in (0, VERSION):
            db.close()
            raise StateError("store-unavailable", f"The jobs are stored in version {found}; this is version {VERSION}.",
                             hint="Start the version of Hesse that wrote them, or remove jobs.sqlite from data_dir.")
        return db

    # ---- by the owner -----------------------------------------------------------------------------------------------
    def add(self, application: Application) -> Job:
        """The new job, or the one that the same request with the same key made before.

        Raises:
            StateError: `idempotency-conflict`, `too-many-jobs`, `store-unavailable`.
        """
        with self._writing() as db:
            owner = application.owner
            if application.key is not None:
                known = self._one("owner = ? AND key = ?", owner, application.key)
                if known is not None and known.fingerprint != application.fingerprint:
                    raise StateError("idempotency-conflict", "The Idempotency-Key came before, with another request.",
                                     hint="Send a new key with a new request.")
                if known is not None:
                    return known
            (waiting,) = db.execute("SELECT count(*) FROM jobs WHERE state = 'queued' AND owner = ?",
                                    (owner,)).fetchone()
            if waiting >= self.settings.max_jobs:
                raise StateError("too-many-jobs", f"{waiting} jobs wait already; {self.settings.max_jobs} may.",
                                 hint="Wait for some of them, or cancel them.")
            number = db.execute(
                "INSERT INTO jobs (owner, id, operation, state, created, key, fingerprint) "
                "VALUES (?, ?, ?, 'queued', ?, ?, ?)",
                (owner, os.urandom(16).hex(), application.operation, time.time(), application.key,
                 application.fingerprint)).lastrowid
            assert number is not None
            db.execute("INSERT INTO requests VALUES (?, ?, ?)", (number, application.terms, application.body))
            self._tell(number, "state", {"state": "queued"})
            return self._known(number)

    def get(self, owner: str, name: str) -> Job | None:
        return self._guarded(lambda: self._one("owner = ? AND id = ?", owner, name))

    def page(self, owner: str, state: str | None, after: int | None, limit: int) -> list[Job]:
        """The newest first; `after` is the number of the last one seen."""
        query = (f"SELECT {COLUMNS} FROM jobs WHERE owner = ? AND number < ? AND (? IS NULL OR state = ?) "  # noqa: S608
                 "ORDER BY number DESC LIMIT ?")
        values = (owner, (1 << 62) if after is None else after, state, state, limit)
        rows = self._guarded(lambda: self._db.execute(query, values).fetchall())
        return [Job(*row) for row in rows]

    def events(self, number: int, after: int) -> list[Event]:
        rows = self._guarded(lambda: self._db.execute(
            "SELECT seq, kind, data FROM events WHERE number = ? AND seq > ? ORDER BY seq", (number, after)).fetchall())
        return [Event(seq, kind, json.loads(data)) for seq, kind, data in rows]

    def cancel(self, owner: str, name: str) -> Job | None:
        """Cancel an unfinished job. Whoever runs it learns so from the lease that it lost."""
        with self._writing():
            job = self._one("owner = ? AND id = ?", owner, name)
            if job is None or job.is_finished:
                return job
            self._end(job.number, "canceled")
            canceled = self._known(job.number)
            gone = self._bound(job.owner, job.number)
        self._unlink(gone)
        return canceled

    def remove(self, job: Job) -> None:
        with self._writing():
            self._drop([job.number])
        self._unlink([job.result])

    # ---- by whoever runs it -----------------------------------------------------------------------------------------
    def claim(self) -> tuple[Job, str, bytes] | None:
        """A queued job, now leased to this process, with its terms and body."""
        query = "SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1"
        if self._guarded(lambda: self._db.execute(query).fetchone()) is None:
            return None
        lease = os.urandom(16).hex()
        with self._writing() as db:
            found = db.execute(CLAIM, (self.runner, lease, time.monotonic() + LEASE_S, time.time())).fetchone()
            if found is None:
                return None
            number, attempts = found
            self._tell(number, "state", {"state": "running", "attempts": attempts})
            terms, body = db.execute("SELECT terms, body FROM requests WHERE number = ?", (number,)).fetchone()
            return self._known(number), terms, bytes(body)

    def held(self, leases: list[str]) -> set[str]:
        """Which of these leases still hold."""
        query = f"SELECT lease FROM jobs WHERE {AMONG}"  # noqa: S608 (a constant)
        rows = self._guarded(lambda: self._db.execute(query, (json.dumps(leases),)).fetchall())
        return {row[0] for row in rows}

    def renew(self, leases: list[str]) -> None:
        query = f"UPDATE jobs SET leased_until = ? WHERE {AMONG}"  # noqa: S608 (a constant)
        with self._writing() as db:
            db.execute(query, (time.monotonic() + LEASE_S, json.dumps(leases)))

    def progress(self, lease: str, done: int, total: int) -> None:
        with self._writing() as db:
            found = db.execute("UPDATE jobs SET done = ?, total = ? WHERE lease = ? AND state = 'running' "
                               "RETURNING number", (done, total, lease)).fetchone()
            if found is not None:
                self._tell(found[0], "progress", {"done": done, "total": total})

    def succeed(self, lease: str, result: str, headers: str, size: int) -> bool:
        """Whether the job was still this lease's; its answer is then the file `result`."""
        with self._writing() as db:
            job = self._one("lease = ? AND state = 'running'", lease)
            if job is None:
                return False
            db.execute("UPDATE jobs SET result = ?, headers = ?, size = ? WHERE number = ?",
                       (result, headers, size, job.number))
            self._end(job.number, "succeeded")
            gone = self._bound(job.owner, job.number)
        self._unlink(gone)
        return True

    def fail(self, lease: str, problem: str) -> bool:
        with self._writing():
            job = self._one("lease = ? AND state = 'running'", lease)
            if job is not None:
                self._end(job.number, "failed", problem)
                self._unlink(self._bound(job.owner, job.number))
            return job is not None

    def requeue(self, lease: str, problem: str | None) -> None:
        """Back into the queue; with a problem it was an attempt, and after the last one the job failed with it."""
        with self._writing() as db:
            job = self._one("lease = ? AND state = 'running'", lease)
            if job is None:
                return
            if problem is not None and job.attempts >= self.settings.job_attempts:
                self._end(job.number, "failed", problem)
                self._unlink(self._bound(job.owner, job.number))
                return
            db.execute("UPDATE jobs SET state = 'queued', runner = NULL, lease = NULL, done = NULL, total = NULL, "
                       "attempts = ? WHERE number = ?", (job.attempts - (problem is None), job.number))
            self._tell(job.number, "state", {"state": "queued"})

    # ---- by everybody, now and then ---------------------------------------------------------------------------------
    def reclaim(self, problem: str, held: list[str]) -> int:
        """Return the jobs of server processes that ended to the queue; how many. `held` are run here."""
        rows = self._guarded(lambda: self._db.execute(
            "SELECT lease, runner, leased_until FROM jobs WHERE state = 'running'").fetchall())
        now = time.monotonic()
        lost = [lease for lease, runner, until in rows if lease not in held and (until < now or is_gone(runner))]
        for lease in lost:
            self.requeue(lease, problem)
        return len(lost)

    def sweep(self) -> None:
        """Let results expire, and forget jobs that did."""
        now, keep_s = time.time(), self.settings.job_keep_s
        with self._writing() as db:
            rows = db.execute("SELECT number FROM jobs WHERE state = 'succeeded' AND finished < ?", (now - keep_s,))
            gone = self._expire([r[0] for r in rows.fetchall()])
            rows = db.execute("SELECT number FROM jobs WHERE (state IN ('failed', 'canceled') AND finished < ?) "
                              "OR (state = 'expired' AND finished < ?)", (now - keep_s, now - 2 * keep_s))
            self._drop([r[0] for r in rows.fetchall()])
        self._unlink(gone)
        self._guarded(lambda: self._db.execute("PRAGMA incremental_vacuum").fetchall())
        self._remove_strays(now - max(2 * LEASE_S, keep_s))

    def _remove_strays(self, before: float) -> None:
        """Files that a process wrote and did not live to enter."""
        query = "SELECT result FROM jobs WHERE result IS NOT NULL"
        known = {row[0] for row in self._guarded(lambda: self._db.execute(query).fetchall())}
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in known and path.stat().st_mtime < before:
                    path.unlink()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # ---- inside a transaction ---------------------------------------------------------------------------------------
    def _one(self, where: str, *values: Any) -> Job | None:
        row = self._db.execute(f"SELECT {COLUMNS} FROM jobs WHERE {where}", values).fetchone()  # noqa: S608 (constants)
        return None if row is None else Job(*row)

    def _known(self, number: int) -> Job:
        job = self._one("number = ?", number)
        assert job is not None
        return job

    def _tell(self, number: int, kind: str, data: dict[str, Any]) -> None:
        (seq,) = self._db.execute("UPDATE jobs SET seq = seq + 1 WHERE number = ? RETURNING seq", (number,)).fetchone()
        self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (number, seq, kind, json.dumps(data)))

    def _end(self, number: int, state: str, problem: str | None = None) -> None:
        self._db.execute("UPDATE jobs SET state = ?, finished = ?, problem = ?, runner = NULL, lease = NULL "
                         "WHERE number = ?", (state, time.time(), problem, number))
        self._db.execute("DELETE FROM requests WHERE number = ?", (number,))
        error = {} if problem is None else {"error": json.loads(problem)}
        self._tell(number, "end", {"state": state, **error})

    def _bound(self, owner: str, newest: int) -> list[str | None]:
        """Keep within the bytes and the number of finished jobs of one owner; the files that are not needed."""
        rows = self._db.execute("SELECT number, size FROM jobs WHERE owner = ? AND state = 'succeeded' "
                                "ORDER BY finished DESC", (owner,)).fetchall()
        held, old = 0, []
        for number, size in rows:
            held += size
            if held > self.settings.job_bytes and number != newest:
                old.append(number)
        gone = self._expire(old)
        rows = self._db.execute("SELECT number, result FROM jobs WHERE owner = ? AND finished IS NOT NULL "
                                "ORDER BY finished DESC LIMIT -1 OFFSET ?", (owner, self.settings.jobs_kept)).fetchall()
        self._drop([number for number, _ in rows])
        return [*gone, *[result for _, result in rows]]

    def _expire(self, numbers: list[int]) -> list[str | None]:
        files: list[str | None] = []
        for number in numbers:
            files.append(self._known(number).result)
            self._db.execute("UPDATE jobs SET state = 'expired', key = NULL, result = NULL, size = 0 WHERE number = ?",
                             (number,))
        return files

    def _drop(self, numbers: list[int]) -> None:
        for number in numbers:
            self._db.execute("DELETE FROM jobs WHERE number = ?", (number,))
            self._db.execute("DELETE FROM requests WHERE number = ?", (number,))
            self._db.execute("DELETE FROM events WHERE number = ?", (number,))

    def _unlink(self, files: list[str | None]) -> None:
        for name in files:
            if name is not None:
                (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock, _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back where the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _guarded(self, action: Callable[[], T]) -> T:
        with self._lock, _translated():
            return action()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise unavailable() from error


def unavailable() -> HesseError:
    return StateError("store-unavailable", "The store of jobs cannot be used at the moment.",
                      hint="Ask without the header Prefer to be answered directly.")


def _patiently(action: Callable[[], Any]) -> None:
    """SQLite does not wait where two processes switch a new file to its log at the same time."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
