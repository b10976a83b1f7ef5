"""The text of the VM, generated from the op table: its expressions and integers, nothing from a graph."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hesse_engine.backend import opcodes as oc
from hesse_engine.backend import special
from hesse_engine.backend.opcodes import BINARY, OPCODES, STRIP, UNARY, VM_ROWS
from hesse_engine.ir.ops.transcendental import SERIES

ROWS_TOGETHER = 6  # rows in one function: the compiler takes 30% longer over all of them in one
_NAME = re.compile(r"[a-z_]\w*")
_HEAD = '''"""Generated from the op table of hesse_engine: the strip VM for {dtype}."""
import math
import numpy as np
from numba import int64, njit
from hesse_engine.backend.vm import load_{dtype} as load, store_{dtype} as store
from hesse_engine.backend.vm import load_float64, store_float64, load_int64, store_int64, load_uint8, store_uint8
from hesse_engine.backend.vm import load_int32, outlined

F = np.{dtype}
inner = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
ZERO, ONE, LN2 = F(0), F(1), F(math.log(2.0))
'''

# NaN, infinities and signed zeros as NumPy's: the first comparison of maximum and minimum lets a NaN of `a` through, a
# NaN of `b` makes it false.
_FUNCTIONS = '''
@inner
def {name}({parameters}):
    return {body}
'''
FUNCTIONS: dict[str, tuple[str, str]] = {
    "log": ("x", "math.log(x)"),
    "log1p": ("x", "math.log1p(x)"),
    "sin": ("x", "math.sin(x)"),
    "cos": ("x", "math.cos(x)"),
    "tan": ("x", "math.tan(x)"),
    "power": ("x, y", "math.pow(x, F(y))"),
    "maximum": ("x, y", "x if x >= y or x != x else y"),
    "minimum": ("x, y", "x if x <= y or x != x else y"),
    "sign": ("x", "ONE if x > ZERO else -ONE if x < ZERO else ZERO if x == ZERO else x"),
    "sigmoid": ("x", "(ONE if x >= ZERO else math.exp(-abs(x))) / (ONE + math.exp(-abs(x)))"),
    "softplus": ("x", "maximum(x, ZERO) + math.log1p(math.exp(-abs(x)))"),
    **{name: ("x", f"math.{name}(x)") for name in ("asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")},
    **{name: ("x", f"np.{name}(x)") for name in ("exp2", "log2", "log10")},
    "atan2": ("x, y", "math.atan2(x, y)"),
    "hypot": ("x, y", "math.hypot(x, y)"),
    "xlogy": ("x, y", "ZERO if x == ZERO and y == y else x * math.log(y)"),
    "xlog1py": ("x, y", "ZERO if x == ZERO and y == y else x * math.log1p(y)"),
    "logaddexp": ("x, y", "x + LN2 if x == y else maximum(x, y) + math.log1p(math.exp(-abs(x - y)))"),
    "logaddexp2": ("x, y", "x + ONE if x == y else maximum(x, y) + math.log1p(np.exp2(-abs(x - y))) / LN2"),
    **special.FUNCTIONS,
}
# Functions of more than one line. `unit` and `inversion` scale both operands by the larger one, so that squares neither
# overflow nor underflow; `cbrt` takes one step of Newton's method from a power; remainders are NumPy's of C's.
_LONG_FUNCTIONS = '''
@inner
def unit(x, y):
    largest = maximum(abs(x), abs(y))
    size = ONE if largest == ZERO else largest
    s, t = x / size, y / size
    return s if s == ZERO else s / math.sqrt(s * s + t * t)

@inner
def inversion(x, y):
    largest = maximum(abs(x), abs(y))
    size = ONE if largest == ZERO else largest
    s, t = x / size, y / size
    return s if s == ZERO else s / (s * s + t * t) / size

@inner
def cbrt(x):
    outlined()
    y = math.copysign(math.pow(abs(x), F(1 / 3)), x)
    return y - (y - x / y / y) / F(3) if x != ZERO and abs(x) < math.inf else x

@inner
def remainder(x, y):
    outlined()
    m = np.fmod(x, y)
    if m == ZERO:
        return math.copysign(m, y)
    return m + y if (m < ZERO) != (y < ZERO) else m

@inner
def floor_divide(x, y):
    outlined()
    if y == ZERO:
        return x / y
    m = np.fmod(x, y)
    quotient = (x - m) / y
    if m != ZERO and (m < ZERO) != (y < ZERO):
        quotient -= ONE
    if quotient == ZERO:
        return math.copysign(ZERO, x / y)
    whole = np.floor(quotient)
    return whole + ONE if quotient - whole > F(0.5) else whole

@inner
def quarter_turns(x, quarters):
    outlined()
    x -= 2.0 * np.rint(0.5 * x)
    nearest = np.rint(2.0 * x)
    r = math.pi * (x - 0.5 * nearest)
    turns = (int64(nearest) + quarters) & 3
    y = math.cos(r) if turns & 1 else math.sin(r)
    return -y if turns & 2 else y

@inner
def sinc(value, v):
    outlined()
    x, order, scale = np.float64(value), int64(v), 1.0
    z = math.pi * x
    for _ in range(order):
        scale *= math.pi
    if abs(z) < order + 2.0:
        j = order & 1
        term = (z if j else 1.0) * (-1.0 if (order + j) & 2 else 1.0)
        y = term / (order + j + 1)
        for _ in range({terms}):
            term *= -z * z / ((j + 1) * (j + 2))
            j += 2
            y += term / (order + j + 1)
    else:
        y = quarter_turns(x, 0) / z
        for k in range(1, order + 1):
            y = (quarter_turns(x, k) - k * y) / z
    return F(scale * y)
'''.replace("{terms}", str(SERIES))

_ENTRY = f'''
def vm(table, buffers, work):
    """Run the region `table` over all strips. Addresses of int64 words: the table, the buffers' addresses, scratch."""
    prologue, count = load_int64(table, {oc.PROLOGUE}), load_int64(table, {oc.CODE_COUNT})
    addresses, rank = load_int64(table, {oc.ADDRESS_COUNT}), load_int64(table, {oc.RANK})
    if rank == {oc.TRANSPOSE}:
        add_transpose(load_int64(buffers, 0), load_int64(table, {oc.INNER}), prologue, count)
        return
    inner, block = load_int64(table, {oc.INNER}), load_int64(table, {oc.BLOCK})
    pool = load_int64(table, {oc.POOL})
    pointers, cursors = work + load_int64(table, {oc.POINTERS}), work + load_int64(table, {oc.CURSORS})
    indices, partials = work + load_int64(table, {oc.INDICES}), work + load_int64(table, {oc.PARTIALS})
    lengths = table + {8 * oc.HEADER}
    code, rows = table + load_int64(table, {oc.CODE_AT}), table + load_int64(table, {oc.ADDRESSES_AT})
    width = 8 * ({oc.ADDRESS} + rank)
    for k in range(pool):
        store_int64(pointers, k, work + k * {STRIP} * SIZE)
    for k in range(addresses):
        row = rows + k * width
        store_int64(cursors, k, load_int64(buffers, load_int64(row, 0)) + load_int64(row, 1))
    for k in range(rank):
        store_int64(indices, k, 0)
    first, start = 0, 0
    while start < inner:
        stop = min(inner, start + block)
        more = True
        while more:
            for s in range(start, stop, {STRIP}):
                m = min({STRIP}, stop - s)
                for i in range(first, count):
                    at = code + i * {8 * oc.WIDTH}
                    op, d, a = load_int64(at, 0), load_int64(at, 1), load_int64(at, 2)
                    b, c = load_int64(at, 3), load_int64(at, 4)
                    v = load_float64(at, 5)
                    if op == {oc.LOAD}:
                        step = load_int64(rows + a * width, 2)
                        p = load_int64(cursors, a) + s * step * SIZE
                        if step == 1:
                            store_int64(pointers, d, p)
                        elif step == 0:
                            x = load(p, 0)
                            to = load_int64(pointers, d)
                            for k in range(m):
                                store(to, k, x)
                        else:
                            to = load_int64(pointers, d)
                            for k in range(m):
                                store(to, k, load(p, k * step))
                    elif op == {oc.BIND}:
                        store_int64(pointers, d, load_int64(cursors, a) + s * SIZE)
                    elif op == {oc.LOAD_BOOL}:
                        step = load_int64(rows + a * width, 2)
                        p = load_int64(cursors, a) + s * step
                        to = load_int64(pointers, d)
                        if step == 1:
                            for k in range(m):
                                store(to, k, ONE if load_uint8(p, k) != 0 else ZERO)
                        else:
                            for k in range(m):
                                store(to, k, ONE if load_uint8(p, k * step) != 0 else ZERO)
                    elif op == {oc.CONST}:
                        to = load_int64(pointers, d)
                        for k in range(m):
                            store(to, k, v)
                    elif op == {oc.STORE}:
                        step = load_int64(rows + b * width, 2)
                        p = load_int64(cursors, b) + s * step * SIZE
                        of = load_int64(pointers, a)
                        if step == 1:
                            for k in range(m):
                                store(p, k, load(of, k))
                        else:
                            for k in range(m):
                                store(p, k * step, load(of, k))
                    elif op == {oc.STORE_BOOL}:
                        step = load_int64(rows + b * width, 2)
                        p = load_int64(cursors, b) + s * step
                        of = load_int64(pointers, a)
                        if step == 1:
                            for k in range(m):
                                store_uint8(p, k, 1 if load(of, k) != ZERO else 0)
                        else:
                            for k in range(m):
                                store_uint8(p, k * step, 1 if load(of, k) != ZERO else 0)
                    elif op == {oc.ACCUMULATE}:
                        row = rows + b * width
                        step = load_int64(row, 2)
                        p = load_int64(cursors, b) + s * step * SIZE
                        of = load_int64(pointers, a)
                        fresh = True
                        for k in range(rank):
                            if load_int64(row, {oc.ADDRESS} + k) == 0 and load_int64(indices, k) != 0:
                                fresh = False
                        if step == 0:
                            total = load_float64(partials, c) if s > start else 0.0
                            total += strip_sum(of, m)
                            store_float64(partials, c, total)
                            if s + {STRIP} >= stop:
                                if fresh and start == 0:
                                    store(p, 0, total)
                                else:
                                    store(p, 0, load(p, 0) + total)
                        elif fresh:
                            for k in range(m):
                                store(p, k * step, load(of, k))
                        elif step == 1:
                            for k in range(m):
                                store(p, k, load(p, k) + load(of, k))
                        else:
                            for k in range(m):
                                store(p, k * step, load(p, k * step) + load(of, k))
                    elif op == {oc.ADD}:
                        step = load_int64(rows + b * width, 2)
                        p = load_int64(cursors, b) + s * step * SIZE
                        of = load_int64(pointers, a)
                        if step == 1:
                            for k in range(m):
                                store(p, k, load(p, k) + load(of, k))
                        elif step == 0:
                            store(p, 0, load(p, 0) + strip_sum(of, m))
                        else:
                            for k in range(m):
                                store(p, k * step, load(p, k * step) + load(of, k))
                    elif op == {oc.GATHER}:
                        step, next = load_int64(rows + a * width, 2), load_int64(rows + b * width, 2)
                        p = load_int64(cursors, a) + s * step * SIZE
                        t = load_int64(cursors, b) + s * next * {oc.TABLE_SIZE}
                        to = load_int64(pointers, d)
                        if step == 0 and next == 1:
                            for k in range(m):
                                store(to, k, load(p, int64(load_int32(t, k))))
                        else:
                            for k in range(m):
                                store(to, k, load(p, k * step + load_int32(t, k * next)))
                    elif op == {oc.SCATTER}:
                        step, next = load_int64(rows + b * width, 2), load_int64(rows + c * width, 2)
                        p = load_int64(cursors, b) + s * step * SIZE
                        t = load_int64(cursors, c) + s * next * {oc.TABLE_SIZE}
                        of = load_int64(pointers, a)
                        if d >= 0:
                            last = load_int64(rows + d * width, 2)
                            u = load_int64(cursors, d) + s * last * {oc.TABLE_SIZE}
                            for k in range(m):
                                j = k * step + load_int32(t, k * next) + load_int32(u, k * last)
                                store(p, j, load(p, j) + load(of, k))
                        else:
                            for k in range(m):
                                j = k * step + load_int32(t, k * next)
                                store(p, j, load(p, j) + load(of, k))
                    else:
                        row_op(op, m, pointers, d, a, b, c, v)
                first = prologue
            more = False
            axis = rank - 1
            while axis >= 0:
                index, length = load_int64(indices, axis) + 1, load_int64(lengths, axis)
                if index < length:
                    store_int64(indices, axis, index)
                    for k in range(addresses):
                        stride = load_int64(rows + k * width, {oc.ADDRESS} + axis)
                        store_int64(cursors, k, load_int64(cursors, k) + stride)
                    more = True
                    break
                store_int64(indices, axis, 0)
                for k in range(addresses):
                    stride = load_int64(rows + k * width, {oc.ADDRESS} + axis)
                    store_int64(cursors, k, load_int64(cursors, k) - stride * (length - 1))
                axis -= 1
        start = stop
'''

# T <- T + T' in place, rows of tiles part, part + parts, ...: both tiles of a pair are in the cache.
_ADD_TRANSPOSE = '''
@inner
def add_transpose(at, n, part, parts):
    for i0 in range(64 * part, n, 64 * parts):
        for j0 in range(0, i0 + 1, 64):
            for i in range(i0, min(n, i0 + 64)):
                row = at + i * n * SIZE
                for j in range(j0, min(i + 1, j0 + 64)):
                    total = load(row, j) + load(at, j * n + i)
                    store(row, j, total)
                    store(at, j * n + i, total)
'''

# Eight partial sums in float64, added in pairs: one order on every machine, and eight lanes for the vectorizer.
_STRIP_SUM = '''
@inner
def strip_sum(of, m):
    p0 = p1 = p2 = p3 = p4 = p5 = p6 = p7 = 0.0
    whole = m // 8
    for j in range(whole):
        k = 8 * j
        p0 += load(of, k)
        p1 += load(of, k + 1)
        p2 += load(of, k + 2)
        p3 += load(of, k + 3)
        p4 += load(of, k + 4)
        p5 += load(of, k + 5)
        p6 += load(of, k + 6)
        p7 += load(of, k + 7)
    for k in range(8 * whole, m):
        p0 += load(of, k)
    return ((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7))
'''


_VECTOR = '''
lanes_{name}, lane_{name} = lanes("{name}", "{dtype}"), lane("{name}", "{dtype}")

@inner
def strip_{name}(r, {operands}, m):
    outlined()
    whole = m - m % {lanes}
    for k in range(0, whole, {lanes}):
        lanes_{name}(r, {operands}, k)
    for k in range(whole, m):
        lane_{name}(r, {operands}, k)
'''

# Rows as passes over a strip, where the vector library has their function: an expression of the operands x, y and of
# the result so far, r; or '@f a b' for f of these.
PASSES: dict[str, tuple[str, ...]] = {
    **{name: (f"@{name} x",) for name in UNARY if name in VM_ROWS},
    **{name: (f"@{name} x y",) for name in BINARY if name in VM_ROWS},
    "power": ("@pow x y",),
    "power_scalar": ("v", "@pow x r"),
    "sigmoid": ("-abs(x)", "@exp r", "(ONE if x >= ZERO else r) / (ONE + r)"),
    "softplus": ("-abs(x)", "@exp r", "@log1p r", "maximum(x, ZERO) + r"),
    "sech_squared": ("@cosh x", "ONE / (r * r)"),
    "cos_atan": ("ONE", "@hypot x r", "ONE / r"),
    "xlogy": ("@log y", "ZERO if x == ZERO and y == y else x * r"),
    "xlog1py": ("@log1p y", "ZERO if x == ZERO and y == y else x * r"),
    "logaddexp": ("-abs(x - y)", "@exp r", "@log1p r", "x + LN2 if x == y else maximum(x, y) + r"),
    "logaddexp2": ("-abs(x - y)", "@exp2 r", "@log1p r", "x + ONE if x == y else maximum(x, y) + r / LN2"),
}


def vm_source(dtype: str, vectors: Sequence[str] = ()) -> str:
    """The module text for 'float64' or 'float32'; its function `vm` takes three addresses.

    `vectors`: the functions that the vector library has. Rows that need another one use scalar functions.
    """
    return "\n".join([preamble(dtype, vectors), _ADD_TRANSPOSE, _rows(vectors), _ENTRY])


def preamble(dtype: str, vectors: Sequence[str]) -> str:
    """What the loops call: memory access, the functions of the op table, sums of a strip."""
    head = _HEAD.format(dtype=dtype) + f"SIZE = {8 if dtype == 'float64' else 4}\n"
    functions = [_FUNCTIONS.format(name=n, parameters=p, body=b) for n, (p, b) in FUNCTIONS.items()]
    if vectors:
        functions.insert(0, "from hesse_engine.backend.vecmath import lane, lanes\n")
    functions.append(_LONG_FUNCTIONS)
    for name in vectors:
        operands = "xs, ys" if name in BINARY else "xs"
        lanes = 4 if dtype == "float64" else 8
        functions.append(_VECTOR.format(name=name, dtype=dtype, operands=operands, lanes=lanes))
    return "\n".join([head, special.head(), special.DOUBLE, *functions, _STRIP_SUM])


def _rows(vectors: Sequence[str]) -> str:
    """`row_op`: the loops of every row. Operands are read first, so that a choice between them vectorizes.

    One function for all of them would take the compiler longer than several of ROWS_TOGETHER rows.
    """
    rows = list(VM_ROWS.items())
    parts = [rows[k:k + ROWS_TOGETHER] for k in range(0, len(rows), ROWS_TOGETHER)]
    lines: list[str] = []
    for number, part in enumerate(parts):
        lines += ["@inner", f"def rows_{number}(op, m, pointers, d, a, b, c, v):", "    rs = load_int64(pointers, d)"]
        for keyword, (name, row) in zip(["if"] + ["elif"] * len(part), part, strict=False):
            lines.append(f"    {keyword} op == {OPCODES[name]}:  # {name}")
            operands = "xyz"[: row.arity or 0]
            lines += [f"        {p}s = load_int64(pointers, {s})" for p, s in zip(operands, "abc", strict=False)]
            lines += ["        " + line for line in pass_lines(name, vectors)]
    lines += ["@inner", "def row_op(op, m, pointers, d, a, b, c, v):"]
    for number, part in enumerate(parts):
        lines += [f"    {'elif' if number else 'if'} op <= {OPCODES[part[-1][0]]}:",
                  f"        rows_{number}(op, m, pointers, d, a, b, c, v)"]
    return "\n".join(lines) + "\n"


def pass_lines(name: str, vectors: Sequence[str]) -> list[str]:
    """The loops of the row `name` over m elements: strips at xs, ys, zs and immediate v -> strip at rs."""
    row = VM_ROWS[name]
    assert row.vm is not None
    passes = PASSES.get(name, ())
    if not passes or not _needs(passes) <= set(vectors):
        passes = (row.vm.format("x", "y", "z"),)
    return [line for text in passes for line in _pass(text, "xyz"[: row.arity or 0])]


def _needs(passes: Sequence[str]) -> set[str]:
    return {text[1:].split()[0] for text in passes if text.startswith("@")}


def _pass(text: str, operands: str) -> list[str]:
    if text.startswith("@"):
        function, *sources = text[1:].split()
        return [f"strip_{function}(rs, {', '.join([p + 's' for p in sources])}, m)"]
    read = [p for p in (*operands, "r") if p in _NAME.findall(text)]
    return ["for k in range(m):", *[f"    {p} = load({p}s, k)" for p in read], f"    store(rs, k, {text})"]
