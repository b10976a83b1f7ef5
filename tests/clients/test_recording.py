"""Results that torch differentiates further: gradients through Hessians beside torch's own, embedded and over HTTP."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import hesse

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
from torch import func as torch_func  # noqa: E402
from torch.autograd import functional as torch_functional  # noqa: E402

from serving import Server, running  # noqa: E402
from torch_points import F64, X, cube  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")

# case(torch.autograd.functional, torch.func, x, w, y): a scalar of leaves that require grad
Scalar = Callable[[Any, Any, Any, Any, Any], Any]


def weighted(w: Any) -> Callable[[Any], Any]:
    return lambda x: (x**3 * w).sum() * x.sin().sum()


def squares(trees: Any) -> Any:
    return sum([squares(t) for t in trees]) if isinstance(trees, (tuple, list)) else (trees**2).sum()


def curve(w: Any) -> Callable[[Any], Any]:
    return lambda x: x.exp() * (x * w).sum()


CASES: dict[str, Scalar] = {
    # ---- functional
    "hessian": lambda af, tf, x, w, y: af.hessian(weighted(w), x, create_graph=True).diagonal().prod(),
    "hessian of two": lambda af, tf, x, w, y: squares(
        af.hessian(lambda a, b: (a**2 * b.exp() * w).sum(), (x, y), create_graph=True)),
    "hessian, vectorize": lambda af, tf, x, w, y: squares(
        af.hessian(weighted(w), x, create_graph=True, vectorize=True)),
    "hessian between other computations": lambda af, tf, x, w, y: squares(
        af.hessian(weighted(w * y), x.exp(), create_graph=True).inverse()),
    "hessian, the input closed over": lambda af, tf, x, w, y: squares(
        af.hessian(weighted(x), x, create_graph=True)),
    "hessian, only the closed-over tensor": lambda af, tf, x, w, y: squares(
        af.hessian(weighted(w), x.detach(), create_graph=True)),
    "hessian of squares": lambda af, tf, x, w, y: af.hessian(
        lambda a: (a**2).sum(), x, create_graph=True).sum(),
    "hessian, strict": lambda af, tf, x, w, y: squares(
        af.hessian(weighted(w), x, create_graph=True, strict=True)),
    "jacobian": lambda af, tf, x, w, y: squares(af.jacobian(curve(w), x, create_graph=True)),
    "jacobian, tuple out": lambda af, tf, x, w, y: squares(
        af.jacobian(lambda a: (a.exp() * w, (a * a).sum()), x, create_graph=True)),
    "vhp": lambda af, tf, x, w, y: squares(af.vhp(weighted(w), x, y, create_graph=True)),
    "hvp": lambda af, tf, x, w, y: squares(af.hvp(weighted(w), x, y, create_graph=True)),
    "hvp, product alone": lambda af, tf, x, w, y: squares(af.hvp(weighted(w), x, y, create_graph=True)[1]),
    "hvp, output alone": lambda af, tf, x, w, y: squares(af.hvp(weighted(w), x, y, create_graph=True)[0]),
    "jvp": lambda af, tf, x, w, y: squares(af.jvp(curve(w), x, y, create_graph=True)),
    "vjp": lambda af, tf, x, w, y: squares(af.vjp(curve(w), x, y, create_graph=True)),
    "vjp, tuple out": lambda af, tf, x, w, y: squares(
        af.vjp(lambda a: (a.exp() * w, (a * a).sum()), x, (y, y[0]), create_graph=True)),
    "nested": lambda af, tf, x, w, y: squares(af.jacobian(
        lambda a: af.hessian(lambda b: (b**4 * a * w).sum(), y, create_graph=True), x, create_graph=True)),
    # ---- func
    "func.hessian": lambda af, tf, x, w, y: squares(tf.hessian(weighted(w))(x)),
    "func.hessian, only the closed-over tensor": lambda af, tf, x, w, y: squares(tf.hessian(weighted(w))(x.detach())),
    "grad": lambda af, tf, x, w, y: squares(tf.grad(weighted(w))(x)),
    "grad, aux": lambda af, tf, x, w, y: squares(
        tf.grad_and_value(lambda a: (weighted(w)(a), (a * w, w)), has_aux=True)(x)),
    "jacfwd": lambda af, tf, x, w, y: squares(tf.jacfwd(curve(w))(x)),
    "jacrev in chunks": lambda af, tf, x, w, y: squares(tf.jacrev(curve(w), chunk_size=2)(x)),
    "jvp of func": lambda af, tf, x, w, y: squares(tf.jvp(curve(w), (x,), (y,))),
    "vjp of func": lambda af, tf, x, w, y: squares(tf.vjp(curve(w), x)[1](y)),
    "vjp of func, output": lambda af, tf, x, w, y: squares(tf.vjp(curve(w), x)[0]),
    "vmap": lambda af, tf, x, w, y: squares(tf.vmap(curve(w))(torch.outer(x, y))),
    "vmap in chunks": lambda af, tf, x, w, y: squares(tf.vmap(curve(w), chunk_size=2)(torch.outer(x, y))),
    "vmap in chunks of data": lambda af, tf, x, w, y: squares(tf.vmap(curve(w), chunk_size=2)(
        torch.outer(x, y).detach())),
    "vmap(hessian)": lambda af, tf, x, w, y: squares(tf.vmap(tf.hessian(weighted(w)))(torch.outer(x, y))),
    "tensors in a list": lambda af, tf, x, w, y: squares(tf.grad(lambda a: (torch.stack([w, a, y]) ** 3).sum())(x)),
    "a matrix product": lambda af, tf, x, w, y: squares(
        tf.hessian(lambda a: torch.tanh(torch.outer(w, y) @ a).sum())(x)),
    "a branch on a closed-over tensor": lambda af, tf, x, w, y: squares(
        tf.grad(lambda a: (a**3 * w).sum() if w.sum() > 0 else a.sum())(x)),
    "a float32 vector": lambda af, tf, x, w, y: squares(af.vhp(weighted(w), x, y.float(), create_graph=True)),
}


def leaves() -> tuple[Any, ...]:
    return tuple([torch.tensor(a, **F64, requires_grad=True) for a in ([0.3, -1.2, 2.0], [1, 2, 3], [0.5, 0.1, -0.4])])


def gradients(case: Scalar, af: Any, tf: Any, orders: int) -> list[Any]:
    """The scalar, its gradients, the gradients of a function of these, and so on."""
    given, found = leaves(), []
    scalar = case(af, tf, *given)
    found.append(scalar)
    for _ in range(orders):
        slopes = torch.autograd.grad(scalar, given, create_graph=True, allow_unused=True)
        found += slopes
        scalar = sum([(s**2).sum() for s in slopes if s is not None and s.requires_grad])
        if not torch.is_tensor(scalar):
            break
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("recording") / "server.log", compute_processes=1) as started:
        yield started


def check(case: Scalar, client: Any, orders: int, tolerance: float = 1e-9) -> None:
    theirs = gradients(case, torch_functional, torch_func, orders)
    ours = gradients(case, client.functional, client.func, orders)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            assert a.requires_grad == b.requires_grad
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_gradients_to_third_order(name: str) -> None:
    check(CASES[name], hesse, 3, 1e-4 if "float32" in name else 1e-9)


@pytest.mark.parametrize("name", ["hessian", "hessian of two", "hvp", "vjp", "func.hessian", "vmap(hessian)", "nested"])
def test_gradients_over_http(server: Server, name: str) -> None:
    with hesse.Client(server.url) as client:
        check(CASES[name], client, 2)


def test_a_backward_is_one_request(server: Server) -> None:
    sent: list[str] = []
    x, w, _ = leaves()
    with hesse.Client(server.url) as client:
        perform = client.send
        client.functional = hesse.client.Functional(lambda call: (sent.append(call.operation), perform(call))[1])
        value, product = client.functional.hvp(weighted(w), x, x, create_graph=True)
        assert sent == ["hvp"]
        (value + product.sum()).backward()
        assert sent == ["hvp", "grad"]
    assert x.grad is not None
    assert w.grad is not None


# ---- which results require grad --------------------------------------------------------------------------------------
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "cube": lambda x, w: cube(x),
    "linear": lambda x, w: x.sum(),
    "squares": lambda x, w: (x**2).sum(),
    "x * x": lambda x, w: (x * x).sum(),
    "constant": lambda x, w: torch.tensor(3.0, **F64),
    "closed over": lambda x, w: w.sum(),
    "closed over, linear": lambda x, w: (w * x).sum(),
    "detached": lambda x, w: (x.detach() ** 2).sum(),
    "abs": lambda x, w: x.abs().sum(),
}


def flags(result: Any) -> Any:
    return tuple([flags(r) for r in result]) if isinstance(result, (tuple, list)) else result.requires_grad


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_requires_grad(name: str) -> None:
    x, w, y = leaves()

    def f(a: Any) -> Any:
        return FUNCTIONS[name](a, w)

    def every(af: Any, tf: Any) -> list[Any]:
        found = []
        for point in (x, x.detach()):
            for more in ({"create_graph": True}, {}):
                found += [getattr(af, o)(f, point, **more) for o in ("hessian", "jacobian", "vjp")]
                found += [getattr(af, o)(f, point, y, **more) for o in ("vhp", "hvp", "jvp")]
            found += [tf.hessian(f)(point), tf.jacfwd(f)(point), tf.jacrev(f)(point), tf.grad(f)(point)]
            found += [tf.jvp(f, (point,), (y.detach(),)), tf.vjp(f, point)[0]]
        return found

    assert flags(every(hesse.functional, hesse.func)) == flags(every(torch_functional, torch_func))


def test_no_grad_around_and_inside() -> None:
    x, w, _ = leaves()
    with torch.no_grad():
        assert not hesse.func.hessian(weighted(w))(x).requires_grad
        assert not hesse.functional.hvp(weighted(w), x, x)[1].requires_grad
        recorded = hesse.functional.hessian(weighted(w), x, create_graph=True)
    assert recorded.requires_grad
    torch.testing.assert_close(recorded, torch_functional.hessian(weighted(w), x))

    def partly(a: Any) -> Any:
        with torch.no_grad():
            factor = a**2
        return (factor * a**3).sum()

    torch.testing.assert_close(hesse.functional.hessian(partly, x), torch_functional.hessian(partly, x))
    torch.testing.assert_close(hesse.func.grad(partly)(x), torch_func.grad(partly)(x))


def test_inference_mode_records_nothing() -> None:
    x = X.clone()
    with torch.inference_mode():
        found = hesse.functional.hessian(cube, x, create_graph=True)
    torch.testing.assert_close(found.clone(), torch.diag(6 * x))


def test_numpy_in_numpy_out() -> None:
    for found in (hesse.functional.hessian(cube, X.numpy(), create_graph=True), hesse.func.hessian(cube)(X.numpy())):
        assert type(found) is np.ndarray
    x, w, _ = leaves()
    mixed = hesse.functional.hessian(lambda a, b: (a**2 * b * w).sum(), (x, X.numpy()), create_graph=True)
    expected = torch_functional.hessian(lambda a, b: (a**2 * b * w).sum(), (x, X), create_graph=True)
    for ours, theirs in zip(torch.autograd.grad(squares(mixed), (x, w)), torch.autograd.grad(squares(expected), (x, w)),
                            strict=True):
        torch.testing.assert_close(ours, theirs)


# ---- torch's own checks ----------------------------------------------------------------------------------------------
CHECKED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "hessian": lambda x, w, y: hesse.functional.hessian(weighted(w), x, create_graph=True),
    "vhp": lambda x, w, y: hesse.functional.vhp(weighted(w), x, y, create_graph=True),
    "hvp": lambda x, w, y: hesse.functional.hvp(weighted(w), x, y, create_graph=True),
    "jvp": lambda x, w, y: hesse.functional.jvp(curve(w), x, y, create_graph=True),
    "vjp": lambda x, w, y: hesse.functional.vjp(curve(w), x, y, create_graph=True),
    "jacobian": lambda x, w, y: hesse.functional.jacobian(curve(w * y), x, create_graph=True),
    "func.hessian": lambda x, w, y: hesse.func.hessian(weighted(w * y))(x),
    "vmap": lambda x, w, y: hesse.func.vmap(curve(w))(torch.outer(x, y)),
}


@pytest.mark.parametrize("name", CHECKED)
def test_gradcheck_and_gradgradcheck(name: str) -> None:
    given = tuple([(t.detach()[:2] / 2).requires_grad_() for t in leaves()])
    assert torch.autograd.gradcheck(CHECKED[name], given)
    assert torch.autograd.gradgradcheck(CHECKED[name], given)


# ---- in use ----------------------------------------------------------------------------------------------------------
def trajectory(hessian: Any) -> list[float]:
    """Fit a small network to a curve while its curvature in the input is penalized."""
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(*s, generator=generator, **F64).mul(0.5).requires_grad_() for s in ((4, 2), (4,), (4,))]
    points, targets = torch.randn(3, 2, generator=generator, **F64), torch.randn(3, generator=generator, **F64)
    optimizer, losses = torch.optim.Adam(weights, lr=0.05), []

    def network(x: Any) -> Any:
        inner, shift, outer = weights
        return outer @ torch.tanh(inner @ x + shift)

    for _ in range(8):
        optimizer.zero_grad()
        loss = sum([(network(x) - t) ** 2 + 0.1 * hessian(network, x).diagonal().sum() ** 2
                    for x, t in zip(points, targets, strict=True)])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_with_a_penalty_on_curvature() -> None:
    ours = trajectory(lambda f, x: hesse.functional.hessian(f, x, create_graph=True))
    theirs = trajectory(lambda f, x: torch_functional.hessian(f, x, create_graph=True))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    np.testing.assert_allclose(trajectory(lambda f, x: hesse.func.hessian(f)(x)), theirs, rtol=1e-10)
    assert all([after < before for before, after in pairwise(ours)])


def test_a_module_with_parameters() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    found = []
    for functions in (hesse.functional, torch_functional):
        model.zero_grad()
        squares(functions.hessian(lambda x: _applied(model, x), X, create_graph=True)).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert [g.shape for g in found[0]][:3] == [(4, 3), (4,), (1, 4)]
    for ours, theirs in zip(found[0], found[1], strict=False):
        torch.testing.assert_close(ours, theirs)


def _applied(model: Any, x: Any) -> Any:
    first, second = model[0], model[2]
    return (second.weight @ torch.tanh(first.weight @ x + first.bias) + second.bias).sum()


# ---- what torch guards, and what cannot be ---------------------------------------------------------------------------
def test_a_value_changed_in_place_is_noticed() -> None:
    x, _, _ = leaves()
    inner = x * 1.0
    found = hesse.functional.hessian(cube, inner, create_graph=True)
    inner.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.sum().backward()


def test_a_backward_twice_needs_the_graph_kept() -> None:
    x, _, _ = leaves()
    found = hesse.functional.hessian(cube, x, create_graph=True).sum()
    found.backward(retain_graph=True)
    found.backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 12.0))
    with pytest.raises(RuntimeError, match="second time"):
        found.backward()


def test_the_grad_fn_is_ours() -> None:
    x, _, _ = leaves()
    assert "HesseBackward" in repr(hesse.functional.hessian(cube, x, create_graph=True))


def test_the_client_of_the_call_computes_its_backward(server: Server) -> None:
    x, _, _ = leaves()
    client = hesse.Client(server.url)
    with hesse.use(client):
        found = hesse.functional.hessian(cube, x, create_graph=True)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        found.sum().backward()


@pytest.mark.parametrize("is_local", [True, False])
def test_an_async_client_gives_results_that_say_so(server: Server, is_local: bool) -> None:
    x, w, _ = leaves()

    async def work() -> Any:
        client = hesse.AsyncClient(":local:" if is_local else server.url)
        found = await client.functional.hessian(weighted(w), x, create_graph=True)
        await client.close()
        return found

    found = asyncio.run(work())
    torch.testing.assert_close(found, torch_functional.hessian(weighted(w), x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotImplementedError, match=r"Use a hesse\.Client"):
            found.sum().backward()


@pytest.mark.parametrize("operation", ["hessian", "jacobian", "vhp", "hvp", "jvp", "vjp"])
def test_results_are_detached_inside_a_trace_with_a_warning(operation: str) -> None:
    x, w, y = leaves()
    vector = {"hessian": (), "jacobian": (), "vjp": ()}.get(operation, (y,))

    def inner(functions: Any, a: Any, create_graph: bool) -> Any:
        found = getattr(functions, operation)(weighted(w), a, *vector, create_graph=create_graph)
        return squares(found)

    for outer in (lambda f: hesse.func.grad(f)(x), lambda f: hesse.functional.jacobian(f, x, create_graph=True)):
        with pytest.warns(hesse.DetachedWarning, match=rf"functional\.{operation} .*create_graph=True"):
            cut = outer(lambda a: inner(hesse.functional, a, False) + a.sum())
        torch.testing.assert_close(cut, torch.ones_like(x))
        kept = outer(lambda a: inner(hesse.functional, a, True))
        expected = torch_functional.jacobian(lambda a: inner(torch_functional, a, True), x, create_graph=True)
        torch.testing.assert_close(kept, expected)
        torch.testing.assert_close(torch.autograd.grad(kept.sum(), w)[0], torch.autograd.grad(expected.sum(), w)[0])
