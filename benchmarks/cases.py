"""THE table of what is measured and what it is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks import functions as fn
from benchmarks.claims import Claim, Limit, Ratio

Array = NDArray[np.float64]
Task = Literal["hessian", "hvp", "batched"]
PLAIN = 2500  # up to this many inputs whole matrices are compared, above it their products with `probe`


def no_data() -> Mapping[str, NDArray[Any]]:
    return {}


@dataclass(frozen=True, slots=True)
class Case:
    """One function and what is asked of it; `f(xp, x, data)` is a scalar.

    `data_as` says whether the data are constants of the function, arguments that each call passes, or NumPy arrays that
    the function takes numbers from. `center` and `spread` say where inputs are drawn. `peers_do` is what peers compute
    where they have no counterpart of the task.
    """

    name: str
    title: str
    n: int
    f: Callable[[Any, Any, Mapping[str, Any]], Any]
    claims: tuple[Claim, ...] = ()
    data: Callable[[], Mapping[str, NDArray[Any]]] = no_data
    data_as: Literal["constants", "arguments", "numbers"] = "constants"
    task: Task = "hessian"
    layout: Literal["dense", "csr"] = "dense"
    peers_do: Task | None = None
    batch: int = 0
    center: Callable[[], Array] | float = 0.0
    spread: float = 0.5
    is_guarded: bool = False  # may be beyond what the engine supports: then the row says so
    has_out: bool = False  # also with `out=`
    has_vm: bool = False  # also held to the VM
    slow: frozenset[str] = frozenset()  # contenders left out of the short form
    without: frozenset[str] = frozenset()  # contenders that cannot write it, or not in reasonable time
    is_cold: bool = True  # whether first calls are repeated with new functions

    @property
    def peer_task(self) -> Task:
        return self.peers_do or self.task

    def values(self) -> Mapping[str, NDArray[Any]]:
        return _data(self.data)

    def points(self, count: int, seed: int = 0) -> list[Array]:
        """`count` different inputs; of a batched case, (batch, n) each."""
        rng = np.random.default_rng([seed, self.n])
        center = self.center() if callable(self.center) else self.center
        shape = (self.batch, self.n) if self.task == "batched" else (self.n,)
        return [center + self.spread * rng.standard_normal(shape) for _ in range(count)]

    def directions(self, count: int, seed: int = 0) -> list[Array]:
        """Vectors for products; the first of seed 1 is the probe that results are compared by."""
        rng = np.random.default_rng([seed + 7, self.n])
        return [rng.standard_normal(self.n) for _ in range(count)]

    @property
    def probe(self) -> Array:
        return self.directions(1, seed=1)[0]


@cache
def _data(make: Callable[[], Mapping[str, NDArray[Any]]]) -> Mapping[str, NDArray[Any]]:
    return make()


# ---- data ------------------------------------------------------------------------------------------------------------
def _rng() -> np.random.Generator:
    return np.random.default_rng(20240601)


def logistic_data() -> Mapping[str, NDArray[Any]]:
    rng = _rng()
    rows = rng.standard_normal((1000, 200)) / np.sqrt(200.0)
    return {"rows": rows, "signs": np.where(rng.random(1000) < 0.5, -1.0, 1.0)}


def poisson_data() -> Mapping[str, NDArray[Any]]:
    rng = _rng()
    return {"rows": rng.standard_normal((5000, 100)) / 10.0, "counts": rng.poisson(1.0, 5000).astype(np.float64)}


def quadratic_data() -> Mapping[str, NDArray[Any]]:
    return {"matrix": _rng().standard_normal((300, 300))}


def factorization_data() -> Mapping[str, NDArray[Any]]:
    rng = _rng()
    return {"target": rng.standard_normal((60, 60)), "right": rng.standard_normal((5, 60))}


def pair_data() -> Mapping[str, NDArray[Any]]:
    first, second = np.triu_indices(60, 1)
    return {"first": first, "second": second}


def lattice() -> Array:
    """60 points of a 4 x 4 x 4 lattice, 1.1 apart."""
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3, indexing="ij"), -1)
    return 1.1 * grid.reshape(-1)[:180]


def bonds(points: int, count: int) -> Callable[[], Mapping[str, NDArray[Any]]]:
    def make() -> Mapping[str, NDArray[Any]]:
        rng = _rng()
        first = rng.integers(0, points, count)
        return {"first": first, "second": (first + rng.integers(1, 50, count)) % points}

    return make


def label_data() -> Mapping[str, NDArray[Any]]:
    return {"labels": np.eye(10)[_rng().integers(0, 10, 20)]}


def network_data() -> Mapping[str, NDArray[Any]]:
    rng = _rng()
    return {"samples": rng.standard_normal((64, 10)), "targets": rng.standard_normal(64)}


def place_data() -> Mapping[str, NDArray[Any]]:
    rng = _rng()
    return {"places": rng.standard_normal((200, 3)), "observed": rng.standard_normal(200), "identity": np.eye(200)}


def rates() -> Array:
    """omega, alpha, beta of a stationary GARCH(1, 1)."""
    return np.array([0.2, 0.1, 0.8])


def series(steps: int) -> Callable[[], Mapping[str, NDArray[Any]]]:
    def make() -> Mapping[str, NDArray[Any]]:
        return {"squares": _rng().standard_normal(steps) ** 2}

    return make


# ---- the table -------------------------------------------------------------------------------------------------------
SX = frozenset({"CasADi SX", "CasADi SX buffer"})
CASADI = SX | {"CasADi MX", "CasADi MX buffer"}


def cases(is_short: bool = False) -> list[Case]:
    """Every case; the short form has fewer points and bonds where size is all that a case adds."""
    return [*_sparse(is_short), *_dense(), *_pairs(is_short), *_broadcast_back(), *_models(is_short)]


def _sparse(is_short: bool) -> list[Case]:
    million = 10_000 if is_short else 1_000_000
    sparse = (Ratio(8, "CasADi"), Ratio(100, "JAX"))
    dense = (Ratio(4), Ratio(20, ours="Hesse, out="))
    return [
        Case("rosenbrock-2", "Rosenbrock, n=2", 2, fn.rosenbrock, (Ratio(1),)),
        Case("rosenbrock-10", "Rosenbrock, n=10", 10, fn.rosenbrock, (Ratio(1),)),
        Case("rosenbrock-csr", "Rosenbrock, n=1000, csr", 1000, fn.rosenbrock, sparse, layout="csr"),
        Case("cragglvy-csr", "CRAGGLVY, n=600, csr", 600, fn.cragglvy, sparse, layout="csr", center=1.0, spread=0.1),
        Case("rosenbrock-dense", "Rosenbrock, n=1000, dense", 1000, fn.rosenbrock, dense, has_out=True, slow=SX),
        Case("cragglvy-dense", "CRAGGLVY, n=600, dense", 600, fn.cragglvy, dense, has_out=True, center=1.0, spread=0.1,
             slow=SX | {"torch.func"}),
        Case("rosenbrock-million", f"Rosenbrock, n={million:,}, csr", million, fn.rosenbrock,
             (Limit(5e-9, per=million, of="variable"),), layout="csr", is_cold=False, slow=CASADI | {"asdex"},
             without=frozenset({"JAX jit", "torch.func"})),
        Case("hvp-million", f"hvp of Rosenbrock, n={million:,}", million, fn.rosenbrock,
             (Ratio(0.9, "JAX"), Ratio(0.4, "JAX", ours="Hesse, VM")), task="hvp", has_vm=True, is_cold=False,
             slow=CASADI),
    ]


def _dense() -> list[Case]:
    twice = (Ratio(2),)
    return [
        Case("sine", "sin(x).sum(), n=2000", 2000, fn.sine, (Ratio(1.5),), slow=CASADI),
        *both(Case("logistic", "logistic regression, 1000x200", 200, fn.logistic, twice, logistic_data, without=SX,
                   slow=CASADI)),
        *both(Case("poisson", "Poisson regression, 5000x100", 100, fn.poisson, twice, poisson_data, without=SX,
                   slow=CASADI)),
        *both(Case("quadratic", "x'Ax, n=300", 300, fn.quadratic, (Ratio(5),), quadratic_data, slow=CASADI)),
        *both(Case("factorization", "matrix factorization, 60x60, k=5", 300, fn.factorization, (Ratio(5),),
                   factorization_data)),
        *both(Case("network", "tanh network 10-50-1, 64 samples, 600 parameters", 600, fn.network, (Ratio(3),),
                   network_data, spread=0.3, without=SX, slow=CASADI)),
    ]


def both(case: Case) -> list[Case]:
    """With the data as constants of the function, and as arguments of each call."""
    return [
        replace(case, title=f"{case.title}, data constant"),
        replace(case, name=f"{case.name}-args", title=f"{case.title}, data as arguments", data_as="arguments",
                slow=case.slow | SX | {"torch.func"}),
    ]


def _pairs(is_short: bool) -> list[Case]:
    points, count = (1000, 6000) if is_short else (100_000, 600_000)
    hundred = (Ratio(100), Ratio(100, "JAX"))
    return [
        Case("pairs", "pairwise sqrt(d² + eps), 60 points, broadcast", 180, fn.pairs_by_broadcast, hundred, spread=1.0,
             slow=SX),
        Case("pairs-gather", "pairwise sqrt(d² + eps), 60 points, gathered", 180, fn.pairs_by_gather, hundred,
             pair_data, spread=1.0, slow=SX | {"torch.func"}),
        Case("lennard-jones", "Lennard-Jones, 60 atoms, gathered pairs", 180, fn.lennard_jones, hundred, pair_data,
             center=lattice, spread=0.03, slow=SX),
        Case("springs", f"springs, {points:,} points, {count:,} bonds, csr beside one JAX hvp", 3 * points, fn.springs,
             (Ratio(0.5, "JAX"),), bonds(points, count), layout="csr", peers_do="hvp", spread=2.0, is_cold=False,
             without=CASADI | {"asdex", "torch.func"}),
    ]


def _broadcast_back() -> list[Case]:
    twice = (Ratio(2),)
    return [
        Case("rms", "sqrt(mean(x²)), n=200", 200, fn.root_mean_square, twice, slow=CASADI),
        Case("logsumexp", "log-sum-exp, n=200", 200, fn.log_sum_exp, twice, slow=CASADI),
        Case("variance", "variance, n=200", 200, fn.variance, twice, slow=CASADI),
        Case("cross-entropy", "softmax cross-entropy, 20x10", 200, fn.cross_entropy, twice, label_data),
    ]


def _models(is_short: bool) -> list[Case]:
    batch, steps = (1000, 100) if is_short else (100_000, 2000)
    return [
        Case("gaussian-process", "Gaussian-process marginal likelihood, 200 points, 5 hyper-parameters", 5,
             fn.marginal_likelihood, (Ratio(2),), place_data, spread=0.2, is_guarded=True, without=CASADI,
             slow=frozenset({"torch.func"})),
        Case("batched", f"{batch:,} Hessians of a 6-variable function", 6, fn.small, (Ratio(3, "JAX"),), task="batched",
             batch=batch, is_guarded=True, is_cold=False),
        Case("garch", f"recursion of {steps} steps, unrolled", 3, fn.recursion,
             (Ratio(50, "JAX", "cold"), Ratio(1)), series(steps), data_as="numbers", center=rates, spread=0.01,
             slow=frozenset({"JAX jit"})),
        Case("garch-scan", f"recursion of {steps} steps, scan beside lax.scan", 3, fn.recursion_by_scan,
             (Ratio(1, "JAX"),), series(steps), center=rates, spread=0.01, is_guarded=True,
             without=frozenset({"torch.func"}) | SX),
        Case("chain", "chain of about 200 nodes, n=100", 100, fn.chain, (),
             slow=frozenset({"CasADi SX", "JAX jit"})),
    ]


@cache
def by_name(is_short: bool) -> Mapping[str, Case]:
    return {c.name: c for c in cases(is_short)}


__all__ = ["PLAIN", "Array", "Case", "Task", "by_name", "cases"]
