"""The cut of a graph into steps: fused elementwise regions with sums at their ends, views, and calls.

    level(node) = max over operands of  level(a)      if `a` is elementwise, of the same shape and dtype, used directly
                                        level(a) + 1  otherwise

All elementwise nodes with one (shape, dtype, level) are one region. A path that leaves a region and comes back would
pass an operand of the second kind and so gain a level: regions are convex, and ordering them by level orders the
program. A broadcast of a computed node has a level of its own, so nothing is computed once for each copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hesse_engine.ir.graph import BOOL, FLOAT32, FLOAT64, Array, DType, Node, Shape, scalar_value
from hesse_engine.ir.ops.contraction import matmul_plan
from hesse_engine.ir.rows import ROWS, VIEWS
from hesse_engine.ir.walk import reachable
from hesse_engine.structure.forms import Form, contiguous, is_contiguous, permuted, view
from hesse_engine.structure.scattering import SCATTERS, TABLE_LIMIT, merged_sums

ELEMENTWISE = frozenset([name for name, row in ROWS.items() if row.vm is not None] + ["convert"])
# Rows that mean on booleans what they mean on 0.0 and 1.0; `add` of booleans, for one, does not.
TRUTH = frozenset({"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or",
                   "logical_xor", "logical_not", "where", "maximum", "minimum", "stop_gradient", "isnan", "isinf",
                   "isfinite", "signbit"})




@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Offsets by index: of element e, `node.value[e . strides]`; `strides` over the axes of what it is used with."""

    node: Node  # an int32 constant
    strides: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Sink:
    """target[offset + sum_k e_k strides_k + sum_t table_t(e)] += node[e] for every element e of `node`."""

    node: Node
    target: int
    offset: int
    strides: Shape
    tables: tuple[Table, ...] = ()


class Region:
    """Elementwise nodes of one shape, evaluated together in `dtype`.

    `nodes` in topological order, gathers included; `sums` and `scatters` of them, or of anything else of this shape;
    `copies`: reshapes of operands of this shape that no strides can express; `sinks`: what is added into targets.
    """

    __slots__ = ("copies", "dtype", "level", "nodes", "scatters", "shape", "sinks", "sums")

    def __init__(self, shape: Shape, dtype: DType, level: int) -> None:
        self.shape, self.dtype, self.level = shape, dtype, level
        self.nodes: list[Node] = []
        self.sums: list[Node] = []
        self.scatters: list[Node] = []
        self.copies: list[Node] = []
        self.sinks: list[Sink] = []


class Call:
    """A node that runs as one function on whole arrays."""

    __slots__ = ("level", "node")

    def __init__(self, node: Node, level: int) -> None:
        self.node, self.level = node, level


Step = Region | Call


class Cut:
    """`steps` in order of execution, and where everything is.

    `kept`: nodes with memory of their own (leaves that are read included). `claims`: root -> the output it is written
    to. `copies`: outputs that are views of something else, as (position, form). `starts`: per target, the output whose
    memory it is. `uniform`: value of nodes that are one number throughout. `tables`: of each gather and scatter, its
    offsets. `merged`: of scatters and sums of them, the node whose memory they add into.
    """

    def __init__(
        self, outputs: Sequence[Node], order: Sequence[Node] | None = None, sinks: Sequence[Sink] = (),
        starts: Mapping[int, Node] | None = None,
    ) -> None:
        self.outputs = tuple(outputs)
        self.tables: dict[Node, Table] = {}
        self.forms: dict[Node, Form] = {}
        self.uniform: dict[Node, float] = {}
        self.home: dict[Node, Region] = {}
        self.kept: set[Node] = set()
        self._level: dict[Node, int] = {}
        self._layouts: dict[Node, Shape] = {}
        self._regions: dict[tuple[Shape, str, int], Region] = {}
        self._calls: list[Call] = []
        self._offsets: dict[tuple[Node, int], Node] = {}
        order = reachable([*outputs, *[s.node for s in sinks]]) if order is None else order
        self.merged = merged_sums(order, [*outputs, *[s.node for s in sinks]])
        floats = [n.dtype for n in order if n.dtype is FLOAT32 or n.dtype is FLOAT64]
        self.default = floats[0] if floats else FLOAT64
        self._lay_out()
        for node in order:
            _KINDS.get(node.op, Cut._call)(self, node)
        self.claims: dict[Node, int] = {}
        self.copies: list[tuple[int, Form]] = []
        self._place_outputs()
        for sink in sinks:
            self._sink(sink, (starts or {}).get(sink.target))
        self.steps: list[Step] = sorted([*self._regions.values(), *self._calls], key=lambda s: s.level)

    def form(self, node: Node) -> Form:
        """Where `node` is; asking makes a computed node one that has memory of its own."""
        form = self.forms.get(node)
        if form is None:
            form = self.forms[node] = Form(node, 0, self._layouts.get(node) or contiguous(node.shape))
        self.kept.add(form.root)
        return form

    def _lay_out(self) -> None:
        """A computed node of which an output is a transpose is laid out as that output wants it."""
        for output in self.outputs:
            node = output
            while node.op == "reshape":
                node = node.args[0]
            if node.op == "permute_dims":
                self._layouts.setdefault(node.args[0], permuted(node.args[0].shape, node.attrs["axes"]))
            else:
                self._layouts.setdefault(node, contiguous(node.shape))

    def _leaf(self, node: Node) -> None:
        self._level[node] = -1
        value = scalar_value(node) if node.op != "input" and node.dtype.kind in "fb" else None
        if value is not None:
            self.uniform[node] = value
        strides = (0,) * len(node.shape) if node.op == "zeros" else contiguous(node.shape)
        self.forms[node] = Form(node, 0, strides)

    def _view(self, node: Node) -> None:
        (source,) = node.args
        value = self.uniform.get(source)
        if value is not None:
            self.uniform[node], self._level[node] = value, -1
            self.forms[node] = Form(self.forms[source].root, 0, (0,) * len(node.shape))
            return
        form = view(node, self.form(source))
        if form is not None:
            self.forms[node], self._level[node] = form, self._level[source]
        elif node.dtype.kind in "fb":
            dtype = node.dtype if node.dtype.kind == "f" else self.default
            region = self._region(source.shape, dtype, self._level[source] + 1)
            region.copies.append(node)
            self._level[node] = region.level
            self._layouts[node] = contiguous(node.shape)
            self.form(node)
        else:
            self._call(node)

    def _elementwise(self, node: Node) -> None:
        if node in self.merged:  # its terms do the work
            self._level[node] = max([self._level[a] for a in node.args])
            self.form(self.merged[node])
            return
        dtype = self._computed_in(node)
        if dtype is None:
            self._call(node)
            return
        shape, home, uniform, level = node.shape, self.home, self.uniform, 0
        for arg in node.args:
            if arg in uniform:
                continue
            region = home.get(arg)
            if region is not None and region.shape == shape and region.dtype is dtype:
                needed = region.level
            else:
                needed = self._level[arg] + 1
            if needed > level:
                level = needed
        region = self._region(shape, dtype, level)
        region.nodes.append(node)
        home[node], self._level[node] = region, level
        for arg in node.args:
            if arg not in uniform and home.get(arg) is not region:
                self.form(arg)

    def _computed_in(self, node: Node) -> DType | None:
        """The floating dtype whose registers can hold `node` and its operands; None: NumPy must do it."""
        dtype, op, args = node.dtype, node.op, node.args
        if dtype is FLOAT64 or dtype is FLOAT32:
            if op == "convert":
                return dtype if args[0].dtype is BOOL else None
            for arg in args:
                if arg.dtype is not dtype and (arg.dtype is not BOOL or op != "where"):
                    return None
            return dtype
        if dtype is not BOOL or op not in TRUTH:
            return None
        kinds = {a.dtype for a in args}
        if kinds == {BOOL}:
            homes = [self.home[a].dtype for a in args if a in self.home]
            return homes[0] if homes else self.default
        return kinds.pop() if len(kinds) == 1 and kinds <= {FLOAT64, FLOAT32} else None

    def _sum(self, node: Node) -> None:
        (source,) = node.args
        if node.dtype is not FLOAT64 and node.dtype is not FLOAT32:
            self._call(node)
            return
        region = self.home.get(source)
        if region is None:
            region = self._region(source.shape, node.dtype, self._level[source] + 1)
            if source not in self.uniform:
                self.form(source)
        region.sums.append(node)
        self._level[node] = region.level
        self.form(node)

    def _take(self, node: Node) -> None:
        """A gather by constant indices: loads at offsets, in the region of what is gathered."""
        x, index = node.args
        if not _is_offset_table(node, x.size) or x in self.uniform:
            self._call(node)
            return
        axis, form = node.attrs["axis"], self.form(x)
        region = self._region(node.shape, node.dtype, self._level[x] + 1)
        region.nodes.append(node)
        self.home[node], self._level[node] = region, region.level
        self.tables[node] = self._table(index, x.shape[axis], form.strides[axis], axis, node.ndim)

    def _scatter(self, node: Node) -> None:
        """Adds at known offsets, at the end of the region of what is scattered."""
        if node not in self.merged:
            self._call(node)
            return
        x = node.args[0]
        region = self.home.get(x)
        if region is None:
            region = self._region(x.shape, node.dtype, self._level[x] + 1)
            if x not in self.uniform:
                self.form(x)
        region.scatters.append(node)
        self._level[node] = region.level
        form = self.form(self.merged[node])
        if node.op == "scatter_add":
            axis = node.attrs["axis"]
            self.tables[node] = self._table(node.args[1], node.shape[axis], form.strides[axis], axis, x.ndim)

    def is_whole_sum(self, region: Region, target: Node) -> bool:
        """Whether `region` has all that is added into `target`."""
        terms = [n for n, t in self.merged.items() if t is target and n.op in SCATTERS]
        return len(terms) == len([n for n in region.scatters if self.merged[n] is target])

    def _table(self, index: Node, length: int, stride: int, axis: int, rank: int) -> Table:
        """The offsets of `index` on an axis with `stride`, its own axes at `axis` of `rank`."""
        offsets = self._offsets.get((index, stride))
        if offsets is None:
            assert index.value is not None
            offsets = self._offsets[index, stride] = index.builder.table(offset_table(index.value, length, stride))
        inner = contiguous(index.shape)
        return Table(offsets, (0,) * axis + inner + (0,) * (rank - axis - index.ndim))

    def _sink(self, sink: Sink, start: Node | None) -> None:
        """In the region of what is added; after `start`, which the target's memory holds first."""
        node = sink.node
        region = self.home.get(node)
        needed = -1 if start is None else self._level[start] + 1
        if region is None or region.level < needed:
            region = self._region(node.shape, node.dtype, max(self._level[node] + 1, needed))
            if node not in self.uniform:
                self.form(node)
        region.sinks.append(sink)

    def _call(self, node: Node) -> None:
        level = 0
        for arg in node.args:
            self.form(arg)
            level = max(level, self._level[arg] + 1)
        if node.op == "contract" and node not in self._layouts:
            # as the matrix product writes it: batch, free a, free b
            order = matmul_plan(node.attrs["subscripts"])[6]
            inverse = tuple([order.index(k) for k in range(len(order))])
            self._layouts[node] = permuted(node.shape, inverse)
        self._calls.append(Call(node, level))
        self._level[node] = level
        self.form(node)

    def _region(self, shape: Shape, dtype: DType, level: int) -> Region:
        key = (shape, dtype.char, level)
        region = self._regions.get(key)
        if region is None:
            region = self._regions[key] = Region(shape, dtype, level)
        return region

    def _place_outputs(self) -> None:
        for position, output in enumerate(self.outputs):
            form = self.form(output)
            root = form.root
            is_whole = form.offset == 0 and output.size == root.size and is_contiguous(output.shape, form.strides)
            if is_whole and root.args and root not in self.claims:
                self.claims[root] = position
            else:
                self.copies.append((position, form))


_KINDS: dict[str, Callable[[Cut, Node], None]] = {
    **dict.fromkeys(ELEMENTWISE, Cut._elementwise),
    **dict.fromkeys(VIEWS, Cut._view),
    **dict.fromkeys(("input", "constant", "zeros"), Cut._leaf),
    "sum": Cut._sum,
    "take": Cut._take,
    **dict.fromkeys(SCATTERS, Cut._scatter),
}


def _is_offset_table(node: Node, size: int) -> bool:
    """Whether the VM can follow `node`'s indices: constant ones, floating values, offsets that int32 holds."""
    index = node.args[1]
    is_floating = node.dtype is FLOAT64 or node.dtype is FLOAT32
    return index.value is not None and is_floating and node.args[0].dtype is node.dtype and size < TABLE_LIMIT


def offset_table(index: Array, length: int, stride: int) -> Array:
    """`index * stride` as int32, negative indices counted from the end of an axis of `length`."""
    found = index.astype(np.int32, order="C", copy=True)
    if index.dtype.kind == "i" and found.size and found.min() < 0:
        found[found < 0] += length
    if stride != 1:
        found *= stride
    return found
