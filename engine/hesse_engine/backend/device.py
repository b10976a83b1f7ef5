"""Devices and threads. There is one device, the CPU; how many threads it may use is `threads`, not part of its name."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from hesse_engine.errors import InputError

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or microseconds of processor time in so many
DEVICES = ("cpu",)
KNOWN = ("cuda", "mps", "xpu", "gpu", "tpu", "hip", "rocm")


def check_device(name: Any) -> str:
    """'cpu' (torch's 'cpu:0' means the same); anything else is an error that says what is there."""
    kind, _, index = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind == "cpu" and index in ("", "0"):
        return "cpu"
    if kind == "cpu" and index.isdigit():
        raise InputError(
            "device-absent", f"There is one CPU device, 'cpu'; '{name}' names its index {index}.",
            hint=f"For {index} threads say threads={index}.",
        )
    if kind in KNOWN:
        raise InputError("device-absent", f"Device {kind!r} is not available; available: 'cpu'.")
    raise InputError("bad-device", "The device is not known; available: 'cpu'.")


def available_threads() -> int:
    """Cores that this process may use: of those it may run on, as many as its container's quota pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota() or cores)


def _quota() -> int | None:
    """Cores by the quota of the control group (version 2), rounded up; None without one."""
    try:
        quota, period = CPU_MAX.read_text("ascii").split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no control groups, or "max"
        return None


def check_threads(threads: Any) -> int:
    """`threads` as given, or 1."""
    if threads is None:
        return 1
    if type(threads) is not int or not 1 <= threads <= 1024:
        raise InputError("bad-option", f"threads must be an integer from 1 to 1024, or None; got {threads!r:.40}.")
    return int(threads)
