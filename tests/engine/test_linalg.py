"""Linear algebra against NumPy, torch and JAX: values, derivatives, batches, refusals, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import lapack, reference
from hesse_engine.backend.program import build_program
from hesse_engine.compute import compute
from hesse_engine.errors import CODES, HesseError
from hesse_engine.frontends.expression import parse
from hesse_engine.frontends.trace import Trace
from hesse_engine.ir.graph import FLOAT64, Array, Builder, Node, apply
from hesse_engine.ir.walk import reachable
from hesse_engine.options import Options
from hesse_engine.simplify.passes import simplify_nodes
from hesse_engine.structure.merging import merge_views
from hesse_engine.structure.opaque import through_opaque
from hesse_engine.structure.pushing import second_differential
from hesse_engine.structure.sinking import sink
from hesse_engine.transforms.batch import batch
from oracles import peer
from tracing import traced

torch, jax = peer("torch"), peer("jax")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in torch.func
RNG = np.random.default_rng(3)
M = RNG.standard_normal((4, 4))
A = M + 4.0 * np.eye(4)
K = M @ M.T + np.eye(4)
B = RNG.standard_normal((4, 2))
V = RNG.standard_normal(4)
KS = np.array([K, K + np.diag(V**2), 2.0 * K])
AS = np.array([A, A.T, A @ A])


def hessian(f: Callable[..., Any], x: Array, library: str = "numpy", **options: Any) -> Array:
    trace = Trace(library)
    given = trace.input(x, "x")
    graph = trace.graph([f(given)], [given])
    found: Array = compute(graph, "hessian", [x], options=Options(**options)).value
    return found


def close(got: Any, wanted: Any, tolerance: float = 1e-11) -> None:
    wanted = np.asarray(wanted)
    scale = float(np.max(np.abs(wanted), initial=1.0))
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)


# ---- values under NumPy's names and torch's ------------------------------------------------------------------------
VALUES: list[tuple[Callable[..., Any], tuple[Array, ...]]] = [
    (np.linalg.cholesky, (K,)), (np.linalg.cholesky, (KS,)), (lambda x: np.linalg.cholesky(x, upper=True), (K,)),
    (np.linalg.solve, (A, V)), (np.linalg.solve, (A, B)), (np.linalg.solve, (AS, B)), (np.linalg.solve, (A, AS)),
    (np.linalg.inv, (A,)), (np.linalg.inv, (AS,)), (np.linalg.det, (A,)), (np.linalg.det, (AS,)),
    (np.linalg.slogdet, (A,)), (np.linalg.slogdet, (AS,)), (lambda x: np.linalg.slogdet(-x).sign, (A[:3, :3],)),
    (lambda x: np.linalg.solve(np.linalg.cholesky(x), V), (K,)),
    (lambda x: np.linalg.solve(np.linalg.cholesky(x).T, B), (K,)),
    (lambda x: np.linalg.inv(np.linalg.cholesky(x)), (K,)),
    (np.linalg.solve, (A, np.zeros((4, 0)))), (np.linalg.inv, (np.zeros((0, 0)),)),
    (np.linalg.cholesky, (np.zeros((2, 0, 0)),)), (np.linalg.solve, (np.array([[3, 1], [1, 2]]), np.array([9, 8]))),
]


@pytest.mark.parametrize(("f", "operands"), VALUES)
def test_value_under_numpy_names(f: Callable[..., Any], operands: tuple[Array, ...]) -> None:
    got, wanted = traced(f, *operands), f(*operands)
    if not isinstance(wanted, tuple):
        got, wanted = [got], [wanted]
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == np.shape(w)
        close(g, w, 1e-13)


TORCH: list[tuple[Callable[[Any], Callable[..., Any]], tuple[Array, ...]]] = [
    (lambda t: t.linalg.cholesky, (K,)), (lambda t: t.linalg.cholesky, (KS,)),
    (lambda t: lambda x: t.linalg.cholesky(x, upper=True), (K,)),
    (lambda t: t.linalg.solve, (A, V)), (lambda t: t.linalg.solve, (AS, B)),
    (lambda t: t.linalg.solve, (AS, RNG.standard_normal((3, 4)))),
    (lambda t: lambda a, b: t.linalg.solve(a, b, left=False), (A, B.T)),
    *[(lambda t, u=u, le=le, un=un: lambda a, b: t.linalg.solve_triangular(
        a, b if le else b.mT, upper=u, left=le, unitriangular=un), (A, B))
      for u in (True, False) for le in (True, False) for un in (True, False)],
    (lambda t: lambda b, x: t.cholesky_solve(b, t.linalg.cholesky(x)), (B, K)),
    (lambda t: lambda b, x: t.cholesky_solve(b, t.linalg.cholesky(x, upper=True), upper=True), (B, K)),
    (lambda t: lambda x: t.cholesky_inverse(t.linalg.cholesky(x)), (K,)),
    (lambda t: t.linalg.inv, (A,)), (lambda t: t.inverse, (AS,)), (lambda t: lambda x: x.inverse(), (A,)),
    (lambda t: t.linalg.det, (A,)), (lambda t: t.det, (AS,)), (lambda t: lambda x: x.det(), (A,)),
    (lambda t: t.slogdet, (A,)), (lambda t: t.linalg.slogdet, (AS,)), (lambda t: t.logdet, (A,)),
    (lambda t: lambda x: x.logdet(), (K,)), (lambda t: t.logdet, (A[::-1].copy(),)),
    (lambda t: lambda x: t.linalg.cholesky(x).diagonal().log().sum(), (K,)),
]


@pytest.mark.skipif(torch is None, reason="compares with torch")
@pytest.mark.parametrize("index", range(len(TORCH)))
def test_value_under_torch_names(index: int) -> None:
    assert torch is not None
    f, operands = TORCH[index][0](torch), TORCH[index][1]
    got, wanted = traced(f, *operands, library="torch"), f(*[torch.tensor(a) for a in operands])
    if not isinstance(wanted, tuple):
        got, wanted = [got], [wanted]
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == tuple(w.shape)
        close(g, w.numpy(), 1e-13)


EXPRESSIONS = {
    "sum(log(diag(cholesky(x))))": np.log(np.diag(np.linalg.cholesky(K))).sum(),
    "sum(linalg.solve(x, x[0])**2)": (np.linalg.solve(K, K[0]) ** 2).sum(),
    "np.linalg.det(x) + logdet(x)": np.linalg.det(K) + np.linalg.slogdet(K)[1],
    "sum(triangular_solve(x, x, lower=False))": np.linalg.solve(np.triu(K), K).sum(),
    "sum(inv(x))": np.linalg.inv(K).sum(),
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_value_of_an_expression(text: str) -> None:
    graph = parse(text, [("x", [4, 4], "float64")])
    close(reference.run(graph.outputs, {graph.inputs[0]: K})[0], EXPRESSIONS[text], 1e-13)


# ---- second order against JAX and torch ----------------------------------------------------------------------------
def _cholesky_then(rest: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda xp, x: rest(xp, xp.linalg.cholesky(x))


FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], Array]] = {
    "cholesky": (lambda xp, x: (xp.linalg.cholesky(x) ** 3).sum(), K),
    "log of the diagonal": (_cholesky_then(lambda xp, f: xp.log(xp.diagonal(f)).sum()), K),
    "whitened squares": (_cholesky_then(lambda xp, f: (xp.linalg.solve(f, V) ** 2).sum()), K),
    "whitened product": (_cholesky_then(lambda xp, f: xp.linalg.solve(f, V) @ xp.linalg.solve(f, V[::-1].copy())), K),
    "whitened matrix": (_cholesky_then(lambda xp, f: xp.sin(xp.linalg.solve(f, B).T @ xp.linalg.solve(f, B)).sum()), K),
    "both solutions": (_cholesky_then(lambda xp, f: V @ xp.linalg.solve(f.T, xp.linalg.solve(f, V))), K),
    "several factors": (lambda xp, x: xp.log(xp.diagonal(xp.linalg.cholesky(x), 0, -2, -1)).sum(), KS),
    "solve": (lambda xp, x: xp.sin(xp.linalg.solve(x, B)).sum(), A),
    "solve by itself": (lambda xp, x: (xp.linalg.solve(x, x.T @ x) ** 2).sum(), A),
    "inv": (lambda xp, x: (xp.linalg.inv(x) ** 3).sum(), A),
    "det": (lambda xp, x: xp.linalg.det(x), A),
    "slogdet": (lambda xp, x: xp.linalg.slogdet(x)[1] ** 2, A),
}


@cache
def by_jax(name: str) -> Array:
    assert jax is not None
    f, x = FUNCTIONS[name]
    with jax.enable_x64(True):
        return np.asarray(jax.hessian(lambda v: f(jax.numpy, v))(jax.numpy.asarray(x)))


@pytest.mark.skipif(jax is None, reason="compares with JAX")
@pytest.mark.parametrize("strategy", ["auto", "forward-over-reverse", "reverse-over-reverse", "forward-over-forward"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_as_jax_has_it(name: str, strategy: str) -> None:
    f, x = FUNCTIONS[name]
    close(hessian(lambda v: f(np, v), x, strategy=strategy), by_jax(name), 1e-10)


@pytest.mark.skipif(torch is None, reason="compares with torch")
@pytest.mark.parametrize("name", ["cholesky", "solve", "inv", "det", "slogdet", "several factors"])
def test_hessian_as_torch_has_it(name: str) -> None:
    assert torch is not None
    f, x = FUNCTIONS[name]
    wanted = torch.autograd.functional.hessian(
        {"cholesky": lambda v: (torch.linalg.cholesky(v) ** 3).sum(),
         "several factors": lambda v: torch.linalg.cholesky(v).diagonal(dim1=-2, dim2=-1).log().sum(),
         "solve": lambda v: torch.linalg.solve(v, torch.tensor(B)).sin().sum(),
         "inv": lambda v: (torch.linalg.inv(v) ** 3).sum(), "det": torch.linalg.det,
         "slogdet": lambda v: torch.linalg.slogdet(v)[1] ** 2}[name], torch.tensor(x))
    close(hessian(lambda v: f(np, v), x), wanted.numpy(), 1e-10)


def test_an_asymmetric_matrix_is_read_by_its_lower_triangle() -> None:
    lower = np.tril(K)
    np.testing.assert_array_equal(traced(np.linalg.cholesky, lower), np.linalg.cholesky(lower))


# ---- a function of a factor that is one of the matrix --------------------------------------------------------------
def ops_of(f: Callable[[Any], Any], x: Array) -> set[str]:
    trace = Trace()
    node = f(trace.input(x, "x")).node
    return {n.op for n in reachable(simplify_nodes([node]))}


def test_factors_are_passed_by() -> None:
    direct = {"log of the diagonal": "cholesky_logdet", "whitened squares": "cholesky_solve",
              "whitened product": "cholesky_solve", "whitened matrix": "cholesky_solve",
              "both solutions": "cholesky_solve", "several factors": "cholesky_logdet"}
    for name, op in direct.items():
        f, x = FUNCTIONS[name]
        found = ops_of(lambda v, f=f: f(np, v), x)
        assert op in found, name
        assert "triangular_solve" not in found, name


def test_what_only_looks_like_a_determinant_is_left_alone() -> None:
    f = np.linalg.cholesky
    for g in (lambda x: np.log(np.diagonal(f(x), 1) + 9.0).sum(), lambda x: np.log(np.diagonal(f(x))[1:]).sum(),
              lambda x: np.log(f(x).reshape(16)[::5] * 2.0).sum(), lambda x: np.log(np.diagonal(x)).sum()):
        assert "cholesky_logdet" not in ops_of(g, K)


# ---- through matrices to few parameters ----------------------------------------------------------------------------
POINTS, OBSERVED = RNG.standard_normal((9, 2)), RNG.standard_normal(9)


def likelihood(xp: Any, p: Any) -> Any:
    """y'K^-1 y / 2 + log det(K) / 2 of a Gaussian process with two length scales, amplitude and noise."""
    scaled = POINTS * xp.exp(-p[2:4])
    gap = scaled[:, None, :] - scaled[None, :, :]
    cov = xp.exp(2.0 * p[0] - 0.5 * xp.sum(gap * gap, axis=-1)) + xp.exp(2.0 * p[1]) * np.eye(9)
    factor = xp.linalg.cholesky(cov)
    white = xp.linalg.solve(factor, OBSERVED - p[0])  # the mean depends on the parameters too
    return 0.5 * xp.sum(white * white) + xp.sum(xp.log(xp.diagonal(factor)))


@pytest.mark.skipif(jax is None, reason="compares with JAX")
def test_marginal_likelihood() -> None:
    assert jax is not None
    p = np.array([0.1, -0.7, 0.3, -0.2])
    with jax.enable_x64(True):
        wanted = np.asarray(jax.hessian(lambda v: likelihood(jax.numpy, v))(jax.numpy.asarray(p)))
    close(hessian(lambda v: likelihood(np, v), p), wanted)
    close(hessian(lambda v: likelihood(np, v), p, strategy="forward-over-reverse"), wanted)
    trace = Trace()
    x = trace.input(p, "x")
    f = likelihood(np, x).node
    output = merge_views(sink(simplify_nodes([f])[0], [x.node]))
    assert second_differential(output, [x.node]) is None
    assert through_opaque(output, [x.node]) is not None


@pytest.mark.skipif(jax is None, reason="compares with JAX")
def test_several_inputs_through_a_matrix() -> None:
    assert jax is not None

    def f(xp: Any, a: Any, b: Any) -> Any:
        cov = xp.exp(-xp.abs(np.arange(4.0)[:, None] - np.arange(4.0)) * xp.exp(a)) + b[0] * b[1] * np.eye(4)
        return xp.linalg.slogdet(cov)[1] + V @ xp.linalg.solve(cov, V * b[1]) + xp.exp(a) * b[0]

    a, b = np.array(0.2), np.array([0.5, 1.5])
    trace = Trace()
    x, y = trace.input(a, "a"), trace.input(b, "b")
    got = compute(trace.graph([f(np, x, y)], [x, y]), "hessian", [a, b]).value
    with jax.enable_x64(True):
        wanted = jax.hessian(lambda *v: f(jax.numpy, *v), argnums=(0, 1))(jax.numpy.asarray(a), jax.numpy.asarray(b))
    for i in range(2):
        for j in range(2):
            close(got[i][j], wanted[i][j])


def test_no_form_without_an_opaque_part_or_for_too_many_variables() -> None:
    builder = Builder()
    x = builder.input("x", (3,), FLOAT64)
    assert through_opaque(apply("sum", apply("exp", x)), [x]) is None
    big = builder.input("x", (600, 600), FLOAT64)
    assert through_opaque(apply("logabsdet", big), [big]) is None


def test_equal_views_become_one() -> None:
    builder = Builder()
    x = builder.input("x", (3,), FLOAT64)
    element = apply("reshape", apply("slice", x, start=(2,), count=(1,)), shape=())
    rows = apply("broadcast_to", x, shape=(4, 3))
    column = apply("reshape", apply("slice", rows, start=(0, 2), count=(4, 1)), shape=(4,))
    f = apply("sum", apply("exp", apply("broadcast_to", element, shape=(4,))) * apply("exp", column))
    merged = merge_views(f)
    assert len([n for n in reachable([merged]) if n.op == "exp"]) == 1
    given = np.array([0.5, -1.0, 0.25])
    close(reference.run([merged], {x: given})[0], 4 * np.exp(0.5), 1e-14)


# ---- batches -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_batched_right_hand_sides_are_columns(which: tuple[int, ...], lead: tuple[int, ...]) -> None:
    """Matrices of their own become a leading axis; right-hand sides of one matrix are solved in one call."""
    size, builder = 3, Builder()
    shapes = ((*lead, 4, 4), (*lead, 4, 2))
    nodes = [builder.input(n, s, FLOAT64) for n, s in zip("ab", shapes, strict=True)]
    wide = {nodes[k]: builder.input("w", (*shapes[k], size), FLOAT64) for k in which}
    values: dict[Node, Array] = {n: np.broadcast_to(v, s) for n, v, s in zip(nodes, (A, B), shapes, strict=True)}
    sets = {n: [values[n] * (1.0 + 0.25 * k) for k in range(size)] for n in wide}
    for y in (apply("solve", *nodes), apply("triangular_solve", *nodes, lower=False),
              apply("triangular_solve", *nodes, transposed=True)):
        (together,) = batch([y], wide, size)
        got = reference.run([together], {**values, **{w: np.stack(sets[n], -1) for n, w in wide.items()}})[0]
        for k in range(size):
            close(got[..., k], reference.run([y], {**values, **{n: sets[n][k] for n in wide}})[0], 1e-14)
        if which == (1,):
            calls = [n for n in reachable([together]) if n.op == y.op]
            assert [n.shape for n in calls] == [(*lead, 4, 2 * size)]


# ---- refusals ------------------------------------------------------------------------------------------------------
S, D = "shape-mismatch", "bad-attribute"
REFUSED: list[tuple[str, tuple[tuple[int, ...], ...], dict[str, Any], str]] = [
    *[(op, (shape,), {}, S) for op in ("cholesky", "inv", "logabsdet", "signdet", "det", "logdet")
      for shape in ((2, 3), (3,), (), (4, 2, 3))],
    *[(op, shapes, {}, S) for op in ("solve", "triangular_solve")
      for shapes in (((2, 3), (3, 1)), ((3, 3), (2, 1)), ((3, 3), (2,)), ((3, 3), ()), ((2, 3, 3), (4, 3, 1)))],
    ("triangular_solve", ((3, 3), (3, 1)), {"lower": 1}, D),
    ("triangular_solve", ((3, 3), (3, 1)), {"transposed": "T"}, D),
    ("cholesky_solve", ((3, 3), (2, 2), (3, 1)), {}, S), ("cholesky_inv", ((3, 3), (2, 2)), {}, S),
    ("cholesky_logdet", ((3, 3), (3, 2)), {}, S),
]


@pytest.mark.parametrize(("op", "shapes", "attrs", "code"), REFUSED)
def test_refused_before_a_node_exists(op: str, shapes: Any, attrs: dict[str, Any], code: str) -> None:
    builder = Builder()
    with pytest.raises(HesseError) as caught:
        apply(op, *[builder.input("x", s, FLOAT64) for s in shapes], **attrs)
    assert (caught.value.code, type(caught.value)) == (code, CODES[code])


SINGULAR = np.ones((3, 3))
AT_RUN_TIME: list[tuple[str, tuple[Array, ...], str]] = [
    ("cholesky", (-np.eye(3),), "not-positive-definite"),
    ("cholesky", (np.array([np.eye(3), SINGULAR - 2.0 * np.eye(3)]),), "not-positive-definite"),
    ("solve", (SINGULAR, np.ones((3, 1))), "singular-matrix"), ("inv", (SINGULAR,), "singular-matrix"),
    ("triangular_solve", (np.diag([1.0, 0.0, 2.0]), np.ones((3, 1))), "singular-matrix"),
]


@pytest.mark.parametrize("tier", ["reference", "vm"])
@pytest.mark.parametrize("index", range(len(AT_RUN_TIME)))
def test_refused_at_run_time_by_name(index: int, tier: str) -> None:
    op, operands, code = AT_RUN_TIME[index]
    builder = Builder()
    nodes = [builder.input(f"x{k}", a.shape, a.dtype) for k, a in enumerate(operands)]
    program = build_program(nodes, [apply(op, *nodes)], tier=tier)
    with pytest.raises(HesseError) as caught:
        program.run(operands)
    assert (caught.value.code, type(caught.value), caught.value.status) == (code, CODES[code], 422)
    assert caught.value.message.startswith(op)


def test_what_is_not_finite_is_neither_definite_nor_refused() -> None:
    bad = K.copy()
    bad[2, 1] = bad[1, 2] = np.nan
    got = traced(np.linalg.cholesky, np.array([K, bad]))
    close(got[0], np.linalg.cholesky(K))
    assert np.isnan(got[1, 3, 3])


def test_a_singular_matrix_has_a_determinant() -> None:
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    assert traced(np.linalg.det, singular) == 0.0
    sign, size = traced(np.linalg.slogdet, singular)
    assert (sign, size) == (0.0, -np.inf)


# ---- how it is run -------------------------------------------------------------------------------------------------
def solvers(builder: Builder, dtype: str) -> tuple[list[Node], list[Node]]:
    a, b, c = (builder.input(n, s, np.dtype(dtype)) for n, s in (("a", (5, 5)), ("b", (5, 3)), ("c", (2, 5, 3))))
    factor = apply("cholesky", a)
    turned = apply("permute_dims", a, axes=(1, 0))
    strided = apply("slice", apply("concat", a, a, axis=1), start=(0, 0), step=(1, 2), count=(5, 5))
    plain = [apply("triangular_solve", x, y, lower=low, transposed=t)
             for x in (a, turned, strided) for y in (b, c) for low in (True, False) for t in (True, False)]
    back = apply("permute_dims", apply("triangular_solve", a, b), axes=(1, 0))
    return [a, b, c], [*plain, back, apply("cholesky_inv", a, factor), apply("cholesky_solve", a, factor, b),
                       apply("cholesky_solve", a, factor, c), apply("cholesky_logdet", a, factor)]


@pytest.mark.parametrize("has_library", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_program_as_the_interpreter(dtype: str, has_library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through NumPy's BLAS and LAPACK, or without them, in every order of the operands' elements."""
    if not has_library:
        monkeypatch.setattr(lapack, "library", lambda dtype: None)
    inputs, outputs = solvers(Builder(), dtype)
    rng = np.random.default_rng(1)
    m = rng.standard_normal((5, 5))
    values = [np.asarray(v, dtype) for v in (m @ m.T + 4.0 * np.eye(5), rng.standard_normal((5, 3)),
                                             rng.standard_normal((2, 5, 3)))]
    wanted = reference.run(outputs, dict(zip(inputs, values, strict=True)))
    got = build_program(inputs, outputs, tier="vm").run(values)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == dtype
        close(g, w, tolerance)


def test_library_is_found_here() -> None:
    """NumPy's wheels carry OpenBLAS, whose symbols are what makes triangular solutions fast."""
    found = [lapack.library(d) for d in ("float64", "float32")]
    if None in found:
        pytest.skip("this NumPy was built without OpenBLAS")
    x = np.ones((3, 1))
    assert found[0] is not None
    found[0].solve(np.diag([1.0, 2.0, 4.0]), x, True, False)
    np.testing.assert_array_equal(x[:, 0], [1.0, 0.5, 0.25])
