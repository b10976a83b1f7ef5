"""Where compiled code is kept. What lies there is unpickled and run, so nobody else may be able to write it."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder that may be read, and written if `is_writable`; `path` None: no cache, for `reason`."""

    path: Path | None
    is_writable: bool = False
    reason: str = ""


def locate() -> Cache:
    """`HESSE_CACHE_DIR`, else the user's cache folder: made, mode 0700, if absent; refused if others can write it."""
    path = default_folder()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        return Cache(None, reason=f"{path} cannot be used: {error.strerror or error}")
    if not stat.S_ISDIR(status.st_mode):
        return Cache(None, reason=f"{path} is not a folder")
    if hasattr(os, "geteuid"):
        if status.st_uid not in (os.geteuid(), 0):
            return Cache(None, reason=f"{path} belongs to another user")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return Cache(None, reason=f"{path} can be written by others; its mode should be 0700")
    return Cache(path, os.access(path, os.W_OK | os.X_OK))


def default_folder() -> Path:
    given = os.environ.get("HESSE_CACHE_DIR")
    if given:
        return Path(given).absolute()
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = str(Path.home() / "Library" / "Caches")
    else:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home).absolute() / "hesse"
