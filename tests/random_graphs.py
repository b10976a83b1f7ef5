"""Random graphs for tests that compare tiers: every kind of node, mixed shapes and dtypes, views of views."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.ir import ops  # noqa: F401  (fills the op table)
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Array, Builder, Node, apply

UNARY = (
    "negative", "square", "exp", "log1p", "sin", "cos", "tanh", "sigmoid", "softplus", "abs", "sign", "stop_gradient"
)
PRODUCTS = ("ab,cb->ac", "ab,cb->ca", "ab,ac->bc", "ab,ab->")
BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "divide")
COMPARE = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
LOGIC = ("logical_and", "logical_or", "logical_xor")


class RandomGraph:
    """`steps` random nodes over a few inputs; `outputs` are drawn from all of them."""

    def __init__(
        self, seed: int, steps: int = 40, dtypes: tuple[Any, ...] = (FLOAT64,),
        sizes: tuple[int, ...] = (1, 2, 3, 5, 7, 64, 300),
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder()
        lengths = [int(n) for n in self.rng.choice(sizes, 3)]
        self.shapes = [tuple(lengths[:k]) for k in (1, 2, 3)] + [(lengths[1],), ()]
        self.inputs = [self.builder.input(f"x{k}", s, dtypes[k % len(dtypes)]) for k, s in enumerate(self.shapes)]
        self.inputs.append(self.builder.input("mask", self.shapes[1], np.dtype(np.bool_)))
        self.nodes: list[Node] = [*self.inputs, self.builder.constant(self.rng.uniform(-1, 1, self.shapes[0]))]
        while len(self.nodes) < steps:
            node = self.step()
            if node is not None and node.size <= 200_000:
                self.nodes.append(node)
        picked = self.rng.choice(len(self.nodes), 6)
        self.outputs = [self.nodes[-1], *[self.nodes[int(k)] for k in picked]]

    def arrays(self) -> list[Array]:
        drawn = [(n.dtype, self.rng.uniform(-1.5, 1.5, n.shape)) for n in self.inputs]
        return [v < 0.0 if d.kind == "b" else v.astype(d) for d, v in drawn]

    def pick(self, kind: str = "f", among: list[Node] | None = None) -> Node | None:
        found = [n for n in (self.nodes if among is None else among) if n.dtype.kind == kind]
        return found[int(self.rng.integers(len(found)))] if found else None

    def partner(self, node: Node) -> Node | float:
        """Another operand of the same shape, a broadcast one, or a number."""
        choice = self.rng.random()
        same = self.pick(node.dtype.kind, [n for n in self.nodes if n.shape == node.shape and n.dtype == node.dtype])
        if choice < 0.2 and node.dtype.kind == "f":
            return float(self.rng.uniform(-2, 2))
        if choice < 0.5 and node.ndim:
            lower = self.pick(node.dtype.kind, [
                n for n in self.nodes if n.dtype == node.dtype and n.ndim <= node.ndim
                and n.shape == node.shape[node.ndim - n.ndim:]
            ])
            return lower if lower is not None else node
        return same if same is not None else node

    def step(self) -> Node | None:
        name = str(self.rng.choice([
            "unary", "unary", "binary", "binary", "binary", "compare", "logic", "where", "sum", "reshape", "permute",
            "slice", "broadcast", "unslice", "concat", "contract", "take", "scatter", "convert", "power", "max",
        ]))
        x = self.pick()
        assert x is not None
        node: Node | None = getattr(self, f"make_{name}")(x)
        return node

    def make_unary(self, x: Node) -> Node:
        return apply(str(self.rng.choice(UNARY)), 0.5 * apply("tanh", x))  # inside every domain, away from its edges

    def make_binary(self, x: Node) -> Node:
        return apply(str(self.rng.choice(BINARY)), x, self.partner(x))

    def make_power(self, x: Node) -> Node:
        return apply("power_scalar", x, exponent=float(self.rng.choice([3.0, 4.0, -1.0, -2.0, 0.0, 1.5])))

    def make_compare(self, x: Node) -> Node:
        return apply(str(self.rng.choice(COMPARE)), x, self.partner(x))

    def make_logic(self, x: Node) -> Node | None:
        mask = self.pick("b")
        return None if mask is None else apply(str(self.rng.choice(LOGIC)), mask, self.partner(mask))

    def make_where(self, x: Node) -> Node | None:
        mask = self.pick("b", [n for n in self.nodes if n.shape in (x.shape, ())])
        return None if mask is None else apply("where", mask, x, self.partner(x))

    def axes(self, x: Node) -> tuple[int, ...]:
        return tuple([k for k in range(x.ndim) if self.rng.random() < 0.5])

    def make_sum(self, x: Node) -> Node:
        return apply("sum", x, axis=self.axes(x))

    def make_max(self, x: Node) -> Node | None:
        return apply("max", x, axis=self.axes(x)) if x.size else None

    def make_reshape(self, x: Node) -> Node:
        if self.rng.random() < 0.5:
            return apply("reshape", x, shape=(-1,))
        return apply("reshape", x, shape=(*x.shape[:1], 1, *x.shape[1:]))

    def make_permute(self, x: Node) -> Node:
        return apply("permute_dims", x, axes=[int(k) for k in self.rng.permutation(x.ndim)])

    def make_slice(self, x: Node) -> Node:
        start, step, count = [], [], []
        for length in x.shape:
            if self.rng.random() < 0.3 and length:
                d = -1
                c = int(self.rng.integers(1, length + 1))
                s = int(self.rng.integers(c - 1, length))
            else:
                d = int(self.rng.integers(1, 3))
                c = int(self.rng.integers(1, (length - 1) // d + 2)) if length else 0
                s = int(self.rng.integers(0, length - d * (c - 1))) if length else 0
            start.append(s)
            step.append(d)
            count.append(c)
        return apply("slice", x, start=start, step=step, count=count)

    def make_broadcast(self, x: Node) -> Node:
        return apply("broadcast_to", x, shape=(int(self.rng.integers(1, 4)), *x.shape))

    def make_unslice(self, x: Node) -> Node:
        return apply("unslice", x, shape=[n + 2 for n in x.shape], start=[1] * x.ndim)

    def make_concat(self, x: Node) -> Node | None:
        return apply("concat", x, x, axis=int(self.rng.integers(x.ndim))) if x.ndim else None

    def make_contract(self, x: Node) -> Node | None:
        if x.ndim == 1:
            return apply("contract", x, x, subscripts="a,a->")
        if x.ndim == 2:
            return apply("contract", x, x, subscripts=str(self.rng.choice(PRODUCTS)))
        return apply("contract", x, x, subscripts="abc,abd->acd") if x.ndim == 3 else None

    def make_take(self, x: Node) -> Node | None:
        if not x.ndim or not x.shape[0]:
            return None
        index = self.rng.integers(-x.shape[0], x.shape[0], (2, 2))
        return apply("take", x, self.builder.constant(index), axis=0)

    def make_scatter(self, x: Node) -> Node | None:
        if not x.ndim:
            return None
        index = self.rng.integers(0, 4, x.shape[:1])
        return apply("scatter_add", x, self.builder.constant(index), axis=0, size=4)

    def make_convert(self, x: Node) -> Node | None:
        mask = self.pick("b")
        if mask is None or self.rng.random() < 0.3:
            return apply("convert", x, dtype=FLOAT32 if self.rng.random() < 0.2 else FLOAT64)
        return apply("convert", mask, dtype=x.dtype)
