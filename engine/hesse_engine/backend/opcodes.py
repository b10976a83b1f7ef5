"""The instruction set of the strip VM, and the layout of a region's table. Derived from the op table; no numba here.

An instruction is six int64: opcode, destination, a, b, c and the bits of a float64 immediate. Registers hold one strip.

    LOAD        register d <- strip at address a            LOAD_BOOL   the same from bytes: 0.0 or 1.0
    CONST       register d <- immediate                     BIND        register d is the memory at address a
    STORE       strip at address b <- register a            STORE_BOOL  the same into bytes
    ACCUMULATE  sums at address b <- + register a, with c the number of its partial sum
    ADD         memory at address b <- + register a
    GATHER      register d <- memory at address a + table at address b      (int32 tables hold offsets in elements)
    SCATTER     memory at address b + table at address c (+ table at address d) <- + register a
    rows        register d <- phi(registers a, b, c; immediate)
"""

from __future__ import annotations

from hesse_engine.ir import ops  # noqa: F401  (fills ROWS)
from hesse_engine.ir.rows import ROWS, Row

STRIP = 256  # elements of a register: 2 kB of float64, so a dozen registers stay in the first-level cache

LOAD, LOAD_BOOL, CONST, BIND, STORE, STORE_BOOL, ACCUMULATE, ADD, GATHER, SCATTER = range(10)
VM_ROWS: dict[str, Row] = {name: ROWS[name] for name in sorted(ROWS) if ROWS[name].vm is not None}
FIRST_ROW = 10
TABLE_SIZE = 4  # bytes of a table's element
OPCODES: dict[str, int] = {name: FIRST_ROW + k for k, name in enumerate(VM_ROWS)}
OPCODES["convert"] = OPCODES["stop_gradient"]  # a boolean is 0.0 or 1.0 already: only the name of its type changes
ARITY: tuple[int, ...] = tuple([row.arity or 0 for row in VM_ROWS.values()])
COUNT = FIRST_ROW + len(VM_ROWS)

# The functions of vector libraries that the VM calls, of one operand and of two: names of C's.
UNARY = ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "cosh", "sinh", "asin", "acos", "atan", "asinh",
         "acosh", "atanh", "log2", "log10", "exp2", "cbrt", "erf", "erfc")
BINARY = ("pow", "atan2", "hypot")

# Words of a table's header; then the outer lengths, the code and the addresses.
(PROLOGUE, CODE_COUNT, ADDRESS_COUNT, RANK, INNER, BLOCK, POOL, POINTERS, CURSORS, INDICES, PARTIALS, CODE_AT,
 ADDRESSES_AT) = range(13)
HEADER = 13
TRANSPOSE = -1  # as the rank: not a region, but T + T' of the INNER rows of buffer 0, part PROLOGUE of CODE_COUNT
WIDTH = 6  # words of an instruction
ADDRESS = 3  # words of an address before its outer strides: buffer, byte offset, inner stride in elements
