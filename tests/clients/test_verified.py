"""`verify=True` of `hesse.function`: the answer and how well it holds, embedded and over HTTP alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as hnp
from hesse.errors import HesseError
from serving import Server, running

X = np.linspace(0.2, 1.5, 12)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("verified") / "server.log", compute_processes=1) as started:
        yield started


@pytest.fixture(params=["embedded", "http"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[hesse.Client]:
    with hesse.Client(":local:" if request.param == "embedded" else server.url) as opened:
        yield opened


def f(x: Any) -> Any:
    return hnp.sum(hnp.sin(x[1:] * x[:-1]) * hnp.exp(x[1:]))


@pytest.mark.parametrize("operation", ["hessian", "value_grad_hessian", "hvp", "vhp"])
def test_a_pair_of_the_answer_and_its_verification(client: hesse.Client, operation: str) -> None:
    function = client.function(f)
    v = (np.ones(12),) if operation in ("hvp", "vhp") else ()
    plain = getattr(function, operation)(X, *v)
    for _ in range(3):  # also once there is a short way
        value, report = getattr(function, operation)(X, *v, verify=True)
        assert report["suspicious"] == []
        assert 0.0 < report["difference_residual"] < 1e-7
        parts = zip(value, plain, strict=True) if isinstance(plain, tuple) else [(value, plain)]
        for mine, theirs in parts:
            np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-15)


def test_a_jacobian_and_a_sparse_hessian(client: hesse.Client) -> None:
    value, report = client.function(lambda x: hnp.sin(x) * x[0]).jacobian(X, verify=True)
    assert value.shape == (12, 12)
    assert report["suspicious"] == []
    assert "symmetry_defect" not in report
    sparse, report = client.function(f).hessian(X, layout="csr", verify=True)
    assert sparse.nnz < 144
    assert report["symmetry_defect"] < 1e-14


def test_numbers_that_are_not_finite_arrive_as_such(client: hesse.Client) -> None:
    _, report = client.function(lambda x: hnp.sum(x**1.5)).hessian(np.array([0.0, 1.0]), verify=True)
    assert not np.isfinite(report["directional_residual"])
    assert "directional_residual" in report["suspicious"]


def test_what_cannot_be_verified(client: hesse.Client) -> None:
    for operation in ("grad", "hessian_diag"):
        with pytest.raises(HesseError) as caught:
            getattr(client.function(f), operation)(X, verify=True)
        assert caught.value.code == "bad-option"
