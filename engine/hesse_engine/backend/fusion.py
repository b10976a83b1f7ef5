"""A region's table as the text of one loop nest made for it: opcodes and integers, nothing from a graph.

Rows of arithmetic between two calls of the vector library become one loop, which keeps what it computes in processor
registers. Values that leave a loop, to be added up or for a vector function, go through a strip of scratch memory. The
order of every sum is the VM's, rounding is by instruction, so the bits are the VM's as well.

The text depends on the table's structure alone: lengths, offsets, strides and constants are read when it runs, so that
one kernel serves all regions of one structure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.opcodes import STRIP, VM_ROWS
from hesse_engine.backend.source import pass_lines, preamble
from hesse_engine.ir.graph import Array

_ROW_NAMES = tuple(VM_ROWS)
_ACCESS = re.compile(r"\b((load|store)_(byte_|table_|)(\d+))\(")
_CALLS = re.compile(r"([a-z_][\w.]*)\(")
# calls that a vectorized loop may hold
_ARITHMETIC = frozenset({"math.sqrt", "abs", "maximum", "minimum", "sign", "np.floor", "np.ceil", "np.trunc", "np.rint",
                         "unit", "inversion"})
_ADDING = (oc.ACCUMULATE, oc.ADD, oc.SCATTER)
Instruction = tuple[int, int, int, int, int]  # opcode, d, a, b, c


def is_arithmetic(name: str) -> bool:
    """Whether a row fits into a loop that the compiler vectorizes."""
    text = VM_ROWS[name].vm
    assert text is not None
    return " ** " not in text and set(_CALLS.findall(text)) <= _ARITHMETIC


_IN_LOOPS = frozenset([oc.OPCODES[n] for n in VM_ROWS if is_arithmetic(n)])


@dataclass(frozen=True, slots=True)
class Structure:
    """What is baked into a kernel. `addresses` are (buffer, inner step or 2), buffers in order of appearance."""

    dtype: str
    rank: int
    prologue: int
    code: tuple[Instruction, ...]
    addresses: tuple[tuple[int, int], ...]


def structure_of(dtype: str, words: Sequence[int]) -> Structure:
    """The structure of a verified table."""
    rank, count = words[oc.RANK], words[oc.CODE_COUNT]
    at, rows, width = oc.HEADER + rank, words[oc.ADDRESSES_AT] // 8, oc.ADDRESS + rank
    code = [tuple(words[k:k + 5]) for k in range(at, at + oc.WIDTH * count, oc.WIDTH)]
    numbers: dict[int, int] = {}
    addresses = [
        (numbers.setdefault(words[k], len(numbers)), words[k + 2] if words[k + 2] in (0, 1) else 2)
        for k in range(rows, rows + width * words[oc.ADDRESS_COUNT], width)
    ]
    return Structure(dtype, rank, words[oc.PROLOGUE], tuple(code), tuple(addresses))  # type: ignore[arg-type]


def fused_share(structure: Structure, nanoseconds: Array) -> float:
    """The part of the estimated time that is arithmetic which one loop can fuse."""
    body = [i[0] for i in structure.code[structure.prologue:]]
    total = sum([nanoseconds[op] for op in body])
    return float(sum([nanoseconds[op] for op in body if op in _IN_LOOPS]) / total) if total else 0.0


@dataclass(slots=True, eq=False)
class _Value:
    """What a register holds. `kind`: 'scalar', 'load', 'loop' (made in a loop), 'strip' (made by a vector function)."""

    kind: str
    number: int
    made: int  # the item that makes it
    address: int = -1  # of a load; or of memory that holds the value as well
    is_bool: bool = False
    last: int = -1  # the last item that needs it in memory
    strip: int = -1


@dataclass(slots=True, eq=False)
class _Item:
    """A loop over a strip and what is done with its strips afterwards; or one vector function."""

    loop: list[tuple[int, Instruction]] = field(default_factory=list)
    after: list[tuple[int, Instruction]] = field(default_factory=list)
    spills: list[_Value] = field(default_factory=list)
    is_pass: bool = False


class Unfusable(Exception):
    """The table has something that no loop nest is written for."""


class _Fusion:
    """One table on its way to text."""

    def __init__(self, structure: Structure, vectors: Sequence[str]) -> None:
        self.structure, self.vectors = structure, vectors
        self.buffers = 1 + max([b for b, _ in structure.addresses], default=-1)
        self.items = [_Item()]
        self.holds: dict[int, _Value] = {}
        self.bound: dict[int, int] = {}
        self.uses: dict[int, list[_Value]] = {}  # of each instruction
        self.makes: dict[int, _Value] = {}
        self.added = {self.buffer(i[3]) for i in structure.code if i[0] in _ADDING}
        self.begun: set[int] = set()  # those that something has been added into so far
        for number, instruction in enumerate(structure.code):
            self.place(number, instruction)
        self.assign_strips()

    def buffer(self, address: int) -> int:
        return self.structure.addresses[address][0]

    def step(self, address: int) -> int:
        return self.structure.addresses[address][1]

    # ---- what goes where
    def place(self, number: int, instruction: Instruction) -> None:
        op, d, a, _, _ = instruction
        is_head = number < self.structure.prologue
        if op == oc.BIND:
            self.bound[d] = a
        elif op in (oc.LOAD, oc.LOAD_BOOL, oc.CONST):
            kind = "scalar" if is_head or op == oc.CONST else "load"
            self.holds[d] = self.makes[number] = _Value(kind, number, 0, -1 if op == oc.CONST else a,
                                                        op == oc.LOAD_BOOL)
            if op != oc.CONST and self.buffer(a) in self.added:
                raise Unfusable
        elif op in (oc.STORE, oc.STORE_BOOL, *_ADDING):
            self.place_end(number, instruction)
        elif op == oc.GATHER:
            if self.buffer(a) in self.added:
                raise Unfusable
            self.define(number, d, "loop")
            self.items[-1].loop.append((number, instruction))
        elif op in _IN_LOOPS:
            self.use(number, instruction)
            self.define(number, d, "loop")
            self.items[-1].loop.append((number, instruction))
        else:
            self.place_pass(number, instruction)

    def operands(self, instruction: Instruction) -> list[_Value]:
        op, _, *registers = instruction
        arity = 1 if op < oc.FIRST_ROW else oc.ARITY[op - oc.FIRST_ROW]
        return [self.holds[r] for r in registers[:arity]]

    def use(self, number: int, instruction: Instruction) -> None:
        """A loop reads its operands: what another item made comes from memory."""
        found = self.uses[number] = self.operands(instruction)
        here = len(self.items) - 1
        for value in found:
            if value.kind in ("loop", "strip") and value.made != here:
                self.keep(value)

    def keep(self, value: _Value) -> None:
        """`value` is wanted in memory by the current item."""
        value.last = len(self.items) - 1

    def define(self, number: int, register: int, kind: str) -> None:
        address = self.bound.pop(register, -1)
        if address >= 0 and self.buffer(address) in self.added:
            raise Unfusable
        self.holds[register] = self.makes[number] = _Value(kind, number, len(self.items) - 1, address)

    def place_end(self, number: int, instruction: Instruction) -> None:
        op, at = instruction[0], instruction[3]
        if op in _ADDING:
            self.begun.add(self.buffer(at))
        elif self.buffer(at) not in self.begun:
            self.use(number, instruction)
            self.items[-1].loop.append((number, instruction))
            return
        self.to_memory(number, instruction)
        self.items[-1].after.append((number, instruction))

    def to_memory(self, number: int, instruction: Instruction) -> None:
        """Operands for what works on strips; a load that is no strip yet is copied by the current loop."""
        found = self.uses[number] = self.operands(instruction)
        for value in found:
            is_strided = value.kind == "load" and (value.is_bool or self.step(value.address) != 1)
            if is_strided and not self.is_spilled(value):
                self.items[-1].spills.append(value)
                value.made = len(self.items) - 1
            self.keep(value)

    def is_spilled(self, value: _Value) -> bool:
        return any([value in item.spills for item in self.items])

    def place_pass(self, number: int, instruction: Instruction) -> None:
        self.to_memory(number, instruction)
        for _ in range(2):
            self.items.append(_Item())
        self.items[-2].is_pass = True
        self.items[-2].loop.append((number, instruction))
        for value in self.uses[number]:
            value.last = len(self.items) - 2
        self.holds[instruction[1]] = value = _Value("strip", number, len(self.items) - 2,
                                                    self.bound.pop(instruction[1], -1))
        self.makes[number] = value
        if value.address >= 0 and self.buffer(value.address) in self.added:
            raise Unfusable

    def assign_strips(self) -> None:
        """Scratch strips by linear scan over the items; two values share one only in different items."""
        values = [v for v in self.makes.values() if self.needs_strip(v)]
        self.strips = 0
        busy: list[_Value] = []
        free: list[int] = []
        for value in sorted(values, key=lambda v: v.made):
            for other in [b for b in busy if b.last < value.made]:
                busy.remove(other)
                free.append(other.strip)
            if free:
                value.strip = free.pop()
            else:
                value.strip, self.strips = self.strips, self.strips + 1
            if value.kind == "loop":
                self.items[value.made].spills.append(value)
            if value.kind == "scalar":
                value.last = len(self.items)
            busy.append(value)

    def needs_strip(self, value: _Value) -> bool:
        if value.kind == "strip":
            return value.address < 0
        if value.kind == "load":
            return self.is_spilled(value)
        return value.last >= 0 and (value.kind == "scalar" or value.address < 0)

    # ---- text
    def text(self) -> str:
        dtype, scopes = self.structure.dtype, self.buffers + self.strips
        body = "\n".join([*self.head(), *self.nest()])
        kinds = {"": dtype, "byte_": "uint8", "table_": "int32"}
        access = [f"{name} = {'loader' if verb == 'load' else 'storer'}('{kinds[kind]}', {scope}, {scopes})"
                  for name, verb, kind, scope in sorted({m.groups() for m in _ACCESS.finditer(body)})]
        return "\n".join([preamble(dtype, self.vectors), "from hesse_engine.backend.jit import loader, storer\n",
                          *access, "\n\ndef kernel(table, buffers, work):", body, ""])

    def scope(self, value: _Value) -> int:
        return self.buffers + value.strip

    def head(self) -> list[str]:
        structure = self.structure
        width = 8 * (oc.ADDRESS + structure.rank)
        lines = [f"    inner, block = load_int64(table, {oc.INNER}), load_int64(table, {oc.BLOCK})",
                 f"    code = table + {8 * (oc.HEADER + structure.rank)}",
                 f"    rows = table + load_int64(table, {oc.ADDRESSES_AT})"]
        lines += [f"    n{j} = load_int64(table, {oc.HEADER + j})" for j in range(structure.rank)]
        for a, (_, step) in enumerate(structure.addresses):
            row = f"rows + {a * width}"
            lines.append(f"    b{a} = load_int64(buffers, load_int64({row}, 0)) + load_int64({row}, 1)")
            lines.append(f"    t{a} = {step if step != 2 else f'load_int64({row}, 2)'}")
            lines += [f"    o{a}_{j} = load_int64({row}, {oc.ADDRESS + j})" for j in range(structure.rank)]
        lines += [f"    w{k} = work + {k * STRIP} * SIZE" for k in range(self.strips)]
        for number, (op, _, a, _, _) in enumerate(structure.code):
            value = self.makes.get(number)
            if value is None or value.kind != "scalar":
                continue
            source = f"F(load_float64(code, {oc.WIDTH * number + 5}))"
            if op != oc.CONST:
                source = self.read_address(a, "0", op == oc.LOAD_BOOL, f"b{a}")
            lines.append(f"    v{number} = {source}")
            if value.strip >= 0:
                lines += [f"    for k in range({STRIP}):",
                          f"        store_{self.scope(value)}(w{value.strip}, k, v{number})"]
        return lines

    def read_address(self, address: int, index: str, is_bool: bool, base: str) -> str:
        buffer = self.buffer(address)
        if is_bool:
            return f"(ONE if load_byte_{buffer}({base}, {index}) != 0 else ZERO)"
        return f"load_{buffer}({base}, {index})"

    def nest(self) -> list[str]:
        structure = self.structure
        rank, pad = structure.rank, "    " * (structure.rank + 2)
        totals = [(n, i) for item in self.items for n, i in item.after
                  if i[0] == oc.ACCUMULATE and self.step(i[3]) == 0]
        is_plain = len(self.items) == 1 and not self.items[0].after and not self.strips
        lines = ["    start = 0", "    while start < inner:", "        stop = min(inner, start + block)"]
        lines += ["    " * (j + 2) + f"for i{j} in range(n{j}):" for j in range(rank)]
        for a in range(len(structure.addresses)):
            terms = "".join([f" + i{j} * o{a}_{j}" for j in range(rank)])
            lines.append(f"{pad}c{a} = b{a}{terms}")
        lines += [f"{pad}total{n} = 0.0" for n, _ in totals]
        step = "stop - start" if is_plain else str(STRIP)
        lines.append(f"{pad}for s in range(start, stop, {step}):")
        deep = pad + "    "
        lines.append(f"{deep}m = stop - s" if is_plain else f"{deep}m = min({STRIP}, stop - s)")
        sizes = self.element_sizes()
        lines += [f"{deep}p{a} = c{a} + s * t{a} * {size}" for a, size in enumerate(sizes)]
        for item in self.items:
            lines += [deep + line for line in (self.pass_text(item) if item.is_pass else self.loop_text(item))]
            for number, instruction in item.after:
                lines += [deep + line for line in self.after_text(number, instruction)]
        for number, instruction in totals:
            lines += [pad + line for line in self.total_text(number, instruction[3])]
        lines.append("        start = stop")
        return lines

    def element_sizes(self) -> list[str]:
        sizes = ["SIZE"] * len(self.structure.addresses)
        for op, d, a, b, c in self.structure.code:
            if op == oc.LOAD_BOOL:
                sizes[a] = "1"
            elif op == oc.STORE_BOOL:
                sizes[b] = "1"
            elif op == oc.GATHER:
                sizes[b] = str(oc.TABLE_SIZE)
            elif op == oc.SCATTER:
                sizes[c] = str(oc.TABLE_SIZE)
                if d >= 0:
                    sizes[d] = str(oc.TABLE_SIZE)
        return sizes

    def memory(self, value: _Value) -> str:
        """The address of `value`'s strip."""
        return f"w{value.strip}" if value.strip >= 0 else f"p{value.address}"

    def loop_text(self, item: _Item) -> list[str]:
        here, known = self.items.index(item), set[int]()
        lines: list[str] = []

        def name(value: _Value) -> str:
            if value.number not in known and value.kind != "scalar" and not (
                    value.kind == "loop" and value.made == here):
                known.add(value.number)
                lines.append(f"    v{value.number} = {self.read_value(value)}")
            return f"v{value.number}"

        for number, instruction in item.loop:
            op, _, _, b, _ = instruction
            names = [name(v) for v in self.uses.get(number, ())]
            if op in (oc.STORE, oc.STORE_BOOL):
                buffer, index = self.buffer(b), f"k * t{b}"
                lines.append(f"    store_{buffer}(p{b}, {index}, {names[0]})" if op == oc.STORE else
                             f"    store_byte_{buffer}(p{b}, {index}, 1 if {names[0]} != ZERO else 0)")
                continue
            value = self.makes[number]
            lines.append(f"    v{number} = F({self.expression(instruction, names)})")
            if value.address >= 0:
                lines.append(f"    store_{self.buffer(value.address)}(p{value.address}, k, v{number})")
        lines += [f"    store_{self.scope(v)}(w{v.strip}, k, {name(v)})" for v in item.spills]
        return ["for k in range(m):", *lines] if lines else []

    def read_value(self, value: _Value) -> str:
        if value.kind == "load":
            return self.read_address(value.address, f"k * t{value.address}", value.is_bool, f"p{value.address}")
        scope = self.scope(value) if value.strip >= 0 else self.buffer(value.address)
        return f"load_{scope}({self.memory(value)}, k)"

    def expression(self, instruction: Instruction, names: list[str]) -> str:
        op, _, a, b, _ = instruction
        if op == oc.GATHER:
            return f"load_{self.buffer(a)}(p{a}, k * t{a} + int64(load_table_{self.buffer(b)}(p{b}, k * t{b})))"
        text = VM_ROWS[_ROW_NAMES[op - oc.FIRST_ROW]].vm
        assert text is not None
        return text.format(*names)

    def pass_text(self, item: _Item) -> list[str]:
        ((number, instruction),) = item.loop
        row = _ROW_NAMES[instruction[0] - oc.FIRST_ROW]
        lines = [f"{p}s = {self.memory(v)}" for p, v in zip("xyz", self.uses[number], strict=False)]
        lines.append(f"rs = {self.memory(self.makes[number])}")
        if VM_ROWS[row].scalars:
            lines.append(f"v = load_float64(code, {oc.WIDTH * number + 5})")
        return [*lines, *pass_lines(row, self.vectors)]

    def after_text(self, number: int, instruction: Instruction) -> list[str]:
        op, d, _, b, c = instruction
        (value,) = self.uses[number]
        of, step, add = f"of = {self.memory(value)}", f"k * t{b}", f"store(p{b}, j, load(p{b}, j) + load(of, k))"
        if op == oc.SCATTER:
            step += f" + int64(load_int32(p{c}, k * t{c}))" + (
                f" + int64(load_int32(p{d}, k * t{d}))" if d >= 0 else "")
        elif op == oc.STORE:
            add = f"store(p{b}, j, load(of, k))"
        elif op == oc.STORE_BOOL:
            raise Unfusable
        elif self.step(b) == 0:
            if op == oc.ACCUMULATE:
                return [of, f"total{number} += strip_sum(of, m)"]
            return [of, f"store(p{b}, 0, load(p{b}, 0) + strip_sum(of, m))"]
        loop = ["for k in range(m):", f"    j = {step}", f"    {add}"]
        if op == oc.ACCUMULATE:
            first = ["for k in range(m):", f"    store(p{b}, {step}, load(of, k))"]
            loop = [f"if {self.fresh(b)}:", *["    " + t for t in first], "else:", *["    " + t for t in loop]]
        return [of, *loop]

    def fresh(self, address: int) -> str:
        """Whether nothing has been added yet where `address` is now."""
        return " and ".join(
            [f"(o{address}_{j} != 0 or i{j} == 0)" for j in range(self.structure.rank)]) or "True"

    def total_text(self, number: int, address: int) -> list[str]:
        at = f"c{address}"
        return [f"if start == 0 and {self.fresh(address)}:", f"    store({at}, 0, total{number})", "else:",
                f"    store({at}, 0, load({at}, 0) + total{number})"]


def kernel_source(structure: Structure, vectors: Sequence[str]) -> tuple[str, int] | None:
    """The text whose `kernel(table, buffers, work)` runs every table of `structure`, and the strips of work memory.

    None: the table has something that no loop nest is written for; the VM goes on with it.
    """
    try:
        fusion = _Fusion(structure, vectors)
        return fusion.text(), fusion.strips
    except Unfusable:
        return None
