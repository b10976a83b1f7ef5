"""What must hold for every function, over random compositions of every op of the table.

    H = H',   hvp = H v = vhp,   forward = reverse,   batch = loop,   simplify preserves values,
    the compiled core = the reference interpreter,   a graph comes back from the wire as it went
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from compositions import NAMES, Composition, composition
from hesse_engine.backend import reference
from hesse_engine.compute import compute
from hesse_engine.ir.graph import FLOAT32, Array
from hesse_engine.ir.show import graph_id
from hesse_engine.ir.walk import reachable
from hesse_engine.ir.wire import graph_from_json, graph_to_json
from hesse_engine.options import Options
from hesse_engine.simplify.passes import simplify
from hesse_engine.transforms.batch import batch, from_last
from hesse_engine.transforms.vjp import gradient
from orders import forward_over_reverse, jacobian_forward, jacobian_reverse, numbers, reverse_over_forward

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}  # beside the largest entry; the compositions are well conditioned
SEEDS = st.integers(0, 10_000)
EXAMPLES = settings(max_examples=2, phases=[Phase.generate])  # a smaller seed is no simpler composition
every_op = pytest.mark.parametrize("name", NAMES)


def close(got: Array, wanted: Array, c: Composition) -> None:
    """Equal but for rounding; a composition that passes through float32 rounds there."""
    is_single = any(n.dtype == FLOAT32 for n in reachable(c.graph.outputs))
    tolerance = TOLERANCE["float32" if is_single else "float64"]
    np.testing.assert_allclose(got, wanted, rtol=0.0, atol=tolerance * float(np.max(np.abs(wanted), initial=1e-300)))


@lru_cache(maxsize=8)
def drawn(name: str, seed: int) -> tuple[Composition, Array]:
    """A composition and its Hessian as the engine computes it."""
    c = composition(name, seed)
    return c, compute(c.graph, "hessian", [c.point]).value


@every_op
@EXAMPLES
@given(seed=SEEDS)
def test_second_order(name: str, seed: int) -> None:
    """Symmetric; the products are those with H; every layout, and every composition interpreted, gives the same."""
    c, hessian = drawn(name, seed)
    assume(np.isfinite(hessian).all())
    close(hessian, hessian.T, c)
    wanted = hessian @ c.direction
    for operation in ("hvp", "vhp"):
        close(compute(c.graph, operation, [c.point], [c.direction]).value, wanted, c)
    for layout in ("csr", "packed", "diag"):
        found = compute(c.graph, "hessian", [c.point], options=Options(layout=layout)).value
        close(found.to_dense() if layout == "csr" else found,
              {"csr": hessian, "packed": hessian[np.triu_indices(c.point.size)], "diag": np.diag(hessian)}[layout], c)
    values = {c.graph.inputs[0]: c.point}
    close(hessian, forward_over_reverse(c.graph.outputs[0], c.graph.inputs, values), c)
    close(hessian, reverse_over_forward(c.graph.outputs[0], c.graph.inputs, values), c)


@every_op
@EXAMPLES
@given(seed=SEEDS)
def test_first_order(name: str, seed: int) -> None:
    c, _ = drawn(name, seed)
    values = {c.graph.inputs[0]: c.point}
    forward = jacobian_forward(c.graph.outputs[0], c.graph.inputs, values)
    assume(np.isfinite(forward).all())
    close(jacobian_reverse(c.graph.outputs[0], c.graph.inputs, values), forward, c)
    close(compute(c.graph, "grad", [c.point]).value[None], forward, c)


@every_op
@EXAMPLES
@given(seed=SEEDS)
def test_a_batch_is_a_loop(name: str, seed: int) -> None:
    c, _ = drawn(name, seed)
    (x,), f = c.graph.inputs, c.graph.outputs[0]
    points = c.point + 0.1 * np.arange(3)[:, None]
    many = x.builder.input("many", (x.size, 3), x.dtype)
    outputs = [f, *gradient(f, [x])]
    got = [from_last(n, 0) for n in batch(outputs, {x: many}, 3)]
    values = reference.run(got, {many: points.T})
    wanted = [reference.run(outputs, {x: p}) for p in points]
    for k, value in enumerate(values):
        close(value, np.stack([w[k] for w in wanted]), c)


@every_op
@EXAMPLES
@given(seed=SEEDS)
def test_simplifying_and_the_wire_change_no_value(name: str, seed: int) -> None:
    c, _ = drawn(name, seed)
    wanted = reference.run(c.graph.outputs, {c.graph.inputs[0]: c.point})[0]
    simple = simplify(c.graph)
    close(reference.run(simple.outputs, {simple.inputs[0]: c.point})[0], wanted, c)
    returned = graph_from_json(graph_to_json(c.graph))
    assert graph_id(returned) == graph_id(c.graph)
    assert numbers(returned.outputs, {returned.inputs[0]: c.point})[0] == wanted
