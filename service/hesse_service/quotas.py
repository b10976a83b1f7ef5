"""Quotas: a token bucket for each owner, in units of predicted work, shared by all processes of one data folder.

A unit stands for a millisecond of one core at the rates below. What a request costs is known before it is computed and
depends on the request alone: not on the machine, on its load, or on what anybody sent before.

    cost = BASE + flops / FLOPS + (bytes read + written + peak) / BYTES + result bytes / RESULT_BYTES
         + NODE * nodes, where the request carries its function rather than an id
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hesse_engine.backend.plan import Plan
from hesse_engine.errors import HesseError, StateError

BASE = 0.1  # units of any request: reading, checking, answering
FLOPS = 1e6  # in a unit: a billion a second
BYTES = 1e6  # moved in a unit
RESULT_BYTES = 1e5  # written as text in a unit; measured: 80 to 120 thousand
NODE = 0.05  # units to plan a node; measured for Hessians: 20 to 90 us

WINDOW_S = 60
FILE = "quotas"
SLOTS = 1 << 15
SLOT_BYTES = 64
STATE = struct.Struct("dd")  # level [units], time of the level on the monotonic clock [s]
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Quota:
    """`per_minute` units are added to the bucket of `owner` each minute, up to `burst`."""

    owner: str
    per_minute: int
    burst: int

    @property
    def rate(self) -> float:
        """Units each second."""
        return self.per_minute / WINDOW_S


def cost_of(plan: Plan) -> float:
    """The units of computing what is planned; more flops, bytes or results never cost less."""
    moved = plan.bytes_read + plan.bytes_written + plan.predicted_peak_bytes
    return BASE + plan.flops / FLOPS + moved / BYTES + plan.result_bytes / RESULT_BYTES


class Ledger:
    """The buckets, in a file that every process of the server maps.

    The file is a hash table of owners with linear probing. A bucket that is not there is full, so a lost file loses
    only charges. Levels are kept with a time of the monotonic clock, which no clock setting moves; after a reboot that
    time lies ahead, and nothing is added for the time the machine was off.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._offsets: dict[str, tuple[bytes, int]] = {}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # blocks are reserved: on a full disk a write into a hole of a mapping ends the process
            os.posix_fallocate(self._file, 0, SLOTS * SLOT_BYTES)
            self._map = mmap.mmap(self._file, SLOTS * SLOT_BYTES)
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        self._map.close()
        os.close(self._file)

    def level(self, quota: Quota) -> float:
        """The units that are there now."""
        return self._level(quota, self._offset(quota.owner, is_kept=False))

    def take(self, quota: Quota, units: float, at_least: float = 0.0) -> float | None:
        """Take `units` if they are there. Else take what there is of `at_least`, and return what is left.

        Measured: 5 us.
        """
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                offset = self._offset(quota.owner, is_kept=True)
                level = self._level(quota, offset)
                taken = units if units <= level else min(at_least, level)
                assert offset is not None
                STATE.pack_into(self._map, offset, level - taken, self._clock())
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        return None if units <= level else level - taken

    def _level(self, quota: Quota, offset: int | None) -> float:
        if offset is None:
            return float(quota.burst)
        level, then = STATE.unpack_from(self._map, offset)
        if not 0.0 <= level <= quota.burst:  # a smaller burst than before, or no number
            level = float(quota.burst)
        added = quota.rate * max(0.0, self._clock() - then)
        return float(min(quota.burst, level + added))

    def _offset(self, owner: str, is_kept: bool) -> int | None:
        """Where the state of the owner's bucket is; where there is none it is made, full, if `is_kept`."""
        digest, offset = self._offsets.get(owner, (b"", -1))
        if offset >= 0 and self._map[offset - DIGEST_BYTES : offset] == digest:
            return offset
        digest = hashlib.sha256(owner.encode()).digest()
        first = int.from_bytes(digest[:4], "little") % SLOTS
        for step in range(SLOTS):
            start = (first + step) % SLOTS * SLOT_BYTES
            found = self._map[start : start + DIGEST_BYTES]
            if found == digest or not any(found):
                break
        else:  # every slot is somebody's: the one where this owner's would be is forgotten
            start = first * SLOT_BYTES
        if self._map[start : start + DIGEST_BYTES] != digest:
            if not is_kept:
                return None
            STATE.pack_into(self._map, start + DIGEST_BYTES, math.inf, 0.0)
            self._map[start : start + DIGEST_BYTES] = digest
        self._offsets[owner] = digest, start + DIGEST_BYTES
        return start + DIGEST_BYTES


class Meter:
    """Charges requests in the process that plans them."""

    def __init__(self, ledger: Ledger | None) -> None:
        self.ledger = ledger

    def bill(self, quota: Quota | None, *, is_charged: bool = False) -> Bill:
        """For `with`: what fails in it before it is charged is charged the time it took."""
        return Bill(self, quota, is_charged)

    def charge(self, quota: Quota | None, units: float, planning: float = 0.0) -> None:
        """Charge a request whose computing costs `units`, and whose planning cost `planning`.

        A refused request is charged its planning only.

        Raises:
            StateError: `over-quota`.
        """
        if quota is None or self.ledger is None:
            return
        level = self.ledger.take(quota, units + planning, BASE + planning)
        if level is not None:
            raise over_quota(units + planning, level, quota)

    def charge_failed(self, quota: Quota | None, seconds: float) -> None:
        """Charge a request that failed before its cost was known: the time it took, as far as units are left."""
        if quota is not None and self.ledger is not None:
            self.ledger.take(quota, math.inf, BASE + 1e3 * seconds)


class Bill:
    """The charge of one request; `is_charged`: it was charged before."""

    __slots__ = ("is_charged", "meter", "quota", "started")

    def __init__(self, meter: Meter, quota: Quota | None, is_charged: bool) -> None:
        self.meter, self.quota, self.is_charged, self.started = meter, quota, is_charged, 0.0

    def charge(self, units: float, planning: float = 0.0) -> None:
        """As `Meter.charge`, for this request."""
        self.is_charged = True
        self.meter.charge(self.quota, units, planning)

    def __enter__(self) -> Bill:
        self.started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and not self.is_charged:
            self.meter.charge_failed(self.quota, time.perf_counter() - self.started)


def over_quota(units: float, level: float, quota: Quota) -> HesseError:
    """The refusal, which says when the units will be there."""
    if units > quota.burst:
        error = StateError(
            "over-quota",
            f"The request costs {units:.4g} units; the quota of this key never holds more than {quota.burst}.",
            hint="It can never be answered with this key: ask for less at a time, or the operator for a larger quota.",
        )
        error.retry_after_s = math.inf
        return error
    wait_s = max(0.0, units - level) / quota.rate
    error = StateError(
        "over-quota",
        f"The request costs {units:.4g} units; {level:.4g} are left of the quota of this key.",
        hint=f"Try again in {math.ceil(wait_s)} s; the header RateLimit tells what is left.",
    )
    error.retry_after_s = wait_s
    return error


def quota_headers(ledger: Ledger, quota: Quota, waits: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).

    `r` units are left; after `t` seconds the bucket is full, or, on a refusal, the request may be repeated.
    """
    level = ledger.level(quota)
    t = waits[0] if waits else b"%d" % math.ceil((quota.burst - level) / quota.rate)
    return [
        (b"ratelimit-policy", b'"default";q=%d;w=%d' % (quota.per_minute, WINDOW_S)),
        (b"ratelimit", b'"default";r=%d;t=%b' % (level, t)),
    ]
