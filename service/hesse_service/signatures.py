"""What a request states of a function's inputs: names, shapes, dtypes. Pure functions of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hesse_engine.errors import InputError
from hesse_engine.ir.graph import DTYPES, DType, Shape
from hesse_engine.options import Options
from hesse_service.schemas import ByExpression, PlanRequest, Signature

Named = tuple[str, Shape, DType]


def named_by(function: ByExpression, shapes: Sequence[tuple[Shape, DType]]) -> list[Named]:
    names = function.inputs if function.inputs is not None else ["x"]
    if len(names) != len(shapes):
        raise InputError(
            "wrong-inputs",
            f"The expression names {len(names)} input(s), {len(shapes)} were given.",
            pointer="/inputs",
            hint=None if function.inputs is not None else "Name them in function.inputs; without it there is one, x.",
        )
    return [(name, shape, dtype) for name, (shape, dtype) in zip(names, shapes, strict=True)]


def planned(options: Options, request: PlanRequest) -> tuple[Options, Sequence[Signature] | None]:
    """The options with the size of the batch that the stated inputs have, and the inputs of one point."""
    signatures = request.inputs
    if request.options.many:
        raise InputError("bad-option", "A plan is for one vector.", pointer="/options/many")
    if not request.options.batched:
        return options, signatures
    if not signatures or not all([s.shape for s in signatures]):
        raise InputError("bad-request", "The plan of a batch needs inputs with their shapes, a leading axis included.",
                         pointer="/inputs")
    points = [s.model_copy(update={"shape": s.shape[1:]}) for s in signatures]
    return replace(options, batch=signatures[0].shape[0]).checked(), points


def stated_by(function: ByExpression, signatures: Sequence[Signature]) -> list[Named]:
    names = function.inputs or [s.name or "x" for s in signatures]
    if len(names) != len(signatures) or any([s.name not in (None, n) for s, n in zip(signatures, names, strict=False)]):
        raise InputError(
            "wrong-inputs", "The inputs stated are not those that the expression names.", pointer="/inputs"
        )
    for k, signature in enumerate(signatures):
        if signature.dtype not in DTYPES:
            raise InputError(
                "bad-tensor", f"The dtype must be one of {', '.join(DTYPES)}.", pointer=f"/inputs/{k}/dtype"
            )
    return [(name, tuple(s.shape), np.dtype(s.dtype)) for name, s in zip(names, signatures, strict=True)]
