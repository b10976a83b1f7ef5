"""Memory that traced arrays share: what makes an assignment to items visible through every view of it.

Nodes are immutable, so memory is a value that is replaced. An assignment only notes which elements of which node now
stand at which places; the array is put together when it is read as a whole, and reading an element that was just
assigned finds the assigned node itself. A recursion `y[i] = f(y[i - 1])` thus becomes a chain of n small nodes.

A view knows the steps that lead to it from the array it is of. NumPy (or torch) itself, asked to take those steps on
an array of positions, says which places of the memory the view shows, and whether it is a view at all.
"""

from __future__ import annotations

import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.table import call
from hesse_engine.ir.graph import Array, Node, Shape, apply, size_of

SMALL = 32  # that many scattered elements are read one by one; more put the whole array together first


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an array cannot be assigned to, and what to write instead."""

    message: str
    hint: str

    def error(self, what: str = "") -> ArgumentTypeError:
        return ArgumentTypeError("cut-graph", f"{what}: {self.message}" if what else self.message, hint=self.hint)


_COPY = "Copy it first: y = x.copy() (torch: x.clone()), then assign to y."
INPUT = Refusal("An input of the function cannot be assigned to in place: the caller's array would have to change.",
                _COPY)
READ_ONLY = Refusal("The array is a read-only view.", _COPY)
TRACED_PLACE = Refusal("A row taken at a computed index cannot be assigned to.", "Assign to y[i, ...] in one step.")
DETACHED = Refusal("A detached array cannot be assigned to: the array it is of would change without a derivative.",
                   _COPY)


# ---- steps from an array to a view of it -----------------------------------------------------------------------------
@dataclass(slots=True)  # a frozen one takes twice as long to make, and every slice of a result makes one
class Key:
    """x[key], for a key of integers, slices, None and an ellipsis."""

    key: Any

    def on_array(self, array: Array) -> Array:
        return np.asarray(array[self.key])

    def on_node(self, node: Node) -> Node:
        return index(node, self.key)


@dataclass(frozen=True, slots=True)
class Call:
    """A function or method that gives a view, or the view number `place` of several."""

    library: str
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    place: int | None = None

    def on_array(self, array: Array) -> Array:
        args = [np.empty(a.shape) if isinstance(a, Node) else a for a in self.args]
        torch = sys.modules.get("torch") if self.library == "torch" else None
        if torch is not None:
            function = getattr(torch.Tensor, self.name, None) or getattr(torch, self.name)
            like = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
            found = function(torch.from_numpy(array), *like, **self.kwargs)
            return np.asarray((found if self.place is None else found[self.place]).numpy())
        if self.name.startswith("ndarray."):
            found = getattr(array, self.name.removeprefix("ndarray."))(*args, **self.kwargs)
        else:
            found = _numpy(self.name)(array, *args, **self.kwargs)
        return np.asarray(found if self.place is None else found[self.place])

    def on_node(self, node: Node) -> Node:
        found = call(self.library, self.name, (node, *self.args), self.kwargs)
        view: Node = found if self.place is None else found[self.place]
        return view


def _numpy(name: str) -> Callable[..., Any]:
    found: Any = np
    for part in name.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function


Step = Key | Call


# ---- memory ----------------------------------------------------------------------------------------------------------
class Memory:
    """The elements of an array: those of `node`, or element `ids[place]` of `sources`, counted one after the other."""

    __slots__ = ("_grid", "dtype", "end", "ids", "members", "node", "shape", "sources", "starts")

    def __init__(self, node: Node) -> None:
        self.node: Node | None = node
        self.shape: Shape = node.shape
        self.dtype = node.dtype
        self.sources: list[Node] = []
        self.starts: list[int] = []
        self.end = 0
        self.ids: Array | None = None
        self.members: list[weakref.ref[Any]] = []  # the tracers that show it
        self._grid: Array | None = None

    @property
    def grid(self) -> Array:
        """The place of each element."""
        if self._grid is None:
            self._grid = np.arange(size_of(self.shape)).reshape(self.shape)
        return self._grid

    def join(self, member: Any) -> None:
        if len(self.members) > 64 and len(self.members) & (len(self.members) - 1) == 0:
            self.members = [m for m in self.members if m() is not None]
        self.members.append(weakref.ref(member))

    def invalidate(self) -> None:
        """Make every array that shows this memory read it anew."""
        alive = []
        for reference in self.members:
            member = reference()
            if member is not None:
                alive.append(reference)
                member.forget()
        self.members = alive

    def replace(self, node: Node) -> None:
        self.node, self.ids, self.sources, self.starts = node, None, [], []

    def write(self, places: Array, value: Node) -> None:
        """Put `value` at `places`, both of one shape; of several elements for one place the last one stays."""
        if not places.size:
            return
        if self.ids is None:
            assert self.node is not None
            self.sources, self.starts, self.end = [_flat(self.node)], [0], self.node.size
            self.ids = np.arange(self.node.size)
        self.ids[places] = np.arange(self.end, self.end + value.size).reshape(value.shape)
        self.sources.append(_flat(value))
        self.starts.append(self.end)
        self.end += value.size
        self.node = None

    def whole(self) -> Node:
        if self.node is None:
            assert self.ids is not None
            self.replace(apply("reshape", self._together(self.ids), shape=self.shape))
        assert self.node is not None
        return self.node

    def read(self, places: Array) -> Node | None:
        """The elements at `places`, where they are had without putting the whole together."""
        assert self.ids is not None
        ids = self.ids[places].reshape(-1)
        if not ids.size:
            return None
        first, count = int(ids[0]), len(ids)
        k = bisect_right(self.starts, first) - 1
        is_run = count == 1 or (int(ids[-1]) - first == count - 1 and bool((np.diff(ids) == 1).all()))
        if is_run and first - self.starts[k] + count <= self.sources[k].size:
            found = _piece(self.sources[k], first - self.starts[k], count)
        elif count <= SMALL:
            found = self._together(ids)
        else:
            return None
        return apply("reshape", found, shape=places.shape)

    def _together(self, ids: Array) -> Node:
        """A vector of the elements `ids`: pieces one after the other where these are few, else a gather."""
        if not ids.size:
            return apply("reshape", self.sources[0], shape=(0,))
        starts = np.asarray(self.starts)
        owners = np.searchsorted(starts, ids, "right") - 1
        breaks = np.flatnonzero((np.diff(owners) != 0) | (np.diff(ids) != 1)) + 1
        used = np.unique(owners)
        if len(breaks) <= 2 * len(used):
            begins, ends = [0, *breaks.tolist()], [*breaks.tolist(), len(ids)]
            pieces = [
                _piece(self.sources[owners[b]], int(ids[b] - starts[owners[b]]), e - b)
                for b, e in zip(begins, ends, strict=True)
            ]
            return apply("concat", *pieces, axis=0)
        lengths = np.array([self.sources[k].size for k in used])
        shifts = np.zeros(len(starts), np.int64)
        shifts[used] = np.cumsum(lengths) - lengths - starts[used]
        joined = apply("concat", *[self.sources[k] for k in used], axis=0)
        return apply("take", joined, joined.builder.constant(ids + shifts[owners]), axis=0)


def _flat(node: Node) -> Node:
    return apply("reshape", node, shape=(node.size,))


def _piece(vector: Node, start: int, count: int) -> Node:
    return apply("slice", vector, start=(start,), count=(count,))


class View:
    """What a tracer shows of a memory: all of it (no parent), or what a step makes of another view."""

    __slots__ = ("_places", "is_detached", "memory", "parent", "step")

    def __init__(self, memory: Memory, parent: View | None = None, step: Step | None = None) -> None:
        self.memory, self.parent, self.step = memory, parent, step
        is_cut = type(step) is Call and step.name == "detach"
        self.is_detached: bool = is_cut or (parent is not None and parent.is_detached)
        self._places: Array | None = None

    def places(self) -> Array:
        """The place in the memory of each element, an array that is read-only where the view is."""
        if self._places is None:
            if self.parent is None or self.step is None:
                self._places = self.memory.grid
            else:
                self._places = self.step.on_array(self.parent.places())
        return self._places

    def writable(self) -> Array:
        """`places`, where NumPy and torch allow to write."""
        if self.is_detached:
            raise DETACHED.error()
        places = self.places()
        if not places.flags.writeable:
            raise READ_ONLY.error()
        if places.size > self.memory.grid.size or (self.parent is not None and _repeats(places)):
            raise Refusal("More than one element of the array refers to a single memory location.", _COPY).error()
        return places

    def value(self) -> Node:
        """The node that the view shows now."""
        if self.parent is None or self.step is None:
            return self.memory.whole()
        if self.memory.ids is not None and not self.is_detached:
            found = self.memory.read(self.places())
            if found is not None:
                return found
        return self.step.on_node(self.parent.value())


def _repeats(places: Array) -> bool:
    return any(s == 0 and n > 1 for s, n in zip(places.strides, places.shape, strict=True))
