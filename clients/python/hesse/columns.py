"""`jacfwd(randomness="different")`: each column of the Jacobian by a run of the function with its own random draws."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesse import tree
from hesse.interop import library_of
from hesse.scope import is_tensor
from hesse_engine.errors import InputError
from hesse_engine.frontends.trace import is_tracer
from hesse_engine.options import normalized_argnums

if TYPE_CHECKING:
    from hesse.evaluation import Argnums, Function
    from hesse.func import Func


def columns_apart(functions: Func, func: Function, argnums: Argnums, args: tuple[Any, ...], has_aux: bool) -> Any:
    """`vmap(lambda e: jvp(func, args, e), randomness="different")` over the standard basis, put in place."""
    chosen = normalized_argnums(argnums, len(args))
    selected = args[chosen[0]] if isinstance(argnums, int) else tuple([args[k] for k in chosen])
    leaves, inner = tree.flatten(selected)
    for leaf in leaves:
        if not is_tensor(leaf):
            raise InputError("not-tensor", f"Thing passed to transform API must be Tensor, got {type(leaf)}")

    def column(*tangents: Any) -> Any:
        def moved(*points: Any) -> Any:
            given = tree.unflatten(list(points), inner)
            replaced = dict(zip(chosen, (given,) if isinstance(argnums, int) else given, strict=True))
            return func(*[replaced.get(k, a) for k, a in enumerate(args)])

        return functions.jvp(moved, tuple(leaves), tangents, has_aux=has_aux)[1:]

    sizes = [int(np.prod(x.shape, dtype=np.int64)) for x in leaves]

    def finish(found: Any) -> Any:
        outputs, structure = tree.flatten(found[0])
        blocks = [tree.unflatten(_blocks(y, leaves, sizes), inner) for y in outputs]
        jacobian = tree.unflatten(blocks, structure)
        return (jacobian, tree.map_leaves(lambda a: a[0, ...], found[1])) if has_aux else jacobian

    found = functions.vmap(column, randomness="different")(*_basis(leaves, sizes))
    if not inspect.isawaitable(found):
        return finish(found)

    async def later() -> Any:
        return finish(await found)

    return later()


def _basis(leaves: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    """The standard basis of all leaves together, split into the leaves."""
    total, at = sum(sizes), 0
    library = library_of([x for x in leaves if not is_tracer(x)])
    found = []
    for leaf, size in zip(leaves, sizes, strict=True):
        part = np.eye(total)[:, at:at + size].reshape((total, *leaf.shape))
        found.append(library.wrap(np.ascontiguousarray(part)))
        at += size
    return found


def _blocks(columns: Any, leaves: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    """Columns on the first axis -> blocks of shape out + in."""
    found, at, shape = [], 0, tuple(columns.shape[1:])
    for leaf, size in zip(leaves, sizes, strict=True):
        part = columns[at:at + size].reshape((size, -1)) if size else columns.reshape((len(columns), -1))[:0]
        found.append(part.T.reshape((*shape, *leaf.shape)))
        at += size
    return found
