"""Devices and threads. There is one device, the CPU; how many threads it may use is `threads`, not part of its name."""

from __future__ import annotations

import os
from typing import Any

from hesse_engine.errors import InputError

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
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: Any) -> int:
    """`threads` as given, or 1."""
    if threads is None:
        return 1
    if type(threads) is not int or not 1 <= threads <= 1024:
        raise InputError("bad-option", f"threads must be an integer from 1 to 1024, or None; got {threads!r:.40}.")
    return int(threads)
