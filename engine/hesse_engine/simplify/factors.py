"""Functions of a Cholesky factor that are functions of the matrix: rewritten so that derivatives pass the factor by.

    sum log diag(L)           ->  log det(A) / 2         computed from L by the same operations
    (L^-1 b)' (L^-1 c)        ->  b' (A^-1 c)            one more triangular solution in place of a longer derivative

With L = cholesky(A), a derivative through the factor takes several triangular solutions and products for each tangent;
one of the determinant and of A^-1 c takes one product with dA. (L'^-1 L^-1 b is A^-1 b from the outset:
`triangular_solve` builds it so.) The second rule is equal to rounding: both sides are backward stable.
"""

from __future__ import annotations

from collections.abc import Callable

from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.contraction import LETTERS, parse
from hesse_engine.ir.ops.linalg import cholesky_solve


def _half_logdet(node: Node) -> Node | None:
    (x,), axes = node.args, node.attrs["axis"]
    factor = _factor_of_diagonal(x.args[0]) if x.op == "log" else None
    if factor is None or x.ndim - 1 not in axes:
        return None
    half = apply("cholesky_logdet", factor.args[0], factor) * 0.5
    return apply("sum", half, axis=axes[:-1])


def _factor_of_diagonal(x: Node) -> Node | None:
    """L where x is the diagonal of L = cholesky(A): every (n + 1)th element of its rows laid end to end."""
    if x.op != "slice" or x.args[0].op != "reshape" or x.args[0].args[0].op != "cholesky":
        return None
    factor, a = x.args[0].args[0], x.attrs
    n, lead = factor.shape[-1], factor.ndim - 2
    is_diagonal = x.args[0].shape == (*factor.shape[:-2], n * n) and a["step"] == (*(1,) * lead, n + 1)
    return factor if is_diagonal and not any(a["start"]) and x.shape == (*factor.shape[:-2], n) else None


def _half_solution(x: Node) -> tuple[Node, Node] | None:
    """(solution, b) where x is L^-1 b, or the one column of it, for a single L = cholesky(A)."""
    y = x.args[0] if x.op == "reshape" else x
    if y.op != "triangular_solve" or y.args[0].op != "cholesky" or y.attrs["transposed"] or y.ndim != 2:
        return None
    if not y.attrs["lower"] or (x is not y and (y.shape[1] != 1 or x.ndim != 1)):
        return None
    return y, apply("reshape", y.args[1], shape=x.shape)


def _whitened(x: Node, y: Node, subscripts: str) -> Node | None:
    """A contraction of L^-1 b and L^-1 c over their rows as one of b and A^-1 c."""
    left, right = _half_solution(x), _half_solution(y)
    if left is None or right is None or left[0].args[0] is not right[0].args[0]:
        return None
    a, b, out = parse(subscripts)
    if a[0] != b[0] or a[0] in out:
        return None
    factor = left[0].args[0]
    whole = apply("reshape", cholesky_solve(factor.args[0], factor, right[0].args[1]), shape=y.shape)
    return apply("contract", left[1], whole, subscripts=subscripts)


def _whitened_product(node: Node) -> Node | None:
    a, b, out = parse(node.attrs["subscripts"])
    (x, a), (y, b) = (_upright(n, own) for n, own in zip(node.args, (a, b), strict=True))
    return _whitened(x, y, f"{a},{b}->{out}")


def _upright(x: Node, own: str) -> tuple[Node, str]:
    """x and the letters of its axes, without a transpose."""
    return (x.args[0], own[::-1]) if x.op == "permute_dims" and x.ndim == 2 else (x, own)


def _whitened_squares(node: Node) -> Node | None:
    (x,), axes = node.args, node.attrs["axis"]
    if x.op not in ("square", "multiply") or 0 not in axes or x.ndim > 2:
        return None
    own = LETTERS[:x.ndim]
    kept = "".join([c for k, c in enumerate(own) if k not in axes])
    return _whitened(x.args[0], x.args[-1], f"{own},{own}->{kept}")


RULES: dict[str, tuple[Callable[[Node], Node | None], ...]] = {
    "sum": (_half_logdet, _whitened_squares),
    "contract": (_whitened_product,),
}
