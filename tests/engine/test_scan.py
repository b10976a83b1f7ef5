"""Loops: values and derivatives against JAX's `lax.scan` and against the same loop written out, in every tier."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as hnp
from hesse_engine.backend import stepping
from hesse_engine.backend.program import build_program
from hesse_engine.errors import HesseError
from hesse_engine.ir.check import check
from hesse_engine.ir.graph import FLOAT64, Builder, Graph, Node, apply
from hesse_engine.ir.ops.scan import MAX_BODY, Body
from hesse_engine.ir.show import graph_id
from hesse_engine.ir.walk import reachable
from hesse_engine.ir.wire import graph_from_json, graph_to_json
from hesse_engine.transforms.batch import batch
from op_cases_loops import body, pair

T = 12
RNG = np.random.default_rng(0)
R, X = RNG.normal(size=T), RNG.normal(size=(T, 2))
W, U = RNG.normal(size=(3, 3)) * 0.4, RNG.normal(size=(3, 2))


@pytest.fixture(autouse=True, scope="module")
def compiled_loops() -> None:
    stepping.loops(wait=True)


# ---- functions of a namespace, a loop library and a parameter --------------------------------------------------------
def accumulated(xp: Any, lax: Any, p: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        s, total = carry
        s = p[0] + p[1] * x * x + p[2] * s
        return (s, total + xp.log(s) + x * x / s), None

    return lax.scan(step, (1.0, 0.0), R)[0][1]


def lagged(xp: Any, lax: Any, p: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        s, before = carry
        s = p[0] + p[1] * before * before + p[2] * s
        return {"s": s, "x": x}, xp.log(s) + x * x / s

    def outer(carry: Any, x: Any) -> Any:
        found, y = step((carry["s"], carry["x"]), x)
        return found, (y, None)

    return lax.scan(outer, {"s": p[0] * 2.0, "x": 0.5}, R)[1][0].sum()


def network(xp: Any, lax: Any, p: Any) -> Any:
    w = p.reshape(3, 3)

    def step(h: Any, x: Any) -> Any:
        h = xp.tanh(w @ h + U @ x)
        return h, (h * h).sum()

    h, ys = lax.scan(step, xp.zeros(3), X)
    return (h**3).sum() + ys.sum()


def lorenz(xp: Any, lax: Any, p: Any) -> Any:
    def step(u: Any, _: Any) -> Any:
        x, y, z = u[0], u[1], u[2]
        rate = xp.stack([p[0] * (y - x), x * (p[1] - z) - y, x * y - p[2] * z])
        return u + 0.01 * rate, u[0]

    u, ys = lax.scan(step, xp.ones(3) * p[0], None, length=T)
    return (u * u).sum() + (ys**2).mean()


def backwards(xp: Any, lax: Any, p: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        c = xp.sin(c * p[0]) + x * p[1]
        return c, c * p[2]

    c, ys = lax.scan(step, p[2], R, reverse=True)
    return c * c + (ys * xp.arange(T)).sum()


def counted(xp: Any, lax: Any, p: Any) -> Any:
    return lax.fori_loop(2, T, lambda i, v: xp.cos(v * p[0]) + p[1] * i + xp.take(xp.asarray(R), i) * p[2], p[2] + 0.5)


def nested(xp: Any, lax: Any, p: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        d, ys = lax.scan(lambda d, y: (xp.sin(d) * p[0] + y, d * d), c, xp.stack([x + 0.5, p[1], c]))
        return d, ys.sum()

    c, ys = lax.scan(step, p[2], R[:4])
    return c + ys.sum()


def coupled(xp: Any, lax: Any, p: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        u, v = carry
        return (u * p[0] - v * x, v + p[1] * u), u * v

    (u, v), ys = lax.scan(step, (p[2], xp.ones(2) @ p[:2]), R)
    return u * v + ys.sum()


def masked(xp: Any, lax: Any, p: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        return xp.where(x > 0, c * p[0] + x, xp.where(c > 0, xp.sqrt(xp.where(c > 0, c, 1.0)), p[1] * c)), c

    c, ys = lax.scan(step, p[2], R)
    return c + (ys * p[1]).sum()


def carried_matrix(xp: Any, lax: Any, p: Any) -> Any:
    a = xp.reshape(xp.stack([p[0], p[1], 0.1 * p[2], p[0]]), (2, 2)) * 0.5
    m, _ = lax.scan(lambda m, x: (a @ m + x[0] * m.T, None), xp.eye(2), X)
    return (m * m).sum()


def closed(xp: Any, lax: Any, p: Any) -> Any:
    """No recurrence at all: a carry that only shifts, outputs of the slices alone."""
    c, ys = lax.scan(lambda c, x: (x * p[0], c * p[1] + p[2]), p[0], R)
    return c + (ys**3).sum()


FUNCTIONS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (
    accumulated, lagged, network, lorenz, backwards, counted, nested, coupled, masked, carried_matrix, closed)}
STRATEGIES = ("auto", "forward-over-reverse", "reverse-over-forward", "forward-over-forward", "reverse-over-reverse")


def point(name: str) -> Any:
    return W.ravel() if name == "network" else np.array([0.9, 1.2, 0.6])


def rolled(name: str) -> hesse.Function:
    return hesse.function(lambda p: FUNCTIONS[name](hnp, hesse, p))


# the same loops written out
def _scan(f: Any, init: Any, xs: Any, length: Any = None, reverse: bool = False) -> Any:
    steps = range(len(xs) if xs is not None else length)
    ys: dict[int, Any] = {}
    for t in reversed(steps) if reverse else steps:
        init, ys[t] = f(init, None if xs is None else xs[t])
    found = [ys[t] for t in steps]
    if isinstance(found[0], tuple):
        return init, tuple([None if c[0] is None else hnp.stack(list(c)) for c in zip(*found, strict=True)])
    return init, None if found[0] is None else hnp.stack(found)


def _fori_loop(lower: int, upper: int, f: Any, value: Any) -> Any:
    for i in range(lower, upper):
        value = f(i, value)
    return value


UNROLLED = SimpleNamespace(scan=_scan, fori_loop=_fori_loop)


@cache
def of_jax(name: str) -> tuple[Any, Any, Any]:
    """Value, gradient and Hessian."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        lax = SimpleNamespace(scan=jax.lax.scan, fori_loop=jax.lax.fori_loop)
        f = lambda p: FUNCTIONS[name](jax.numpy, lax, p)  # noqa: E731
        return tuple([np.asarray(g(point(name))) for g in (f, jax.grad(f), jax.hessian(f))])


def close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11 * float(np.max(np.abs(wanted))))


@pytest.mark.parametrize("tier", ["vm", "reference"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_jax(name: str, tier: str) -> None:
    value, grad, hessian = of_jax(name)
    f = rolled(name)
    close(f.value(point(name), tier=tier), value)
    close(f.grad(point(name), tier=tier), grad)
    for strategy in STRATEGIES if tier == "vm" else STRATEGIES[:2]:
        close(f.hessian(point(name), tier=tier, strategy=strategy), hessian)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_the_loop_written_out(name: str) -> None:
    x = point(name)
    f, g = rolled(name), hesse.function(lambda p: FUNCTIONS[name](hnp, UNROLLED, p))
    close(f.value(x), g.value(x))
    close(f.grad(x), g.grad(x))
    close(f.hessian(x), g.hessian(x))
    v = np.random.default_rng(1).normal(size=x.shape)
    for got, wanted in zip(f.hvp(x, v), g.hvp(x, v), strict=True):
        close(got, wanted)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "nested"])
def test_hand_made_steps_run_in_compiled_code(name: str) -> None:
    assert "fallbacks" in (stats := _stats(name))
    assert not {"scan", "linear_scan"} & set(stats["fallbacks"])


def _stats(name: str) -> dict[str, Any]:
    client = hesse.Client()
    hesse.Function(lambda p: FUNCTIONS[name](hnp, hesse, p), client).hessian(point(name), tier="vm")
    assert client.embedded is not None
    (prepared,) = client.embedded._prepared.values()
    found: dict[str, Any] = prepared((point(name),)).stats
    return found


@pytest.mark.parametrize("name", ["accumulated", "network", "lorenz", "coupled"])
def test_before_the_compiled_loops_are_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of the VM give the same values."""
    monkeypatch.setattr(stepping, "loops", lambda **_: None)
    close(hesse.Function(lambda p: FUNCTIONS[name](hnp, hesse, p), hesse.Client()).hessian(point(name), tier="vm"),
          of_jax(name)[2])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_graphs_stay_small_sound_and_themselves_over_the_wire(name: str) -> None:
    wire = rolled(name).graph(point(name))
    graph = graph_from_json(json.loads(json.dumps(wire)))
    check(graph)
    assert len(wire["nodes"]) < 70
    assert graph_id(graph) == rolled(name).id(point(name)) == graph_id(graph_from_json(graph_to_json(graph)))


def test_the_size_of_a_graph_does_not_depend_on_the_number_of_steps() -> None:
    def count(length: int) -> int:
        rows = np.linspace(-1.0, 1.0, length)
        f = hesse.function(lambda p: hesse.scan(lambda c, x: (hnp.sin(c * p[0] + x), c), p[1], rows)[1].sum())
        return len(f.graph(np.ones(2))["nodes"])

    assert count(10) == count(1000)


# ---- third order, batches, float32, torch ----------------------------------------------------------------------------
def test_third_order() -> None:
    jax = pytest.importorskip("jax")
    x = point("backwards")
    found = hesse.func.jacfwd(hesse.func.hessian(lambda p: backwards(hnp, hesse, p)))(x)
    with jax.enable_x64(True):
        wanted = jax.jacfwd(jax.hessian(lambda p: backwards(jax.numpy, jax.lax, p)))(x)
    close(found, np.asarray(wanted))


@pytest.mark.parametrize("name", ["accumulated", "network", "backwards", "nested", "carried_matrix"])
def test_batched(name: str) -> None:
    points = point(name) + 0.05 * np.random.default_rng(2).normal(size=(4, point(name).size))
    f = lambda p: FUNCTIONS[name](hnp, hesse, p)  # noqa: E731
    close(hesse.func.vmap(f)(points), [f(p) for p in points])
    close(hesse.func.vmap(hesse.func.hessian(f))(points), [hesse.func.hessian(f)(p) for p in points])


def test_slices_are_batched_too() -> None:
    rows = np.random.default_rng(3).normal(size=(5, T))
    f = lambda r, a: hesse.scan(lambda c, x: (hnp.tanh(c * a + x), c), 0.3, r)[1].sum()  # noqa: E731
    close(hesse.func.vmap(f, in_dims=(0, None))(rows, np.float64(0.7)), [f(r, 0.7) for r in rows])
    close(hesse.func.vmap(hesse.func.grad(f), in_dims=(0, None))(rows, np.float64(0.7)),
          [hesse.func.grad(f)(r, np.float64(0.7)) for r in rows])


def test_single_precision() -> None:
    f = hesse.function(lambda p: hesse.scan(lambda c, x: (c * p[0] + x, c * c), p[1], R.astype(np.float32))[1].sum())
    x = np.array([0.5, 0.3], np.float32)
    assert f.hessian(x).dtype == np.float32
    np.testing.assert_allclose(f.hessian(x), f.hessian(x.astype(np.float64)), rtol=1e-4)


def test_torch() -> None:
    torch = pytest.importorskip("torch")

    def f(p: Any) -> Any:
        return hesse.scan(lambda c, x: (torch.sin(c * p[0]) + x, c * p[1]), p[2], torch.tensor(R))[1].sum()

    x = torch.tensor(point("lorenz"))
    found = hesse.functional.hessian(f, x)
    assert isinstance(found, torch.Tensor)
    wanted = hesse.functional.hessian(lambda p: UNROLLED.scan(
        lambda c, x: (hnp.sin(c * p[0]) + x, c * p[1]), p[2], R)[1].sum(), x.numpy())
    close(found.numpy(), wanted)


def test_a_gradient_of_the_step_inside_the_step() -> None:
    """Gradient descent, differentiated by its rate and its start."""
    def descend(loop: Any, p: Any) -> Any:
        slope = hesse.func.grad(lambda u: (u**4).sum() + (u * p[2]).sum())
        return loop(lambda u, _: (u - p[0] * slope(u), None), p[1] * np.ones(2), None, length=4)[0].sum()

    x = np.array([0.05, 0.8, 0.3])
    found, wanted = (hesse.function(lambda p, loop=loop: descend(loop, p)) for loop in (hesse.scan, _scan))
    close(found.hessian(x), wanted.hessian(x))


# ---- outside of a trace ----------------------------------------------------------------------------------------------
def test_eager() -> None:
    carry, ys = hesse.scan(lambda c, x: (c + x, {"twice": 2 * c, "none": None}), 0.0, R)
    assert carry == pytest.approx(R.sum())
    close(ys["twice"], 2 * np.concatenate([[0.0], np.cumsum(R)[:-1]]))
    assert ys["none"] is None
    assert hesse.fori_loop(0, 5, lambda i, v: v + i, 10) == 20
    assert hesse.fori_loop(5, 0, lambda i, v: v + i, 10) == 10
    _, back = hesse.scan(lambda c, x: (c + x, c), 0.0, R, reverse=True)
    close(back, np.concatenate([np.cumsum(R[::-1])[::-1][1:], [0.0]]))


def test_no_steps() -> None:
    assert hesse.scan(lambda c, x: (c, c), 1.5, None, length=0)[0] == 1.5
    f = hesse.function(lambda p: hesse.scan(lambda c, x: (hnp.sin(c), c), p[0], np.zeros(0))[0] ** 2)
    close(f.hessian(np.array([3.0])), [[2.0]])


def test_a_number_adopts_the_dtype_of_the_carry() -> None:
    f = hesse.function(lambda p: hesse.scan(lambda c, x: (c * p[0] + x, None), 0, R)[0])
    close(f.value(np.array([0.5])), UNROLLED.scan(lambda c, x: (c * 0.5 + x, None), 0, R)[0])


def test_integers_in_the_carry() -> None:
    def f(p: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            k, c = carry
            return (k + 1, c * p[0] + k), c

        (k, c), _ = hesse.scan(step, (np.int64(3), p[1]), R)
        assert k.dtype == np.int64
        return c + k

    x = np.array([0.5, 0.3])
    close(hesse.function(f).hessian(x), hesse.function(lambda p: _geometric(p)).hessian(x))


def _geometric(p: Any) -> Any:
    c = p[1]
    for k in range(3, 3 + T):
        c = c * p[0] + k
    return c + 3 + T


def test_the_pattern_of_a_strict_call() -> None:
    """What the loop does not touch is independent."""
    with pytest.raises(RuntimeError, match="independent"):
        hesse.functional.jacobian(
            lambda x, y: hesse.scan(lambda c, r: (c * x + r, None), x, R)[0], (np.ones(2), np.ones(2)), strict=True)


# ---- refusals --------------------------------------------------------------------------------------------------------
def traced(f: Callable[[Any], Any]) -> Any:
    return hesse.function(f).value(np.ones(2))


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "shape": (lambda p: hesse.scan(lambda c, x: (hnp.concat([c, c]), None), p, R)[0], "bad-structure"),
    "dtype": (lambda p: hesse.scan(lambda c, x: (hnp.astype(c, np.float32), None), p, R)[0], "bad-structure"),
    "nesting": (lambda p: hesse.scan(lambda c, x: ((c, c), None), p, R)[0], "bad-structure"),
    "no pair": (lambda p: hesse.scan(lambda c, x: c * x, p, R)[0], "bad-structure"),
    "length": (lambda p: hesse.scan(lambda c, x: (c, None), p, None, length=2.5)[0], "bad-type"),
    "traced length": (lambda p: hesse.scan(lambda c, x: (c, None), p, None, length=p[0])[0], "bad-type"),
    "no length": (lambda p: hesse.scan(lambda c, x: (c, None), p)[0], "wrong-inputs"),
    "two lengths": (lambda p: hesse.scan(lambda c, x: (c, None), p, R, length=3)[0], "wrong-inputs"),
    "negative length": (lambda p: hesse.scan(lambda c, x: (c, None), p, None, length=-1)[0], "wrong-inputs"),
    "ragged": (lambda p: hesse.scan(lambda c, x: (c, None), p, (R, X[:3]))[0], "wrong-inputs"),
    "number": (lambda p: hesse.scan(lambda c, x: (c, None), p, 3.0)[0], "wrong-inputs"),
    "string": (lambda p: hesse.scan(lambda c, x: (c, None), (p, "a"), R)[0], "bad-type"),
    "no function": (lambda p: hesse.scan(3, p, R)[0], "bad-type"),
    "branch": (lambda p: hesse.scan(lambda c, x: (c if x > 0 else -c, None), p, R)[0], "loop-branch"),
    "item": (lambda p: hesse.scan(lambda c, x: (c * x.item(), None), p, R)[0], "loop-branch"),
    "bound": (lambda p: hesse.fori_loop(0, 2.0, lambda i, v: v, p), "bad-type"),
    "long": (lambda p: hesse.scan(lambda c, _: (hnp.sin(c), None), p, None, length=2**30)[0], "too-many-steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    f, code = REFUSED[name]
    with pytest.raises(HesseError) as caught:
        traced(f)
    assert caught.value.code == code


def test_refused_outside_of_a_trace() -> None:
    with pytest.raises(RuntimeError, match="changes carry 0"):
        hesse.scan(lambda c, x: (np.stack([c, c]), None), 1.0, R)


def test_a_body_has_a_limit() -> None:
    def step(c: Node) -> list[Node]:
        for _ in range(MAX_BODY):
            c = apply("sin", c)
        return [c]

    with pytest.raises(MemoryError, match="body of a loop"):
        body([()], step)


def _entry(wire: dict[str, Any]) -> dict[str, Any]:
    return next(n for n in wire["nodes"] if n["op"] in ("scan", "linear_scan"))


WIRE: list[tuple[Callable[[dict[str, Any]], Any], str, str]] = [
    (lambda n: n["attrs"].update(body={"format": "x"}), "graph-format", "/attrs/body"),
    (lambda n: n["attrs"].update(body=3), "bad-attribute", ""),
    (lambda n: n["attrs"].update(length=10), "shape-mismatch", ""),
    (lambda n: n["attrs"].update(length=2**40), "too-many-steps", ""),
    (lambda n: n["attrs"]["body"]["nodes"][0].update(op="nothing"), "unknown-op", "/attrs/body/nodes/0/op"),
    (lambda n: n["attrs"].update(constants={"format": "hesse-graph/1"}), "bad-attribute", "/attrs/constants"),
]


@pytest.mark.parametrize(("change", "code", "where"), WIRE)
def test_wrong_loops_on_the_wire(change: Callable[[dict[str, Any]], Any], code: str, where: str) -> None:
    wire = rolled("backwards").graph(point("backwards"))
    change(_entry(wire))
    with pytest.raises(HesseError) as caught:
        graph_from_json(wire)
    assert caught.value.code == code
    assert where in (caught.value.pointer or "")


def test_loops_nested_too_deeply_on_the_wire() -> None:
    graph = Graph((inner := Builder().input("c", (), FLOAT64),), (apply("sin", inner),))
    for _ in range(10):
        outer = Builder().input("c", (), FLOAT64)
        packed = apply("scan", outer, body=Body(graph), constants=0, length=1)
        last = apply("reshape", apply("slice", packed, start=(1,), count=(1,)), shape=())
        graph = Graph((outer,), (last,))
    with pytest.raises(MemoryError, match="nested more than"):
        graph_from_json(graph_to_json(graph))


# ---- the rows themselves ---------------------------------------------------------------------------------------------
def loops(seed: int) -> Iterator[tuple[list[Node], Node]]:
    """Loops of both rows over operands with any strides."""
    rng = np.random.default_rng(seed)
    for is_reverse in (False, True):
        builder = Builder()
        k, c = builder.input("k", (2,), FLOAT64), builder.input("c", (2,), FLOAT64)
        x = builder.input("x", (2, 5), FLOAT64)
        row = apply("reshape", apply("slice", x, start=(int(rng.integers(2)), 0), count=(1, 5)), shape=(5,))
        made = body([(2,), (), (2,)], pair)
        yield [k, x, c], apply("scan", k, row, c, body=made, constants=1, length=5, reverse=is_reverse)
        columns, h = apply("permute_dims", x, axes=(1, 0)), apply("flip", apply("permute_dims", x, axes=(1, 0)), axis=0)
        scaled = body([(2,), (2,)], lambda x, d: [x * d])
        yield [k, x, c], apply("linear_scan", columns, c, h, body=scaled, constants=0, length=5, reverse=is_reverse)
        turned = body([(2,), (2,)], lambda k, d: [k * apply("flip", d)])
        yield [k, x, c], apply("linear_scan", k, c, h, body=turned, constants=1, length=5, reverse=is_reverse)


@pytest.mark.parametrize("seed", range(3))
def test_both_tiers_agree_on_operands_of_any_strides(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for inputs, node in loops(seed):
        arrays = [rng.normal(size=n.shape) for n in inputs]
        (batched,) = batch([node], {inputs[2]: apply("broadcast_to", apply("reshape", inputs[2], shape=(2, 1)),
                                                     shape=(2, 3))}, 3)
        for y in (node, batched):
            values = [build_program(inputs, [y], tier=tier).run(arrays)[0] for tier in ("vm", "reference")]
            np.testing.assert_allclose(values[0], values[1], rtol=1e-13)


def test_equal_loops_are_one_node() -> None:
    builder = Builder()
    k, x, c = (builder.input(n, s, FLOAT64) for n, s in (("k", (2,)), ("x", (5,)), ("c", (2,))))
    first, second = (apply("scan", k, x, c, body=body([(2,), (), (2,)], pair), constants=1, length=5) for _ in range(2))
    assert first is second
    assert len([n for n in reachable([first]) if n.op == "scan"]) == 1
