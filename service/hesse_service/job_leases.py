"""Which server process runs a job: names of processes, such that a process that ended is known to have ended.

A name is machine start / process namespace / process id / start of the process. Where one server process cannot see
another, in another container say, only the time of its lease tells.
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def own_name() -> str:
    """The name of this process."""
    pid = os.getpid()
    return "/".join([_machine_start(), _namespace(), str(pid), _start_of(pid)])


def is_gone(name: str) -> bool:
    """Whether the process is known to have ended."""
    machine_start, namespace, pid, start = name.split("/")
    if machine_start != _machine_start():
        return True
    if not start or namespace != _namespace():
        return False
    return _start_of(int(pid)) != start


def _machine_start() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When the process began, in ticks since the machine started; empty where it is no more."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
