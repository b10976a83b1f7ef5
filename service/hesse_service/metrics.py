"""Prometheus metrics of a server process, and of all server processes together where `hesse serve` starts several.

No label holds anything that a client chooses: operations are named by their routes, and every unknown path is `other`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from hesse_engine.errors import StateError
from hesse_service.journal import Exchange, Journal
from hesse_service.tracing import STAGES

if TYPE_CHECKING:
    from hesse_service.service import Service

SECONDS = (5e-5, *[m * 10.0**e for e in range(-4, 2) for m in (1, 2, 5)], 100.0)
GAUGES_S = 1.0
STORE_S = 10.0  # between two looks at the store
SERVER = "server"  # the label `process` of the server process itself; compute processes are compute-0, compute-1, ...

REGISTRY = CollectorRegistry()
disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series


class Batched(Histogram):
    """A histogram that takes many observations in one step."""

    def observe_many(self, values: Sequence[float]) -> None:
        """As `observe` for each value; measured: 0.3 us a value instead of 2."""
        for index, count in Tally([bisect_left(self._upper_bounds, v) for v in values]).items():
            self._buckets[index].inc(count)
        self._sum.inc(sum(values))


def _seconds(name: str, text: str, labels: tuple[str, ...]) -> Batched:
    return Batched(name, text, labels, buckets=SECONDS, registry=REGISTRY)


def _count(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _level(name: str, text: str, labels: tuple[str, ...] = (), over: str = "livesum") -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY, multiprocess_mode=over)  # type: ignore[arg-type]


REQUESTS = _count("hesse_requests", "Answered requests.", ("operation", "status", "code"))
REQUEST_SECONDS = _seconds("hesse_request_seconds", "Head of a request to end of its answer [s].", ("operation",))
STAGE_SECONDS = _seconds(
    "hesse_stage_seconds", "Time of a computed request in queue, decode, plan, compute and encode [s].",
    ("stage", "operation"),
)
ANSWERS = _count(
    "hesse_answers", "Requests computed on the event loop (inline) and in a compute process (process).", ("place",)
)
DISCONNECTS = _count("hesse_disconnects", "Clients that left before their answer was complete.", ("operation",))
BODY_BYTES = _count("hesse_body_bytes", "Bytes of request bodies read.", ("operation",))
ANSWER_BYTES = _count("hesse_answer_bytes", "Bytes of answers sent.", ("operation",))
IN_FLIGHT = _level("hesse_requests_in_flight", "Requests that are being answered.")
QUEUE_LENGTH = _level("hesse_queue_length", "Requests that wait for a compute process.")
QUEUE_CAPACITY = _level("hesse_queue_capacity", "Requests that may wait for a compute process.")
PROCESSES = _level("hesse_compute_processes", "Compute processes.")
PROCESSES_BUSY = _level("hesse_compute_processes_busy", "Compute processes at work.")
RESTARTS = _count("hesse_compute_process_restarts", "Compute processes that were replaced, by reason.", ("reason",))
RSS = _level(
    "hesse_resident_bytes",
    "Resident memory: of the server process now, of a compute process after its last request [bytes].",
    ("process",), "liveall",
)
PREPARED = _level("hesse_prepared_functions", "Prepared computations kept.", ("process",), "liveall")
PREPARED_BYTES = _level("hesse_prepared_bytes", "Prepared computations kept [bytes].", ("process",), "liveall")
PREPARED_HITS = _count("hesse_prepared_hits", "Lookups that found a prepared computation.", ("place",))
PREPARED_MISSES = _count("hesse_prepared_misses", "Lookups that found no prepared computation.", ("place",))
KERNELS = _level("hesse_jit_kernels", "Compiled kernels that a compute process holds.", ("process",), "liveall")
STORE_FUNCTIONS = _level("hesse_store_functions", "Registered functions.", over="livemax")
STORE_BYTES = _level("hesse_store_bytes", "Registered functions [bytes].", over="livemax")
WARM = _level("hesse_warm", "1 once the VM is loaded in every process of the server.", over="livemin")
DRAINING = _level("hesse_draining", "1 from SIGTERM on.", over="livemax")
BUILD = _level("hesse_build_info", "1; the labels tell the versions.", ("version", "python"), "livemax")


def fold(batch: list[Exchange]) -> None:
    """Count finished exchanges."""
    groups: dict[tuple[str, int, str], list[Exchange]] = {}
    for exchange in batch:
        groups.setdefault((exchange.operation, exchange.status, exchange.code), []).append(exchange)
    for (operation, status, code), group in groups.items():
        REQUESTS.labels(operation, str(status), code).inc(len(group))
        _observe(REQUEST_SECONDS.labels(operation), [e.total for e in group])
        BODY_BYTES.labels(operation).inc(sum([e.body_bytes for e in group]))
        ANSWER_BYTES.labels(operation).inc(sum([e.answer_bytes for e in group]))
        gone = sum([e.status == 499 or not e.is_complete for e in group])
        if gone:
            DISCONNECTS.labels(operation).inc(gone)
        _fold_stages(operation, group)
        for place, count in Tally([e.place for e in group if e.place]).items():
            ANSWERS.labels(place).inc(count)


def _fold_stages(operation: str, group: list[Exchange]) -> None:
    measured = [e.seconds for e in group if e.seconds is not None and "compute" in e.seconds]
    for stage in STAGES if measured else ():
        _observe(STAGE_SECONDS.labels(stage, operation), [s.get(stage, 0.0) for s in measured])


def _observe(histogram: Histogram, values: list[float]) -> None:
    assert isinstance(histogram, Batched)
    histogram.observe_many(values)


class Processes:
    """Counts what compute processes report with their replies: totals since each process started."""

    def __init__(self) -> None:
        self._last: dict[int, Mapping[str, int]] = {}

    def reported(self, number: int, counters: Mapping[str, int]) -> None:
        before, label = self._last.get(number, {}), f"compute-{number}"
        if before.get("pid") != counters["pid"]:
            before = {}
        self._last[number] = counters
        _add_lookups("process", before, counters)
        RSS.labels(label).set(counters["resident_bytes"])
        PREPARED.labels(label).set(counters["prepared"])
        PREPARED_BYTES.labels(label).set(counters["prepared_bytes"])
        KERNELS.labels(label).set(counters["kernels"])

    def restarted(self, number: int, reason: str) -> None:
        RESTARTS.labels(reason).inc()
        self._last.pop(number, None)
        for gauge in (RSS, PREPARED, PREPARED_BYTES, KERNELS):
            gauge.labels(f"compute-{number}").set(0)


def _add_lookups(place: str, before: Mapping[str, int], now: Mapping[str, int]) -> None:
    for counter, name in ((PREPARED_HITS, "hits"), (PREPARED_MISSES, "misses")):
        counter.labels(place).inc(now[name] - before.get(name, 0))


class Sampler:
    """Sets the gauges of one server process, at most once in `GAUGES_S`."""

    def __init__(self, service: Service, journal: Journal, version: str) -> None:
        self.service, self.journal = service, journal
        self._at = self._store_at = -STORE_S
        self._lookups: Mapping[str, int] = {}
        self._process = psutil.Process()
        BUILD.labels(version, platform.python_version()).set(1)

    def __call__(self) -> None:
        if time.monotonic() - self._at >= GAUGES_S:
            self._at = time.monotonic()
            self.now()

    def now(self) -> None:
        service = self.service
        workers, entries = service.workers, service.evaluator.entries
        IN_FLIGHT.set(self.journal.in_flight)
        QUEUE_LENGTH.set(workers.waiting)
        QUEUE_CAPACITY.set(service.settings.queue_length)
        PROCESSES.set(workers.count)
        PROCESSES_BUSY.set(workers.busy)
        WARM.set(service.is_warm)
        DRAINING.set(service.lifecycle.is_draining)
        RSS.labels(SERVER).set(self._process.memory_info().rss)
        PREPARED.labels(SERVER).set(len(entries))
        PREPARED_BYTES.labels(SERVER).set(entries.bytes)
        lookups = {"hits": entries.hits, "misses": entries.misses}
        _add_lookups("inline", self._lookups, lookups)
        self._lookups = lookups

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """What a scrape reads, of all server processes, and its media type."""
        self.journal.flush()
        self.now()
        if time.monotonic() - self._store_at >= STORE_S:
            self._store_at = time.monotonic()
            await asyncio.to_thread(self._look_at_store)
        return await asyncio.to_thread(_written, accept)

    def _look_at_store(self) -> None:
        try:
            functions, size = self.service.store.totals()
        except StateError:  # its absence shows in the answers' codes
            return
        STORE_FUNCTIONS.set(functions)
        STORE_BYTES.set(size)


def close() -> None:
    """Take the gauges of this process out of what the other server processes tell; its counts stay."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]


def _written(accept: str) -> tuple[bytes, str]:
    encode, media_type = choose_encoder(accept)
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return encode(registry), media_type
