"""Cases of bitwise rows: see `op_cases`. The references are written in Python's integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from op_cases import Case, each

A, B = np.array([[12, -7, 0], [255, -128, 5]]), np.array([10, 3, -1])
SMALL = np.array([-128, -1, 0, 1, 127], np.int8), np.array([[7], [-2]], np.int8)
UNSIGNED = np.array([0, 1, 200, 255], np.uint8), np.array(15, np.uint8)
TRUTH = np.array([[False, True], [False, True]]), np.array([[False, False], [True, True]])
PLACES = np.array([0, 1, 5]), np.array([[3], [0]], np.int8), np.array([0, 1, 2, 7], np.uint8)


def _pairs(f: Callable[[int, int], int]) -> tuple[Case, ...]:
    of_integers = [Case(pair, each(f)) for pair in ((A, B), SMALL, UNSIGNED, (A[:, :0], B[:0]))]
    return *of_integers, Case(TRUTH, each(lambda a, b: bool(f(int(a), int(b)))))


def _wrapped(a: int, bits: int, is_signed: bool) -> int:
    """a modulo 2**bits, in the range of the dtype."""
    a %= 1 << bits
    return a - (1 << bits) if is_signed and a >> (bits - 1) else a


BITWISE: dict[str, tuple[Case, ...]] = {
    "bitwise_and": _pairs(lambda a, b: a & b),
    "bitwise_or": _pairs(lambda a, b: a | b),
    "bitwise_xor": _pairs(lambda a, b: a ^ b),
    "bitwise_invert": (
        Case((A,), each(lambda a: -a - 1)), Case(SMALL[:1], each(lambda a: -a - 1)),
        Case(UNSIGNED[:1], each(lambda a: 255 - a)), Case(TRUTH[:1], each(lambda a: not a)),
        Case((A[:, :0],), each(int)),
    ),
    "bitwise_left_shift": (
        Case((A, PLACES[0]), each(lambda a, b: a * 2**b)),
        Case((SMALL[0], PLACES[1]), each(lambda a, b: _wrapped(a * 2**b, 8, True))),
        Case((UNSIGNED[0], PLACES[2]), each(lambda a, b: _wrapped(a * 2**b, 8, False))),
    ),
    "bitwise_right_shift": (
        Case((A, PLACES[0]), each(lambda a, b: a // 2**b)), Case((SMALL[0], PLACES[1]), each(lambda a, b: a // 2**b)),
        Case((UNSIGNED[0], PLACES[2]), each(lambda a, b: a // 2**b)),
    ),
}
