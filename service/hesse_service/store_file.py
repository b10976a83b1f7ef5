"""The store's file before a server uses it: a damaged one is set aside, as functions can be registered again."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from pathlib import Path

from hesse_engine.errors import StateError
from hesse_service.settings import Settings
from hesse_service.store import Store

logger = logging.getLogger("hesse.service")

STORE = "functions.sqlite"
ASIDE = ".corrupt"
COLUMNS = {"owner", "id", "bytes", "signature", "graph", "created", "used", "turn"}
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_store(settings: Settings, path: Path) -> Store:
    return Store(path, settings.store_functions, settings.store_bytes)


def repair(path: Path) -> None:
    """Set the file aside, under the name `*.corrupt`, if it is damaged or of other columns; one process at a time.

    Raises:
        OSError: the folder cannot be written.
    """
    with open(path.with_name("store.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        damage = _damage(path) if path.exists() else ""
        if damage:
            logger.error("%s is set aside as %s%s: %s", path, path.name, ASIDE, damage)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{suffix}", f"{path}{ASIDE}{suffix}")


def _damage(path: Path) -> str:
    """What is wrong with the file; '' where nothing is, or where it cannot be read at the moment."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            columns = {name for (name,) in db.execute("SELECT name FROM pragma_table_info('functions')")}
    except sqlite3.Error as error:
        return str(error) if error.sqlite_errorcode & 0xFF in DAMAGED else ""
    if verdict != "ok":
        return str(verdict)
    return "" if not columns or columns == COLUMNS else "it was not written by this version"


def fault(settings: Settings) -> str:
    """Why a server cannot store functions in `settings.data_dir`; '' where it can."""
    folder = settings.data_dir
    if folder is None:
        return ""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        repair(folder / STORE)
        open_store(settings, folder / STORE).close()
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror or error}"
    except StateError as error:
        return f"{folder / STORE} cannot be used: {error.__cause__ or error}"
    return ""
