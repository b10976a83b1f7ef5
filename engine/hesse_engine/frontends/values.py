"""The values of nodes while a function is traced: what branches and masks are decided by, recorded as guards."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import FunctionError, InputError
from hesse_engine.frontends.operands import elementwise, truth
from hesse_engine.frontends.refusals import ValueAbsent, ambiguous
from hesse_engine.ir.graph import Array, Node, apply
from hesse_engine.ir.rows import evaluate

KEPT_BYTES = 1 << 16  # values up to this size are kept between branches, larger ones are computed again


class Values:
    """Values of the nodes of one tracing, from those of its inputs, and the guards met so far."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.guards: dict[Node, bool] = {}
        self._values: dict[Node, Array] = {}
        self._stands_for: dict[Node, Node] = {}
        self._varies: dict[Node, bool] = {}
        self._fixed: dict[Node, bool] = {}

    def value(self, node: Node) -> tuple[Array, bool]:
        """The value of `node` on the inputs' values, and whether it varies with them."""
        pending: dict[int, Node] = {}
        stack = [node]
        while stack:
            n = stack.pop()
            if n.number not in pending and not (n in self._values and n in self._varies):
                pending[n.number] = n
                stack.extend(self._operands(n))
        found: dict[Node, Array] = {}
        with np.errstate(all="ignore"):
            # a fresh input is made after the node that it stands for, so numbers still order arguments first
            for number in sorted(pending):
                n = pending[number]
                found[n] = self._evaluate(n, found)
                self._varies[n] = n.op == "input" or any([self._varies[a] for a in n.args])
                if found[n].nbytes <= KEPT_BYTES:
                    self._values[n] = found[n]
        return (found[node] if node in found else self._values[node]), self._varies[node]

    def _operands(self, node: Node) -> tuple[Node, ...]:
        like = self._stands_for.get(node)
        return node.args if like is None else (like,)

    def _evaluate(self, node: Node, found: dict[Node, Array]) -> Array:
        if node.value is not None:
            return node.value
        if node in self._values:
            return self._values[node]
        if node.op == "input":
            like = self._stands_for.get(node)
            if like is None:
                raise ValueAbsent(node)
            return found[like] if like in found else self._values[like]
        operands = [found[a] if a in found else self._values[a] for a in node.args]
        return np.asarray(evaluate(node, operands))

    def is_known(self, node: Node) -> bool:
        """Whether `node` depends on no input."""
        fixed, stack = self._fixed, [node]
        while stack:
            n = stack[-1]
            missing = [a for a in n.args if a not in fixed] if n not in fixed else []
            if not missing:
                stack.pop()
                fixed[n] = n.op != "input" and all([fixed[a] for a in n.args])
            stack.extend(missing)
        return fixed[node]

    def branch(self, node: Node) -> bool:
        """The truth of a one-element node, recorded as a guard."""
        if node.size != 1:
            raise ambiguous(node, self.library)
        predicate = apply("reshape", truth(node), shape=())
        try:
            value, varies = self.value(predicate)
        except ValueAbsent:
            raise FunctionError(
                "vmap-branch",
                "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. "
                "We don't support that yet, please rewrite it with hesse.numpy.where or torch.where.",
            ) from None
        if varies:
            self.guards[predicate] = bool(value)
        return bool(value)

    def item(self, node: Node) -> Any:
        """The Python number that a one-element node is; the graph then holds for that number only."""
        if node.size != 1:
            message = f"A value with {node.size} elements cannot be converted to a Python number."
            raise FunctionError("ambiguous-tensor", message) if self.library == "torch" \
                else InputError("ambiguous-array", message)
        return self.concrete(node, "vmap-item").reshape(()).item()

    def concrete(self, node: Node, code: str = "vmap-branch") -> Array:
        """The value of `node`, with a guard that it is this one."""
        try:
            value, varies = self.value(node)
        except ValueAbsent:
            if code == "vmap-branch":
                return np.asarray(self.branch(apply("reshape", apply("sum", truth(node)), shape=())))
            raise FunctionError(
                "vmap-item",
                "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() "
                "on a Tensor, please try to rewrite what you're doing with other operations.",
            ) from None
        if varies:
            same = elementwise("equal", node, value)
            if node.is_floating:
                both = elementwise("logical_and", elementwise("not_equal", node, node), np.isnan(value))
                same = elementwise("logical_or", same, both)
            self.guards[apply("equal", apply("sum", apply("logical_not", same)), 0)] = True
        return value
