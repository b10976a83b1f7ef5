"""Registered functions by id, in one SQLite file that all processes of a server share."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hesse_engine.errors import LimitError, StateError

T = TypeVar("T")
TOUCH_S = 60.0  # the time of last use is written at most this often per function and process
BUSY_S = 5.0
# `turn` orders functions by use: a count, since the clock may be set back. The index answers it.
NEXT = "(SELECT coalesce(max(turn), 0) + 1 FROM functions WHERE owner = ?1)"

PUT = f"""
INSERT INTO functions (owner, id, bytes, signature, graph, created, used, turn)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, {NEXT})
ON CONFLICT (owner, id) DO UPDATE SET used = excluded.used, turn = excluded.turn
"""  # noqa: S608  (constants only)
TOUCH = f"UPDATE functions SET used = ?3, turn = {NEXT} WHERE owner = ?1 AND id = ?2"  # noqa: S608

SCHEMA = """
CREATE TABLE IF NOT EXISTS functions (
    owner TEXT NOT NULL, id TEXT NOT NULL, bytes INTEGER NOT NULL, signature BLOB NOT NULL, graph BLOB NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL, turn INTEGER NOT NULL, PRIMARY KEY (owner, id));
CREATE INDEX IF NOT EXISTS by_use ON functions (owner, turn, bytes);
CREATE INDEX IF NOT EXISTS by_age ON functions (owner, created, id);
"""
Listed = tuple[str, bytes, int, float, float]  # id, signature, bytes, created, used


class Store:
    """Graph documents (wire JSON) by owner and id. Thread-safe; one connection per object.

    Each owner has `max_count` functions of `max_bytes` together; the least recently used go first, so that what one
    owner stores takes nothing from another.
    """

    def __init__(self, path: Path, max_count: int, max_bytes: int) -> None:
        self.path, self.max_count, self.max_bytes = path, max_count, max_bytes
        self._lock = threading.Lock()
        self._touched: dict[tuple[str, str], float] = {}
        self._db = self._guarded(self._open)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(SCHEMA)
        return db

    def put(self, owner: str, name: str, signature: bytes, graph: bytes) -> None:
        """Store `graph` under `name` with its described inputs and outputs; again only renews its time of use."""
        if len(graph) > self.max_bytes:
            raise LimitError("function-too-large", f"The store holds {self.max_bytes} bytes of functions of one owner; "
                                                   "this function has more.",
                             hint="Send the function itself with each request.")

        def write() -> None:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute(
                    PUT,
                    (owner, name, len(graph), signature, graph, time.time()),
                )
                self._evict(owner, name)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

        self._guarded(write)

    def _evict(self, owner: str, newest: str) -> None:
        count, size = self._db.execute(
            "SELECT count(*), sum(bytes) FROM functions WHERE owner = ?", (owner,)
        ).fetchone()
        while count > self.max_count or size > self.max_bytes:
            name, length = self._db.execute(
                "SELECT id, bytes FROM functions WHERE owner = ? AND id <> ? ORDER BY turn LIMIT 1", (owner, newest)
            ).fetchone()
            self._db.execute("DELETE FROM functions WHERE owner = ? AND id = ?", (owner, name))
            count, size = count - 1, size - length

    def get(self, owner: str, name: str) -> bytes | None:
        """The graph document, and a note that it was used."""
        found = self._select("SELECT graph FROM functions WHERE owner = ? AND id = ?", owner, name)
        if found is not None:
            self.touch(owner, name)
        return found

    def signature(self, owner: str, name: str) -> bytes | None:
        """Id, inputs and outputs as JSON."""
        return self._select("SELECT signature FROM functions WHERE owner = ? AND id = ?", owner, name)

    def _select(self, query: str, owner: str, name: str) -> bytes | None:
        row = self._guarded(lambda: self._db.execute(query, (owner, name)).fetchone())
        return None if row is None else bytes(row[0])

    def page(self, owner: str, count: int, created: float, name: str) -> list[Listed]:
        """Up to `count` functions of the owner, oldest first, that come after the one `name`, created then."""
        return self._guarded(lambda: self._db.execute(
            "SELECT id, signature, bytes, created, used FROM functions WHERE owner = ? AND (created, id) > (?, ?) "
            "ORDER BY created, id LIMIT ?", (owner, created, name, count)).fetchall())

    def has(self, owner: str, name: str) -> bool:
        """Measured: 7 us."""
        return self._guarded(
            lambda: self._db.execute("SELECT 1 FROM functions WHERE owner = ? AND id = ?", (owner, name)).fetchone()
            is not None
        )

    def is_stale(self, owner: str, name: str) -> bool:
        """Whether the time of last use should be written again."""
        return time.monotonic() - self._touched.get((owner, name), -TOUCH_S) >= TOUCH_S

    def touch(self, owner: str, name: str) -> None:
        if not self.is_stale(owner, name):
            return
        if len(self._touched) > self.max_count:
            self._touched.clear()
        self._touched[owner, name] = time.monotonic()
        with contextlib.suppress(StateError):  # a full disk must not stop calls
            self._guarded(
                lambda: self._db.execute(
                    TOUCH,
                    (owner, name, time.time()),
                )
            )

    def delete(self, owner: str, name: str) -> bool:
        """Whether there was such a function."""
        return self._guarded(
            lambda: self._db.execute("DELETE FROM functions WHERE owner = ? AND id = ?", (owner, name)).rowcount > 0
        )

    def totals(self) -> tuple[int, int]:
        """How many functions are stored, and their bytes."""
        count, size = self._guarded(
            lambda: self._db.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM functions").fetchone()
        )
        return int(count), int(size)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _guarded(self, action: Callable[[], T]) -> T:
        with self._lock:
            try:
                return action()
            except sqlite3.Error as error:
                raise StateError(
                    "store-unavailable",
                    "The store of functions cannot be used at the moment.",
                    hint="Send the function itself instead of its id.",
                ) from error
