"""torch's own random functions while a function is traced: what no tracer is an argument of, like `torch.randn(3)`.

A `TorchFunctionMode` sees these calls. It is entered only where a transform has a say in random draws, and torch is
only looked up, never imported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from hesse_engine.errors import FunctionError
from hesse_engine.frontends.randomness import Frame, check_allowed, drawn, is_apart, is_ruled, within
from hesse_engine.frontends.trace import Tracer, active_trace, tracer_in
from hesse_engine.ir.graph import Node, Shape

FACTORIES = {"rand", "randn"}
DRAWS = FACTORIES | {
    "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson", "rand_like", "randn_like", "randint_like",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout",
}
IN_PLACE = {
    "normal_", "uniform_", "bernoulli_", "exponential_", "random_", "cauchy_", "log_normal_", "geometric_", "dropout_",
}
_mode: list[type] = []


@contextlib.contextmanager
def ruled(frame: Frame) -> Iterator[None]:
    """Trace under `frame`; torch's random functions are ruled by it, too."""
    overrides = getattr(sys.modules.get("torch"), "overrides", None)
    is_needed = overrides is not None and not is_ruled()
    with within(frame), _watching(overrides) if is_needed else contextlib.nullcontext():
        yield


def _watching(overrides: Any) -> Any:
    if not _mode:

        class Watching(overrides.TorchFunctionMode):  # type: ignore[misc]
            """Rules the random functions of torch; all else passes."""

            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                return _called(func, args, kwargs or {})

        _mode.append(Watching)
    return _mode[0]()


def _called(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", "")
    if name in IN_PLACE:
        _check_in_place()
    trace = active_trace()
    is_traced = name in DRAWS and tracer_in([*args, *kwargs.values()]) is not None
    if name not in DRAWS or is_traced or trace is None or _is_certain(name, args, kwargs):
        return func(*args, **kwargs)  # of a traced argument: the function of nodes has the same rules
    torch = sys.modules["torch"]

    def make(lead: Shape) -> Any:
        if name in FACTORIES:
            options = dict(kwargs)
            size = options.pop("size", args)
            flat = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
            return func((*lead, *flat), **options).numpy()
        draws = [func(*args, **kwargs).numpy() for _ in range(int(np.prod(lead)))]
        return draws[0] if not lead else np.stack(draws).reshape((*lead, *draws[0].shape))

    found = drawn(make, trace.builder)
    return Tracer(trace, found) if isinstance(found, Node) else torch.from_numpy(np.array(found))


def _is_certain(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a dropout drops nothing: in evaluation, or with p = 0."""
    if "dropout" not in name:
        return False
    options = {**dict(zip(("input", "p", "training"), args, strict=False)), **kwargs}
    is_training = options.get("training", options.get("train", True))
    return is_training is False or options.get("p") == 0


def _check_in_place() -> None:
    check_allowed()
    if is_apart():
        raise FunctionError(
            "random-operation",
            "vmap: Cannot ask for different inplace randomness on an unbatched tensor. This will appear like same "
            "randomness. If this is necessary for your usage, please file an issue with functorch.",
        )
