"""The benchmarks' own arithmetic and tables; that they run is shown by their short form, in CI."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import chart, separate
from benchmarks.cases import Case, cases
from benchmarks.claims import Claim, Limit, Ratio, judge, seconds_text
from benchmarks.peers import FILES
from benchmarks.reasons import REASONS, reason_for
from benchmarks.report import Report, aligned, case_verdicts, table
from benchmarks.separate import COLD_CASES, SHORT_COLD_CASES
from benchmarks.timing import Row, Spread
from benchmarks.worker import DidNotFinish, Failed, Worker

MEDIANS = {"Hesse": 1e-3, "Hesse, out=": 2e-4, "JAX jit": 5e-3, "CasADi MX": 2e-3, "CasADi MX buffer": 1e-4}


@pytest.mark.parametrize(("claim", "outcome", "ratio"), [
    (Ratio(2), "pass", 2.0), (Ratio(2.1), "miss", 2.0), (Ratio(5, "JAX"), "pass", 5.0), (Ratio(6, "JAX"), "miss", 5.0),
    (Ratio(10, ours="Hesse, out="), "pass", 10.0), (Ratio(1, "torch"), "no peer", None),
    (Ratio(1, ours="Hesse, VM"), "not supported yet", None),
    (Limit(1e-3), "pass", None), (Limit(0.9e-3), "miss", None), (Limit(5e-9, per=200_000, of="variable"), "pass", None),
])
def test_claims_are_judged_by_medians(claim: Claim, outcome: str, ratio: float | None) -> None:
    verdict = judge("a case", claim, MEDIANS, {"Hesse, VM": "not supported yet: bad-option"}, ["CasADi MX buffer"])
    assert verdict.outcome == outcome
    assert verdict.ratio == (None if ratio is None else pytest.approx(ratio))


def test_who_did_not_finish_is_named_and_is_no_ratio() -> None:
    verdict = judge("a case", Ratio(50, "JAX"), {"Hesse": 1.0}, {"JAX jit": "did not finish in 120 s"}, [])
    assert (verdict.outcome, verdict.ratio) == ("no peer", None)
    assert "did not finish" in verdict.note


@pytest.mark.parametrize(("seconds", "text"), [
    (2.0, "2 s"), (1.5e-3, "1.5 ms"), (2.25e-6, "2.25 µs"), (4.5e-9, "4.5 ns"),
])
def test_times_as_words(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_spreads_are_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(3.0, 2.0, 4.0, 5)


# ---- the table of cases ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_short", [True, False])
def test_cases_have_names_of_their_own_and_inputs_that_differ(is_short: bool) -> None:
    table = cases(is_short)
    names = [c.name for c in table]
    assert len(set(names)) == len(names)
    assert {*COLD_CASES, *SHORT_COLD_CASES} <= set(names)
    for case in table:
        if case.n <= 10_000 and case.task != "batched":
            points = case.points(3)
            assert {p.shape for p in points} == {(case.n,)}
            assert len({p.tobytes() for p in points}) == 3


@pytest.mark.parametrize("case", [c for c in cases(True) if c.task == "hessian" and not c.is_guarded],
                         ids=lambda c: c.name)
def test_functions_are_numbers(case: Case) -> None:
    assert np.isfinite(case.f(np, case.points(1)[0], case.values()))


def test_data_are_measured_as_constants_and_as_arguments() -> None:
    table = {c.name: c for c in cases()}
    pairs = [(table[n.removesuffix("-args")], c) for n, c in table.items() if n.endswith("-args")]
    assert len(pairs) == 5
    for constant, argument in pairs:
        assert (constant.data_as, argument.data_as) == ("constants", "arguments")
        assert constant.claims == argument.claims


def test_reasons_belong_to_cases() -> None:
    titles = [c.title for c in cases()]
    titles += [separate.HUGE, f"{separate.START}, by the VM", *[separate.COLD + t for t in titles],
               *[t + separate.FIRST for t in titles]]
    for prefix in REASONS:
        assert any(t.startswith(prefix) for t in titles), prefix
    assert reason_for("nothing of the kind") == "not yet explained"


# ---- what is written -------------------------------------------------------------------------------------------------
def report(**changes: Any) -> Report:
    case = replace(cases(True)[0], claims=(Ratio(1), Ratio(100, "JAX")))
    rows = [Row(case.name, name, None, Spread(s, s, s, 3)) for name, s in MEDIANS.items()]
    rows[0].stats = {"tier": "vm", "strategy": "direct-assembly"}
    growth = [{"series": "hvp", "n": n, "nonzeros": n, "cold_s": 1e-3, "hot_s": n * 1e-9, "bytes": 8 * n}
              for n in (100, 1000)]
    verdicts, versions = case_verdicts(case, rows), {"embedded": "1"}
    made = Report([case], rows, verdicts, {"growth": growth}, versions, ["torch"], [], threads=2, is_short=True)
    return replace(made, **changes)


def test_the_page_has_every_table_and_says_what_is_missed() -> None:
    page = report().markdown()
    assert "<!--" not in page
    assert "| Rosenbrock, n=2 | ≥ 100 × JAX | 1 ms | 5 ms (JAX jit) | 5 | miss |" in page
    assert "- **Rosenbrock, n=2** (≥ 100 × JAX): 1 ms against 5 ms (JAX jit), ratio 5. not yet explained" in page
    assert "direct-assembly, vm" in page
    assert "not installed: torch" in page
    assert "None." in report(verdicts=[]).markdown()


def test_the_record_is_json_and_charts_are_svg(tmp_path: Path) -> None:
    made = report()
    made.write(tmp_path)
    command.draw(made, tmp_path)
    record = json.loads((tmp_path / "benchmarks.json").read_text("utf-8"))
    assert [v["outcome"] for v in record["verdicts"]] == ["pass", "miss"]
    for name in ("benchmarks.svg", "growth.svg"):
        root = ElementTree.fromstring((tmp_path / name).read_text("utf-8"))
        assert root.tag.endswith("svg")
        assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) > 2


def test_charts_of_nothing_are_charts() -> None:
    for text in (chart.ratios([]), chart.lines([("empty", {})])):
        assert ElementTree.fromstring(text).tag.endswith("svg")


def test_tables_are_aligned() -> None:
    lines = [("a", "b"), ("long", "")]
    assert aligned(lines) == "a     b\nlong"
    assert table(lines) == "| a | b |\n| --- | --- |\n| long |  |"


# ---- the command and its workers -------------------------------------------------------------------------------------
def test_names_are_listed_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert {"rosenbrock-2", "huge", "cold"} <= set(capsys.readouterr().out.split())
    assert command.main(["--case", "nothing"]) == 2
    assert "There is no case nothing" in capsys.readouterr().err


def test_a_worker_checks_times_and_tells_the_tier() -> None:
    assert FILES["embedded"] == "hesse"
    worker = Worker("embedded", True, 60.0)
    try:
        assert worker.ask("names", "rosenbrock-2") == ["Hesse"]
        seconds, matrix = worker.ask("first", "rosenbrock-2", "Hesse")
        x = next(c for c in cases(True) if c.name == "rosenbrock-2").points(1, seed=1)[0]
        assert seconds > 0
        np.testing.assert_allclose(matrix, [[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])
        assert worker.ask("settle", "rosenbrock-2", "Hesse", 1e-4) >= 1
        assert worker.ask("hot", "Hesse") > 0
        assert worker.ask("stats", "Hesse")["tier"] in ("vm", "jit")
        assert set(worker.ask("stages", "rosenbrock-2", 1.5)["stages"]) == {
            "trace", "structure", "lower", "first run", "other"}
        with pytest.raises(Failed, match="KeyError"):
            worker.ask("first", "nothing", "Hesse")
        with pytest.raises(DidNotFinish):
            worker.ask("cold", "rosenbrock-2", "Hesse", 1.25, limit_s=0.0)
        assert worker.ask("first", "rosenbrock-2", "Hesse")[0] > 0  # started again
    finally:
        worker.stop()
