"""The examples, run as a user runs them, against answers that do not come from us."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hesse
from examples.demo import service
from examples.standard_errors import Fit, fit, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fitted() -> Fit:
    with service() as url, hesse.Client(url) as client:
        return fit(client, *load())


@pytest.mark.filterwarnings("ignore:::statsmodels")
def test_standard_errors_are_those_of_statsmodels(fitted: Fit) -> None:
    from statsmodels.discrete.discrete_model import Logit

    _, rows, labels = load()
    expected = Logit(labels, rows).fit(method="newton", tol=1e-12, maxiter=100, disp=False)
    np.testing.assert_allclose(fitted.coefficients, expected.params, rtol=1e-6)
    np.testing.assert_allclose(fitted.standard_errors, expected.bse, rtol=1e-6)


def test_the_demo_prints_the_table(fitted: Fit) -> None:
    done = subprocess.run([sys.executable, ROOT / "examples" / "demo.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, b, error in zip(fitted.names, fitted.coefficients, fitted.standard_errors, strict=True):
        row = next(line for line in lines if line.startswith(f"{name} "))
        assert row.split()[-3:] == [f"{b:.5f}", f"{error:.5f}", f"{b / error:.3f}"]
