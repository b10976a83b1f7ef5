"""A function's results through its graph, for the tests of the tracer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.backend.reference import run
from hesse_engine.frontends.trace import Trace, Tracer, is_tracer


def traced(f: Callable[..., Any], *values: Any, library: str = "numpy") -> Any:
    """f's results, through its graph."""
    trace = Trace(library)
    inputs = [trace.input(v, f"x{k}") for k, v in enumerate(values)]
    return evaluated(trace, f(*inputs), inputs, values)


def evaluated(trace: Trace, result: Any, inputs: list[Tracer], values: Any) -> Any:
    if isinstance(result, (tuple, list)):
        return [evaluated(trace, r, inputs, values) for r in result]
    if not is_tracer(result):
        return result
    graph = trace.graph([result], inputs)
    y = run(graph.outputs, dict(zip(graph.inputs, [np.asarray(v) for v in values], strict=True)))[0]
    assert y.dtype == result.node.dtype
    assert y.shape == result.shape
    return y
