"""Special functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases import Case, normal, positive
from oracles import Array

INSIDE = positive(2, 3, low=0.05, high=0.95)
OPEN = positive(2, 3, low=-0.9, high=0.9, seed=1)
SHAPE = positive(2, 3, low=1.0, high=4.0, seed=2)


def unary(name: str, x: Array, **options: Any) -> Case:
    """torch.special.name."""
    return Case(f"special.{name}", lambda t, x: getattr(t.special, name)(x), (x,), **options)


def plain(name: str, x: Array) -> list[Case]:
    """torch.name and Tensor.name."""
    return [Case(name, lambda t, x: getattr(t, name)(x), (x,)),
            Case(f"Tensor.{name}", lambda t, x: getattr(x, name)(), (x,))]


def no_second(name: str, f: Callable[..., Any], *inputs: Array) -> Case:
    return Case(name, f, inputs, order=0, reason="torch has no derivative with respect to both operands")


CASES: list[Case] = [
    *[unary(n, normal(2, 3)) for n in ("erf", "erfc", "erfcx", "expit", "expm1", "i0", "i1", "i0e", "i1e", "ndtr",
                                       "log_ndtr")],
    *[unary(n, OPEN) for n in ("erfinv",)],
    *[unary(n, INSIDE) for n in ("ndtri", "logit", "entr")],
    *[unary(n, positive(2, 3)) for n in ("digamma", "psi", "gammaln", "log1p")],
    *[c for n in ("erf", "erfc", "i0") for c in plain(n, normal(2, 3))],
    *[c for n in ("lgamma", "digamma") for c in plain(n, positive(2, 3))],
    *[c for n in ("erfinv",) for c in plain(n, OPEN)],
    *[c for n in ("logit",) for c in plain(n, INSIDE)],
    Case("lgamma below 0", lambda t, x: t.lgamma(x), (np.array([-0.5, -1.25, -2.75]),)),
    Case("digamma below 0", lambda t, x: t.digamma(x), (np.array([-0.25, -1.25, -2.75]),)),
    Case("log_ndtr far left", lambda t, x: t.special.log_ndtr(x), (np.array([-20.0, -9.5, -5.5, -1.5]),)),
    Case("polygamma(1, x)", lambda t, x: t.polygamma(1, x), (positive(2, 3),)),
    Case("special.polygamma(2, x)", lambda t, x: t.special.polygamma(2, x), (positive(2, 3),)),
    Case("special.polygamma(0, x)", lambda t, x: t.special.polygamma(0, x), (positive(2, 3),)),
    Case("Tensor.polygamma", lambda t, x: x.polygamma(1), (positive(2, 3),)),
    Case("mvlgamma", lambda t, x: t.mvlgamma(x, 3), (SHAPE + 1.0,)),
    Case("mvlgamma of one dimension", lambda t, x: t.mvlgamma(x, p=1), (SHAPE,)),
    Case("special.multigammaln", lambda t, x: t.special.multigammaln(x, 2), (SHAPE,)),
    Case("Tensor.mvlgamma", lambda t, x: x.mvlgamma(2), (SHAPE,)),
    Case("logit with eps", lambda t, x: t.logit(x, 0.25), (INSIDE,)),
    Case("logit with eps by name", lambda t, x: t.special.logit(x, eps=0.25), (INSIDE,)),
    Case("Tensor.logit with eps", lambda t, x: x.logit(0.25), (INSIDE,)),
    Case("gammainc", lambda t, x: t.special.gammainc(t.full_like(x, 2.5), x), (positive(2, 3),), order=1,
         reason="torch has no second derivative of gammainc"),
    Case("gammaincc", lambda t, x: t.special.gammaincc(t.full_like(x, 2.5), x), (positive(2, 3),), order=1,
         reason="torch has no second derivative of gammaincc"),
    no_second("igamma", lambda t, a, x: t.igamma(a, x), SHAPE, positive(2, 3)),
    no_second("igammac", lambda t, a, x: t.igammac(a, x), SHAPE, positive(2, 3)),
    Case("special.zeta", lambda t, q: t.special.zeta(t.full_like(q, 3.5), q), (positive(2, 3),)),
    Case("erf of integers", lambda t, k, x: t.erf(k) * x, (np.array([-1, 0, 2]), normal(3))),
    Case("softmax", lambda t, x: t.special.softmax(x, 0), (normal(2, 3),)),
    Case("log_softmax", lambda t, x: t.special.log_softmax(x, 1), (normal(2, 3),)),
    Case("logsumexp", lambda t, x: t.special.logsumexp(x, 1), (normal(2, 3),)),
    Case("Normal.log_prob", lambda t, m, s, x: t.distributions.Normal(m, s, validate_args=False).log_prob(x),
         (normal(3), positive(3, seed=1), normal(3, seed=2))),
    Case("Gamma.log_prob", lambda t, a, b: t.distributions.Gamma(a, b).log_prob(t.tensor(1.5, dtype=a.dtype)),
         (positive(3), positive(3, seed=1))),
    Case("Beta.log_prob", lambda t, a, b, x: t.distributions.Beta(a, b, validate_args=False).log_prob(x),
         (positive(3), positive(3, seed=1), positive(3, low=0.1, high=0.9, seed=2))),
    Case("StudentT.log_prob", lambda t, n, m, s, x: t.distributions.StudentT(n, m, s, validate_args=False).log_prob(x),
         (SHAPE[0], normal(3), positive(3, seed=1), normal(3, seed=2))),
    Case("Poisson.log_prob", lambda t, r: t.distributions.Poisson(r).log_prob(t.arange(3.0).to(r.dtype)),
         (positive(3),)),
    Case("NegativeBinomial.log_prob",
         lambda t, n, z: t.distributions.NegativeBinomial(n, logits=z).log_prob(t.arange(3.0).to(n.dtype)),
         (positive(3), normal(3))),
    Case("Normal.cdf", lambda t, m, s: t.distributions.Normal(m, s).cdf(t.linspace(-1.0, 1.0, 3).to(m.dtype)),
         (normal(3), positive(3, seed=1))),
    Case("kl_divergence of normal laws",
         lambda t, m, s: t.distributions.kl_divergence(t.distributions.Normal(m, s), t.distributions.Normal(s, s + 1)),
         (normal(3), positive(3, seed=1))),
]
