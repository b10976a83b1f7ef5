"""What a row of the op table is. A row states one fact per op; everything else follows from it.

Four kinds carry the derivatives (d is a tangent, ct a cotangent):

    pointwise   y_e = phi(a_e, b_e, ...)   rule(y, *args) -> partials      dy = sum_i partial_i * d_i
    linear      y = L(args)                rule(ct, y)    -> transposes    dy = L(d)
    bilinear    y = B(a, b)                rule(ct, other, y, slot)        dy = B(da, b) + B(a, db)
    nonlinear   anything else              rule(y, tangents) -> dy, linear in the tangents

A nonlinear row that is linear in some operands (a solution in its right-hand side) names them as `linear` and states
`transpose(ct, y)` for them, which ends the transposition of its own tangent.

A `composite` is a name with an expansion into the other four: it never stands in a graph, so no transform meets it.
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hesse_engine.ir.graph import Node

Kind = Literal["leaf", "pointwise", "linear", "bilinear", "nonlinear", "composite"]
VIEWS = frozenset({"broadcast_to", "reshape", "permute_dims", "slice"})  # rows that name, repeat or leave out elements
FAMILIES = "hesse_engine.ir.ops"  # the package whose import registers every family of rows


@dataclass(frozen=True, slots=True)
class Row:
    """One op. `build(*args, **attrs)` is the only way to make a node of it: it broadcasts, promotes and checks."""

    name: str
    kind: Kind
    arity: int | None  # None: any number of operands, at least one
    attrs: tuple[str, ...]
    build: Callable[..., Any]
    numpy: Callable[..., Any]
    rule: Callable[..., Any] | None
    batch: Callable[..., Any] | None = None  # (node, args, size) -> node with the batch on the last axis
    vm: str | None = None  # scalar expression of operands {0}, {1}, {2}; pointwise and multiply-like rows only
    slots: tuple[int, ...] | None = None  # operands that carry derivatives; None: all
    is_movement: bool = False  # moves elements without arithmetic, so masks move along with cotangents
    scalars: tuple[str, ...] = ()  # attrs of a pointwise row that the VM receives as immediate
    doc: str = ""
    linear: tuple[int, ...] | Callable[[Node], tuple[int, ...]] = ()  # operands that a nonlinear row is linear in
    transpose: Callable[..., Any] | None = None  # (ct, y) -> its transposes in those operands, None for the others
    domain: str = ""  # where the value is defined, for the docs; empty: everywhere
    kink: str = ""  # which derivative is taken where there is none, for the docs

    def differentiable(self, slot: int) -> bool:
        return self.slots is None or slot in self.slots

    def linear_slots(self, node: Node) -> tuple[int, ...]:
        return self.linear if isinstance(self.linear, tuple) else self.linear(node)


class Table(dict[str, Row]):
    """The rows by name. The op families are imported on first need, once, whatever number of threads asks."""

    _lock = threading.RLock()
    _is_loaded = False

    def load(self) -> Table:
        """This table with every family in it."""
        with self._lock:
            if not self._is_loaded:
                importlib.import_module(FAMILIES)
                self._is_loaded = True
        return self

    def __missing__(self, name: str) -> Row:
        if name in self.load():  # another thread may have finished loading since the look-up
            return self[name]
        raise KeyError(name)


ROWS = Table()


def register(row: Row) -> Row:
    """Add a row, refusing at import what would otherwise fail at a request."""
    if row.name in ROWS:
        raise RuntimeError(f"op {row.name!r} has two rows")
    if not row.doc:
        raise RuntimeError(f"op {row.name!r} has no docstring")
    if row.kind == "pointwise" and row.rule is not None and row.arity is not None:
        accepts = [p for p in inspect.signature(row.rule).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        if len(accepts) != row.arity + 1:
            raise RuntimeError(
                f"op {row.name!r}: the rule takes {len(accepts)} arguments, not y and {row.arity} operands"
            )
    if row.kind in ("linear", "nonlinear") and row.batch is None:
        raise RuntimeError(f"op {row.name!r} has no batch rule")
    if bool(row.linear) != (row.transpose is not None):
        raise RuntimeError(f"op {row.name!r} must name its linear operands and state their transposes, or neither")
    ROWS[row.name] = row
    return row


def describe() -> list[dict[str, Any]]:
    """The table as data, for `GET /v1/ops` and the docs: one entry per op, leaves left out."""
    return [
        {"name": r.name, "kind": r.kind, "arity": r.arity, "attrs": list(r.attrs), "doc": " ".join(r.doc.split()),
         "domain": r.domain, "kink": r.kink}
        for r in sorted(ROWS.load().values(), key=lambda r: r.name)
        if r.kind != "leaf"
    ]


def evaluate(node: Node, values: list[Any]) -> Any:
    """The NumPy value of `node` on the values of its operands."""
    attrs: Mapping[str, Any] = node.attrs
    return ROWS[node.op].numpy(*values, **attrs)
