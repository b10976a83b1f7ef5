"""Users of the service under load: `make load`, or `locust -f loadtests/locustfile.py --host URL`.

    Formula    posts small formulas, and graphs of the tests' scenarios: parsing, deriving and computing in one request
    ById       registers each scenario on first need and calls it by id at ever new points: the hot path
    Large      takes a Hessian of 2000 x 2000 as a binary frame
    Job        has the same computed as a job, polls it, fetches the answer
    Hostile    sends what must be refused, with the right code
    Watcher    asks /livez and /readyz, which must answer whatever the others do

A user whose feature the server's /openapi.json does not offer goes away.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from locust import FastHttpUser, between, constant, events, task
from locust.exception import StopUser

from loadtests import frames
from loadtests.functions import (
    LARGE,
    LARGE_EXPRESSION,
    Load,
    fault,
    formula_loads,
    large_fault,
    product_fault,
    scenario_loads,
)
from loadtests.hostile import HOSTILE

IDS: dict[str, str] = {}  # of the functions that are registered, by name
CODES: Counter[str] = Counter()  # what was refused for lack of room: no failure, but counted
ROOM = ("busy", "too-many-requests", "over-quota", "too-many-jobs")
FORMULAS, SCENARIOS = formula_loads(), scenario_loads()
JSON = {"Content-Type": "application/json"}
JOB_S = 60.0


@events.quitting.add_listener
def write_codes(environment: Any, **_: Any) -> None:
    folder = os.environ.get("LOAD_RESULTS")
    if folder:
        Path(folder, "codes.json").write_text(json.dumps(CODES), "utf-8")


def numbers(tensor: dict[str, Any]) -> Any:
    return np.array(tensor["data"], dtype=tensor["dtype"]).reshape(tensor["shape"])


def tensor(x: Any) -> dict[str, Any]:
    return {"shape": list(x.shape), "dtype": "float64", "data": x.tolist()}


class Caller(FastHttpUser):
    """Posts and looks at what comes back: a fast wrong answer is a failure."""

    abstract = True

    def on_start(self) -> None:
        self.rng = np.random.default_rng()

    def paths(self) -> Any:
        return self.client.get("/openapi.json", name="openapi").json()["paths"]

    def is_refused(self, response: Any, expected: int = 200) -> bool:
        """Whether there is no answer to be looked at; for lack of room is no failure."""
        if response.status_code == expected:
            return False
        try:
            code = response.json().get("code", "")
        except ValueError:
            code = ""
        if code in ROOM:
            CODES[code] += 1
            response.success()
        else:
            response.failure(f"{response.status_code} {code}")
        return True

    def hessian(self, load: Load, function: dict[str, Any], name: str) -> None:
        x = load.point(self.rng)
        body = {"function": function, "inputs": [tensor(x)]}
        with self.client.post("/v1/hessian", json=body, name=name, catch_response=True) as response:
            if self.is_refused(response):
                return
            wrong = fault(load, x, load.direction(self.rng), numbers(response.json()["result"]))
            if wrong:
                response.failure(f"wrong Hessian of {load.name}: {wrong}")

    def drawn(self, loads: list[Load]) -> Load:
        return loads[self.rng.integers(len(loads))]


class Formula(Caller):
    """A shell or notebook user."""

    weight = 4
    wait_time = between(0.02, 0.1)

    @task(2)
    def expression(self) -> None:
        load = self.drawn(FORMULAS)
        self.hessian(load, load.reference, "hessian, expression")

    @task(1)
    def graph(self) -> None:
        load = self.drawn(SCENARIOS)
        self.hessian(load, load.reference, "hessian, graph")


class ById(Caller):
    """An optimizer: the same functions at ever new points."""

    weight = 6
    wait_time = between(0.005, 0.02)

    def registered(self, load: Load) -> dict[str, str] | None:
        """The function by its id, which the first user to need it asks for."""
        if load.name not in IDS:
            body = {"function": load.reference}  # a graph names its inputs itself
            with self.client.put("/v1/functions", json=body, name="register", catch_response=True) as response:
                if self.is_refused(response):
                    return None
                IDS[load.name] = response.json()["id"]
        return {"id": IDS[load.name]}

    @task(4)
    def by_id(self) -> None:
        load = self.drawn(SCENARIOS)
        function = self.registered(load)
        if function is not None:
            self.hessian(load, function, "hessian, by id")

    @task(1)
    def product(self) -> None:
        load = self.drawn(SCENARIOS)
        function = self.registered(load)
        if function is None:
            return
        x, v = load.point(self.rng), load.direction(self.rng)
        body = {"function": function, "inputs": [tensor(x)], "v": [tensor(v)]}
        with self.client.post("/v1/hvp", json=body, name="hvp, by id", catch_response=True) as response:
            if self.is_refused(response):
                return
            result = response.json()["result"]
            product = result["product"]
            product = product[0] if isinstance(product, list) else product
            wrong = product_fault(load, x, v, float(numbers(result["output"])), numbers(product))
            if wrong:
                response.failure(f"wrong product of {load.name}: {wrong}")


class Large(Caller):
    """A user of the whole matrix, in binary both ways."""

    fixed_count = 1
    wait_time = between(0.5, 1.0)

    def on_start(self) -> None:
        super().on_start()
        answers = self.paths()["/v1/hessian"]["post"]["responses"]["200"]["content"]
        if frames.MEDIA not in answers:
            raise StopUser
        self.x = self.rng.uniform(0.5, 1.5, LARGE)

    @task
    def matrix(self) -> None:
        x = self.rng.uniform(0.5, 1.5, LARGE)
        headers, body = frames.request({"expression": LARGE_EXPRESSION, "inputs": ["x"]}, x)
        with self.client.post("/v1/hessian", data=body, headers=headers, name="hessian, large binary",
                              catch_response=True) as response:
            if self.is_refused(response):
                return
            try:
                hessian = frames.result(response.headers, response.content)
            except frames.Broken as error:
                response.failure(f"broken frame: {error}")
                return
            wrong = large_fault(x, hessian)
            if wrong:
                response.failure(f"wrong large Hessian: {wrong}")


class Job(Caller):
    """A user who does not wait on the line."""

    fixed_count = 1
    wait_time = between(0.2, 0.5)

    def on_start(self) -> None:
        super().on_start()
        if "/v1/jobs/{id}" not in self.paths():
            raise StopUser

    @task
    def job(self) -> None:
        load = self.drawn(SCENARIOS)
        x = load.point(self.rng)
        body = {"function": load.reference, "inputs": [tensor(x)]}
        with self.client.post("/v1/hessian", json=body, headers={"Prefer": "respond-async"}, name="job, submit",
                              catch_response=True) as response:
            if self.is_refused(response, 202):
                return
            path = response.headers["Location"]
        if self.wait(path) != "succeeded":
            return
        with self.client.get(f"{path}/result", name="job, result", catch_response=True) as response:
            if self.is_refused(response):
                return
            wrong = fault(load, x, load.direction(self.rng), numbers(response.json()["result"]))
            if wrong:
                response.failure(f"wrong Hessian of {load.name}: {wrong}")

    def wait(self, path: str) -> str:
        """The state in which the job ended; anything but success is a failure of the poll."""
        left = JOB_S
        while True:
            with self.client.get(path, name="job, poll", catch_response=True) as response:
                if self.is_refused(response):
                    return "lost"
                state = str(response.json()["state"])
                if state in ("failed", "canceled") or left <= 0.0:
                    response.failure(f"the job is {state}")
                    return state
                if state == "succeeded":
                    return state
            gevent.sleep(0.1)
            left -= 0.1


class Hostile(Caller):
    """Somebody who sends what must be refused."""

    weight = 1
    wait_time = between(0.05, 0.2)

    @task
    def refused(self) -> None:
        row = HOSTILE[self.rng.integers(len(HOSTILE))]
        with self.client.request(row.method, row.path, data=row.body, headers={**JSON, **row.headers},
                                 name="hostile", catch_response=True) as response:
            code = json.loads(response.content or b"{}").get("code")
            if (response.status_code, code) == (row.status, row.code):
                response.success()
            else:
                response.failure(f"{row.name}: {response.status_code} {code}, not {row.status} {row.code}")


class Watcher(FastHttpUser):
    """An orchestrator's probe."""

    fixed_count = 1
    wait_time = constant(0.2)

    @task
    def live(self) -> None:
        self.client.get("/livez", name="livez")

    @task
    def ready(self) -> None:
        self.client.get("/readyz", name="readyz")
