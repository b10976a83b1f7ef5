"""The transport without a wire: the engine in this process. The one door to `hesse_engine.compute`, opened on use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from hesse.plans import Plan
from hesse.protocol import Call, Calls
from hesse_engine.ir.show import graph_id

if TYPE_CHECKING:
    from hesse_engine.compute import Prepared
    from hesse_engine.options import Options

CAPACITY = 256  # prepared computations kept


class Embedded:
    """Runs calls here. What was prepared for one call is reused by every later one of the same function and options."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._prepared: OrderedDict[tuple[str, str, Options], Prepared] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, call: Call | Calls) -> Any:
        if isinstance(call, Calls):
            return call.finish([self.prepare(c)(c.inputs, c.v) for c in call.calls])
        return call.finish(self.prepare(call)(call.inputs, call.v))

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

    def plan(self, call: Call) -> Plan:
        plan = self.prepare(call).plan
        return Plan(plan.as_dict(), str(plan))
