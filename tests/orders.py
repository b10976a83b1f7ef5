"""Derivatives of a scalar node in each order of composition, as numbers: what the tests compare with an oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hesse_engine.backend import reference
from hesse_engine.ir.graph import Array, Node, flat
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient, pull_back

Values = Mapping[Node, Array]


def filled(nodes: Sequence[Node | None], like: Sequence[Node]) -> list[Node]:
    """`nodes`, with zeros shaped as `like` for None."""
    return [x.builder.zeros(x.shape, x.dtype) if n is None else n for n, x in zip(nodes, like, strict=True)]


def fresh(like: Sequence[Node], name: str) -> list[Node]:
    return [x.builder.input(f"{name}{k}", x.shape, x.dtype) for k, x in enumerate(like)]


def numbers(outputs: Sequence[Node], values: Values) -> Array:
    """The values of `outputs`, flattened one after the other."""
    if not outputs:
        return np.zeros(0)
    return np.concatenate([a.ravel().astype(np.float64) for a in reference.run(outputs, values)])


def unflatten(vector: Array, like: Sequence[Node]) -> list[Array]:
    ends = np.cumsum([x.size for x in like])
    return [p.reshape(x.shape).astype(x.dtype) for p, x in zip(np.split(vector, ends[:-1]), like, strict=True)]


def seeded(seeds: Sequence[Node], vector: Array) -> dict[Node, Array]:
    return dict(zip(seeds, unflatten(vector, seeds), strict=True))


def columns(outputs: Sequence[Node], seeds: Sequence[Node], values: Values) -> Array:
    """A linear map of `seeds` as a matrix, one column for each of their elements."""
    found = [numbers(outputs, {**values, **seeded(seeds, basis)}) for basis in np.eye(flat(seeds))]
    return np.stack(found, 1) if found else np.zeros((flat(outputs), 0))


def jacobian_forward(y: Node, wrt: Sequence[Node], values: Values) -> Array:
    t = fresh(wrt, "t")
    return columns(filled(push_forward([y], dict(zip(wrt, t, strict=True))), [y]), t, values)


def jacobian_reverse(y: Node, wrt: Sequence[Node], values: Values) -> Array:
    (ct,) = fresh([y], "ct")
    return columns(filled(pull_back([y], [ct], wrt), wrt), [ct], values).T


def forward_over_reverse(s: Node, wrt: Sequence[Node], values: Values) -> Array:
    t, g = fresh(wrt, "t"), gradient(s, wrt)
    return columns(filled(push_forward(g, dict(zip(wrt, t, strict=True))), wrt), t, values)


def reverse_over_reverse(s: Node, wrt: Sequence[Node], values: Values) -> Array:
    g = gradient(s, wrt)
    ct = fresh(g, "ct")
    return columns(filled(pull_back(g, ct, wrt), wrt), ct, values).T


def reverse_over_forward(s: Node, wrt: Sequence[Node], values: Values) -> Array:
    t = fresh(wrt, "t")
    (moved,) = filled(push_forward([s], dict(zip(wrt, t, strict=True))), [s])
    return columns(gradient(moved, wrt), t, values)


def forward_over_forward(s: Node, wrt: Sequence[Node], values: Values) -> Array:
    t, u = fresh(wrt, "t"), fresh(wrt, "u")
    (moved,) = filled(push_forward([s], dict(zip(wrt, t, strict=True))), [s])
    (twice,) = filled(push_forward([moved], dict(zip(wrt, u, strict=True))), [s])
    rows = [columns([twice], u, {**values, **seeded(t, basis)}).ravel() for basis in np.eye(flat(wrt))]
    return np.array(rows).reshape(flat(wrt), flat(wrt))


HESSIANS: dict[str, Callable[[Node, Sequence[Node], Values], Array]] = {
    "forward-over-reverse": forward_over_reverse,
    "reverse-over-reverse": reverse_over_reverse,
    "reverse-over-forward": reverse_over_forward,
    "forward-over-forward": forward_over_forward,
}


def third_along(s: Node, wrt: Sequence[Node], values: Values, direction: Array) -> float:
    """v' (d/dx)^2 of (gradient . v): reverse, then forward twice, contracted with v."""
    t = fresh(wrt, "t")
    tangents = dict(zip(wrt, t, strict=True))
    once = filled(push_forward(gradient(s, wrt), tangents), wrt)
    twice = filled(push_forward(once, tangents), wrt)
    got = numbers(twice, {**values, **seeded(t, direction)})
    return float(got @ direction)


def close(got: Any, wanted: Any, tolerance: float) -> None:
    """Equal to `tolerance`, relative to the largest wanted number; not finite exactly where wanted is not."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape
    scale = float(np.max(np.abs(wanted), initial=1.0, where=np.isfinite(wanted)))
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)
