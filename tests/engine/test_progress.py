"""Progress counts the chunks of a whole computation, whichever way it is computed, and costs nothing unheard."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from hesse_engine import progress
from hesse_engine.compute import Options, prepare
from hesse_engine.frontends.expression import parse
from hesse_engine.ir.graph import FLOAT64, Graph

N = 40


def function(expression: str, n: int = N) -> Graph:
    return parse(expression, [("x", (n,), np.dtype(FLOAT64))])


DENSE = "exp(sum(x * x) / 40) * sum(sin(x))"
CHAIN = "sum(sin(x[1:] * x[:-1]) * exp(x[1:]))"
COUPLED = "sum(sin(x[1:] * x[:-1]) * exp(cos(x[1:]) * x[:-1]) ** x[1:])"


def heard(graph: Graph, operation: str, x: Any, **options: Any) -> tuple[list[tuple[int, int]], Any]:
    prepared = prepare(graph, operation, Options(**options))
    reports: list[tuple[int, int]] = []
    with progress.listening(lambda done, total: reports.append((done, total))):
        result = prepared((x,))
    return reports, result


@pytest.mark.parametrize("case", [
    ("hessian", DENSE, {"chunk_size": 8, "strategy": "forward-over-reverse"}),
    ("hessian", DENSE, {"chunk_size": 8, "strategy": "forward-over-reverse", "preallocate": False}),
    ("hessian_diag", DENSE, {"chunk_size": 8, "strategy": "forward-over-reverse"}),
    ("hessian", CHAIN, {"chunk_size": 1, "layout": "csr"}),
    ("jacobian", "x * sin(x[0]) + x * x", {"chunk_size": 1, "layout": "csr"}),
    ("jacobian", "sin(x) * x", {"chunk_size": 8, "strategy": "reverse"}),
    ("hessian", DENSE, {}),
    ("value", DENSE, {}),
])
def test_reports_count_from_the_first_chunk_to_the_last(case: tuple[str, str, dict[str, Any]]) -> None:
    operation, expression, options = case
    reports, result = heard(function(expression), operation, np.linspace(0.1, 1.0, N), **options)
    total = reports[-1][1]
    assert reports == [(k, total) for k in range(1, total + 1)]
    if "chunk_size" in options and result.stats["chunks"]:
        assert total == result.stats["chunks"]


def test_a_sweep_has_as_many_reports_as_chunks() -> None:
    reports, _ = heard(function(DENSE), "hessian", np.ones(N), chunk_size=8, strategy="forward-over-reverse")
    assert reports == [(k, 5) for k in range(1, 6)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("operation", ["hessian", "grad", "value_grad_hessian"])
def test_points_of_a_batch_by_any_number_of_threads(operation: str, threads: int) -> None:
    points = np.random.default_rng(1).random((100, N))
    reports, _ = heard(function(DENSE), operation, points, batch=100, chunk_size=16, threads=threads)
    total = reports[-1][1]
    assert total >= 7  # 100 points, at most 16 at once
    assert reports == [(k, total) for k in range(1, total + 1)]


def test_listeners_are_those_of_the_thread() -> None:
    prepared = prepare(function(DENSE), "hessian", Options(chunk_size=8, strategy="forward-over-reverse"))
    mine: list[int] = []
    with progress.listening(lambda done, total: mine.append(done)):
        other = threading.Thread(target=lambda: prepared((np.ones(N),)))
        other.start()
        other.join()
        assert mine == []
        prepared((np.ones(N),))
    assert mine == [1, 2, 3, 4, 5]
    prepared((np.ones(N),))
    assert mine == [1, 2, 3, 4, 5]


class Enough(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_listener_raises_ends_the_computation_between_chunks(threads: int) -> None:
    prepared = prepare(function(DENSE), "hessian", Options(batch=100, chunk_size=10, threads=threads))
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        raise Enough

    with progress.listening(stop), pytest.raises(Enough):
        prepared((np.ones((100, N)),))
    assert 1 <= len(seen) <= threads
    value = prepared((np.ones((100, N)),)).value  # and it can be used afterwards
    assert value.shape == (100, N, N)


def test_listening_nests_and_ends_where_it_raises() -> None:
    outer: list[int] = []
    inner: list[int] = []

    def fail() -> None:
        with progress.listening(lambda done, total: inner.append(done)):
            progress.report(1, 2)
            raise Enough

    with progress.listening(lambda done, total: outer.append(done)):
        with pytest.raises(Enough):
            fail()
        progress.report(2, 2)
    progress.report(3, 3)
    assert (inner, outer) == ([1], [2])
