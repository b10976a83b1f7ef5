"""What must hold of a table before the VM may run it. The VM itself checks nothing.

Plain Python on purpose: a region has some ten instructions, for which a NumPy call each would cost five times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hesse_engine.backend import opcodes as oc
from hesse_engine.errors import StateError
from hesse_engine.ir.graph import Array

# What a register is: nothing yet, a pointer to memory that is only read, memory that may be written.
_UNSET, _READABLE, _WRITABLE = range(3)
_FILLS = (oc.LOAD, oc.LOAD_BOOL, oc.CONST, oc.BIND, oc.GATHER)


def verify(
    table: Array, lengths: Sequence[int], size: int, scratch: int, spans: Mapping[int, tuple[int, int]] | None = None
) -> None:
    """Raise unless `table` stays inside buffers of `lengths` bytes and `scratch` bytes of work memory.

    `spans`: the least and the largest offset in each buffer that holds a table of offsets.

    Invariants: the table is complete; opcodes are known; a register below the pool has storage; one above it is a
    pointer, set by exactly one LOAD or BIND that comes before every use; only a BIND makes memory writable; every
    address stays in its buffer over the whole iteration space, whatever the offsets that tables add to it; partial sums
    are in range.
    """
    words: list[int] = table.tolist()
    if len(words) < oc.HEADER:
        _refuse("it has no header")
    rank, count, addresses = words[oc.RANK], words[oc.CODE_COUNT], words[oc.ADDRESS_COUNT]
    code_at, rows_at = oc.HEADER + rank, oc.HEADER + rank + oc.WIDTH * count
    width = oc.ADDRESS + rank
    if min(rank, count, addresses) < 0 or len(words) != rows_at + addresses * width:
        _refuse("its length is not what its header says")
    if words[oc.CODE_AT] != 8 * code_at or words[oc.ADDRESSES_AT] != 8 * rows_at:
        _refuse("its sections are not where its header says")
    if not 0 <= words[oc.PROLOGUE] <= count:
        _refuse("its prologue is longer than its code")
    shape = [*words[oc.HEADER:code_at], words[oc.INNER]]
    if min(shape) < 1 or words[oc.BLOCK] < 1 or (words[oc.BLOCK] % oc.STRIP and words[oc.BLOCK] < words[oc.INNER]):
        _refuse("a length is not positive")
    rows = [words[k:k + width] for k in range(rows_at, len(words), width)]
    code = [words[k:k + 5] for k in range(code_at, rows_at, oc.WIDTH)]
    partials = _check_scratch(words, scratch, size)
    sizes = _check_instructions(code, rows, words, size, partials)
    reach = _table_reach(code, rows, spans or {}, size)
    for at, (row, element) in enumerate(zip(rows, sizes, strict=True)):
        _check_address(row, shape, lengths, element, reach.get(at, (0, 0)))


def _refuse(reason: str) -> None:
    raise StateError("internal", f"A VM program was refused: {reason}.")


def _check_scratch(words: Sequence[int], scratch: int, size: int) -> int:
    """The number of partial sums that the scratch memory has room for."""
    pool, rank, addresses = words[oc.POOL], words[oc.RANK], words[oc.ADDRESS_COUNT]
    pointers, cursors, indices, partials = (words[w] for w in (oc.POINTERS, oc.CURSORS, oc.INDICES, oc.PARTIALS))
    is_apart = (pointers >= pool * oc.STRIP * size and cursors >= pointers + 8 * pool
                and indices >= cursors + 8 * addresses and partials >= indices + 8 * rank)
    if pool < 0 or not is_apart or (pointers | cursors | indices | partials) % 8 or partials > scratch:
        _refuse("its scratch memory overlaps or is too small")
    return (scratch - partials) // 8


def _check_instructions(
    code: Sequence[list[int]], rows: Sequence[list[int]], words: Sequence[int], size: int, partials: int
) -> list[int]:
    """The element size that each address is used with."""
    pool, prologue = words[oc.POOL], words[oc.PROLOGUE]
    total = (words[oc.CURSORS] - words[oc.POINTERS]) // 8
    state = [_WRITABLE] * pool + [_UNSET] * (total - pool)
    sizes = [0] * len(rows)
    for at, instruction in enumerate(code):
        op, d, a, b, c = instruction
        if not 0 <= op < oc.COUNT:
            _refuse("it has an unknown opcode")
        if op >= oc.FIRST_ROW:
            _check_row(op - oc.FIRST_ROW, instruction, state)
            continue
        if op not in _FILLS:
            _check_write(instruction, state, sizes, rows, size)
            if op == oc.ACCUMULATE and not 0 <= c < partials:
                _refuse("a partial sum has no room")
            continue
        row = _use_address(a, 1 if op == oc.LOAD_BOOL else size, sizes, rows) if op != oc.CONST else []
        if op == oc.GATHER:
            _use_address(b, oc.TABLE_SIZE, sizes, rows)
        if op == oc.BIND or (op == oc.LOAD and row[2] == 1):
            if at < prologue or not pool <= d < total or state[d] or row[2] != 1:
                _refuse("it sets a pointer that it may not set")
            state[d] = _WRITABLE if op == oc.BIND else _READABLE
        elif not 0 <= d < pool:
            _refuse("it fills a register that has no storage")
    return [s or size for s in sizes]


def _check_write(
    instruction: Sequence[int], state: Sequence[int], sizes: list[int], rows: Sequence[list[int]], size: int
) -> None:
    """A store, a sum or an addition: of a register that is set, to an address with its tables."""
    op, d, a, b, c = instruction
    _use_address(b, 1 if op == oc.STORE_BOOL else size, sizes, rows)
    if op == oc.SCATTER:
        for t in (c, d) if d >= 0 else (c,):
            _use_address(t, oc.TABLE_SIZE, sizes, rows)
    if not _is(state, a):
        _refuse("it reads a register that is not set")


def _check_row(row: int, instruction: Sequence[int], state: Sequence[int]) -> None:
    _, to, *operands = instruction
    if not all([_is(state, r) for r in operands[: oc.ARITY[row]]]):
        _refuse("it reads a register that is not set")
    if not _is(state, to, _WRITABLE):
        _refuse("it writes to a register that is not its own")


def _table_reach(
    code: Sequence[list[int]], rows: Sequence[list[int]], spans: Mapping[int, tuple[int, int]], size: int
) -> dict[int, tuple[int, int]]:
    """How far below and above its own elements each address may go, in bytes, because tables add to it."""
    reach: dict[int, tuple[int, int]] = {}
    for op, d, a, b, c in code:
        if op not in (oc.GATHER, oc.SCATTER):
            continue
        base, tables = (a, (b,)) if op == oc.GATHER else (b, (c, d) if d >= 0 else (c,))
        low = high = 0
        for t in tables:
            span = spans.get(rows[t][0])
            if span is None:
                _refuse("a table of offsets is not one")
            else:
                low, high = low + span[0], high + span[1]
        before = reach.get(base, (0, 0))
        reach[base] = min(before[0], low * size), max(before[1], high * size)
    return reach


def _use_address(at: int, element: int, sizes: list[int], rows: Sequence[list[int]]) -> list[int]:
    """The address `at`, which is used with one size of elements only."""
    if not 0 <= at < len(rows) or sizes[at] not in (0, element):
        _refuse("an instruction names no address of it")
    sizes[at] = element
    return rows[at]


def _is(state: Sequence[int], register: int, least: int = _READABLE) -> bool:
    return 0 <= register < len(state) and state[register] >= least


def _check_address(
    row: Sequence[int], shape: Sequence[int], lengths: Sequence[int], element: int, reach: tuple[int, int]
) -> None:
    if not 0 <= row[0] < len(lengths):
        _refuse("an address names no buffer")
    low, high = row[1] + reach[0], row[1] + reach[1]
    for stride, length in zip([*row[oc.ADDRESS:], row[2] * element], shape, strict=True):
        if stride < 0:
            low += stride * (length - 1)
        else:
            high += stride * (length - 1)
    if low < 0 or high + element > lengths[row[0]]:
        _refuse("an address leaves its buffer")
    if row[1] % element or any([s % element for s in row[oc.ADDRESS:]]):
        _refuse("an address is not aligned")
