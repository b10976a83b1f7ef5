"""The distinct elements of an array. Each NaN is distinct from every other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hesse.eager import Array, call, is_traced


class UniqueAll(NamedTuple):
    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    values: Array
    inverse_indices: Array


def unique_all(x: Array, /) -> UniqueAll:
    """Distinct values in ascending order, where each comes first, which one each element is, and their counts."""
    values, first, inverse, counts = _unique(x, return_index=True, return_inverse=True, return_counts=True)
    return UniqueAll(values, first, call("reshape", inverse, np.shape(x)), counts)


def unique_counts(x: Array, /) -> UniqueCounts:
    """Distinct values in ascending order, and how often each comes."""
    return UniqueCounts(*_unique(x, return_counts=True))


def unique_inverse(x: Array, /) -> UniqueInverse:
    """Distinct values in ascending order, and which one each element is."""
    values, inverse = _unique(x, return_inverse=True)
    return UniqueInverse(values, call("reshape", inverse, np.shape(x)))


def unique_values(x: Array, /) -> Array:
    """Distinct values in ascending order."""
    return _unique(x)


def _unique(x: Array, **wanted: bool) -> Any:
    return call("unique", x if is_traced(x) else np.asarray(x), equal_nan=False, **wanted)
