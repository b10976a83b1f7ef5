"""The transport without a wire: the engine in this process. The one door to `hesse_engine.compute`, opened on use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hesse.interop import NUMPY, wrap_sparse
from hesse.plans import Plan
from hesse.protocol import Call, Calls
from hesse.slow import watched
from hesse_engine.ir.graph import Array
from hesse_engine.ir.show import graph_id
from hesse_engine.result import SparseMatrix

if TYPE_CHECKING:
    from hesse_engine.compute import Prepared
    from hesse_engine.options import Options
    from hesse_engine.row_blocks import RowBlocks

CAPACITY = 256  # prepared computations kept


class Embedded:
    """Runs calls here. What was prepared for one call is reused by every later one of the same function and options."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._prepared: OrderedDict[tuple[str, str, Options], Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, call: Call | Calls) -> Any:
        if isinstance(call, Calls):
            return call.finish([watched(c, self.prepare(c)(c.inputs, c.v, c.weights)) for c in call.calls])
        return call.finish(watched(call, self.prepare(call)(call.inputs, call.v, call.weights, call.out)))

    def prepare(self, call: Call) -> Prepared:
        """The prepared computation of `call`, least recently used ones forgotten."""
        key = (call.id or graph_id(call.graph), call.operation, call.options)
        with self._lock:
            found = self._prepared.get(key)
            if found is not None:
                self._prepared.move_to_end(key)
                return found
        from hesse_engine.compute import prepare

        made = prepare(call.graph, call.operation, call.options)
        with self._lock:
            self._prepared[key] = made
            while len(self._prepared) > self._capacity:
                self._prepared.popitem(last=False)
        return made

    def rows(self, call: Call) -> RowBlocks:
        """The matrix of `call` in blocks of rows."""
        from hesse_engine.row_blocks import prepare_rows

        return prepare_rows(call.graph, call.operation, call.options)

    def plan(self, call: Call) -> Plan:
        plan = self.prepare(call).plan
        return Plan(plan.as_dict(), str(plan))


# ---- the short way: one NumPy array in, nothing traced, hashed or looked up that was before --------------------------
@dataclass(frozen=True, slots=True)
class Short:
    """Calls of one prepared computation by arrays of its input's own shape and dtype.

    `run(x)` is the user's value; `finish` makes it of a result.
    """

    run: Callable[[Array], Any]
    prepared: Prepared
    finish: Callable[[Any], Any]

    @property
    def rank(self) -> int:
        """Axes of the one vector of a product; more of them are several vectors."""
        return self.prepared.seeds[0].ndim

    def into(self, x: Array, out: Array) -> Any:
        """`run(x)`, written into `out`."""
        return self.finish(self.prepared((x,), out=out).value)

    def triple(self, x: Array) -> tuple[Any, Any, Any]:
        """(f(x), the gradient, the Hessian)."""
        result = self.prepared((x,))
        return result.output, result.gradient, self.finish(result.value)

    def pair(self, x: Array, v: Array) -> tuple[Any, Any]:
        """(f(x), the product with v)."""
        result = self.prepared((x,), (v,))
        return result.output, result.value


def short_way(prepared: Prepared) -> Short | None:
    """None while the engine still answers by its reference tier: a shorter way may come."""
    if any([p.tier == "reference" for p in prepared.programs]):
        return None
    quick = prepared.quick()
    if prepared.problem.options.layout in ("csr", "coo"):
        wrap = _sparse()
        if quick is None:
            return Short(lambda x: wrap(prepared((x,)).value), prepared, wrap)
        values = quick
        return Short(lambda x: wrap(values(x)), prepared, wrap)
    if quick is None:
        return Short(lambda x: prepared((x,)).value, prepared, _same)
    return Short(quick, prepared, _same)


def _same(value: Any) -> Any:
    return value


def _sparse() -> Callable[[SparseMatrix], Any]:
    """SciPy's array of a sparse result. Its constructor takes 8 us to look at a pattern that never changes, so later
    results take over all but the values of the first; where SciPy keeps them elsewhere, each is constructed."""
    known: list[tuple[type, dict[str, Any]]] = []

    def wrap(matrix: SparseMatrix) -> Any:
        if not known:
            first = wrap_sparse(matrix, NUMPY)
            state = dict(getattr(first, "__dict__", {}))
            if state.get("data") is None or state["data"].shape != matrix.data.shape:
                return first
            known.append((type(first), state))
            return first
        kind, state = known[0]
        found: Any = object.__new__(kind)
        found.__dict__.update(state)
        found.data = matrix.data
        return found

    return wrap


