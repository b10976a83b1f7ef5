"""`options.verify` over the wire: the numbers come with the answer, from any process."""

from __future__ import annotations

from typing import Any

import httpx2
import numpy as np
import pytest

from serving import call, register, tensor

CHAIN = {"expression": "sum(sin(x[1:] * x[:-1]) * exp(x))"}
X = [0.1, 0.4, -0.3, 0.7, 0.2]
FUNCTION = {"expression": "sum(sin(x[1:] * x[:-1])) + sum(exp(x))"}


@pytest.mark.parametrize(("operation", "options"), [
    ("hessian", {}), ("hessian", {"layout": "csr"}), ("hessian", {"layout": "coo"}), ("hessian", {"layout": "packed"}),
    ("hessian", {"rows": [1, 2]}), ("value_grad_hessian", {}), ("hvp", {}), ("vhp", {}),
])
def test_an_answer_brings_its_verification(client: httpx2.Client, operation: str, options: dict[str, Any]) -> None:
    v = {"v": [1.0, -1.0, 2.0, 0.5, 0.0]} if operation in ("hvp", "vhp") else {}
    body = {"function": FUNCTION, "inputs": [X], **v, "options": {**options, "verify": True}}
    answer = call(client, operation, **body)
    report = answer["verification"]
    assert report["suspicious"] == []
    assert 0.0 <= report["directional_residual"] < 1e-13
    assert 0.0 < report["difference_residual"] < 1e-8
    assert 0.0 < report["slope_residual"] < 1e-8
    assert report.get("symmetry_defect", 0.0) < 1e-15
    plain = call(client, operation, **{**body, "options": options})
    assert "verification" not in plain
    assert plain["result"] == answer["result"]


def test_a_jacobian(client: httpx2.Client) -> None:
    answer = call(client, "jacobian", function={"expression": "sin(x) * sum(x)"}, inputs=[X], options={"verify": True})
    assert set(answer["verification"]) == {"directional_residual", "difference_residual", "difference_error",
                                           "suspicious"}
    x = np.array(X)
    np.testing.assert_allclose(tensor(answer["result"]), np.diag(np.cos(x) * x.sum()) + np.sin(x)[:, None], rtol=1e-12)


def test_what_is_not_finite_is_suspicious(client: httpx2.Client) -> None:
    answer = call(client, "hessian", function={"expression": "sum(x**1.5)"}, inputs=[[0.0, 1.0]],
                  options={"verify": True})
    assert "directional_residual" in answer["verification"]["suspicious"]
    assert answer["verification"]["directional_residual"] in ("NaN", "Infinity")


def test_a_registered_function_is_verified_on_every_call(warm_client: httpx2.Client) -> None:
    name = register(warm_client, function=FUNCTION, inputs=[{"name": "x", "shape": [5], "dtype": "float64"}])
    body = {"function": {"id": name}, "inputs": [X], "options": {"verify": True}}
    reports = [call(warm_client, "hessian", **body)["verification"] for _ in range(6)]
    assert all([r["suspicious"] == [] for r in reports])
    assert "verification" not in call(warm_client, "hessian", **{**body, "options": {}})


@pytest.mark.parametrize(("operation", "options"), [
    ("grad", {}), ("value", {}), ("hessian_diag", {}), ("laplacian", {}), ("hessian", {"layout": "diag"}),
    ("hessian", {"batched": True}), ("hessian", {"stream": True}),
])
def test_what_cannot_be_verified(client: httpx2.Client, operation: str, options: dict[str, Any]) -> None:
    inputs = [[X]] if "batched" in options else [X]
    response = client.post(f"/v1/{operation}", json={"function": FUNCTION, "inputs": inputs,
                                                     "options": {**options, "verify": True}})
    assert response.status_code == 422
    assert (response.json()["code"], response.json()["pointer"]) == ("bad-option", "/options/verify")
