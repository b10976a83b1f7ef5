"""Special functions for the VM: C functions by symbol, and the text of those that are made of them.

The symbols are SciPy's C entries under names of our own. Compiled code refers to the names, so it may be kept on disk
while the addresses differ from process to process; they must be known before such code is loaded. Where an entry is
missing, its symbol is a call back into Python.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from hesse_engine.ir.ops.special_functions import LGAMMA_AT_TWO, ONE_MINUS_EULER, SPLIT

PREFIX = "hesse_special_"
# name -> (SciPy's entry for float64, operands); each takes a further int, which Cython ignores
ENTRIES: dict[str, tuple[str, int]] = {
    "erf": ("__pyx_fuse_1erf", 1), "erfc": ("__pyx_fuse_1erfc", 1), "erfcx": ("__pyx_fuse_1erfcx", 1),
    "erfinv": ("__pyx_fuse_0erfinv", 1), "erfcinv": ("erfcinv", 1), "ndtri": ("ndtri", 1),
    "gammaln": ("gammaln", 1), "psi": ("__pyx_fuse_1psi", 1), "gamma": ("__pyx_fuse_1gamma", 1),
    "i0": ("i0", 1), "i1": ("i1", 1), "i0e": ("i0e", 1), "i1e": ("i1e", 1), "entr": ("entr", 1),
    "beta": ("beta", 2), "betaln": ("betaln", 2), "rel_entr": ("rel_entr", 2),
    "gammainc": ("gammainc", 2), "gammaincc": ("gammaincc", 2),
    "iv": ("__pyx_fuse_1iv", 2), "ive": ("__pyx_fuse_1ive", 2),
}
_KEPT: list[Any] = []  # callbacks, which must outlive the code that calls them


def addresses() -> tuple[dict[str, int], tuple[str, ...]]:
    """(symbol -> address, names whose function is a call back into Python)."""
    found, missing = {}, []
    for name, (entry, arity) in ENTRIES.items():
        address = _entry(entry, arity)
        if address is None:
            missing.append(name)
            address = _callback(name, arity)
        found[PREFIX + name] = address
    return found, tuple(missing)


def _entry(entry: str, arity: int) -> int | None:
    """The address of a C function of SciPy's, if it is there and of the type that is expected."""
    try:
        from scipy.special import cython_special

        capsule = cython_special.__pyx_capi__[entry]
    except (ImportError, AttributeError, KeyError):
        return None
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    kind = api.PyCapsule_GetName(capsule)
    if kind != f"double ({'double, ' * arity}int __pyx_skip_dispatch)".encode():
        return None
    address: int = api.PyCapsule_GetPointer(capsule, kind)
    return address


def _callback(name: str, arity: int) -> int:
    function = _python_function(name)
    kind = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * arity, ctypes.c_int)
    callback = kind(lambda *operands: float(function(*operands[:-1])))
    _KEPT.append(callback)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    return address


def _python_function(name: str) -> Callable[..., Any]:
    from scipy import special

    found: Callable[..., Any] = getattr(special, name)
    return found


# ---- text ------------------------------------------------------------------------------------------------------------
def head() -> str:
    """The symbols as functions of float64: c_erf(x, SKIP)."""
    lines = ["from numba import float64, int32, types", "SKIP, ROOT_HALF = int32(0), math.sqrt(0.5)",
             'c_lgamma = types.ExternalFunction("lgamma", float64(float64))']
    for name, (_, arity) in ENTRIES.items():
        kinds = ", ".join(["float64"] * arity + ["int32"])
        lines.append(f'c_{name} = types.ExternalFunction("{PREFIX}{name}", float64({kinds}))')
    return "\n".join(lines) + "\n"


# rows that are SciPy's functions: (row, entry, operands)
_PLAIN = [("erf", "erf", 1), ("erfinv", "erfinv", 1), ("erfcinv", "erfcinv", 1), ("ndtri", "ndtri", 1),
          ("digamma", "psi", 1), ("gamma", "gamma", 1), ("i0", "i0", 1), ("i1", "i1", 1), ("i0e", "i0e", 1),
          ("i1e", "i1e", 1), ("entr", "entr", 1), ("beta", "beta", 2), ("betaln", "betaln", 2),
          ("rel_entr", "rel_entr", 2), ("gammainc", "gammainc", 2), ("gammaincc", "gammaincc", 2)]
# rows with text of their own: (row, operands)
_OWN = [("gaussian", "x"), ("erfc", "x"), ("erfcx", "x"), ("ndtr", "x"), ("log_ndtr", "x"), ("erfinv_slope", "x"),
        ("ndtri_slope", "x"), ("lgamma", "x"), ("logit", "x"), ("logit_slope", "x"), ("zeta", "x, y"),
        ("polygamma", "x, y"), ("scaled_erfc_integral", "x, y")]

FUNCTIONS: dict[str, tuple[str, str]] = {
    **{row: ("x", f"F(c_{entry}(float64(x), SKIP))") for row, entry, n in _PLAIN if n == 1},
    **{row: ("x, y", f"F(c_{entry}(float64(x), float64(y), SKIP))") for row, entry, n in _PLAIN if n == 2},
    **{row: (p, f"F(d_{row}({', '.join(f'float64({c})' for c in p.split(', '))}))") for row, p in _OWN},
    "bessel_i": ("x, y", "F(c_iv(float64(y), float64(x), SKIP))"),
    "bessel_ie": ("x, y", "F(c_ive(float64(y), float64(x), SKIP))"),
}

_SERIES = " + t * (".join([repr(c) for c in (ONE_MINUS_EULER, *LGAMMA_AT_TWO)]) + ")" * len(LGAMMA_AT_TWO)
# B_2j / (2j)! of Euler-Maclaurin, j = 1 to 12
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
              -3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000,
              77683 / 14101100039391805440000, -236364091 / 1693824136731743669452800000)

# The same equations as in ir.ops.special_functions, element by element, in float64.
DOUBLE = f'''
@inner
def d_gaussian(x):
    outlined()
    c = min(max(x, -40.0), 40.0)
    high = {SPLIT} * c
    high = high - (high - c)
    low, rounded = c - high, c * c
    lost = ((high * high - rounded) + 2.0 * high * low) + low * low
    return math.exp(-0.5 * rounded) * (1.0 - 0.5 * lost) if x == x else x

@inner
def d_erfc(x):
    outlined()
    if not x > 0.5:
        return c_erfc(x, SKIP)
    h = d_gaussian(x)
    return c_erfcx(x, SKIP) * h * h

@inner
def d_erfcx(x):
    outlined()
    if not x < 0.0:
        return c_erfcx(x, SKIP)
    h = d_gaussian(x)
    return 2.0 / h / h - c_erfcx(-x, SKIP)

@inner
def d_ndtr(x):
    outlined()
    if x < -1.0 or x > 1.0:
        tail = 0.5 * c_erfcx(abs(x) * ROOT_HALF, SKIP) * d_gaussian(x)
        return tail if x < 0.0 else 1.0 - tail
    return 0.5 + 0.5 * c_erf(x * ROOT_HALF, SKIP)

@inner
def d_log_ndtr(x):
    outlined()
    if x < -1e150:
        return -0.5 * x * x
    if x < -1.0 or x > 1.0:
        scaled = 0.5 * c_erfcx(abs(x) * ROOT_HALF, SKIP)
        return math.log(scaled) - 0.5 * x * x if x < 0.0 else math.log1p(-scaled * d_gaussian(x))
    return math.log1p(-0.5 * c_erfc(x * ROOT_HALF, SKIP))

@inner
def d_scaled_erfc_integral(x, order):
    outlined()
    n = int(order)
    before, up = 1.1283791670955126, d_erfcx(x)
    if n == 0:
        return up
    if x >= (1.0 if n == 1 else 0.5):
        steps = int(170.0 / (x * x)) + 20 + n
        ratio = 1.0 / (math.sqrt(x * x + 2.0 * steps) + x)
        for k in range(steps, 1, -1):
            if k <= n:
                up *= ratio
            ratio = 1.0 / (2.0 * (x + k * ratio))
        return up * ratio
    for k in range(1, n + 1):
        up, before = (before - 2.0 * x * up) / (2.0 * k), up
    return up

@inner
def d_erfinv_slope(x):
    outlined()
    size = abs(x)
    if size == 1.0:
        return np.inf
    return 0.886226925452758 * c_erfcx(abs(c_erfinv(x, SKIP)), SKIP) / (1.0 - size)

@inner
def d_ndtri_slope(x):
    outlined()
    if x == 0.0 or x == 1.0:
        return np.inf
    return c_erfcx(abs(c_ndtri(x, SKIP)) * ROOT_HALF, SKIP) * 1.2533141373155001 / min(x, 1.0 - x)

@inner
def d_lgamma(x):
    outlined()
    is_one = abs(x - 1.0) < 0.25
    if is_one or abs(x - 2.0) < 0.25:
        t = x - 1.0 if is_one else x - 2.0
        near = t * ({_SERIES})
        return near - math.log1p(t) if is_one else near
    return c_lgamma(x)

@inner
def d_logit(p):
    outlined()
    return math.log1p((p - 0.5) * 2.0 / (1.0 - p)) if abs(p - 0.5) < 0.25 else math.log(p / (1.0 - p))

@inner
def d_logit_slope(p):
    outlined()
    return 1.0 / (p * (1.0 - p)) if p >= 0.0 and p <= 1.0 else np.nan

@inner
def d_zeta_positive(s, q):
    outlined()
    total, least = 0.0, 10.0 + min(s, 200.0)
    if not q < 1e300:
        return q if q != q else math.pow(q, 1.0 - s) / (s - 1.0)
    while q < least:
        term = math.pow(q, -s)
        total += term
        q += 1.0
        if s > 1.5 and term <= 1e-18 * total:
            return total
    term = math.pow(q, -s)
    if term == 0.0:
        return total
    total += math.pow(q, 1.0 - s) / (s - 1.0) + 0.5 * term
    term *= s / q
    k = 1.0
    for c in ({", ".join([repr(c) for c in _BERNOULLI])}):
        total += c * term
        term *= (s + k) / q * ((s + k + 1.0) / q)
        k += 2.0
    return total

@inner
def d_zeta(s, q):
    outlined()
    if s != s or q != q:
        return np.nan
    if s == 1.0:
        return np.inf
    if s < 1.0:
        return np.nan
    if q > 0.0:
        return d_zeta_positive(s, q)
    if q == math.floor(q):
        return np.inf
    if s != math.floor(s):
        return np.nan
    return d_zeta_negative(s, q)

@inner
def d_zeta_negative(s, x):
    outlined()
    d = x - np.rint(x)
    above, below = (d, 1.0 - d) if d >= 0.0 else (1.0 + d, -d)
    sign = 1.0 if s % 2.0 == 0.0 else -1.0
    mirrored = d_zeta_positive(s, below) - d_zeta_positive(s, max(1.0 - x, 1.0))
    return d_zeta_positive(s, above) + sign * mirrored

@inner
def d_polygamma(x, order):
    outlined()
    n = int(order)
    s = n + 1.0
    factor = 1.0 if n % 2 else -1.0
    for k in range(2, n + 1):
        factor *= k
    if x > 0.0:
        return factor * d_zeta_positive(s, x)
    if x == 0.0:
        return factor * np.inf if n % 2 else factor * math.copysign(np.inf, x)
    if x != x or x == -np.inf:
        return np.nan
    if x == math.floor(x):
        return factor * np.inf
    return factor * d_zeta_negative(s, x)
'''
