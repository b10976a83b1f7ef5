"""From a region to its table: iteration space, registers, instructions. Pure Python; `verify` checks what came out."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.axes import Axes, Strides, plan_axes
from hesse_engine.backend.opcodes import OPCODES
from hesse_engine.ir.graph import Array, Node
from hesse_engine.ir.rows import ROWS
from hesse_engine.structure.forms import contiguous
from hesse_engine.structure.regions import Cut, Region, Sink, Table

_MULTIPLY, _SQUARE, _DIVIDE = OPCODES["multiply"], OPCODES["square"], OPCODES["divide"]
_POWERS = (3.0, 4.0, -1.0, -2.0)
_BITS_OF_ONE = struct.unpack("<q", struct.pack("<d", 1.0))[0]

# Measured per element: arithmetic in the first-level cache, and rows that call a mathematical function.
NANOSECONDS = np.full(oc.COUNT, 0.2)
NANOSECONDS[[OPCODES[n] for n, r in oc.VM_ROWS.items() if r.vm and "(" in r.vm and r.kind == "pointwise"]] = 3.0


def bits(value: float) -> int:
    """The float64 `value` as the int64 of the same bits."""
    found: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return found


@dataclass(frozen=True, slots=True)
class Emitted:
    """A region's code. `addresses` hold (buffer, element offset, element size); `axes` their strides, in elements.

    `added`: what is added into, as (address, addresses of its tables).
    """

    code: Array  # int64 [instructions, 6]
    prologue: int
    axes: Axes
    addresses: tuple[tuple[int, int, int], ...]
    pool: int  # registers with storage in the scratch memory
    bound: int  # further registers, which are pointers into buffers
    partials: int
    size: int  # bytes of a register's element
    reducing: tuple[int, ...]  # addresses that are accumulated into
    added: tuple[tuple[int, tuple[int, ...]], ...]

    def scratch_bytes(self) -> int:
        words = self.pool + self.bound + len(self.addresses) + len(self.axes.outer) + self.partials
        return self.pool * oc.STRIP * self.size + 8 * words

    def nanoseconds(self) -> float:
        """About how long one thread takes: what more threads are worth."""
        return float(NANOSECONDS[self.code[self.prologue:, 0]].sum()) * self.axes.elements


class Emitter:
    """The state of one emission. Registers below 0 are bound ones, numbered after the pool once its size is known."""

    def __init__(self, region: Region, cut: Cut, numbers: Mapping[Node, int]) -> None:
        self.region, self.cut, self.numbers = region, cut, numbers
        self.size = region.dtype.itemsize
        self.addresses: list[tuple[int, int, int]] = []
        self.strides: list[Strides] = []
        self.loads: dict[Node, int] = {}
        self.stores: dict[Node, int] = {}
        self.reducing: list[int] = []
        self.gathers: dict[Node, tuple[int, int]] = {}
        self.added: list[tuple[Node, int, tuple[int, ...]]] = []
        self.head: list[int] = []
        self.code: list[int] = []
        self.registers: dict[Node, int] = {}
        self.constants: dict[int, int] = {}
        self.free: list[int] = []
        self.pool = self.bound = self.partials = 0
        self.pinned: set[int] = set()
        self.last: dict[Node, Node] = {}

    # ---- addresses
    def add_address(self, buffer: int, offset: int, strides: Strides, size: int) -> int:
        self.addresses.append((buffer, offset, size))
        self.strides.append(strides)
        return len(self.addresses) - 1

    def add_table(self, table: Table) -> int:
        return self.add_address(self.numbers[table.node], 0, table.strides, oc.TABLE_SIZE)

    def size_of(self, node: Node) -> int:
        return 1 if node.dtype.kind == "b" else self.size

    def add_load(self, node: Node) -> None:
        if node not in self.loads and node not in self.cut.uniform:
            root, offset, strides = self.cut.forms[node]
            self.loads[node] = self.add_address(self.numbers[root], offset, strides, self.size_of(node))

    def collect(self) -> None:
        for node in self.region.nodes:
            self.collect_node(node)
        self.collect_ends()

    def collect_node(self, node: Node) -> None:
        if node.op == "take":
            self.add_gather(node)
        else:
            for arg in node.args:
                if self.cut.home.get(arg) is not self.region:
                    self.add_load(arg)
        if node in self.cut.kept:
            root, offset, strides = self.cut.forms[node]
            self.stores[node] = self.add_address(self.numbers[root], offset, strides, self.size_of(node))

    def collect_ends(self) -> None:
        """What becomes of the values: sums, copies, and additions elsewhere."""
        region, home, forms, numbers = self.region, self.cut.home, self.cut.forms, self.numbers
        for node in region.sums:
            source = node.args[0]
            if home.get(source) is not region:
                self.add_load(source)
            axes, kept_strides = set(node.attrs["axis"]), iter(forms[node].strides)
            spread = tuple([0 if k in axes else next(kept_strides) for k in range(len(region.shape))])
            self.reducing.append(self.add_address(numbers[node], 0, spread, self.size))
        for node in region.copies:
            self.add_load(node.args[0])
            to = contiguous(region.shape)
            self.stores[node] = self.add_address(numbers[node], 0, to, self.size_of(node))
        for node in region.scatters:
            self.add_scatter(node)
        for sink in region.sinks:
            self.add_sink(sink)

    def add_gather(self, node: Node) -> None:
        x, index = node.args
        root, offset, strides = self.cut.forms[x]
        axis = node.attrs["axis"]
        spread = strides[:axis] + (0,) * index.ndim + strides[axis + 1:]
        base = self.add_address(self.numbers[root], offset, spread, self.size)
        self.gathers[node] = base, self.add_table(self.cut.tables[node])

    def add_scatter(self, node: Node) -> None:
        x, target = node.args[0], self.cut.merged[node]
        if self.cut.home.get(x) is not self.region:
            self.add_load(x)
        strides = self.cut.forms[target].strides
        if node.op == "unslice":
            offset = sum([s * w for s, w in zip(node.attrs["start"], strides, strict=True)])
            spread = tuple([d * w for d, w in zip(node.attrs["step"], strides, strict=True)])
            self.added.append((x, self.add_address(self.numbers[target], offset, spread, self.size), ()))
            return
        axis = node.attrs["axis"]
        spread = strides[:axis] + (0,) * node.args[1].ndim + strides[axis + 1:]
        base = self.add_address(self.numbers[target], 0, spread, self.size)
        self.added.append((x, base, (self.add_table(self.cut.tables[node]),)))

    def add_sink(self, sink: Sink) -> None:
        if self.cut.home.get(sink.node) is not self.region:
            self.add_load(sink.node)
        base = self.add_address(len(self.numbers) + sink.target, sink.offset, sink.strides, self.size)
        self.added.append((sink.node, base, tuple([self.add_table(t) for t in sink.tables])))

    # ---- registers
    def take(self) -> int:
        if self.free:
            return self.free.pop()
        self.pool += 1
        return self.pool - 1

    def fresh(self) -> int:
        """A register that nothing else uses: the prologue fills it once, and the body runs again and again."""
        self.pool += 1
        return self.pool - 1

    def bind(self) -> int:
        self.bound += 1
        return -self.bound

    def register(self, node: Node) -> int:
        """The register that holds `node`, which a constant or a load may have to fill first."""
        found = self.registers.get(node)
        if found is not None:
            return found
        value = self.cut.uniform.get(node)
        if value is not None:
            return self.constant(bits(value))
        at = self.loads[node]
        is_bool, steps = node.dtype.kind == "b", self.steps[at]
        if self.axes.is_uniform[at]:
            number = self.fresh()
            self.pinned.add(number)
            self.head += (oc.LOAD_BOOL if is_bool else oc.LOAD, number, at, 0, 0, 0)
        elif is_bool or steps != 1:
            number = self.take()
            self.code += (oc.LOAD_BOOL if is_bool else oc.LOAD, number, at, 0, 0, 0)
        else:
            number = self.bind()
            self.code += (oc.LOAD, number, at, 0, 0, 0)
        self.registers[node] = number
        return number

    def constant(self, value: int) -> int:
        number = self.constants.get(value)
        if number is None:
            number = self.constants[value] = self.fresh()
            self.head += (oc.CONST, number, 0, 0, 0, value)
        return number

    def release(self, node: Node, user: Node) -> None:
        number = self.registers.get(node, -1)
        if number >= 0 and self.last.get(node) is user and number not in self.pinned:
            self.free.append(number)
            self.last.pop(node)

    # ---- instructions
    def plan(self) -> Axes:
        return plan_axes(self.region.shape, self.strides, set(self.stores.values()), self.reducing,
                         len(self.region.nodes))

    def run(self) -> Emitted:
        self.collect()
        self.axes = self.plan()
        self.steps = self.axes.inner_steps
        sums: dict[Node, list[int]] = {}
        for node, at in zip(self.region.sums, self.reducing, strict=True):
            sums.setdefault(node.args[0], []).append(at)
        added: dict[Node, list[tuple[int, tuple[int, ...]]]] = {}
        for node, at, tables in self.added:
            added.setdefault(node, []).append((at, tables))
        self.find_last()
        for node in self.region.nodes:
            self.emit_node(node)
            self.finish_node(node, sums.pop(node, ()), added.pop(node, ()))
            self.release(node, node)
        for source in {**sums, **added}:
            self.finish_node(source, sums.get(source, ()), added.get(source, ()))
            self.release(source, source)
        for node in self.region.copies:
            self.store(node, self.register(node.args[0]))
            self.release(node.args[0], node)
        return self.finish()

    def finish_node(self, node: Node, sums: Sequence[int], added: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        """Sum up and add where it belongs what register `node` holds."""
        for at in sums:
            self.accumulate(self.register(node), at)
        for at, tables in added:
            number = self.register(node)
            if tables:
                self.code += (oc.SCATTER, tables[1] if len(tables) > 1 else -1, number, at, tables[0], 0)
            else:
                self.code += (oc.ADD, 0, number, at, 0, 0)

    def find_last(self) -> None:
        """The last user of each register: the node itself where nothing in the region reads it."""
        last, home = self.last, self.cut.home
        for node in self.region.nodes:
            last[node] = node
            if node.op != "take":
                for arg in node.args:
                    last[arg] = node
        for node in [*[s.args[0] for s in self.region.sums], *[n for n, _, _ in self.added]]:
            if home.get(node) is not self.region:
                last[node] = node
        for node in self.region.copies:
            last[node.args[0]] = node

    def emit_node(self, node: Node) -> None:
        if node.op == "take":
            self.emit_gather(node)
            return
        operands = [self.register(a) for a in node.args]
        at = self.stores.get(node)
        is_direct = at is not None and self.steps[at] == 1 and node.dtype.kind == "f"
        if is_direct:
            assert at is not None
            to = self.bind()
            self.code += (oc.BIND, to, at, 0, 0, 0)
        else:
            to = self.take()
        if node.op == "power_scalar":
            self.emit_power(node.attrs["exponent"], to, operands[0])
        else:
            count = len(operands)
            scalars = ROWS[node.op].scalars
            self.code += (
                OPCODES[node.op], to, operands[0], operands[1] if count > 1 else 0, operands[2] if count > 2 else 0,
                bits(float(node.attrs[scalars[0]])) if scalars else 0,
            )
        self.registers[node] = to
        if at is not None and not is_direct:
            self.store(node, to)
        for arg in node.args:
            self.release(arg, node)

    def emit_gather(self, node: Node) -> None:
        to = self.registers[node] = self.take()
        base, table = self.gathers[node]
        self.code += (oc.GATHER, to, base, table, 0, 0)
        if node in self.stores:
            self.store(node, to)

    def emit_power(self, exponent: float, to: int, x: int) -> None:
        """x^p; products for exponents that second derivatives are full of, within 2 ulp, exact at 0 and infinity."""
        code = self.code
        if exponent not in _POWERS:
            code += (OPCODES["power_scalar"], to, x, 0, 0, bits(exponent))
        elif exponent == -1.0:
            code += (_DIVIDE, to, self.constant(_BITS_OF_ONE), x, 0, 0)
        else:  # a destination is never an operand as well: loops over one strip do not vectorize
            half = self.take()
            if exponent == -2.0:  # (1/x)^2: 1/(x^2) would lose digits where x^2 is denormal
                code += (_DIVIDE, half, self.constant(_BITS_OF_ONE), x, 0, 0, _SQUARE, to, half, 0, 0, 0)
            elif exponent == 3.0:
                code += (_SQUARE, half, x, 0, 0, 0, _MULTIPLY, to, half, x, 0, 0)
            else:
                code += (_SQUARE, half, x, 0, 0, 0, _SQUARE, to, half, 0, 0, 0)
            self.free.append(half)

    def store(self, node: Node, register: int) -> None:
        self.code += (oc.STORE_BOOL if node.dtype.kind == "b" else oc.STORE, 0, register, self.stores[node], 0, 0)

    def accumulate(self, register: int, at: int) -> None:
        self.code += (oc.ACCUMULATE, 0, register, at, self.partials, 0)
        self.partials += 1

    def finish(self) -> Emitted:
        code = np.array(self.head + self.code, np.int64).reshape(-1, oc.WIDTH)
        if self.bound:
            registers = code[:, 1:5]
            is_bound = registers < 0
            is_bound[code[:, 0] == oc.SCATTER, 0] = False  # there -1 stands for no second table
            registers[is_bound] = self.pool - 1 - registers[is_bound]
        return Emitted(code, len(self.head) // oc.WIDTH, self.axes, tuple(self.addresses), self.pool, self.bound,
                       self.partials, self.size, tuple(self.reducing),
                       tuple([(at, tables) for _, at, tables in self.added]))


def emit(region: Region, cut: Cut, numbers: Mapping[Node, int]) -> Emitted:
    """The code of `region`, whose buffers are `numbers`. A region without elements has none: do not ask."""
    return Emitter(region, cut, numbers).run()


def table(
    emitted: Emitted, split: tuple[int, int, int] | None = None, private: Mapping[int, int] | None = None
) -> Array:
    """The int64 words that the VM reads.

    `split` = (axis, start, stop) restricts one axis; axis -1 is the inner one. `private`: buffers to use instead.
    """
    axes, count, instead = emitted.axes, len(emitted.addresses), private or {}
    rank = len(axes.outer)
    outer, inner, axis, start = list(axes.outer), axes.inner, None, 0
    if split is not None:
        axis, start, stop = split
        if axis < 0:
            inner = stop - start
        else:
            outer[axis] = stop - start
    scratch = emitted.pool * oc.STRIP * emitted.size
    header = [0] * oc.HEADER
    header[oc.PROLOGUE], header[oc.CODE_COUNT], header[oc.ADDRESS_COUNT] = emitted.prologue, len(emitted.code), count
    header[oc.RANK], header[oc.INNER], header[oc.POOL] = rank, inner, emitted.pool
    header[oc.BLOCK] = oc.STRIP if axes.is_tiled else inner
    for word, words in ((oc.POINTERS, emitted.pool + emitted.bound), (oc.CURSORS, count), (oc.INDICES, rank),
                        (oc.PARTIALS, emitted.partials)):
        header[word] = scratch
        scratch += 8 * words
    header[oc.CODE_AT] = 8 * (oc.HEADER + rank)
    header[oc.ADDRESSES_AT] = header[oc.CODE_AT] + 8 * emitted.code.size
    rows: list[int] = []
    for (buffer, offset, size), step, strides in zip(
        emitted.addresses, axes.inner_steps, axes.outer_strides, strict=True
    ):
        shift = 0 if axis is None else start * (step if axis < 0 else strides[axis])
        rows += (instead.get(buffer, buffer), (offset + shift) * size, step, *[s * size for s in strides])
    return np.concatenate([np.array(header + outer, np.int64), emitted.code.ravel(), np.array(rows, np.int64)])
