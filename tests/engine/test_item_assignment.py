"""Programs that assign to items, run by NumPy or torch on arrays and by us traced: results, aliases, Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import hesse
from hesse_engine.errors import ArgumentTypeError, FunctionError, HesseError
from hesse_engine.frontends.trace import Trace, created, is_tracer
from oracles import peer
from tracing import traced

torch: Any = peer("torch")
random = np.random.default_rng(5)
X = random.normal(size=6)
M = random.normal(size=(3, 4))
Program = Callable[[Any], Any]


# ---- programs over a vector and over a matrix: what they return must be what NumPy returns --------------------------
def element(x: Any) -> Any:
    y = x * 2
    y[0] = 7.0
    y[-1] = y[1] * y[2]
    return y


def slices(x: Any) -> Any:
    y = np.sin(x)
    y[1:4] = x[:3] * 10
    y[::2] += 1
    y[5:0:-2] = [1.0, 2.0, 3.0]
    return y


def recursion(x: Any) -> Any:
    y = x.copy()
    for i in range(2, len(x)):
        y[i] = 0.5 * y[i - 1] - 0.25 * y[i - 2] + x[i]
    return y


def accumulated(x: Any) -> Any:
    y = x * 0
    for i in range(len(x) - 1):
        y[i] += x[i] ** 2
        y[i + 1] -= x[i] * x[i + 1]
    return y


def mask_of_scalar(x: Any) -> Any:
    y = x * 1
    y[x > 0] = -1.5
    return y


def mask_of_values(x: Any) -> Any:
    y = x * 1
    y[x > 0] = x[x > 0] ** 2
    y[x < 0] *= 3
    return y


def duplicates(x: Any) -> Any:
    y = x * 1
    y[[0, 1, 0]] = [x[3], x[4], x[5]]
    y[[2, 2]] += 1
    return y


def computed_index(x: Any) -> Any:
    y = x * 1
    y[np.argmax(x)] = 0.0
    y[np.argsort(x)[:2]] = x[:2] * 3
    return y


def computed_duplicates(x: Any) -> Any:
    y = x * 1
    k = np.argsort(x)
    y[k[[0, 1, 0, 0]]] = x[:4] * 5
    y[k[-1]] += x[0]
    return y


def whole(x: Any) -> Any:
    y = x * 1
    y[...] = x[::-1]
    y[:] = y + 1
    return y


def view_writes_base(x: Any) -> Any:
    y = x * 1
    v = y[1:5]
    w = v[::2]
    w[0] = 100.0
    v[-1] = x[0] * x[1]
    return y, v, w


def base_writes_view(x: Any) -> Any:
    y = x * 1
    v, c, f = y[2:], y[2:].copy(), y[[2, 3]]
    y[3] = x[0]
    y *= 2
    return v, c, f, y


def alias(x: Any) -> Any:
    y = x * 1
    z = y
    z += 1
    y -= x[0]
    return z, y


def reshaped(x: Any) -> Any:
    y = x * 1
    m = y.reshape(2, 3)
    m[1] = m[0] * 2
    m.T[0, 1] = -9
    t = m.T.reshape(-1)  # a copy: the elements are not in a row
    t[:] = 0
    y.ravel()[2] = 55
    y.flatten()[3] = 66
    return y, m, t


def rows_of_matrix(x: Any) -> Any:
    y = x * 1
    for row in y:
        row /= row.sum()
    y[:, 0] = 0
    y[1, 1:] = y[0, :-1]
    return y


def advanced(x: Any) -> Any:
    y = x * 1
    y[[0, 2], [1, 3]] = [x[0, 0] * 2, x[1, 1]]
    y[[0, 2], :2] *= 2
    y[:, [0, 3]] = x[:, [3, 0]]
    y[np.array([True, False, True])] += 1
    y[np.arange(3)[:, None], [1, 2]] = 4
    return y


def assembled(x: Any) -> Any:
    y = x * 0
    n = len(x)
    for i in range(n - 1):
        y[i:i + 2] += np.array([[1.0, -1.0], [-1.0, 1.0]]) @ x[i:i + 2] * x[i]
    return y


def out_argument(x: Any) -> Any:
    y = x * 0
    v = y[::2]
    np.multiply(x[::2], 3, out=v)
    np.add(y, 1, out=y)
    return y, v


def functions_in_place(x: Any) -> Any:
    y = x * 1
    y.sort()
    z = x * 1
    np.put(z, [0, -1], [10.0, 20.0])
    np.add.at(z, [1, 1, 2], x[:3])
    np.subtract.at(z, [3, 3], 1.0)
    w = x * 1
    np.copyto(w, 3.0, where=x > 0)
    np.putmask(w, x < 0, [1.0, 2.0])
    u = x * 1
    np.place(u, x > -1, [7.0, 8.0])
    t = x * 1
    t.fill(2.5)
    return y, z, w, u, t


def diagonal_filled(x: Any) -> Any:
    y = x * 1
    np.fill_diagonal(y, 0.0)
    np.put_along_axis(y, np.argmax(x, axis=1)[:, None], 9.0, axis=1)
    p = x * 1
    p.partition(1, axis=1)
    return y, p[:, 1]


def maxima_at(x: Any) -> Any:
    y = x * 1
    np.maximum.at(y, [0, 0, 1], x[3:])
    np.multiply.at(y, [2, 2], x[:2])
    return y


def scalars_stay(x: Any) -> Any:
    y = x * 1
    s = y[0]
    t = y.sum()
    u = t
    s += 1
    t += 1
    y[0] = 50
    return s, t, u, y


def no_dimensions(x: Any) -> Any:
    y = x * 1
    s = y[0, ...]
    s[...] = 3
    s += 1
    return y, s


def broadcast_values(x: Any) -> Any:
    y = x * 1
    y[1:] = [[1.0, 2.0, 3.0, 4.0]]
    y[:, :2] = x[:, 2:3]
    y[0] = np.float32(2)
    y[:0] = 5.0
    return y


def through_views(x: Any) -> Any:
    y = x * 1
    a, b = np.atleast_2d(y, y[0])
    b[0, 3] = 11
    a[2, 0] = b[0, 3] * 2
    diagonal = np.diag(y)
    np.swapaxes(y, 0, 1)[0] = 1
    np.flip(y)[0, 0] = 2
    y[None][0, 1, 1] = 3
    np.expand_dims(y, 1)[0, 0, 2] = 4
    np.split(y, 2, axis=1)[1][2] = 5
    y.T.T[1, 3] = 6
    np.rot90(y)[0, 1] = 8
    np.squeeze(y[:1])[1] = 7
    return y, diagonal


VECTOR = [element, slices, recursion, accumulated, mask_of_scalar, mask_of_values, duplicates, computed_index,
          computed_duplicates, whole, view_writes_base, base_writes_view, alias, reshaped, out_argument,
          functions_in_place, maxima_at, scalars_stay]
MATRIX = [rows_of_matrix, advanced, assembled, diagonal_filled, no_dimensions, broadcast_values, through_views, whole,
          mask_of_scalar, mask_of_values]
PROGRAMS = [(f, X) for f in VECTOR] + [(f, M) for f in MATRIX]
IDS = [f"{f.__name__}-{x.ndim}d" for f, x in PROGRAMS]


def parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


@pytest.mark.parametrize(("f", "x"), PROGRAMS, ids=IDS)
def test_a_program_gives_what_numpy_gives(f: Program, x: Any) -> None:
    for ours, theirs in zip(parts(traced(f, x)), parts(f(x.copy())), strict=True):
        assert np.shape(ours) == np.shape(theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-14, atol=1e-15)


def differences(f: Callable[[Any], Any], x: Any) -> Any:
    """A Jacobian by central differences of programs that are polynomials or sines: good to 1e-8."""
    columns = []
    for k in range(x.size):
        step = np.zeros(x.size)
        step[k] = 1e-6
        columns.append((f(x + step.reshape(x.shape)) - f(x - step.reshape(x.shape))) / 2e-6)
    return np.stack([c.ravel() for c in columns], 1)


@pytest.mark.parametrize(("f", "x"), PROGRAMS, ids=IDS)
def test_the_jacobian_of_a_program(f: Program, x: Any) -> None:
    def joined(x: Any) -> Any:
        return np.concatenate([np.reshape(np.asarray(v) if not is_tracer(v) else v, -1) for v in parts(f(x))])

    wanted = differences(lambda x: joined(x.copy()), x)
    forward = hesse.func.jacfwd(joined)(x).reshape(wanted.shape)
    backward = hesse.func.jacrev(joined)(x).reshape(wanted.shape)
    np.testing.assert_allclose(forward, wanted, atol=2e-7)
    np.testing.assert_allclose(backward, forward, rtol=1e-13, atol=1e-13)


def test_the_hessian_of_a_recursion_is_that_of_its_closed_form() -> None:
    def f(x: Any) -> Any:
        y = x * 1
        for i in range(1, 6):
            y[i] = y[i - 1] * x[i]
        return y[-1]

    h = hesse.functional.hessian(f, X)
    p = np.prod(X)
    wanted = np.array([[0.0 if i == j else p / (X[i] * X[j]) for j in range(6)] for i in range(6)])
    np.testing.assert_allclose(h, wanted, rtol=1e-12, atol=1e-15)


def test_a_recursion_of_assignments_is_a_chain_of_scalars() -> None:
    trace = Trace()
    x = trace.input(np.zeros(200), "x")
    y = x * 1
    for i in range(1, 200):
        y[i] = 0.5 * y[i - 1] + x[i]
    graph = trace.graph([y.sum()], [x])
    assert max(n.size for n in graph.builder.nodes) == 200
    assert sum(n.size == 200 for n in graph.builder.nodes) < 8


# ---- any assignment -------------------------------------------------------------------------------------------------
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_sequence_of_assignments_is_numpy_s(data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    steps = []
    for _ in range(data.draw(st.integers(1, 4))):
        view = data.draw(arrays.basic_indices(shape, allow_newaxis=True))
        seen = np.zeros(shape)[view]
        key: Any = ... if not np.ndim(seen) or not np.size(seen) else data.draw(st.one_of(
            arrays.basic_indices(seen.shape), arrays.integer_array_indices(seen.shape), st.just(...)))
        steps.append((view, key, data.draw(st.booleans()), data.draw(st.floats(-2, 2))))

    def program(x: Any) -> Any:
        y = x * 1
        views = []
        for view, key, is_sum, factor in steps:
            v = y[view]
            if not getattr(v, "ndim", 0):
                y[view] = factor
                continue
            views.append(v)
            value = v[key] * factor + 1
            if is_sum:
                v[key] += value
            else:
                v[key] = value
        return (y, *views)

    x = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
    for ours, theirs in zip(traced(program, x), program(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---- constants of the trace -----------------------------------------------------------------------------------------
def test_created_arrays_take_traced_values_inside_a_trace() -> None:
    assert type(created(np.zeros(2))) is np.ndarray
    trace = Trace()
    x = trace.input(X, "x")
    with trace:
        y = created(np.zeros(3))
        y[1] = x[0]
        y[2:] += x[1]
        c = created(np.arange(3))
        assert (int(c[2]), list(range(int(c[1]))), [5, 6, 7][c[2]]) == (2, [0], 7)
        assert np.asarray(c).tolist() == c.tolist() == [0, 1, 2]
        assert float(created(np.array(2.5))) == 2.5
        counts = created(np.zeros(3, int))
        counts[0] = x[0] * 0 + 3.9
        scalar = created(np.zeros(()))
        scalar[...] = x[0]
        scalar += 1
    from hesse_engine.backend.reference import run
    values = run([y.node, counts.node, scalar.node], {x.node: X})
    np.testing.assert_allclose(values[0], [0, X[0], X[1]])
    assert values[1].tolist() == [3, 0, 0] and values[1].dtype == np.int64
    assert values[2] == X[0] + 1
    assert not trace.guards


def test_under_vmap_and_in_inner_transforms() -> None:
    def f(x: Any) -> Any:
        y = x * 1
        y[1:] *= y[:-1]
        y[x > 0.5] = 0.0
        y[np.argmax(x)] += 2.0
        return y

    batch = random.normal(size=(4, 6))
    np.testing.assert_allclose(hesse.func.vmap(f)(batch), np.stack([f(b.copy()) for b in batch]), rtol=1e-14)

    def outer(x: Any) -> Any:
        g = hesse.func.grad(lambda z: (f(z) ** 2).sum())(x)
        g[0] = x[1]
        return (g * x).sum()

    h = hesse.functional.hessian(outer, X)
    np.testing.assert_allclose(h, h.T, atol=1e-12)
    e = 1e-5
    gradient = hesse.func.grad(outer)
    rows = [(np.asarray(gradient(X + e * d)) - np.asarray(gradient(X - e * d))) / (2 * e) for d in np.eye(6)]
    np.testing.assert_allclose(h, rows, atol=1e-6)


def test_a_mask_that_decides_a_shape_is_refused_under_vmap() -> None:
    def f(x: Any) -> Any:
        y = x * 1
        y[x > 0] = x[x > 0]
        return y

    with pytest.raises(FunctionError):
        hesse.func.vmap(f)(np.stack([X, X]))


def test_an_example_under_vmap_does_not_leak_into_an_outer_array() -> None:
    def f(x: Any) -> Any:
        y = x * 1

        def inner(a: Any) -> Any:
            y[0] = a
            return a * 2

        hesse.func.vmap(inner)(x)
        return (y * y).sum()

    with pytest.raises(ArgumentTypeError, match="under vmap"):
        hesse.func.grad(f)(X)


# ---- refusals -------------------------------------------------------------------------------------------------------
def _to_input(x: Any) -> None:
    x[0] = 1.0


def _to_view_of_input(x: Any) -> None:
    x[1:][0] = 1.0


def _add_to_view_of_input(x: Any) -> None:
    v = x[1:]
    v += 1


def _read_only(x: Any) -> None:
    np.broadcast_to(x * 1, (2, 6))[0, 0] = 1.0


def _scalar(x: Any) -> None:
    y = x.sum()
    y[()] = 1.0


def _wrong_shape(x: Any) -> None:
    y = x * 1
    y[:3] = x


def _growing(x: Any) -> None:
    y = x[:1] * 1
    y += x


def _cast(x: Any) -> None:
    y = np.argsort(x)
    y += 0.5


def _out_of_range(x: Any) -> None:
    y = x * 1
    y[6] = 1.0


def _bad_mask(x: Any) -> None:
    y = x * 1
    y[x[:3] > 0] = 1.0


def _float_key(x: Any) -> None:
    y = x * 1
    y[1.5] = 1.0


def _row_at_computed_index(x: Any) -> None:
    y = x.reshape(2, 3) * 1
    v = y[np.argmax(y[:, 0])]
    v[0] = 1.0


def _fill_input(x: Any) -> None:
    x.fill(0.0)


def _sort_input(x: Any) -> None:
    x.sort()


def _broadcast_together(x: Any) -> None:
    a, _ = np.broadcast_arrays(x * 1, np.zeros((2, 6)))
    a[0, 0] = 1.0


REFUSED: list[tuple[Program, str]] = [
    (_broadcast_together, "cut-graph"),
    (_to_input, "cut-graph"), (_to_view_of_input, "cut-graph"), (_add_to_view_of_input, "cut-graph"),
    (_read_only, "cut-graph"), (_scalar, "bad-type"), (_wrong_shape, "shape-mismatch"),
    (_growing, "shape-mismatch"), (_cast, "bad-type"), (_out_of_range, "index-out-of-range"),
    (_bad_mask, "index-out-of-range"), (_float_key, "bad-type"), (_row_at_computed_index, "cut-graph"),
    (_fill_input, "cut-graph"), (_sort_input, "cut-graph"),
]


@pytest.mark.parametrize(("f", "code"), REFUSED, ids=[f.__name__ for f, _ in REFUSED])
def test_refusals(f: Program, code: str) -> None:
    with pytest.raises(HesseError) as caught:
        traced(f, X)
    assert caught.value.code == code


def test_an_input_is_rebound_and_never_changed() -> None:
    def f(x: Any) -> Any:
        x += 1
        x[0] = 5.0
        return x

    given_ = X.copy()
    np.testing.assert_array_equal(traced(f, given_), [5.0, *(X[1:] + 1)])
    np.testing.assert_array_equal(given_, X)


# ---- torch ----------------------------------------------------------------------------------------------------------
def t_methods(x: Any) -> Any:
    y = x.clone()
    y.add_(1).mul_(2)
    v = y.view(2, 3)
    v[1].zero_()
    v[0, 0].fill_(7)
    y.clamp_(min=-1.0)
    z = x * 2
    z.masked_fill_(x > 0, 0.5)
    z.index_add_(0, torch.tensor([0, 0, 2]), x[:3])
    z.copy_(z.flip(0))
    return y, v, z


def t_aliases(x: Any) -> Any:
    y = x * 1
    a = y[0]
    a += 5
    b = y.t()[1:] if y.ndim > 1 else y[1:]
    b *= 2
    d = y.detach()
    y[2] = x[0]
    return y, a, b, d


def t_scatter(x: Any) -> Any:
    y = torch.zeros_like(x)
    y.scatter_(0, torch.argsort(x)[:2], x[:2])
    y.scatter_add_(0, torch.tensor([1, 1]), x[2:4])
    y.index_fill_(0, torch.tensor([5]), 3.0)
    y.index_put_((torch.tensor([3, 3]),), x[:2], accumulate=True)
    y.put_(torch.tensor([4]), x[:1])
    return y


def t_functions(x: Any) -> Any:
    y = x * 1
    torch.relu_(y)
    z = x.new_zeros(4)
    for i in range(4):
        z[i] = x[i] ** 2 if i == 0 else z[i - 1] + x[i]
    s = y.sum()
    s += 1
    total = x.sum()
    total -= x[0]
    return y, z, s, total


def t_split(x: Any) -> Any:
    y = x * 1
    a, b = y.narrow(0, 0, 3), y.narrow(0, 3, 3)
    a[0] = b[1]
    c = y.select(0, 4)
    c -= 1
    y.reshape(2, 3).unsqueeze(0).squeeze(0)[1, 1] = 4.0
    y.movedim(0, 0)[5].mul_(2)
    y.view(3, 2).diagonal().zero_()
    w = x * 1
    w[x > 0] *= 2
    w[w.argmax()] = 0
    e = w.double()
    e[1] = 4
    f = w.float()
    f[1] = 5
    return y, a, b, w, e


TORCH = [t_methods, t_aliases, t_scatter, t_functions, t_split]


@pytest.mark.skipif(torch is None, reason="torch is compared with; it is an optional peer")
@pytest.mark.parametrize("f", TORCH)
def test_a_torch_program_gives_what_torch_gives(f: Program) -> None:
    x = torch.from_numpy(X.copy())
    ours, theirs = hesse.function(lambda x: tuple(parts(f(x))))(x), parts(f(x.clone()))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13)

    def joined(x: Any) -> Any:
        return torch.cat([v.reshape(-1) for v in parts(f(x))])

    np.testing.assert_allclose(hesse.func.jacrev(joined)(x).numpy(),
                               torch.autograd.functional.jacobian(joined, x).numpy(), atol=1e-13)


@pytest.mark.skipif(torch is None, reason="torch is compared with; it is an optional peer")
@pytest.mark.parametrize("f", [
    lambda x: x.add_(1), lambda x: x[1:].zero_(), lambda x: torch.zeros(3).add_(x[:3]),
    lambda x: torch.zeros(3).__setitem__(0, x[0]), lambda x: (x * 1).expand(2, 6).add_(1),
    lambda x: (x * 1).unsqueeze_(0), lambda x: (x * 1).detach().zero_(), lambda x: torch.argsort(x).add_(0.5),
])
def test_torch_refusals(f: Program) -> None:
    with pytest.raises(ArgumentTypeError):
        hesse.function(f)(torch.from_numpy(X.copy()))
