"""Plans: what they predict, what they choose, what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine import compute
from hesse_engine.backend import cost
from hesse_engine.backend.machine import DEFAULTS
from hesse_engine.backend.plan import Plan, chosen_chunk, flops_of, readable_bytes, readable_seconds
from hesse_engine.backend.program import build_program
from hesse_engine.compute import Options, prepare
from hesse_engine.errors import LimitError
from hesse_engine.ir.graph import FLOAT64, Builder, apply
from hesse_engine.ir.walk import reachable

RNG = np.random.default_rng(8)
PLAN = Plan("hessian", "star-coloring", "cpu", 2, 12, 8, 2, 15, 33, 24_123, 24_000, 34_000)


@pytest.mark.parametrize(("op_name", "shapes", "attrs", "flops"), [
    ("exp", [(7, 5)], {}, 35),
    ("multiply", [(7, 5), (7, 5)], {}, 35),
    ("sum", [(7, 5)], {"axis": (1,)}, 35),
    ("contract", [(7, 5), (5, 3)], {"subscripts": "ab,bc->ac"}, 2 * 7 * 5 * 3),
    ("contract", [(4, 7, 5), (4, 5)], {"subscripts": "zab,zb->za"}, 2 * 4 * 7 * 5),
])
def test_flops(op_name: str, shapes: list[tuple[int, ...]], attrs: dict[str, Any], flops: int) -> None:
    builder = Builder()
    given = [builder.input(f"x{k}", s, FLOAT64) for k, s in enumerate(shapes)]
    node = apply(op_name, *given, **attrs)
    assert flops_of(reachable([node])) == flops


@pytest.mark.parametrize(("columns", "widest", "cap", "wanted"), [
    (0, 10, None, 0), (5, 10, None, 5), (1000, 1000, None, 32), (1000, 10**7, None, 8), (1000, 1000, 3, 3),
    (33, 1000, None, 24),
])
def test_chunks_fill_the_cache_in_whole_lanes(columns: int, widest: int, cap: int | None, wanted: int) -> None:
    assert chosen_chunk(columns, widest, 8, cap) == wanted


def test_a_plan_reads_as_a_few_lines() -> None:
    lines = str(replace(PLAN, colors=12, bytes_read=8000, bytes_written=24_000, predicted_seconds=1.234e-3)).split("\n")
    assert lines == [
        "hessian by star-coloring on cpu, 2 thread(s)",
        "  12 colors of the pattern, 8 at a time in 2 chunk(s)",
        "  15 nodes, 33 after derivation, about 24,123 flops",
        "  result 24 kB, predicted peak 34 kB",
        "  reads 8 kB, writes 24 kB, predicted 1.23 ms",
    ]
    assert str(PLAN).split("\n")[1] == "  12 columns, 8 at a time in 2 chunk(s)"
    assert PLAN.as_dict()["colors"] == 0


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (444_059_208, "444 MB"), (551_000_000_000, "551 GB"),
])
def test_bytes_as_words(count: int, text: str) -> None:
    assert readable_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(2.0, "2 s"), (0.0123, "12.3 ms"), (1.9e-4, "190 us"), (5e-6, "5 us")])
def test_seconds_as_words(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text


# ---- the model -------------------------------------------------------------------------------------------------------
class Fake:
    """A matrix program of which only the cost matters."""

    def __init__(self, programs: list[Any], chunks: int = 0, result_bytes: int = 8) -> None:
        self.programs, self.chunks, self.result_bytes = programs, chunks, result_bytes


def program_of(size: int, threads: int = 1, op_name: str = "exp", name: str = "x") -> Any:
    builder = Builder()
    x = builder.input(name, (size,), FLOAT64)
    return build_program([x], [apply(op_name, x)], threads=threads, tier="reference")


def test_work_costs_in_proportion() -> None:
    def seconds(size: int, **more: Any) -> float:
        return cost.cost_of_program(program_of(size, **more), DEFAULTS).seconds

    assert seconds(10**6) / seconds(10**5) == pytest.approx(10, rel=0.1)
    assert seconds(10**6, op_name="square") < seconds(10**6)
    assert seconds(10**6, threads=2) < 0.9 * seconds(10**6)
    assert seconds(100, threads=2) == seconds(100)  # not worth a second thread


def test_bytes_are_those_of_inputs_and_outputs() -> None:
    found = cost.cost_of_program(program_of(1000), DEFAULTS)
    assert (found.bytes_read, found.bytes_written, found.flops) == (8000, 8000, 1000)


def test_the_seeded_part_is_counted_for_every_chunk() -> None:
    before, seeded = program_of(1000), program_of(5000, name=cost.SEEDS)
    once = cost.cost_of_matrix(Fake([before, seeded], 1), DEFAULTS)
    many = cost.cost_of_matrix(Fake([before, seeded], 10), DEFAULTS)
    assert once.flops == 6000
    assert many.flops == 51_000


def test_the_cheapest_is_taken_and_a_tie_goes_to_the_first() -> None:
    small, large = Fake([program_of(1000)]), Fake([program_of(100_000)])
    assert cost.cheapest([large, small], DEFAULTS) is small
    assert cost.cheapest([small, large], DEFAULTS) is small
    alike = Fake([program_of(1001)]), Fake([program_of(1000)])
    assert cost.cheapest(alike, DEFAULTS) is alike[0]


def test_only_long_computations_are_compared() -> None:
    assert not cost.is_worth_comparing(Fake([program_of(1000)]), DEFAULTS)
    assert cost.is_worth_comparing(Fake([program_of(10**7)]), DEFAULTS)


def test_a_product_is_predicted_by_its_flops() -> None:
    a, b = RNG.normal(size=(400, 300)), RNG.normal(size=(300, 500))
    builder = Builder()
    node = apply("contract", builder.constant(a), builder.input("x", b.shape, FLOAT64), subscripts="ab,bc->ac")
    found = cost.cost_of([node], (), 1, replace(DEFAULTS, gemm_flops=1e9))
    assert found.seconds == pytest.approx(2 * 400 * 300 * 500 / 1e9, rel=0.1)


# ---- the budget ------------------------------------------------------------------------------------------------------
def rosen(n: int) -> Any:
    return graph_of(lambda x: op("exp", op("sum", op("sin", x) * op("tanh", op("sum", x * x)))), (n,))


def test_a_budget_below_the_result_is_refused_with_its_size() -> None:
    with pytest.raises(LimitError, match="The result alone takes 80,000 bytes") as caught:
        prepare(rosen(100), "hessian", Options(strategy="forward-over-reverse", max_memory_bytes=70_000))
    assert caught.value.code == "over-memory-budget"
    assert "max_memory_bytes=80000" in str(caught.value.hint)


def test_a_budget_below_the_smallest_chunk_is_refused_with_what_that_needs() -> None:
    options = Options(strategy="forward-over-reverse", max_memory_bytes=81_000)
    with pytest.raises(LimitError, match=r"chunk_size=1, would need ([0-9,]+) bytes") as caught:
        prepare(rosen(100), "hessian", options)
    (needed,) = [int(w.split("=")[1]) for w in str(caught.value.hint).rstrip(".;").replace(";", " ").split()
                 if w.startswith("max_memory_bytes=")]
    fits = prepare(rosen(100), "hessian", replace(options, max_memory_bytes=needed))
    assert fits.plan.chunk_size == 1
    assert fits.plan.predicted_peak_bytes <= needed


def test_a_tighter_budget_makes_smaller_chunks() -> None:
    free = prepare(rosen(200), "hessian", Options(strategy="forward-over-reverse")).plan
    budget = free.result_bytes + (free.predicted_peak_bytes - free.result_bytes) // 3
    tight = prepare(rosen(200), "hessian", Options(strategy="forward-over-reverse", max_memory_bytes=budget)).plan
    assert tight.chunk_size < free.chunk_size
    assert tight.predicted_peak_bytes <= budget


# ---- whole plans -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("operation", "options", "columns"), [
    ("value", {}, 0), ("grad", {}, 0), ("hvp", {}, 0), ("hessian", {}, None),
    ("hessian", {"strategy": "forward-over-reverse", "chunk_size": 8}, 50),
])
def test_every_plan_predicts_time_and_bytes(operation: str, options: dict[str, Any], columns: int | None) -> None:
    plan = prepare(rosen(50), operation, Options(**options)).plan
    assert plan.predicted_seconds > 0
    assert plan.bytes_read >= 400
    assert plan.bytes_written >= plan.result_bytes
    assert plan.flops > 0
    assert columns is None or plan.columns == columns
    assert "predicted" in str(plan)
    assert len(str(plan).split("\n")) <= 5


def test_more_chunks_are_predicted_to_take_longer() -> None:
    seconds = []
    for chunk in (1, 8, 64):
        options = Options(strategy="forward-over-reverse", chunk_size=chunk)
        seconds.append(prepare(rosen(200), "hessian", options).plan.predicted_seconds)
    assert seconds == sorted(seconds, reverse=True)


def test_a_sweep_is_taken_where_assembly_is_predicted_to_be_much_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    a = RNG.normal(size=(90, 60))
    graph = graph_of(lambda x: op("sum", op("exp", op("matmul", x.builder.constant(a), x))), (60,))
    x = RNG.normal(size=60) / 10
    usual = prepare(graph, "hessian", Options(argnums=0))
    monkeypatch.setattr(compute, "is_worth_comparing", lambda program, machine: True)
    same = prepare(graph, "hessian", Options(argnums=0))
    monkeypatch.setattr(compute, "cheapest", lambda candidates, machine: candidates[-1])
    swept = prepare(graph, "hessian", Options(argnums=0))
    kept = prepare(graph, "hessian", Options(argnums=0, max_memory_bytes=1 << 30))
    assert [p.plan.strategy for p in (usual, same, swept, kept)] == [
        "direct-assembly", "direct-assembly", "forward-over-reverse", "direct-assembly"]
    np.testing.assert_allclose(swept([x]).value, usual([x]).value, rtol=1e-12, atol=1e-12)
