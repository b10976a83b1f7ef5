"""The short way to an operation and the application's own way answer alike."""

from __future__ import annotations

import httpx2
import pytest

from hesse_engine.derivatives import DERIVATIVES
from hesse_service import routes
from hesse_service.app import create_app

CUBE = {"expression": "sum(x**3)", "inputs": ["x"]}


def test_every_operation_is_in_the_document() -> None:
    paths = create_app().openapi()["paths"]
    assert {p for p in paths if paths[p].get("post", {}).get("tags") == [routes.OPERATIONS]} == {
        f"/v1/{name}" for name in DERIVATIVES}


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("POST", "/v1/hessian", 400, "malformed-json"), ("GET", "/v1/hessian", 405, "method-not-allowed"),
    ("POST", "/v1/hessian/", 404, "not-found"), ("POST", "/v1/Hessian", 404, "unknown-operation"),
    ("POST", "//v1/hessian", 404, "not-found"),
])
def test_what_is_not_an_operation_goes_the_long_way(client: httpx2.Client, method: str, path: str, status: int,
                                                    code: str) -> None:
    response = client.request(method, path, content=b"{", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["x-request-id"] == response.json()["request_id"]


def test_a_path_written_in_percents_is_the_same_path(client: httpx2.Client) -> None:
    body = {"function": CUBE, "inputs": [[1.0, 2.0]]}
    plain, written = client.post("/v1/hessian", json=body), client.post("/v1/hess%69an?x=1", json=body)
    assert plain.status_code == written.status_code == 200
    assert plain.json()["result"] == written.json()["result"]
