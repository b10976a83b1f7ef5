"""Functions that people really write, each once over a small vocabulary that every array library has.

`SCENARIOS[name].f(lib, x, data)` is a scalar of one vector `x`; `lib` names the functions of one library
(`hesse_library`, `jax_library`). They are compared between libraries in value, gradient and Hessian, and reused
wherever a realistic function is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from oracles import Array, peer

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Library:
    """An array namespace and what lies outside of it under different names."""

    xp: Any
    erf: Callable[[Any], Any]
    lgamma: Callable[[Any], Any]
    logsumexp: Callable[..., Any]
    solve_lower: Callable[[Any, Any], Any]
    scan: Callable[..., Any]  # scan(step, init, xs) -> (last, stacked outputs)
    asarray: Callable[[Any], Any]


@dataclass(frozen=True)
class Scenario:
    """A function, a point, its data, and how close two libraries come."""

    f: Callable[[Library, Any, Data], Any]
    point: Array
    data: Data
    tolerance: float = 1e-9  # beside the largest entry

    def at(self, library: Library) -> Callable[[Any], Any]:
        """The function of x alone, with the data as arrays of the library."""
        data = {k: library.asarray(v) if isinstance(v, np.ndarray) else v for k, v in self.data.items()}
        return lambda x: self.f(library, x, data)


# ---- statistics ------------------------------------------------------------------------------------------------------
def gaussian_process(lib: Library, x: Any, data: Data) -> Any:
    """-log N(y; 0, K), K = e^2a exp(-|s_i - s_j|^2 / 2 e^2l) + e^2b I; x = (a, b, l)."""
    xp, places = lib.xp, data["places"] * lib.xp.exp(-x[2])
    gaps = places[:, None] - places[None, :]
    covariance = xp.exp(2.0 * x[0] - 0.5 * gaps**2) + xp.exp(2.0 * x[1]) * data["identity"]
    factor = xp.linalg.cholesky(covariance)
    white = lib.solve_lower(factor, data["observed"])
    return 0.5 * xp.sum(white**2) + xp.sum(xp.log(xp.linalg.diagonal(factor)))


def cox(lib: Library, x: Any, data: Data) -> Any:
    """Cox's partial likelihood, rows by falling time: -sum over events of eta_i - log sum_(j <= i) exp(eta_j)."""
    eta = data["rows"] @ x
    top = lib.xp.max(eta)
    risk = top + lib.xp.log(lib.xp.cumulative_sum(lib.xp.exp(eta - top)))
    return -lib.xp.sum(data["events"] * (eta - risk))


def mixture(lib: Library, x: Any, data: Data) -> Any:
    """-log likelihood of a mixture of three normals; x = (means, log sigmas, logits)."""
    means, sigmas, logits = x[:3], x[3:6], x[6:9]
    weights = logits - lib.logsumexp(logits, axis=0)
    z = (data["y"][:, None] - means) * lib.xp.exp(-sigmas)
    return -lib.xp.sum(lib.logsumexp(weights - sigmas - 0.5 * z**2, axis=1))


def garch(lib: Library, x: Any, data: Data) -> Any:
    """GARCH(1, 1) with parameters on unbounded scales: h_t = w + a e_(t-1)^2 + b h_(t-1), sum log h_t + e_t^2 / h_t."""
    xp = lib.xp
    omega, alpha, beta = xp.exp(x[0]), 1.0 / (1.0 + xp.exp(-x[1])), 1.0 / (1.0 + xp.exp(-x[2]))
    squares = data["squares"]
    h, total = squares[0], 0.0
    for t in range(1, 25):
        h = omega + alpha * squares[t - 1] + beta * h
        total = total + xp.log(h) + squares[t] / h
    return total


def arma(lib: Library, x: Any, data: Data) -> Any:
    """ARMA(1, 1), conditional sum of squares: e_t = y_t - c - phi y_(t-1) - theta e_(t-1), as a loop of the library."""
    y = data["y"]

    def step(e: Any, pair: Any) -> tuple[Any, Any]:
        now, before = pair
        e = now - x[0] - x[1] * before - x[2] * e
        return e, e**2

    _, squares = lib.scan(step, lib.xp.sum(0.0 * x), (y[1:], y[:-1]))
    return 0.5 * lib.xp.sum(squares) * lib.xp.exp(-2.0 * x[3]) + squares.shape[0] * x[3]


def student(lib: Library, x: Any, data: Data) -> Any:
    """Regression with Student-t errors; x = (coefficients, log sigma, log degrees of freedom)."""
    xp = lib.xp
    sigma, nu = xp.exp(x[3]), xp.exp(x[4])
    z = (data["y"] - data["rows"] @ x[:3]) / sigma
    constant = lib.lgamma((nu + 1.0) / 2.0) - lib.lgamma(nu / 2.0) - 0.5 * xp.log(nu * np.pi) - x[3]
    return -xp.sum(constant - 0.5 * (nu + 1.0) * xp.log1p(z**2 / nu))


def logistic(lib: Library, x: Any, data: Data) -> Any:
    """Penalized logistic regression: sum log(1 + exp(-s_i a_i'x)) + |x|^2 / 2."""
    margins = data["signs"] * (data["rows"] @ x)
    return lib.xp.sum(lib.xp.logaddexp(0.0 * margins, -margins)) + 0.5 * x @ x


# ---- physics ---------------------------------------------------------------------------------------------------------
def _distances(lib: Library, x: Any, data: Data) -> Any:
    points = lib.xp.reshape(x, (-1, 3))
    gaps = points[data["first"]] - points[data["second"]]
    return lib.xp.sum(gaps * gaps, axis=-1)


def lennard_jones(lib: Library, x: Any, data: Data) -> Any:
    """sum over pairs of 4 (r^-12 - r^-6)."""
    s = _distances(lib, x, data) ** -3
    return lib.xp.sum(4.0 * (s * s - s))


def coulomb(lib: Library, x: Any, data: Data) -> Any:
    """sum over pairs of q_i q_j / r_ij, in a harmonic trap."""
    charges = data["charges"][data["first"]] * data["charges"][data["second"]]
    return lib.xp.sum(charges / lib.xp.sqrt(_distances(lib, x, data))) + 0.5 * lib.xp.sum(x * x)


def pendulum(lib: Library, x: Any, data: Data) -> Any:
    """Misfit of a damped pendulum integrated by Euler steps; x = (angle, velocity, damping, log stiffness)."""
    xp = lib.xp
    angle, velocity, total = x[0], x[1], 0.0
    for k in range(30):
        change = -x[2] * velocity - xp.exp(x[3]) * xp.sin(angle)
        angle, velocity = angle + 0.05 * velocity, velocity + 0.05 * change
        total = total + (angle - data["seen"][k]) ** 2
    return total


# ---- learning, finance, optimization ---------------------------------------------------------------------------------
def factorization(lib: Library, x: Any, data: Data) -> Any:
    """|| W * (T - U V') ||^2 + 0.1 |x|^2, x = (U, V) of 6 x 2 and 5 x 2, W a mask of what was seen."""
    u, v = lib.xp.reshape(x[:12], (6, 2)), lib.xp.reshape(x[12:], (5, 2))
    return lib.xp.sum((data["mask"] * (data["target"] - u @ v.T)) ** 2) + 0.1 * lib.xp.sum(x**2)


def network(lib: Library, x: Any, data: Data) -> Any:
    """Cross-entropy of a network 4 -> 5 -> 3 with tanh; x holds both layers."""
    xp = lib.xp
    hidden = xp.tanh(data["samples"] @ xp.reshape(x[:20], (4, 5)) + x[20:25])
    logits = hidden @ xp.reshape(x[25:40], (5, 3)) + x[40:43]
    return xp.sum(lib.logsumexp(logits, axis=1)) - xp.sum(data["labels"] * logits)


def black_scholes(lib: Library, x: Any, data: Data) -> Any:
    """Value of a book of European calls; x = (spot, rate, volatility, time)."""
    xp = lib.xp
    spread = x[2] * xp.sqrt(x[3])
    d1 = (xp.log(x[0] / data["strikes"]) + (x[1] + 0.5 * x[2] ** 2) * x[3]) / spread
    normal = lambda z: 0.5 * (1.0 + lib.erf(z / np.sqrt(2.0)))  # noqa: E731  (reads as the formula)
    prices = x[0] * normal(d1) - data["strikes"] * xp.exp(-x[1] * x[3]) * normal(d1 - spread)
    return xp.sum(data["held"] * prices)


def barrier(lib: Library, x: Any, data: Data) -> Any:
    """c'x - log det(F_0 + sum x_i F_i): the barrier of a semidefinite program."""
    inside = data["start"] + lib.xp.tensordot(x, data["matrices"], axes=1)
    factor = lib.xp.linalg.cholesky(inside)
    return data["cost"] @ x - 2.0 * lib.xp.sum(lib.xp.log(lib.xp.linalg.diagonal(factor)))


def rosenbrock(lib: Library, x: Any, data: Data) -> Any:
    return lib.xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


# ---- points and data -------------------------------------------------------------------------------------------------
def _drawn() -> dict[str, Scenario]:
    rng = np.random.default_rng(7)
    normal = rng.standard_normal
    first, second = np.triu_indices(8, 1)
    lattice = np.stack(np.meshgrid([0.0, 1.2], [0.0, 1.2], [0.0, 1.2]), -1).reshape(-1) + 0.05 * normal(24)
    symmetric = normal((4, 6, 6))
    ar = np.cumsum(normal(40)) * 0.3
    return {
        "gaussian process": Scenario(gaussian_process, np.array([0.1, -0.8, -0.5]), {
            "places": np.linspace(0.0, 3.0, 15), "identity": np.eye(15),
            "observed": np.sin(np.linspace(0.0, 6.0, 15))}),
        "cox": Scenario(cox, 0.3 * normal(4), {"rows": normal((30, 4)), "events": (rng.random(30) < 0.7) * 1.0}),
        "mixture": Scenario(mixture, 0.5 * normal(9), {"y": normal(40) * 2.0}),
        "garch": Scenario(garch, np.array([-2.0, -2.0, 1.0]), {"squares": normal(25) ** 2}),
        "arma": Scenario(arma, np.array([0.1, 0.6, 0.3, -0.2]), {"y": ar}),
        "student": Scenario(student, np.array([0.4, -0.2, 0.9, -0.3, 1.2]),
                            {"rows": normal((25, 3)), "y": normal(25)}),
        "logistic": Scenario(logistic, normal(4), {"rows": normal((30, 4)), "signs": np.sign(normal(30))}),
        "lennard-jones": Scenario(lennard_jones, lattice, {"first": first, "second": second}),
        "coulomb": Scenario(coulomb, lattice, {"first": first, "second": second, "charges": 1.0 + rng.random(8)}),
        "pendulum": Scenario(pendulum, np.array([1.0, 0.2, 0.3, 0.4]), {"seen": np.cos(np.linspace(0.0, 2.0, 30))}),
        "factorization": Scenario(factorization, normal(22), {
            "target": normal((6, 5)), "mask": (rng.random((6, 5)) < 0.8) * 1.0}),
        "network": Scenario(network, 0.5 * normal(43), {
            "samples": normal((20, 4)), "labels": np.eye(3)[rng.integers(0, 3, 20)]}),
        "black-scholes": Scenario(black_scholes, np.array([100.0, 0.03, 0.2, 0.75]), {
            "strikes": np.linspace(80.0, 120.0, 9), "held": np.arange(9.0) - 3.0}),
        "barrier": Scenario(barrier, 0.05 * normal(4), {
            "start": np.eye(6) * 4.0, "matrices": symmetric + symmetric.transpose(0, 2, 1), "cost": normal(4)}),
        "rosenbrock": Scenario(rosenbrock, normal(12), {}),
    }


SCENARIOS = _drawn()


# ---- libraries -------------------------------------------------------------------------------------------------------
def hesse_library() -> Library:
    import hesse
    import hesse.numpy as xp
    from hesse import special

    return Library(
        xp, special.erf, special.gammaln, special.logsumexp, lambda a, b: xp.linalg.solve_triangular(a, b, lower=True),
        hesse.scan, xp.asarray,
    )


def jax_library() -> Library | None:
    """JAX's functions, where it is installed; call them with 64 bits enabled."""
    jax = peer("jax")
    if jax is None:
        return None
    scipy = peer("jax.scipy")
    assert scipy is not None
    return Library(
        jax.numpy, scipy.special.erf, scipy.special.gammaln, scipy.special.logsumexp,
        lambda a, b: scipy.linalg.solve_triangular(a, b, lower=True), jax.lax.scan, jax.numpy.asarray,
    )
