"""Special functions under the names of `scipy.special`, for code that is traced and for code that is not.

SciPy's own ufuncs (`scipy.special.erf(x)`) trace unchanged. Those of its functions that turn their arguments into
arrays (polygamma, multigammaln, zeta, logsumexp, softmax, log_softmax) do not; the ones here do. Outside a trace every
function answers with an `np.ndarray`, which needs SciPy.

    from hesse import special

    def negative_log_likelihood(w):
        return -special.log_ndtr(signs * (X @ w)).sum()

No derivative is offered for the first argument of gammainc, gammaincc and zeta, nor for the order of polygamma.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hesse.eager import Array, as_arrays
from hesse_engine.frontends.table import NUMPY_ROWS, find
from hesse_engine.frontends.trace import tracer_in
from hesse_engine.ir.ops import ROWS

_UNARY = (
    "cbrt", "digamma", "entr", "erf", "erfc", "erfcinv", "erfcx", "erfinv", "exp10", "exp2", "expit", "expm1",
    "exprel", "gamma", "gammaln", "i0", "i0e", "i1", "i1e", "log1p", "log_expit", "log_ndtr", "loggamma", "logit",
    "ndtr", "ndtri", "psi",
)
_BINARY = (
    "beta", "betaln", "boxcox", "boxcox1p", "gammainc", "gammaincc", "huber", "inv_boxcox", "inv_boxcox1p", "kl_div",
    "multigammaln", "polygamma", "pseudo_huber", "rel_entr", "xlog1py", "xlogy",
)
_OTHER = ("log_softmax", "logsumexp", "softmax", "zeta")
_NAMES = (*_UNARY, *_BINARY, *_OTHER)


def _call(name: str, *args: Array, **kwargs: Any) -> Any:
    tracer = tracer_in([*args, *kwargs.values()])
    if tracer is not None:
        return tracer.trace.call("numpy", name, args, kwargs, f"hesse.special.{name}")
    row = ROWS.load().get(NUMPY_ROWS.get(name, name))
    if row is not None and row.kind == "pointwise" and not row.attrs and not kwargs:
        operands = np.broadcast_arrays(*args)
        dtype = np.result_type(*args)
        return np.asarray(row.numpy(*[np.asarray(a, dtype if dtype.kind == "f" else np.float64) for a in operands]))
    return as_arrays(getattr(importlib.import_module("scipy.special"), name)(*args, **kwargs))


def _named(name: str) -> Callable[..., Any]:
    def function(*args: Array, **kwargs: Any) -> Any:
        return _call(name, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`scipy.special.{name}`, traced where an argument is."
    return function


def __getattr__(name: str) -> Any:
    if name in _NAMES and find(name, "numpy") is not None:
        return globals().setdefault(name, _named(name))
    raise AttributeError(f"module 'hesse.special' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
