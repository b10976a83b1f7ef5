"""Taylor propagation: the coefficients of y(t) = f(x(t)) from those of x(t), at a cost polynomial in their number.

With x(t) = sum_k x_k t^k every node is a series of nodes. A row is used as it stands:

    linear      y_k = A x_k
    bilinear    y_k = sum_j B(a_j, b_(k-j))
    divide      y_k = (a_k - sum_(j<k) y_j b_(k-j)) / b_0
    others      y' = T(y, x, x'), the row's own tangent, in which x' is the series (j + 1) x_(j+1):
                y_k = T_(k-1) / k

T is made once for a row and propagated like any other node. It is written in y and x themselves, so what its own
tangents need is mostly there already (the tangent of exp is y x', that of sin is cos(x) x', and so back to sin), and
the nesting of k tangents, which doubles with every order, is never built.

Source: Griewank & Walther, Evaluating Derivatives, 2nd ed. 2008, ch. 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.walk import reachable
from hesse_engine.transforms.jvp import tangent_of

Coefficient = Node | None  # None is zero
Key = tuple[Node, int]


def taylor(outputs: Sequence[Node], series: Mapping[Node, Sequence[Coefficient]], order: int) -> list[list[Node]]:
    """y_0, ..., y_order of each output.

    Args:
        outputs: nodes made of the keys of `series`.
        series: x_1, x_2, ... of some nodes, whose x_0 is the node itself; what is missing at the end is zero.
        order: the highest coefficient.
    """
    propagation = _Propagation(series)
    found = []
    for y in outputs:
        coefficients = [propagation.of(y, k) for k in range(order + 1)]
        found.append([y.builder.zeros(y.shape, y.dtype) if c is None else c for c in coefficients])
    return found


class _Propagation:
    """The coefficients known so far, by node and number."""

    def __init__(self, series: Mapping[Node, Sequence[Coefficient]]) -> None:
        self._given = series
        self._known: dict[Key, Coefficient] = {}
        self._moves: dict[Node, bool] = dict.fromkeys(series, True)
        self._rates: dict[Node, Node] = {}  # x -> the placeholder of x'
        self._sources: dict[Node, Node] = {}  # and back
        self._lifted: set[Node] = set()  # made of placeholders
        self._tangents: dict[Node, Node | None] = {}

    def of(self, node: Node, k: int) -> Coefficient:
        """y_k; coefficients that it needs come first."""
        stack: list[Key] = [(node, k)]
        while stack:
            key = stack[-1]
            if key not in self._known:
                missing = [d for d in self._needed(*key) if d not in self._known]
                if missing:
                    stack.extend(missing)
                    continue
                self._known[key] = self._combined(*key)
            stack.pop()
        return self._known[node, k]

    # ---- what is needed ----------------------------------------------------------------------------------------------
    def _needed(self, node: Node, k: int) -> list[Key]:
        if node in self._sources:
            return [(self._sources[node], k + 1)]
        self._look_at(node)
        if k == 0:
            return [(a, 0) for a in node.args] if node in self._lifted else []
        if not self._moves[node] or node in self._given:
            return []
        kind = ROWS[node.op].kind
        if kind == "linear":
            return [(a, k if self._carries(node, slot) else 0) for slot, a in enumerate(node.args)]
        if kind == "bilinear":
            return [(a, j) for a in node.args for j in range(k + 1)]
        if node.op == "divide":
            a, b = node.args
            return [(a, k), *[(b, j) for j in range(k + 1)], *[(node, j) for j in range(k)]]
        tangent = self._tangent(node)
        return [] if tangent is None else [(tangent, k - 1)]

    def _look_at(self, root: Node) -> None:
        """Which nodes below vary along the curve, and which hold placeholders."""
        if root in self._moves:
            return
        for node in reachable([root], stop=self._moves):
            if node in self._moves:
                continue
            if any([a in self._lifted for a in node.args]):
                self._lifted.add(node)
            has_rule = node.is_floating and ROWS[node.op].rule is not None
            self._moves[node] = has_rule and any([self._carries(node, slot) for slot in range(len(node.args))])

    def _carries(self, node: Node, slot: int) -> bool:
        return ROWS[node.op].differentiable(slot) and self._moves[node.args[slot]]

    def _tangent(self, node: Node) -> Node | None:
        if node not in self._tangents:
            rates = [self._rate(a) if self._carries(node, slot) else None for slot, a in enumerate(node.args)]
            self._tangents[node] = tangent_of(node, rates)
        return self._tangents[node]

    def _rate(self, node: Node) -> Node:
        rate = self._rates.get(node)
        if rate is None:
            rate = self._rates[node] = node.builder.input("rate", node.shape, node.dtype)
            self._sources[rate] = node
            self._lifted.add(rate)
            self._moves[rate] = True
        return rate

    # ---- how it is combined ------------------------------------------------------------------------------------------
    def _combined(self, node: Node, k: int) -> Coefficient:
        if node in self._sources:
            ahead = self._known[self._sources[node], k + 1]
            return ahead if ahead is None or k == 0 else ahead * float(k + 1)
        if k == 0:
            return self._rebuilt(node) if node in self._lifted else node
        if node in self._given:
            given = self._given[node]
            return given[k - 1] if k <= len(given) else None
        if not self._moves[node]:
            return None
        kind = ROWS[node.op].kind
        if kind == "linear":
            return self._linear(node, k)
        if kind == "bilinear":
            a, b = node.args
            return self._convolved(node, [(a, j, b, k - j) for j in range(k + 1)])
        if node.op == "divide":
            return self._quotient(node, k)
        tangent = self._tangents[node]
        found = None if tangent is None else self._known[tangent, k - 1]
        return found if found is None or k == 1 else found / float(k)

    def _value(self, node: Node, k: int) -> Node:
        found = self._known[node, k]
        return node.builder.zeros(node.shape, node.dtype) if found is None else found

    def _rebuilt(self, node: Node) -> Node:
        return apply(node.op, *[self._value(a, 0) for a in node.args], **node.attrs)

    def _linear(self, node: Node, k: int) -> Coefficient:
        moving = [self._carries(node, slot) for slot in range(len(node.args))]
        if all([self._known[a, k] is None for a, m in zip(node.args, moving, strict=True) if m]):
            return None
        operands = []
        for slot, (a, m) in enumerate(zip(node.args, moving, strict=True)):
            is_zero = not m and ROWS[node.op].differentiable(slot)
            operands.append(a.builder.zeros(a.shape, a.dtype) if is_zero else self._value(a, k if m else 0))
        return apply(node.op, *operands, **node.attrs)

    def _convolved(self, node: Node, terms: Sequence[tuple[Node, int, Node, int]]) -> Coefficient:
        """sum of node(a_i, b_j) over `terms` (a, i, b, j)."""
        total: Coefficient = None
        for a, i, b, j in terms:
            left, right = self._known[a, i], self._known[b, j]
            if left is not None and right is not None:
                product = apply(node.op, left, right, **node.attrs)
                total = product if total is None else total + product
        return total

    def _quotient(self, node: Node, k: int) -> Coefficient:
        a, b = node.args
        total = self._known[a, k]
        for j in range(k):
            left, right = self._known[node, j], self._known[b, k - j]
            if left is not None and right is not None:
                product = left * right
                total = -product if total is None else total - product
        return None if total is None else total / self._value(b, 0)
