"""The load test runs against a real service, finds it right, and can fail."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hesse
from loadtests import frames, run
from loadtests.functions import fault, large_fault, product_fault, scenario_loads
from loadtests.hostile import HOSTILE
from serving import Server, running

needs_locust = pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="needs the extra `load`")
THRESHOLDS = tomllib.loads((run.FOLDER / "thresholds.toml").read_text("utf-8"))
ROW = {"Request Count": "1000", "Failure Count": "0", "50%": "5", "99%": "20"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("load") / "server.log", compute_processes=2) as server:
        run.warm(server.url)
        yield server


def load(server: Server, out: Path, *arguments: str) -> int:
    return run.main(["--url", server.url, "--seconds", "8", "--slack", "1000", "--out", str(out), *arguments])


@needs_locust
def test_a_real_service_passes_and_leaves_a_report(service: Server, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert load(service, tmp_path) == 0, capsys.readouterr().out
    rows = run.rows_of(tmp_path / "load_stats.csv")
    features = run.offered(service.url)
    for name, limits in THRESHOLDS["names"].items():
        assert (name in rows) == (limits.get("needs", "") in {"", *features}), name
    assert rows["Aggregated"]["Failure Count"] == "0"
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")
    assert "hessian, by id" in capsys.readouterr().out


@needs_locust
def test_an_absurd_threshold_fails_the_run(service: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (run.FOLDER / "thresholds.toml").read_text("utf-8")
    absurd = tmp_path / "absurd.toml"
    absurd.write_text(text.replace('[names."livez"]\nmedian = 80', '[names."livez"]\nmedian = 0.0'), "utf-8")
    assert load(service, tmp_path, "--thresholds", str(absurd), "--slack", "1") == 1
    assert "livez: median" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "codes", "said"), [
    ({}, {}, []),
    ({"Aggregated": {"Failure Count": "1"}}, {}, ["1 failures, at most 0"]),
    ({"livez": {"99%": "90000"}}, {}, ["livez: p99 90000 ms, at most 400 ms"]),
    ({"livez": {"Request Count": "3"}}, {}, ["livez: 3 requests, at least 10"]),
    ({}, {"busy": 51}, ["5.10 % of the requests were answered busy, at most 5 %"]),
    ({}, {"over-quota": 1}, ["0.10 % of the requests were answered over-quota, at most 0 %"]),
])
def test_every_kind_of_threshold_counts(change: dict[str, dict[str, str]], codes: dict[str, int],
                                        said: list[str]) -> None:
    names = [n for n, limits in THRESHOLDS["names"].items() if "needs" not in limits]
    rows = {name: {**ROW, **change.get(name, {})} for name in [*names, "Aggregated"]}
    assert run.violations(rows, codes, THRESHOLDS, set()) == said


def test_a_name_that_was_never_asked_is_a_violation() -> None:
    found = run.violations({"Aggregated": ROW}, {}, THRESHOLDS, {"/v1/jobs/{id}"})
    assert "hessian, by id: 0 requests, at least 200" in found
    assert "job, poll: 0 requests, at least 5" in found
    assert not [f for f in found if "large binary" in f]


@pytest.mark.parametrize("chosen", scenario_loads(), ids=lambda chosen: chosen.name)
def test_right_answers_pass_and_wrong_ones_do_not(chosen: Any) -> None:
    """The users' own check, at a point where the scenario's Hessian is known to JAX (see test_scenarios.py)."""
    import scenarios

    f = hesse.function(scenarios.SCENARIOS[chosen.name].at(scenarios.hesse_library()))
    rng = np.random.default_rng(3)
    x, v = chosen.point(rng), chosen.direction(rng)
    hessian = np.asarray(f.hessian(x))
    assert fault(chosen, x, v, hessian) is None
    assert fault(chosen, x, v, 1.001 * hessian) is not None
    assert fault(chosen, x, v, hessian[:-1]) is not None
    assert fault(chosen, x + 0.01 * chosen.scale, v, hessian) is not None, "an answer to another request"
    output, product = f.hvp(x, v)
    assert product_fault(chosen, x, v, float(output), np.asarray(product)) is None
    assert product_fault(chosen, x, v, float(output) + 1e-3 * max(1.0, abs(float(output))), np.asarray(product))
    assert product_fault(chosen, x, v, float(output), 1.001 * np.asarray(product)) is not None


def test_every_entry_of_the_large_hessian_is_looked_at() -> None:
    x = np.linspace(0.5, 1.5, 50)
    hessian = 12.0 * x.sum() ** 2 + np.diag(6.0 * x)
    assert large_fault(x, hessian) is None
    for where in ((0, 0), (3, 7), (49, 48)):
        wrong = hessian.copy()
        wrong[where] *= 1.0 + 1e-6
        assert large_fault(x, wrong) is not None


def test_frames_are_read_and_broken_ones_refused() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    head = json.dumps({"result": {"shape": [2, 3], "dtype": "float64", "parameters": {"binary_data_size": 48}}})
    headers = {"content-type": frames.MEDIA, "inference-header-content-length": str(len(head))}
    body = head.encode() + matrix.tobytes()
    np.testing.assert_array_equal(frames.result(headers, body), matrix)
    for given, sent in ((headers, body[:-1]), ({**headers, "content-type": "application/json"}, body), ({}, body)):
        with pytest.raises(frames.Broken):
            frames.result(given, sent)


def test_hostile_rows_have_names_of_their_own() -> None:
    assert len({row.name for row in HOSTILE}) == len(HOSTILE)
    assert all(400 <= row.status < 500 for row in HOSTILE)
    assert dataclasses.is_dataclass(HOSTILE[0])
