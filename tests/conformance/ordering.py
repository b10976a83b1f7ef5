"""Sorting, indexing, scattering."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from conformance.cases import Case, normal

X, V = normal(3, 5, seed=1), normal(7, seed=2)
TIES = np.array([[2.0, 1.0, 2.0, 1.0, 3.0], [0.5, 0.5, -1.0, 0.5, -1.0]])
HOLES = np.array([[1.5, np.nan, -2.0, 0.25], [0.5, 3.0, np.nan, np.nan], [2.0, -1.0, 4.0, 0.75]])
AT = np.array([[0, 2, 1, 0, 2], [1, 0, 2, 2, 1]])
K, ROWS = np.array([4, 0, 4, 2]), np.array([2, 0, 2, 1])
S = normal(2, 5, seed=3)
W = normal(3, 4, seed=4)
ALWAYS = "torch has no derivative of it"


def _points(name: str) -> list[Case]:
    return [Case(f"{name}-{i}", lambda t, x, i=i, name=name: getattr(t, name)(x, 0.4, dim=1, interpolation=i), (X,))
            for i in ("lower", "higher", "midpoint", "nearest", "linear")]


def _index_reduce(t: Any, x: Any, s: Any, k: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it a beta
        return x.index_reduce(1, k, s, "amax")


def _scatters() -> list[Case]:
    cases = []
    for reduce in ("sum", "mean", "amax", "amin", "prod"):
        for include in (True, False):
            def f(t: Any, x: Any, s: Any, i: Any, reduce: str = reduce, include: bool = include) -> Any:
                return t.scatter_reduce(x, 0, i, s, reduce, include_self=include)

            is_first = reduce in ("prod", "amax", "amin")
            cases.append(Case(f"scatter_reduce-{reduce}-{include}", f, (X, S, AT), order=1 if is_first else 2,
                              reason="torch's second derivative of it is not implemented" if is_first else ""))
    return cases


SORTING = [
    Case("sort", lambda t, x: t.sort(x), (X,)),
    Case("sort-descending", lambda t, x: t.sort(x, 0, True), (X,)),
    Case("sort-ties", lambda t, x: t.sort(x, dim=1, stable=True), (TIES,)),
    Case("sort-ties-descending", lambda t, x: t.sort(x, dim=1, descending=True, stable=True), (TIES,)),
    Case("sort-method", lambda t, x: x.sort().values**2, (V,)),
    Case("sort-0d", lambda t, x: t.sort(x), (np.array(1.5),)),
    Case("msort", lambda t, x: t.msort(x), (X,)),
    Case("argsort", lambda t, x: (t.argsort(x, dim=0), x * 1), (X,)),
    Case("topk", lambda t, x: t.topk(x, 3), (X,)),
    Case("topk-smallest", lambda t, x: x.topk(2, dim=0, largest=False), (X,)),
    Case("kthvalue", lambda t, x: t.kthvalue(x, 2), (X,)),
    Case("kthvalue-keepdim", lambda t, x: t.kthvalue(x, 3, 0, True), (X,)),
    Case("mode", lambda t, x: t.mode(x, 1), (TIES,)),
    Case("median", lambda t, x: t.median(x), (normal(6, seed=5),)),
    Case("median-dim", lambda t, x: t.median(x, 1), (W,)),
    Case("median-nan", lambda t, x: t.median(x, 1, True).indices, (HOLES,), order=0, reason=ALWAYS),
    Case("nanmedian", lambda t, x: t.nanmedian(x, 1).values * 2, (HOLES,)),
    Case("quantile", lambda t, x: t.quantile(x, 0.3), (V,)),
    Case("quantile-several", lambda t, x: t.quantile(x, t.tensor([0.1, 0.5, 0.9], dtype=x.dtype), dim=1), (X,)),
    Case("quantile-keepdim", lambda t, x: x.quantile(0.75, 0, True), (X,)),
    *_points("quantile"),
    *_points("nanquantile"),
    Case("cummax", lambda t, x: t.cummax(x, 1), (TIES,)),
    Case("cummin", lambda t, x: t.cummin(x, 0), (X,)),
    Case("aminmax", lambda t, x: t.aminmax(x, dim=1), (X,)),
    Case("searchsorted", lambda t, x: t.searchsorted(t.sort(x).values, x * 0.5), (X,), order=0, reason=ALWAYS),
    Case("searchsorted-right", lambda t, x: t.searchsorted(t.sort(x[0]).values, x, right=True), (X,), order=0,
         reason=ALWAYS),
    Case("bucketize", lambda t, x: t.bucketize(x, t.tensor([-1.0, 0.0, 0.5], dtype=x.dtype)), (X,), order=0,
         reason=ALWAYS),
    Case("histc", lambda t, x: t.histc(x, 4, -1, 1), (X,), order=0, reason=ALWAYS),
    Case("bincount", lambda t, x, w: t.bincount(x, w, 6), (K, normal(4, seed=6)), order=0, dtypes=("float64",),
         reason="torch has no derivative in the weights, and counts in float64"),
    Case("unique", lambda t, x: t.unique(x, return_inverse=True, return_counts=True), (TIES,), order=0, reason=ALWAYS),
    Case("unique_consecutive", lambda t, x: t.unique_consecutive(x, return_counts=True), (np.array([1.0, 1, 2, 1]),),
         order=0, reason=ALWAYS),
    Case("nonzero", lambda t, x: (t.nonzero(x > 0), *t.where(x > 0)), (X,), order=0, reason=ALWAYS),
    Case("isin", lambda t, x: t.isin(x, t.tensor([0.5, 2.0], dtype=x.dtype)), (TIES,), order=0, reason=ALWAYS),
    Case("nanmean", lambda t, x: t.nanmean(x, 1), (HOLES,)),
    Case("trimmed-mean", lambda t, x: t.sort(x**2).values[..., 1:-1].mean(), (X,)),
    Case("sorted-weights", lambda t, x: (t.arange(7, dtype=x.dtype) * t.sort(x).values ** 2).sum(), (V,)),
    Case("median-of-residuals", lambda t, x: t.median(t.abs(x - x.mean())), (V,)),
]

GATHERING = [
    Case("gather", lambda t, x, i: t.gather(x, 0, i) ** 2, (X, AT)),
    Case("gather-narrow", lambda t, x, i: x.gather(1, i) ** 2, (X, np.array([[4, 0], [1, 1]]))),
    Case("take", lambda t, x, i: t.take(x, i) ** 2, (X, AT)),
    Case("take_along_dim", lambda t, x: t.take_along_dim(x, t.argsort(x, dim=1), 1) ** 2, (X,)),
    Case("index_select", lambda t, x, k: t.index_select(x, 1, k) ** 2, (X, K)),
    Case("masked_select", lambda t, x: t.masked_select(x, x > 0) ** 2, (X,)),
    Case("mask", lambda t, x: x[x > 0] ** 2, (X,)),
    Case("advanced", lambda t, x, k, r: x[r, k[:3]] ** 2, (X, K, ROWS[:3])),
    Case("narrow", lambda t, x: x.narrow(1, 1, 3) ** 2, (X,)),
    Case("argmax-row", lambda t, x: x[x[:, 0].argmax()] ** 2, (X,)),
]

SCATTERING = [
    Case("scatter", lambda t, x, s, i: t.scatter(x, 1, i, s) ** 2,
         (X, S, np.array([[4, 0, 1, 2, 3], [1, 3, 0, 2, 4]]))),
    Case("scatter-value", lambda t, x, i: t.scatter(x, 0, i, 0.5) ** 2, (X, AT)),
    Case("scatter_add", lambda t, x, s, i: x.scatter_add(0, i, s) ** 2, (X, S, AT)),
    Case("scatter_add-computed", lambda t, x, s: x.scatter_add(1, t.argsort(s)[:, :3], s[:, :3]) ** 2, (X, S)),
    *_scatters(),
    Case("index_add", lambda t, x, s, k: x.index_add(1, k, s, alpha=0.5) ** 2, (X, W, K)),
    Case("index_copy", lambda t, x, s: x.index_copy(1, t.tensor([3, 0, 2, 1]), s) ** 2, (X, W)),
    Case("index_fill", lambda t, x, k: x.index_fill(1, k, 2.0) ** 2, (X, K)),
    Case("index_put", lambda t, x, s: x.index_put((t.tensor([0, 2]), t.tensor([1, 1])), s[0, :2]) ** 2, (X, S)),
    Case("index_put-accumulate", lambda t, x, s, k, r: x.index_put((r, k), s[0, :4], True) ** 2, (X, S, K, ROWS)),
    Case("index_reduce", _index_reduce, (X, W, K), order=1,
         reason="torch's second derivative of it is not implemented"),
    Case("put", lambda t, x, s: x.put(t.tensor([1, 14]), s[0, :2]) ** 2, (X, S)),
    Case("masked_scatter", lambda t, x, s: x.masked_scatter(x > 0.5, s) ** 2, (X, normal(3, 5, seed=9))),
    Case("masked_fill", lambda t, x: x.masked_fill(x > 0, 0.5) ** 2, (X,)),
    Case("select_scatter", lambda t, x, v: x.select_scatter(v[:5], 0, 1) ** 2, (X, V)),
    Case("slice_scatter", lambda t, x, s: x.slice_scatter(s[:, :2].mT[:, :1].expand(2, 5), 0, 1) ** 2, (X, S)),
    Case("diagonal_scatter", lambda t, x, v: x.diagonal_scatter(v[:3], 1) ** 2, (X, V)),
    *[Case(f"segment_reduce-{r}",
           lambda t, x, r=r: t.segment_reduce(x, r, lengths=t.tensor([3, 1, 3]), unsafe=True) ** 2, (V,), order=1,
           reason="torch's second derivative of it is not implemented") for r in ("sum", "mean", "max", "min", "prod")],
]

CASES: list[Case] = [*SORTING, *GATHERING, *SCATTERING]
