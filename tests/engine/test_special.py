"""Special functions beyond the tables: extremes, kinks, SciPy's spellings, the VM's symbols, likelihoods."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special as scipy_special

import hesse
from hesse import special
from hesse_engine.backend import special as symbols
from hesse_engine.backend.program import build_program
from hesse_engine.errors import HesseError, UnsupportedError
from hesse_engine.frontends.expression import parse
from hesse_engine.ir.graph import FLOAT64, Array, Builder, apply
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient
from op_cases_special import _erfcinv, _log_ndtr, _ndtri
from oracles import MP, peer, ulps
from orders import HESSIANS

torch: Any = peer("torch")
INF, NAN = np.inf, np.nan


def derivatives(name: str, points: Array, order: int, tier: str = "vm", **attrs: Any) -> list[Array]:
    """Value and derivatives of a row at `points`."""
    x = Builder().input("x", points.shape, FLOAT64)
    nodes = [apply(name, x, **attrs)]
    for _ in range(order):
        (moved,) = push_forward([nodes[-1]], {x: x.builder.full(x.shape, 1.0, FLOAT64)})
        assert moved is not None
        nodes.append(moved)
    return build_program([x], nodes, tier=tier).run([points])


# ---- extremes, against 60 digits -------------------------------------------------------------------------------------
def test_inverse_normal_far_out() -> None:
    """y = ndtri(p) with p down to the smallest double: y' = sqrt(2 pi) exp(y^2 / 2), y'' = y y'^2."""
    points = np.array([5e-324, 1e-310, 2.3e-308, 1e-300, 1e-200, 1e-150, 1e-80, 1e-30])
    value, first, second = derivatives("ndtri", points, 2)
    y = [_ndtri(MP.mpf(float(p))) for p in points]
    slope = [MP.sqrt(2 * MP.pi) * MP.exp(v * v / 2) for v in y]
    assert np.max(ulps(value, y)) < 4
    finite = np.array([s < 1e307 for s in slope])
    assert np.max(ulps(first[finite], [s for s in slope if s < 1e307])) < 8
    assert np.all(first[~finite] >= 1e307)
    curved = [v * s * s for v, s in zip(y, slope, strict=True)]
    usable = np.array([abs(c) < 1e307 for c in curved])
    assert np.max(ulps(second[usable], [c for c in curved if abs(c) < 1e307])) < 16
    tails = derivatives("erfcinv", points[1:], 0)[0]
    assert np.max(ulps(tails, [_erfcinv(MP.mpf(float(p))) for p in points[1:]])) < 4


def test_log_ndtr_keeps_its_digits_in_every_order() -> None:
    """Orders 0 to 4 from -1e6 to 30: the naive -r (x + r) has no digit of them left at -1e6."""
    points = np.array([-1e6, -1e3, -60.0, -38.0, -12.0, -3.0, -0.7, 0.4, 2.0, 9.0, 30.0])
    found = derivatives("log_ndtr", points, 4)
    with MP.workdps(400):
        for order, got in enumerate(found):
            wanted = [MP.diff(_log_ndtr, MP.mpf(float(p)), order) for p in points]
            scale = np.array([float(abs(w)) for w in wanted])
            error = np.abs(got - np.array([float(w) for w in wanted])) / scale
            assert np.max(error) < 2e-13, (order, points[np.argmax(error)])


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_functions_of_tiny_and_large_numbers(name: str) -> None:
    points = np.array([5e-324, 1e-310, 1e-300, 1e-100, 1e10, 1e100, 1e300])
    f = MP.loggamma if name == "lgamma" else MP.digamma
    for tier in ("reference", "vm"):
        (value,) = derivatives(name, points, 0, tier)
        wanted = [f(MP.mpf(float(p))) for p in points]
        usable = np.array([abs(w) < 1e308 for w in wanted])
        assert np.max(ulps(value[usable], [w for w in wanted if abs(w) < 1e308])) <= 2
        assert np.all(np.isinf(value[~usable]))


def test_lgamma_at_its_zeros_between_negative_integers() -> None:
    points = np.array([-2.457024738220801, -2.7476826467274127, -3.1435808883499798, -2.45, -3.955])
    wanted = [MP.log(abs(MP.gamma(MP.mpf(float(p))))) for p in points]
    for tier in ("reference", "vm"):
        assert np.max(ulps(derivatives("lgamma", points, 0, tier)[0], wanted)) < 4


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_polygamma_below_zero(n: int) -> None:
    """To 1e-13 of the largest of the sums it is made of."""
    points = np.array([-0.5, -0.1, -1e-8, -3.3, -17.9, -250.25, -1e6 - 0.5])
    wanted = np.array([float(MP.psi(n, MP.mpf(float(p)))) for p in points])
    size = np.array([float(abs(MP.psi(n, abs(MP.mpf(float(p)) - round(p))))) for p in points])
    for tier in ("reference", "vm"):
        got = derivatives("polygamma", points, 0, tier, n=n)[0]
        assert np.max(np.abs(got - wanted) / size) < 1e-13


# ---- kinks and poles: four compositions agree, and with torch where it has no NaN ------------------------------------
KINKS: list[tuple[str, list[float], str | None]] = [  # row, points, torch's name
    ("entr", [0.0, 1.0], "entr"), ("logit", [0.0, 1.0], "logit"), ("erfinv", [1.0, -1.0, 0.0], "erfinv"),
    ("ndtri", [0.0, 1.0, 0.5], "ndtri"), ("lgamma", [0.0, -0.0], "gammaln"), ("digamma", [0.0], "digamma"),
    ("i0", [0.0], "i0"), ("i1", [0.0], "i1"), ("i0e", [0.0], "i0e"), ("i1e", [0.0], "i1e"),
    ("log_ndtr", [40.0, -50.0], None), ("erfcx", [-30.0, 50.0], "erfcx"), ("erfc", [30.0, -30.0], "erfc"),
]


@pytest.mark.parametrize(("name", "point", "spelled"), [(n, [p], s) for n, points, s in KINKS for p in points])
def test_kinks_and_poles(name: str, point: list[float], spelled: str | None) -> None:
    x = Builder().input("x", (1,), FLOAT64)
    y, values = apply("sum", apply(name, x)), {x: np.array(point)}
    (g,) = gradient(y, [x])
    found = [np.diag(np.asarray(h(y, [x], values))) for h in HESSIANS.values()]
    assert not np.isnan(found[0]).any()
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-12)
    (slope,) = build_program([x], [g], tier="reference").run([values[x]])
    assert not np.isnan(slope).any()
    if torch is not None and spelled is not None:
        f = getattr(torch.special, spelled)
        given = torch.tensor(point, dtype=torch.float64)
        theirs = torch.func.grad(lambda t: f(t).sum())(given).numpy()
        curved = np.diag(torch.func.hessian(lambda t: f(t).sum())(given).numpy())
        np.testing.assert_allclose(slope[~np.isnan(theirs)], theirs[~np.isnan(theirs)], rtol=1e-9)
        np.testing.assert_allclose(found[0][~np.isnan(curved)], curved[~np.isnan(curved)], rtol=1e-9)


@pytest.mark.parametrize(("name", "point"), [("erfinv", 2.0), ("ndtri", -0.5), ("logit", 1.5), ("erfcinv", 2.5)])
def test_outside_the_domain_is_nan(name: str, point: float) -> None:
    value, slope = derivatives(name, np.array([point]), 1)
    assert np.isnan(value[0])
    assert np.isnan(slope[0])


# ---- SciPy's spellings -----------------------------------------------------------------------------------------------
X = np.array([0.3, 0.55, 0.8])
SPELLED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "erf": (scipy_special.erf, MP.erf), "erfc": (scipy_special.erfc, MP.erfc),
    "erfcx": (scipy_special.erfcx, lambda x: MP.exp(x * x) * MP.erfc(x)),
    "erfinv": (scipy_special.erfinv, MP.erfinv), "erfcinv": (scipy_special.erfcinv, _erfcinv),
    "gammaln": (scipy_special.gammaln, MP.loggamma), "loggamma": (scipy_special.loggamma, MP.loggamma),
    "psi": (scipy_special.psi, MP.digamma), "digamma": (scipy_special.digamma, MP.digamma),
    "gamma": (scipy_special.gamma, MP.gamma),
    "expit": (scipy_special.expit, lambda x: 1 / (1 + MP.exp(-x))),
    "log_expit": (scipy_special.log_expit, lambda x: -MP.log(1 + MP.exp(-x))),
    "logit": (scipy_special.logit, lambda p: MP.log(p / (1 - p))),
    "ndtr": (scipy_special.ndtr, MP.ncdf), "log_ndtr": (scipy_special.log_ndtr, _log_ndtr),
    "ndtri": (scipy_special.ndtri, _ndtri), "entr": (scipy_special.entr, lambda x: -x * MP.log(x)),
    "rel_entr": (lambda x: scipy_special.rel_entr(x, 0.5), lambda x: x * MP.log(2 * x)),
    "kl_div": (lambda x: scipy_special.kl_div(0.5, x), lambda x: MP.log(0.5 / x) / 2 - 0.5 + x),
    "huber": (lambda x: scipy_special.huber(0.5, x), lambda x: x * x / 2 if x < 0.5 else (x - 0.25) / 2),
    "pseudo_huber": (lambda x: scipy_special.pseudo_huber(0.5, x), lambda x: (MP.sqrt(1 + 4 * x * x) - 1) / 4),
    "boxcox": (lambda x: scipy_special.boxcox(x, 0.7), lambda x: (x ** MP.mpf(0.7) - 1) / MP.mpf(0.7)),
    "boxcox in lmbda": (lambda x: scipy_special.boxcox(3.0, x), lambda x: (MP.mpf(3) ** x - 1) / x),
    "boxcox1p": (lambda x: scipy_special.boxcox1p(x, 0.0), lambda x: MP.log(1 + x)),
    "inv_boxcox": (lambda x: scipy_special.inv_boxcox(x, 0.5), lambda x: (1 + x / 2) ** 2),
    "inv_boxcox1p": (lambda x: scipy_special.inv_boxcox1p(x, 0.5), lambda x: (1 + x / 2) ** 2 - 1),
    "exprel": (scipy_special.exprel, lambda x: MP.expm1(x) / x),
    "i0": (scipy_special.i0, lambda x: MP.besseli(0, x)), "i1": (scipy_special.i1, lambda x: MP.besseli(1, x)),
    "i0e": (scipy_special.i0e, lambda x: MP.besseli(0, x) * MP.exp(-x)),
    "i1e": (scipy_special.i1e, lambda x: MP.besseli(1, x) * MP.exp(-x)),
    "beta": (lambda x: scipy_special.beta(x, 2.0), lambda x: MP.beta(x, 2)),
    "betaln": (lambda x: scipy_special.betaln(2.5, x), lambda x: MP.log(MP.beta(2.5, x))),
    "gammainc": (lambda x: scipy_special.gammainc(1.5, x), lambda x: MP.gammainc(1.5, 0, x, regularized=True)),
    "gammaincc": (lambda x: scipy_special.gammaincc(1.5, x), lambda x: MP.gammainc(1.5, x, regularized=True)),
    "zeta": (lambda x: special.zeta(2.5, x), lambda x: MP.zeta(2.5, x)),
    "polygamma": (lambda x: special.polygamma(1, x), lambda x: MP.psi(1, x)),
    "multigammaln": (lambda x: special.multigammaln(x + 1, 2),
                     lambda x: MP.log(MP.pi) / 2 + MP.loggamma(x + 1) + MP.loggamma(x + 0.5)),
}


@pytest.mark.parametrize("name", SPELLED)
def test_scipy_functions_trace(name: str) -> None:
    ours, exact = SPELLED[name]
    f = hesse.function(lambda x: ours(x).sum())
    wanted = [[float(MP.diff(exact, MP.mpf(float(v)), order)) for v in X] for order in range(3)]
    np.testing.assert_allclose(hesse.function(ours)(X), wanted[0], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(f.grad(X), wanted[1], rtol=1e-12)
    np.testing.assert_allclose(np.diag(f.hessian(X)), wanted[2], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_boxcox_in_its_exponent_at_zero(order: int) -> None:
    """d^k/dl^k (x^l - 1) / l at l = 0 is ln(x)^(k+1) / (k + 1)."""
    f: Any = lambda power: special.boxcox(np.array(3.0), power)  # noqa: E731
    for _ in range(order):
        f = hesse.func.grad(f)
    assert float(f(np.array(0.0))) == pytest.approx(np.log(3.0) ** (order + 1) / (order + 1), rel=1e-13)


def test_namespace_is_eager_outside_a_trace() -> None:
    for name in special._NAMES:
        if not hasattr(special, name):
            continue
        f, theirs = getattr(special, name), getattr(scipy_special, name)
        operands = {"multigammaln": (X + 2.0, 2), "polygamma": (1, X), "zeta": (2.5, X), "huber": (0.5, X)}.get(
            name, (X,) if name in (*special._UNARY, *special._OTHER) else (X, X[::-1]))
        np.testing.assert_allclose(f(*operands), theirs(*operands), rtol=1e-13)
        assert isinstance(f(*operands), np.ndarray)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = special.nothing_of_this_name


def test_reductions_of_the_namespace() -> None:
    x = np.array([[0.5, -1.0, 2.0], [0.0, 3.0, 1.0]])
    for f, theirs in [(lambda x: special.logsumexp(x, axis=1), lambda x: scipy_special.logsumexp(x, axis=1)),
                      (lambda x: special.logsumexp(x, b=[1.0, 2.0, 3.0]), lambda x: scipy_special.logsumexp(
                          x, b=[1.0, 2.0, 3.0])),
                      (special.softmax, scipy_special.softmax),
                      (lambda x: special.log_softmax(x, axis=0), lambda x: scipy_special.log_softmax(x, axis=0))]:
        np.testing.assert_allclose(hesse.function(f)(x), theirs(x), rtol=1e-14)


def test_names_of_the_expression_language() -> None:
    graph = parse("sum(erf(x) + gammaln(x) + expit(x) + polygamma(1, x) + kl_div(x, 0.5))", [("x", (3,), "float64")])
    (got,) = build_program(graph.inputs, graph.outputs, tier="reference").run([X])
    wanted = (scipy_special.erf(X) + scipy_special.gammaln(X) + scipy_special.expit(X) + scipy_special.polygamma(1, X)
              + scipy_special.kl_div(X, 0.5)).sum()
    assert float(got) == pytest.approx(wanted, rel=1e-13)


# ---- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["gammainc", "gammaincc", "zeta"])
@pytest.mark.parametrize("operation", ["grad", "hessian", "jacfwd"])
def test_no_derivative_in_the_first_operand(name: str, operation: str) -> None:
    f = getattr(special, name)
    with pytest.raises(UnsupportedError, match="no derivative in their first operand"):
        getattr(hesse.func, operation)(lambda a: f(a, 1.5).sum())(X + 1.5)
    fixed = hesse.func.hessian(lambda a, x: f(a, x).sum(), argnums=1)(X + 1.5, X)
    assert np.all(np.isfinite(fixed))


@pytest.mark.parametrize(("name", "n"), [("polygamma", 0), ("polygamma", 101), ("bessel_i", 1),
                                         ("scaled_erfc_integral", -1), ("polygamma", 1.5)])
def test_orders_are_checked(name: str, n: Any) -> None:
    x = Builder().input("x", (2,), FLOAT64)
    with pytest.raises(HesseError, match=f"{name}: n must be"):
        apply(name, x, n=n)


def test_the_order_of_polygamma_is_not_traced() -> None:
    with pytest.raises(HesseError, match="constant integer"):
        hesse.func.grad(lambda n: special.polygamma(n, 2.0))(np.array(1.0))


# ---- the VM's symbols ------------------------------------------------------------------------------------------------
def test_every_symbol_is_a_c_function() -> None:
    found, missing = symbols.addresses()
    assert missing == ()
    assert set(found) == {symbols.PREFIX + n for n in symbols.ENTRIES}


def test_a_missing_symbol_is_a_call_back_into_python(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    monkeypatch.setitem(symbols.ENTRIES, "psi", ("renamed", 1))
    monkeypatch.setitem(symbols.ENTRIES, "beta", ("ndtri", 2))  # there, but of another type
    found, missing = symbols.addresses()
    assert set(missing) == {"psi", "beta"}
    one = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_int)(found[symbols.PREFIX + "psi"])
    two = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_double, ctypes.c_int)(
        found[symbols.PREFIX + "beta"])
    assert one(2.5, 0) == scipy_special.psi(2.5)
    assert two(2.5, 1.5, 0) == scipy_special.beta(2.5, 1.5)


PROGRAM = """
import numpy as np
from hesse_engine.backend import kernels
from hesse_engine.backend.program import build_program
from hesse_engine.ir.graph import FLOAT64, Builder, apply
x = Builder().input("x", (3,), FLOAT64)
y = [apply(n, x) for n in ("erf", "lgamma", "digamma", "ndtri", "i0")]
values = build_program([x], y, tier="vm").run([np.array([0.3, 0.5, 0.8])])
print(kernels.kernel_state("float64").is_cached, float(np.sum(values)))
"""


def test_code_from_disk_finds_its_symbols_in_another_process() -> None:
    runs = [subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
            for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert runs[1][0] == "True"


# ---- likelihoods that people write, against closed forms -------------------------------------------------------------
RNG = np.random.default_rng(4)
DESIGN = RNG.standard_normal((40, 3))
COUNTS = RNG.poisson(2.0, 40).astype(float)
SIGNS = np.where(RNG.uniform(size=40) < 0.5, -1.0, 1.0)
WEIGHTS = np.array([0.3, -0.2, 0.5])


def test_probit_regression() -> None:
    """H = sum_i r_i (r_i + z_i) a_i a_i' with z = s A w and r = phi / Phi, far in the tail too."""
    for scale in (1.0, 8.0):
        f = hesse.function(lambda w: -scipy_special.log_ndtr(SIGNS * (DESIGN @ w)).sum())
        w = scale * WEIGHTS
        z = [MP.mpf(float(v)) for v in SIGNS * (DESIGN @ w)]
        r = [MP.npdf(v) / MP.ncdf(v) for v in z]
        curved = np.array([float(a * (a + b)) for a, b in zip(r, z, strict=True)])
        np.testing.assert_allclose(f.grad(w), -DESIGN.T @ (SIGNS * np.array([float(v) for v in r])), rtol=1e-11)
        np.testing.assert_allclose(f.hessian(w), DESIGN.T @ (curved[:, None] * DESIGN), rtol=1e-11, atol=1e-13)


def test_poisson_regression() -> None:
    """H = A' diag(exp(A w)) A."""
    f = hesse.function(lambda w: (np.exp(DESIGN @ w) - COUNTS * (DESIGN @ w)
                                  + scipy_special.gammaln(COUNTS + 1.0)).sum())
    np.testing.assert_allclose(f.hessian(WEIGHTS), DESIGN.T @ (np.exp(DESIGN @ WEIGHTS)[:, None] * DESIGN), rtol=1e-12)


def test_negative_binomial_dispersion() -> None:
    """d2/dr2 of sum lgamma(k + r) - lgamma(r) + r ln(r / (r + m)) + k ln(m / (r + m))."""
    m = 2.0

    def f(r: Any) -> Any:
        return (scipy_special.gammaln(COUNTS + r) - scipy_special.gammaln(r) + r * np.log(r / (r + m))
                + COUNTS * np.log(m / (r + m))).sum()

    r = 1.75
    wanted = (scipy_special.polygamma(1, COUNTS + r) - scipy_special.polygamma(1, r) + 1 / r - 2 / (r + m)
              + (COUNTS + r) / (r + m) ** 2).sum()
    np.testing.assert_allclose(hesse.func.hessian(f)(np.array(r)), wanted, rtol=1e-11)


def test_gamma_and_beta_likelihoods() -> None:
    """-H / n is [[psi1(a), -1/b], [-1/b, a/b^2]] and [[psi1(a) - psi1(a+b), -psi1(a+b)], [., psi1(b) - psi1(a+b)]]."""
    x = RNG.uniform(0.1, 0.9, 25)
    a, b = 2.5, 1.25
    p = np.array([a, b])
    psi1 = scipy_special.polygamma(1, np.array([a, b, a + b]))
    gamma = hesse.function(lambda p: (p[0] * np.log(p[1]) - scipy_special.gammaln(p[0]) + (p[0] - 1) * np.log(x)
                                      - p[1] * x).sum())
    np.testing.assert_allclose(gamma.hessian(p), -25 * np.array([[psi1[0], -1 / b], [-1 / b, a / b**2]]), rtol=1e-12)
    beta = hesse.function(lambda p: ((p[0] - 1) * np.log(x)
                                     + (p[1] - 1) * np.log1p(-x) - scipy_special.betaln(p[0], p[1])).sum())
    wanted = -25 * (np.diag(psi1[:2]) - psi1[2])
    np.testing.assert_allclose(beta.hessian(p), wanted, rtol=1e-11)


def test_student_t_degrees_of_freedom() -> None:
    """The derivative in nu against 60 digits."""
    x = np.array([0.3, -1.5, 4.0])

    def f(nu: Any) -> Any:
        return (scipy_special.gammaln((nu + 1) / 2) - scipy_special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
                - (nu + 1) / 2 * np.log1p(x * x / nu)).sum()

    def exact(nu: Any) -> Any:
        return sum([MP.loggamma((nu + 1) / 2) - MP.loggamma(nu / 2) - MP.log(nu * MP.pi) / 2
                    - (nu + 1) / 2 * MP.log1p(MP.mpf(float(v)) ** 2 / nu) for v in x])

    nu = np.array(3.5)
    np.testing.assert_allclose(hesse.func.grad(f)(nu), float(MP.diff(exact, 3.5)), rtol=1e-12)
    np.testing.assert_allclose(hesse.func.hessian(f)(nu), float(MP.diff(exact, 3.5, 2)), rtol=1e-11)
