"""Users of the service under load: `make load`, or `locust -f loadtests/locustfile.py --host URL`.

    Formula    posts a small expression each time: parsing, deriving and computing in one request
    ById       registers a function once and calls it by id: the hot path
    Watcher    asks /livez, which must answer whatever the others do
"""

from __future__ import annotations

import random
from typing import Any

from locust import FastHttpUser, between, constant, task

EXPRESSION = "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)"
SIZE = 10
SMALL = {"expression": EXPRESSION, "inputs": ["x"]}


def point() -> dict[str, Any]:
    return {"shape": [SIZE], "dtype": "float64", "data": [random.uniform(-2.0, 2.0) for _ in range(SIZE)]}


class Caller(FastHttpUser):
    """Posts and looks at what comes back: a fast wrong answer is a failure."""

    abstract = True

    def hessian(self, function: dict[str, Any], name: str) -> None:
        x = point()
        body = {"function": function, "inputs": [x]}
        with self.client.post("/v1/hessian", json=body, name=name, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.json().get('code')}")
                return
            last = response.json()["result"]["data"][-1]  # d2f/dx_n2 = 200
            if abs(last - 200.0) > 1e-9:
                response.failure("wrong Hessian")


class Formula(Caller):
    """A shell or notebook user."""

    weight = 2
    wait_time = between(0.005, 0.02)

    @task
    def post(self) -> None:
        self.hessian(SMALL, "hessian, expression")


class ById(Caller):
    """An optimizer: the same function at ever new points."""

    weight = 4
    wait_time = between(0.0, 0.005)
    function: dict[str, Any]

    def on_start(self) -> None:
        body = {"function": SMALL, "inputs": [{"name": "x", "shape": [SIZE], "dtype": "float64"}]}
        self.function = {"id": self.client.put("/v1/functions", json=body, name="register").json()["id"]}

    @task(4)
    def by_id(self) -> None:
        self.hessian(self.function, "hessian, by id")

    @task(1)
    def product(self) -> None:
        body = {"function": self.function, "inputs": [point()], "v": [point()]}
        self.client.post("/v1/hvp", json=body, name="hvp, by id")


class Watcher(FastHttpUser):
    """An orchestrator's probe."""

    fixed_count = 1
    wait_time = constant(0.2)

    @task
    def live(self) -> None:
        self.client.get("/livez", name="livez")
