"""One library in a process of its own, told what to time through a pipe.

A process for each library keeps their thread pools, allocators and crashes apart, and a call that takes too long can be
ended. They take turns, so that a drift of the machine meets all of them alike, and only one of them works at a time.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
import traceback
from collections.abc import Callable
from itertools import cycle, islice
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from benchmarks.cases import Case, by_name

INPUTS = 8  # different points that the timed calls go round
SETTLED_S, SETTLED_SHORT_S = 1.0, 0.02  # of calls before the timed ones: a jit tier comes in the background
WORKING_TIERS = ("vm", "jit")


class Failed(Exception):
    """A library could not do what it was asked; `code` says what, in one word."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class DidNotFinish(Exception):
    """A library was stopped."""


class Party:
    """The library's side: one case's calls are kept until the next case comes."""

    def __init__(self, library: Any, is_short: bool) -> None:
        self.library, self.is_short = library, is_short
        self.case: Case | None = None
        self.calls: dict[str, Callable[..., Any]] = {}
        self.batches: dict[str, list[tuple[Any, ...]]] = {}

    def version(self) -> str:
        return str(self.library.version)

    def names(self, case: str) -> list[str]:
        return list(self.library.names(by_name(self.is_short)[case], self.is_short))

    def first(self, case: str, name: str) -> tuple[float, Any]:
        """Seconds until the first result, and the result in a form to compare."""
        chosen = self._case(case)
        given = self._arguments(name, 1, seed=1)[0]
        started = perf_counter()
        call = self.library.make(name, chosen, 1.0)
        result = call(*given)
        seconds = perf_counter() - started
        self.calls[name] = call
        return seconds, self.library.plain(name, chosen, result)

    def cold(self, case: str, name: str, scale: float) -> float:
        """Seconds until the first result of a function never seen."""
        chosen, given = self._case(case), self._arguments(name, 1)[0]
        gc.collect()
        started = perf_counter()
        self.library.make(name, chosen, scale)(*given)
        return perf_counter() - started

    def settle(self, case: str, name: str, batch_s: float) -> int:
        """Call until times are steady; how many calls then take about `batch_s`."""
        self._case(case)
        points = self._arguments(name, INPUTS)
        call = self.calls[name]
        each: list[float] = []
        started, least = perf_counter(), SETTLED_SHORT_S if self.is_short else SETTLED_S
        for given in cycle(points):
            turn = perf_counter()
            call(*given)
            each.append(perf_counter() - turn)
            if len(each) > 2 and perf_counter() - started > least:
                break
        count = max(1, int(batch_s / sorted(each)[len(each) // 2]))
        self.batches[name] = list(islice(cycle(points), count))
        return count

    def hot(self, name: str) -> float:
        """Seconds of a call, over one batch."""
        call, batch = self.calls[name], self.batches[name]
        started = perf_counter()
        for given in batch:
            call(*given)
        return (perf_counter() - started) / len(batch)

    def stats(self, name: str) -> dict[str, Any]:
        assert self.case is not None
        found: dict[str, Any] = self.library.stats(name, self.case, self._arguments(name, 1)[0])
        return found

    def stages(self, case: str, scale: float) -> dict[str, Any]:
        found: dict[str, Any] = self.library.stages(self._case(case), scale)
        return found

    def peak_bytes(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def _case(self, name: str) -> Case:
        if self.case is None or self.case.name != name:
            self.case = by_name(self.is_short)[name]
            self.calls.clear()
            self.batches.clear()
            gc.collect()
        return self.case

    def _arguments(self, name: str, count: int, seed: int = 0) -> list[tuple[Any, ...]]:
        assert self.case is not None
        case = self.case
        return [self.library.arguments(name, case, x, v)
                for x, v in zip(case.points(count, seed), case.directions(count, seed), strict=True)]


def serve(pipe: Connection, file: str, is_short: bool) -> None:
    from benchmarks.peers import load

    party = Party(load(file), is_short)
    pipe.send(("done", None))
    while True:
        try:
            method, given = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", getattr(party, method)(*given))
        except Exception as error:  # noqa: BLE001  (whatever a library raises is reported as its result)
            code = str(getattr(error, "code", "") or type(error).__name__)
            answer = ("failed", (code, str(error)[:300], traceback.format_exc()))
        pipe.send(answer)


class Worker:
    """The parent's side of one library's process; started on first need, and again after it was stopped."""

    def __init__(self, file: str, is_short: bool, limit_s: float, *, verbose: bool = False) -> None:
        self.file, self.is_short, self.limit_s, self.verbose = file, is_short, limit_s, verbose
        self._process: Any = None
        self._pipe: Any = None

    def ask(self, method: str, *given: Any, limit_s: float | None = None) -> Any:
        """The answer of `Party.method(*given)`.

        Raises:
            DidNotFinish: it took longer than the limit, and was stopped.
            Failed: it raised, or its process ended.
        """
        self._start()
        self._pipe.send((method, given))
        return self._answer(self.limit_s if limit_s is None else limit_s)

    def _start(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self.file, self.is_short), daemon=True)
        self._process.start()
        other.close()
        self._answer(self.limit_s)

    def _answer(self, limit_s: float) -> Any:
        try:
            if not self._pipe.poll(limit_s):
                self.stop()
                raise DidNotFinish
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self.stop()
            raise Failed("ended", "the process ended, perhaps for lack of memory") from None
        if kind == "failed":
            code, text, trace = value
            if self.verbose:
                print(trace, file=sys.stderr)
            raise Failed(code, text)
        return value

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
