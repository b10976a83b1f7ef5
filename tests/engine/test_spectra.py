"""Spectra: repeated values, identities that hold at every matrix, and matrices that an untaken branch would refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hesse_engine.compute import compute
from hesse_engine.errors import CODES, HesseError
from hesse_engine.frontends.trace import Trace
from hesse_engine.ir.graph import Array
from hesse_engine.options import Options
from tracing import traced

F = Callable[[Any], Any]
STRATEGIES = ("auto", "forward-over-reverse", "reverse-over-reverse", "forward-over-forward")
REVERSE_FIRST = STRATEGIES[:3]
RNG = np.random.default_rng(11)
TURN = np.linalg.qr(RNG.standard_normal((4, 4)))[0]
REPEATED = TURN @ np.diag([1.0, 2.0, 2.0, 2.0]) @ TURN.T
NEARLY = TURN @ np.diag([1.0, 2.0, 2.0 + 1e-9, 2.0 + 1e-5]) @ TURN.T
APART = TURN @ np.diag([0.5, 1.0, 2.0, 3.5]) @ TURN.T


def derivative(f: F, x: Array, operation: str = "hessian", **options: Any) -> Any:
    trace = Trace()
    node = trace.input(x, "x")
    return compute(trace.graph([f(node)], [node]), operation, [x], options=Options(**options)).value


def close(got: Any, wanted: Any, tolerance: float = 1e-10) -> None:
    scale = float(np.max(np.abs(wanted), initial=1e-3))
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)


def code_of(f: Callable[[], Any]) -> str:
    with pytest.raises(HesseError) as caught:
        f()
    assert type(caught.value) is CODES[caught.value.code]
    return caught.value.code


# ---- symmetric functions of repeated values ------------------------------------------------------------------------
def symmetric(x: Any) -> Any:
    return (x + x.T) / 2


eigvalsh = np.linalg.eigvalsh
# a function of the eigenvalues, and the same without them
SYMMETRIC: dict[str, tuple[F, F]] = {
    "trace": (lambda x: eigvalsh(x).sum(), lambda x: np.trace(x)),
    "squares": (lambda x: (eigvalsh(x) ** 2).sum(), lambda x: (symmetric(x) ** 2).sum()),
    "cubes": (lambda x: (eigvalsh(x) ** 3).sum(), lambda x: np.trace(symmetric(x) @ symmetric(x) @ symmetric(x))),
    "log det": (lambda x: np.log(eigvalsh(x)).sum(), lambda x: np.linalg.slogdet(symmetric(x))[1]),
    "inverse": (lambda x: (1.0 / eigvalsh(x)).sum(), lambda x: np.trace(np.linalg.inv(symmetric(x)))),
    "product": (lambda x: np.prod(eigvalsh(x)), lambda x: np.linalg.det(symmetric(x))),
    "variance": (lambda x: np.mean((eigvalsh(x) - np.mean(eigvalsh(x))) ** 2),
                 lambda x: np.trace(symmetric(x) @ symmetric(x)) / 4 - (np.trace(x) / 4) ** 2),
    "log of a sum": (lambda x: np.log((eigvalsh(x) ** 2).sum()), lambda x: np.log((symmetric(x) ** 2).sum())),
    "descending": (lambda x: np.log(eigvalsh(x)[::-1]).sum(), lambda x: np.linalg.slogdet(symmetric(x))[1]),
    "sine of the trace": (lambda x: np.sin(eigvalsh(x).sum()), lambda x: np.sin(np.trace(x))),
}


@pytest.mark.parametrize("strategy", REVERSE_FIRST)
@pytest.mark.parametrize("at", ["repeated", "nearly", "apart", "identity"])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_second_derivative_of_a_symmetric_function(name: str, at: str, strategy: str) -> None:
    """As the same function by other means, which divides by no gap."""
    x = {"repeated": REPEATED, "nearly": NEARLY, "apart": APART, "identity": np.eye(4)}[at]
    f, other = SYMMETRIC[name]
    if name == "product" and at != "apart":  # by halving: no elementwise path, and so an error
        if at == "nearly":
            return
        assert code_of(lambda: derivative(f, x, strategy=strategy)) == "repeated-eigenvalues"
        return
    close(derivative(f, x, strategy=strategy), derivative(other, x, strategy="forward-over-reverse"), 1e-9)


@pytest.mark.parametrize("name", ["trace", "log det", "cubes"])
def test_forward_over_forward_names_the_gap_or_agrees(name: str) -> None:
    f, other = SYMMETRIC[name]
    close(derivative(f, APART, strategy="forward-over-forward"), derivative(other, APART))
    assert code_of(lambda: derivative(f, REPEATED, strategy="forward-over-forward")) == "repeated-eigenvalues"


@pytest.mark.parametrize("strategy", REVERSE_FIRST)
def test_nuclear_norm_with_repeated_singular_values(strategy: str) -> None:
    """|X|_* = tr((X'X)^(1/2)); at a multiple t Q of a rotation its Hessian is that of the skew part, over t."""
    x = 2.0 * TURN
    found = derivative(lambda v: np.linalg.norm(v, "nuc"), x, strategy=strategy).reshape(16, 16)
    e = RNG.standard_normal((4, 4))
    inner = TURN.T @ e
    skew = (inner - inner.T) / 2
    close(e.ravel() @ found @ e.ravel(), (skew**2).sum() / 2.0)


def test_squares_of_singular_values_at_zero() -> None:
    """sum(s^2) = |X|^2 has the Hessian 2 I at every matrix, of any rank and shape."""
    for x in (np.zeros((3, 2)), np.outer([1.0, 2.0, 3.0], [1.0, -1.0]), np.zeros((2, 2)), np.eye(3, 4)):
        found = derivative(lambda v: (np.linalg.svd(v, compute_uv=False) ** 2).sum(), x)
        close(found.reshape(x.size, x.size), 2.0 * np.eye(x.size))


def test_sums_of_the_largest_values() -> None:
    """A gap below them is enough: the values among themselves may be equal."""
    top = derivative(lambda x: eigvalsh(x)[1:].sum(), REPEATED)
    rest = derivative(lambda x: np.trace(x) - eigvalsh(x)[0], REPEATED)
    close(top, rest)


# ---- what has no derivative there ----------------------------------------------------------------------------------
ASYMMETRIC: dict[str, F] = {
    "the largest": lambda x: eigvalsh(x)[-1],
    "weights": lambda x: (eigvalsh(x) * np.array([1.0, 2.0, 3.0, 4.0])).sum(),
    "gaps": lambda x: (np.diff(eigvalsh(x)) ** 2).sum(),
    "vectors": lambda x: (np.linalg.eigh(x)[1] ** 4).sum(),
    "left vectors": lambda x: (np.linalg.svd(x)[0] ** 4).sum(),
    "spectral norm": lambda x: np.linalg.norm(x, 2),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ASYMMETRIC)
def test_refused_at_repeated_values(name: str, strategy: str) -> None:
    f = ASYMMETRIC[name]
    assert np.isfinite(derivative(f, APART, strategy=strategy)).all()
    assert code_of(lambda: derivative(f, REPEATED, strategy=strategy)) == "repeated-eigenvalues"


def test_the_message_names_the_gap() -> None:
    with pytest.raises(HesseError, match=r"eigenvalues 0 and 1 are 1\.0 and 1\.0: the gap of 0\.0"):
        derivative(ASYMMETRIC["vectors"], np.diag([1.0, 1.0, 3.0]), "grad")


@pytest.mark.parametrize("operation", ["grad", "hessian", "value_grad_hessian"])
def test_refused_in_a_batch(operation: str) -> None:
    trace = Trace()
    x = trace.input(APART, "x")
    graph = trace.graph([ASYMMETRIC["vectors"](x)], [x])
    options = Options(batch=2)
    fine = compute(graph, operation, [np.array([APART, 2.0 * APART])], options=options).value
    assert fine is not None
    assert code_of(lambda: compute(graph, operation, [np.array([APART, REPEATED])], options=options)) \
        == "repeated-eigenvalues"


def test_values_and_first_derivatives_exist_at_repeated_values() -> None:
    close(np.sort(np.diag(derivative(lambda x: np.log(eigvalsh(x)).sum(), REPEATED, "grad"))),
          np.sort(np.diag(np.linalg.inv(REPEATED))))
    close(traced(eigvalsh, REPEATED), [1.0, 2.0, 2.0, 2.0])


# ---- a branch that is not taken ------------------------------------------------------------------------------------
BRANCHES: dict[str, F] = {
    "inv": lambda x: np.linalg.inv(x).sum(),
    "log det": lambda x: np.linalg.slogdet(x)[1],
    "cholesky": lambda x: np.log(np.diagonal(np.linalg.cholesky(x))).sum(),
    "solve": lambda x: np.linalg.solve(x, np.ones(3)).sum(),
    "vectors": lambda x: (np.linalg.eigh(x)[1] ** 4).sum(),
}
REFUSING = {"inv": np.ones((3, 3)), "log det": np.ones((3, 3)), "cholesky": -np.eye(3), "solve": np.ones((3, 3)),
            "vectors": np.eye(3)}


@pytest.mark.parametrize("operation", ["value", "grad", "hessian"])
@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_that_is_not_taken_is_not_refused(name: str, operation: str) -> None:
    f, x = BRANCHES[name], REFUSING[name]
    got = derivative(lambda v: np.where(v[0, 0] > 5.0, f(v), (v**2).sum()), x, operation)
    close(got, derivative(lambda v: (v**2).sum(), x, operation))
    if operation == "grad":
        code_of(lambda: derivative(lambda v: np.where(v[0, 0] < 5.0, f(v), (v**2).sum()), x, operation))


# ---- identities ----------------------------------------------------------------------------------------------------
def of_size(n: int, m: int, seed: int) -> Array:
    return np.random.default_rng([seed, n, m]).standard_normal((n, m))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_reconstructions_have_the_derivative_of_the_matrix(n: int, m: int, seed: int) -> None:
    """Products of factors give the matrix back, to second order: the Hessian of <W, A o A> is 2 diag(W)."""
    x, square = of_size(n, m, seed), of_size(n, n, seed)
    w = of_size(n, m, seed + 1)

    def by_svd(v: Any) -> Any:
        u, s, vh = np.linalg.svd(v, full_matrices=False)
        return (w * ((u * s) @ vh) ** 2).sum()

    def by_qr(v: Any) -> Any:
        q, r = np.linalg.qr(v)
        return (w * (q @ r) ** 2).sum()

    def by_eigh(v: Any) -> Any:
        values, vectors = np.linalg.eigh(symmetric(v))
        return (((vectors * values) @ vectors.T) ** 2).sum()

    for f in (by_svd, by_qr):
        close(derivative(f, x).reshape(x.size, x.size), 2.0 * np.diag(w.ravel()), 1e-7)
    close(derivative(by_eigh, square), derivative(lambda v: (symmetric(v) ** 2).sum(), square), 1e-7)


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 4), st.integers(0, 1000))
def test_products_with_the_hessian(n: int, seed: int) -> None:
    """H v by its own pass is H times v."""
    x, v = of_size(n, n, seed), of_size(n, n, seed + 1)
    for f in (lambda a: np.linalg.svd(a, compute_uv=False)[0] ** 3, lambda a: (np.linalg.pinv(a) ** 2).sum()):
        trace = Trace()
        node = trace.input(x, "x")
        graph = trace.graph([f(node)], [node])
        h = compute(graph, "hessian", [x]).value.reshape(n * n, n * n)
        close(compute(graph, "hvp", [x], [v]).value.ravel(), h @ v.ravel(), 1e-7)


# ---- what surrounds ------------------------------------------------------------------------------------------------
def test_complements_have_the_derivative_of_their_projector() -> None:
    """N N' = I - A A^+, by the complete factor and by the full decomposition."""
    x = of_size(4, 2, 5)
    w = of_size(4, 4, 6)
    wanted = derivative(lambda a: (w * (np.eye(4) - a @ np.linalg.pinv(a)) ** 2).sum(), x)
    for f in (lambda a: np.linalg.qr(a, mode="complete")[0], lambda a: np.linalg.svd(a)[0]):
        close(derivative(lambda a, f=f: (w * (f(a)[:, 2:] @ f(a)[:, 2:].T) ** 2).sum(), x), wanted)


def test_determinant_at_singular_matrices() -> None:
    """As the polynomial: the Hessian of the determinant of 0 is 0 for n > 2; for n = 2 it is that of ad - bc."""
    close(derivative(np.linalg.det, np.zeros((3, 3))), np.zeros((3, 3, 3, 3)))
    h = derivative(np.linalg.det, np.zeros((2, 2))).reshape(4, 4)
    close(h, np.array([[0, 0, 0, 1], [0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0]]))
    rank_one = np.outer([1.0, 2.0, -1.0], [3.0, 0.5, 1.0])
    np.testing.assert_allclose(derivative(np.linalg.det, rank_one, "grad"), np.zeros((3, 3)), atol=1e-13)


def test_the_hessian_of_a_solution_of_a_transpose() -> None:
    """Its cotangents hold the transpose of a transpose, the matrix itself."""
    a, b = APART + 0.25 * TURN, of_size(4, 2, 9)
    every = [derivative(lambda x: (np.linalg.solve(x.T, b) ** 3).sum(), a, strategy=s) for s in STRATEGIES]
    for found in every[1:]:
        close(found, every[0])
