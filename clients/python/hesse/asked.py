"""What a call of `hesse.function(f)` asks for beside the function and its inputs, checked and in the engine's terms."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from hesse.conventions import ABOUT_INPUTS, ABOUT_OUTPUTS, Given, as_tuple, check_vector
from hesse.interop import is_torch, read
from hesse.protocol import PAIRS
from hesse_engine.errors import InputError, StateError
from hesse_engine.ir.graph import Array
from hesse_engine.options import Options, normalized_argnums
from hesse_engine.result import Result, written

Vectors = tuple[Array, ...] | None
COUNTED = ("batch", "tangents", "weighted")  # options that the tensors tell


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of one call; `batch` is how many points it is for, or None."""

    operation: str
    given: Given
    options: Options
    weights: Any
    out: Any

    @classmethod
    def of(cls, operation: str, given: Given, arrays: Sequence[Array], options: dict[str, Any]) -> Asked:
        """Raises `InputError` (`bad-option`, `wrong-inputs`, ...), `FunctionError` (`argnums-type`, `bad-argnums`)."""
        more = plain(operation, options, ("weights", "out", "batched"))
        weights, out, batched = more.pop("weights", None), more.pop("out", None), more.pop("batched", False)
        if type(batched) is not bool:
            raise InputError("bad-option", "batched must be a boolean.")
        batch = point_count(arrays) if batched else None
        if more.get("argnums") is None:
            more["argnums"] = tuple(range(len(arrays))) if given.is_tuple else 0
        else:
            normalized_argnums(more["argnums"], len(arrays))
        chosen = Options(batch=batch, weighted=weights is not None, **more).checked()
        return cls(operation, given, chosen, weights, _arrays(out))

    @property
    def batch(self) -> int | None:
        return self.options.batch

    def check_branches(self, holds: Callable[[Sequence[Array]], bool], arrays: Sequence[Array]) -> None:
        """Refuse a batch whose points branch in different ways: one graph computes them all."""
        for k in range(self.batch or 0):
            if not holds([np.asarray(a[k]) for a in arrays]):
                raise StateError("graph-point-specific", f"The function branches on values: point {k} of the batch "
                                                         "takes other branches than point 0.",
                                 hint="Write the branches with where, or call it point by point.")

    def resolved(self, v: Any, outputs: Given) -> tuple[Vectors, Vectors, Options]:
        """v and the weights as arrays, and the options with how many vectors v holds."""
        options, weights = self.options, None
        if self.weights is not None:
            weights = tuple([read(w) for w in as_tuple(self.weights, "weights", self.operation).values])
        if self.operation not in PAIRS:
            return None, weights, options
        is_vjp = self.operation == "vjp"
        like = outputs if is_vjp else self.given
        lead = 0 if options.batch is None else 1
        if v is not None:
            first = v[0] if isinstance(v, tuple) and v else v
            rank = len(like.values[0].shape) + (lead if is_vjp else 0)
            if len(getattr(first, "shape", ())) == rank + 1:
                options = replace(options, tangents=int(first.shape[lead]))
        if options.tangents is None and lead == 0:
            checked = check_vector(v, like, self.operation, ABOUT_OUTPUTS if is_vjp else ABOUT_INPUTS)
        else:  # the engine checks shapes with leading axes
            checked = None if v is None else as_tuple(v, "v", self.operation).values
        return None if checked is None else tuple([read(x) for x in checked]), weights, options

    def written(self, result: Result) -> Result:
        """`result` in the arrays that were given for it; nothing is copied that lies there already."""
        return result if self.out is None else replace(result, value=written(result.value, self.out))


def plain(operation: str, options: Mapping[str, Any], also: Sequence[str]) -> dict[str, Any]:
    """`options` with Python's integers for NumPy's and tuples for sequences of them.

    Args:
        also: names that are taken beside the engine's.

    Raises:
        InputError: `bad-option`, where a name is not known.
    """
    known = [option.name for option in fields(Options) if option.name not in COUNTED]
    known = sorted([name for name in [*known, *also] if not (name == "argnums" and operation in PAIRS)])
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise InputError("bad-option", f"{operation} takes no option {name!r:.80}.",
                             hint=(f"Did you mean {near[0]}? " if near else "") + f"It takes {', '.join(known)}.")
    found: dict[str, Any] = {k: int(value) if isinstance(value, np.integer) else value for k, value in options.items()}
    for name in ("rows", "columns", "argnums"):
        if isinstance(found.get(name), (tuple, list, np.ndarray, range)):
            found[name] = tuple([k.item() if isinstance(k, np.generic) else k for k in found[name]])
    return found


def point_count(arrays: Sequence[Array]) -> int:
    """Raises `InputError` (`wrong-inputs`) unless all have a leading axis of one length."""
    lengths = {a.shape[0] if a.ndim else None for a in arrays}
    if len(lengths) != 1 or None in lengths:
        raise InputError("wrong-inputs", "batched: every input has a leading axis of the same length; got shapes "
                                         f"{', '.join([str(list(a.shape)) for a in arrays])}.", pointer="/inputs")
    return int(next(iter(lengths)) or 0)


def first_point(arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The inputs of the first point; of an empty batch ones, which no result depends on."""
    return tuple([np.asarray(a[0]) if len(a) else np.ones(a.shape[1:], a.dtype) for a in arrays])


def _arrays(out: Any) -> Any:
    """`out` with torch tensors as arrays over the same memory."""
    if isinstance(out, (tuple, list)):
        return [_arrays(o) for o in out]
    return out.detach().numpy() if is_torch(out) else out
