"""Random draws while tracing: constants of the graph, by the rules of the transforms around them.

    vmap(randomness="error")        a draw raises, in torch's words
    vmap(randomness="same")         one draw for all examples
    vmap(randomness="different")    one draw for each example
    a function that is traced once  a draw raises: it would be the same in every later call

A transform around what is traced is a `Frame`; frames nest, and every one of them has its say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np

from hesse_engine.errors import FunctionError
from hesse_engine.ir.graph import Array, Builder, DType, Node, Shape
from hesse_engine.ir.walk import reachable

Make = Callable[[Shape], Array]  # lengths of leading axes of independent draws -> them all


@dataclass(slots=True, eq=False)
class Frame:
    """One transform around what is traced.

    Attributes:
        mode: 'error', 'same', 'different', or 'once' for a function whose trace is used again.
        size: how many examples there are.
        mapped: makes one example of a batch, of this shape and dtype.
        examples: what each of them is an example of: a node with the batch on its last axis.
        kept: the draws made so far; those of a first trace are used again by further traces of the same call.
        at: how many of them have been used again.
    """

    mode: str
    size: int = 1
    mapped: Callable[[Shape, DType], Node] | None = None
    examples: dict[Node, Node] = field(default_factory=dict)
    kept: list[Array] = field(default_factory=list)
    at: int = 0


_frames: ContextVar[tuple[Frame, ...]] = ContextVar("hesse_frames", default=())


@contextlib.contextmanager
def within(frame: Frame) -> Iterator[None]:
    """Trace under `frame`, inside those that are there already."""
    token = _frames.set((*_frames.get(), frame))
    try:
        yield
    finally:
        _frames.reset(token)


def is_ruled() -> bool:
    """Whether any transform has a say in random draws."""
    return bool(_frames.get())


def is_apart() -> bool:
    """Whether examples have draws of their own."""
    return any([f.mode == "different" for f in _frames.get()])


def drawn(make: Make, builder: Builder | None, is_repeatable: bool = False) -> Node | Array:
    """A random draw under the frames around: an array, or where examples differ the node of one example.

    Args:
        make: draws; `make((b, a))` has the shape (b, a, *shape of one draw).
        builder: of the trace; None outside of any.
        is_repeatable: whether the draw is the same whenever the function is called, by a seed of its own.

    Raises:
        FunctionError: `random-operation`, `random-once`.
    """
    frames = _frames.get()
    check_allowed(is_repeatable)
    several = [f for f in frames if f.mode == "different"]
    if not several or builder is None:
        return _kept(frames, lambda: np.asarray(make(())))
    array = _kept(frames, lambda: np.asarray(make(tuple([f.size for f in several]))))
    # (outermost, ..., innermost, *shape) -> (*shape, innermost, ..., outermost): each batch rule takes the last axis
    node = builder.constant(array.transpose([*range(len(several), array.ndim), *reversed(range(len(several)))]))
    for frame in several:
        assert frame.mapped is not None
        example = frame.mapped(node.shape[:-1], node.dtype)
        frame.examples[example] = node
        node = example
    return node


def check_allowed(is_repeatable: bool = False) -> None:
    """Raises where a transform around allows no draw."""
    modes = [f.mode for f in _frames.get()]
    if "error" in modes:
        raise FunctionError(
            "random-operation",
            "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
            "randomness flags on vmap or perform the randomness operation out of vmap",
        )
    if "once" in modes and not is_repeatable:
        raise FunctionError(
            "random-once", "A random number was drawn by a function that is traced once: every later call would use "
                           "this very draw.",
            hint="Pass the noise as an argument; or make a generator with a seed inside of the function, which then "
                 "uses the same numbers in every call.",
        )


def check_same(node: Node) -> None:
    """torch's refusal of one draw for all examples from a distribution that differs between them."""
    below = set(reachable([node]))
    if any([f.mode == "same" and not below.isdisjoint(f.examples) for f in _frames.get()]):
        raise FunctionError(
            "random-operation",
            "Vmap does not currently support same randomness with a batched tensor input. Please file an issue with "
            "functorch",
        )


def _kept(frames: tuple[Frame, ...], make: Callable[[], Array]) -> Array:
    """The draw; of the outermost transform's earlier trace where all of its examples share it."""
    if not frames:
        return make()
    outermost = frames[0]
    if outermost.mode == "same" and outermost.at < len(outermost.kept):
        array = outermost.kept[outermost.at]
    else:
        array = make()
        outermost.kept.append(array)
    outermost.at += 1
    return array


__all__ = ["Frame", "check_allowed", "check_same", "drawn", "is_apart", "is_ruled", "within"]
