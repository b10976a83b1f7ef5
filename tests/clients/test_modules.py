"""`func.functional_call`: torch modules as functions of traced parameters, against torch."""

from __future__ import annotations

from typing import Any

import pytest

import hesse.func

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
from torch import func as torch_func  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")

INPUTS = torch.linspace(-1.0, 1.0, 15, dtype=torch.float64).reshape(5, 3)
LABELS = torch.tensor([0, 1, 1, 0, 1])


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def parameters(module: Any) -> dict[str, Any]:
    return {k: v.detach().clone() for k, v in module.named_parameters()}


def loss(functions: Any, module: Any) -> Any:
    def at(given: Any, x: Any = INPUTS, labels: Any = LABELS) -> Any:
        return nn.functional.cross_entropy(functions.functional_call(module, given, (x,)), labels)

    return at


def close(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            close(ours[key], theirs[key])
    else:
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_gradient_of_a_network() -> None:
    net = network()
    found = hesse.func.grad(loss(hesse.func, net))(parameters(net))
    close(found, torch_func.grad(loss(torch_func, net))(parameters(net)))


def test_the_hessian_of_a_network() -> None:
    net = network()
    found = hesse.func.hessian(loss(hesse.func, net))(parameters(net))
    close(found, torch_func.hessian(loss(torch_func, net))(parameters(net)))


def test_a_hessian_vector_product() -> None:
    net = network()
    at = parameters(net)
    v = {k: torch.ones_like(p) for k, p in at.items()}
    found = hesse.func.jvp(hesse.func.grad(loss(hesse.func, net)), (at,), (v,))[1]
    close(found, torch_func.jvp(torch_func.grad(loss(torch_func, net)), (at,), (v,))[1])


def test_gradients_for_each_sample() -> None:
    net = network()

    def each(functions: Any) -> Any:
        one = loss(functions, net)
        return functions.vmap(functions.grad(lambda p, x, y: one(p, x[None], y[None])), in_dims=(None, 0, 0))(
            parameters(net), INPUTS, LABELS)

    close(each(hesse.func), each(torch_func))


def test_an_ensemble() -> None:
    models = [network() for _ in range(3)]
    for k, m in enumerate(models):
        with torch.no_grad():
            m[0].weight.add_(0.1 * k)
    stacked, _ = hesse.func.stack_module_state(models)
    stacked = {k: v.detach() for k, v in stacked.items()}
    found = hesse.func.vmap(lambda p: hesse.func.functional_call(models[0], p, INPUTS))(stacked)
    close(found, torch.stack([m(INPUTS).detach() for m in models]))


def test_dicts_and_keywords() -> None:
    net = network()
    at = parameters(net)
    halves = ({k: v for k, v in at.items() if k[0] == "0"}, {k: v for k, v in at.items() if k[0] == "2"})
    close(hesse.func.functional_call(net, halves, (INPUTS,)), torch_func.functional_call(net, halves, (INPUTS,)))
    close(hesse.func.functional_call(net, at, INPUTS), torch_func.functional_call(net, at, INPUTS))
    close(hesse.func.functional_call(net, at, None, {"input": INPUTS}),
          torch_func.functional_call(net, at, None, {"input": INPUTS}))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False).double()
        self.b = nn.Linear(2, 2, bias=False).double()
        self.b.weight = self.a.weight
        self.register_buffer("count", torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x: Any) -> Any:
        return (self.b(torch.tanh(self.a(x))) * self.count).sum()


@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("name", ["a.weight", "b.weight"])
def test_tied_weights(name: str, tie_weights: bool) -> None:
    module, x = Tied(), torch.tensor([0.3, -0.8], dtype=torch.float64)
    at = {name: torch.eye(2, dtype=torch.float64) * 0.7}

    def gradient(functions: Any) -> Any:
        return functions.grad(lambda p: functions.functional_call(module, p, (x,), tie_weights=tie_weights))(at)

    close(gradient(hesse.func), gradient(torch_func))


def test_buffers_are_parameters_too() -> None:
    module, x = Tied(), torch.tensor([0.3, -0.8], dtype=torch.float64)
    at = {"count": torch.tensor(3.0, dtype=torch.float64)}
    close(hesse.func.grad(lambda p: hesse.func.functional_call(module, p, x))(at),
          torch_func.grad(lambda p: torch_func.functional_call(module, p, x))(at))


ERRORS: dict[str, Any] = {
    "no dict": lambda f, m: f.functional_call(m, 3.0, INPUTS),
    "a list of numbers": lambda f, m: f.functional_call(m, [1.0], INPUTS),
    "a name in two dicts": lambda f, m: f.functional_call(m, (parameters(m), parameters(m)), INPUTS),
    "a number as a parameter": lambda f, m: f.functional_call(m, {"0.weight": 1.0}, INPUTS),
    "strict, missing": lambda f, m: f.functional_call(m, {"0.weight": m[0].weight}, INPUTS, strict=True),
    "strict, unexpected": lambda f, m: f.functional_call(
        m, {**parameters(m), "9.weight": m[0].weight}, INPUTS, strict=True),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError)) as theirs:
        ERRORS[name](torch_func, network())
    with pytest.raises(hesse.HesseError) as ours:
        ERRORS[name](hesse.func, network())
    assert isinstance(ours.value, type(theirs.value))
    assert str(ours.value) == str(theirs.value)


def test_two_values_for_one_tied_weight() -> None:
    at = {"a.weight": torch.eye(2).double(), "b.weight": torch.ones(2, 2).double()}
    for functions in (hesse.func, torch_func):
        with pytest.raises(ValueError, match="functional_call got multiple values for keys"):
            functions.functional_call(Tied(), at, torch.ones(2).double())


def test_the_module_is_as_before_whatever_happens() -> None:
    net = network()
    before = dict(net.named_parameters())
    with pytest.raises(RuntimeError, match="stop"):
        hesse.func.grad(lambda p: _stopped(hesse.func.functional_call(net, p, INPUTS)))(parameters(net))
    with pytest.raises(TypeError, match="must be Tensor"):
        hesse.func.grad(lambda p: hesse.func.functional_call(net, p, "x").sum())(parameters(net))
    assert dict(net.named_parameters()).keys() == before.keys()
    assert all(p is before[k] for k, p in net.named_parameters())


def _stopped(value: Any) -> Any:
    raise RuntimeError("stop")


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Any) -> Any:
        self.seen.add_(1.0)
        return (x * self.seen).sum()


def test_a_traced_buffer_that_is_changed_in_place_is_refused() -> None:
    with pytest.raises(TypeError, match="in place"):
        hesse.func.grad(lambda p: hesse.func.functional_call(Counting(), p, INPUTS))(
            {"seen": torch.ones((), dtype=torch.float64)})


def test_a_buffer_of_its_own_changes_as_in_torch() -> None:
    module = Counting()
    hesse.func.grad(lambda x: hesse.func.functional_call(module, {}, x))(INPUTS)
    assert module.seen == 1.0


def test_a_plain_function_takes_the_parameters_first() -> None:
    def line(p: Any, x: Any) -> Any:
        return ((x @ p["w"]) ** 2).sum()

    at = {"w": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)}
    close(hesse.func.grad(lambda p: hesse.func.functional_call(line, p, (INPUTS,)))(at),
          torch_func.grad(lambda p: line(p, INPUTS))(at))
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module or a function of"):
        hesse.func.functional_call("net", at, INPUTS)
