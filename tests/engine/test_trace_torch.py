"""torch code traced and run by the reference interpreter gives what torch gives: values, and derivatives at kinks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend.reference import run
from hesse_engine.errors import ArgumentTypeError, FunctionError, HesseError, InputError
from hesse_engine.frontends.trace import Trace, is_tracer
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient
from tracing import traced as run_traced

torch = pytest.importorskip("torch", reason="the torch frontend is for users who have torch")
F = torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in torch.func

random = np.random.default_rng(5)
X = random.normal(size=(2, 3))
Y = random.normal(size=(2, 3))
P = random.uniform(0.1, 0.9, size=(2, 3))
S = random.normal(size=(3, 3))
C = random.normal(size=(2, 3, 4))
V = random.normal(size=3)
TY, TS, TV, TP = (torch.tensor(a) for a in (Y, S, V, P))


traced = partial(run_traced, library="torch")


def same(actual: Any, expected: Any, rtol: float = 1e-12) -> None:
    if isinstance(expected, torch.Tensor):
        expected = expected.detach().numpy()
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            same(a, e, rtol)
        return
    if isinstance(expected, np.ndarray):
        assert np.asarray(actual).dtype == expected.dtype
        rtol = max(rtol, 4e-6 if expected.dtype == np.float32 else 0)
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-14, strict=True)
    else:
        assert actual == expected


def check(f: Callable[..., Any], *values: Any) -> None:
    same(traced(f, *values), f(*[torch.tensor(v) for v in values]))


UNARY = ["sin", "cos", "tan", "tanh", "exp", "expm1", "abs", "absolute", "neg", "negative", "sign", "square", "sigmoid",
         "reciprocal", "isnan", "isinf", "isfinite", "logical_not", "relu", "deg2rad", "rad2deg", "positive", "clone"]
POSITIVE = ["log", "log1p", "sqrt", "rsqrt", "log2", "log10"]
BINARY = ["add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "maximum", "minimum", "eq",
    "ne", "lt",
          "le", "gt", "ge", "greater", "less_equal", "logical_and", "logical_or", "logical_xor", "fmax", "fmin"]


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_and_methods(name: str) -> None:
    check(getattr(torch, name), X)
    check(lambda x: getattr(x, name)(), X)


@pytest.mark.parametrize("name", POSITIVE)
def test_unary_functions_of_positive_numbers(name: str) -> None:
    check(getattr(torch, name), P)
    check(lambda x: getattr(x, name)(), P)


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_and_methods(name: str) -> None:
    f = getattr(torch, name)
    check(f, X, Y)
    check(lambda x: f(x, TV), X)
    check(lambda x: f(TY, x), X)
    if hasattr(torch.Tensor, name):
        check(lambda x, y: getattr(x, name)(y), X, Y)


CASES: list[Callable[..., Any]] = [
    # operators with tensors and scalars
    lambda x: x + TY, lambda x: TY + x, lambda x: 2 - x, lambda x: TV - x, lambda x: TV / x, lambda x: TY * x,
    lambda x: TS @ x.t(),
    lambda x: x @ TS, lambda x: x.abs() ** TV, lambda x: 2**x, lambda x: TP**x, lambda x: x**3, lambda x: -x,
    lambda x: x > TY,
    lambda x: x > TY, lambda x: x == TY, lambda x: (x > 0) & (TY > 0), lambda x: (TY > 0) | (x > 0), lambda x: ~(x > 0),
    lambda x: (x > 0) ^ (TY > 0), lambda x: abs(x), lambda x: x.add(TY, alpha=2), lambda x: torch.sub(x, 1, alpha=3),
    lambda x: torch.pow(x, 2), lambda x: torch.pow(2.0, x), lambda x: x.pow(3).sum(), lambda x: x.float_power(2),
    lambda x: torch.addcmul(x, TY, TV, value=0.5), lambda x: torch.addcdiv(x, TY, TP), lambda x: torch.lerp(x, TY, 0.3),
    lambda x: torch.xlogy(x, TP), lambda x: torch.heaviside(x, TV), lambda x: x.true_divide(2),
    lambda x: x.to(torch.float32) * 2,
    # reductions
    lambda x: torch.sum(x), lambda x: torch.sum(x, dim=0, keepdim=True), lambda x: torch.sum(x, (0, 1)),
    lambda x: x.sum(-1),
    lambda x: torch.sum(x, axis=1), lambda x: x.sum(dtype=torch.float32), lambda x: x.sum(dim=()),
    lambda x: torch.mean(x),
    lambda x: torch.mean(x, 1, True), lambda x: x.mean(dim=(0, 1)), lambda x: torch.prod(x), lambda x: x.prod(1),
    lambda x: x.max(),
    lambda x: torch.max(x, 1), lambda x: x.max(dim=0, keepdim=True), lambda x: torch.min(x, dim=-1).values,
    lambda x: x.min(),
    lambda x: x.min(0).indices, lambda x: torch.max(x, TY), lambda x: torch.amax(x), lambda x: x.amax(dim=(0, 1)),
    lambda x: torch.amin(x, 1, True), lambda x: torch.argmax(x), lambda x: x.argmin(dim=1),
    lambda x: x.argmax(0, keepdim=True),
    lambda x: (x > 0).any(), lambda x: (x > 0).all(dim=1), lambda x: torch.count_nonzero(x > 0), lambda x: torch.std(x),
    lambda x: x.std(dim=1), lambda x: x.std(1, False), lambda x: torch.var(x, 0), lambda x: x.var(unbiased=False),
    lambda x: torch.var(x, dim=1, correction=0, keepdim=True), lambda x: x.var(False), lambda x: torch.cumsum(x, 1),
    lambda x: x.cumprod(dim=0), lambda x: torch.diff(x), lambda x: torch.diff(x, dim=0),
    lambda x: torch.trapezoid(x, dx=0.5),
    lambda x: torch.logsumexp(x, 1), lambda x: x.logsumexp(dim=(0, 1), keepdim=True), lambda x: torch.norm(x),
    lambda x: x.norm(dim=1), lambda x: x.norm(p=1), lambda x: torch.norm(x, p=3, dim=0, keepdim=True),
    lambda x: x.norm(float("inf")),
    lambda x: torch.linalg.norm(x), lambda x: torch.linalg.norm(x, ord=1),
    lambda x: torch.linalg.vector_norm(x, ord=3, dim=1),
    lambda x: torch.linalg.norm(x, dim=1), lambda x: torch.linalg.norm(x, "fro"),
    lambda x: torch.linalg.norm(x, 2, dim=0),
    lambda x: torch.linalg.matrix_norm(x), lambda x: torch.dist(x, TY), lambda x: torch.dist(x, TY, 1),
    lambda x: torch.cdist(x, TS),
    lambda x: torch.cdist(x, TS, p=1), lambda x: torch.nansum(x, 1),
    lambda x: torch.equal(x, x * 1) if not is_tracer(x) else
    bool(torch.equal(x, x * 1)), lambda x: torch.allclose(x, TY) if not is_tracer(x) else bool(torch.allclose(x, TY)),
    lambda x: torch.isclose(x, TY),
    # products
    lambda x: torch.matmul(x, TS), lambda x: torch.mm(x, TS), lambda x: x.mm(TS), lambda x: torch.mv(x, TV),
    lambda x: x.mv(TV),
    lambda x: torch.dot(x[0], TV), lambda x: x[0].dot(TV), lambda x: torch.outer(x[0], TV),
    lambda x: torch.ger(x[0], TV),
    lambda x: torch.bmm(x[None], TS[None]), lambda x: torch.einsum("ij,jk->ik", x, TS),
    lambda x: torch.tensordot(x, TS, 1),
    lambda x: torch.tensordot(x, TS, dims=([1], [0])), lambda x: torch.inner(x, TV), lambda x: torch.vdot(x[0], TV),
    lambda x: torch.kron(x, TS), lambda x: torch.cross(x, TY, dim=1), lambda x: torch.linalg.cross(x, TY),
    lambda x: torch.addmm(torch.ones(2, 3, dtype=torch.float64), x, TS, beta=2, alpha=0.5),
    lambda x: torch.addmv(TV[:2], x, TV),
    lambda x: torch.linalg.matrix_power(x @ x.T, 3), lambda x: torch.linalg.multi_dot([x, TS, TS]),
    lambda x: torch.trace(x @ x.T),
    lambda x: torch.linalg.vecdot(x, TY), lambda x: x.matmul(TS), lambda x: torch.diag(x[0]),
    lambda x: torch.diagonal(x),
    lambda x: torch.diag_embed(x), lambda x: torch.diag_embed(x, 1), lambda x: torch.tril(x), lambda x: x.triu(1),
    lambda x: x.diagonal(offset=1, dim1=0, dim2=1), lambda x: x.diag(-1),
    # shapes
    lambda x: x.view(3, 2), lambda x: x.view(-1), lambda x: x.view((6, 1)), lambda x: x.reshape(3, -1),
    lambda x: torch.reshape(x, (6,)),
    lambda x: x.t(), lambda x: x.T, lambda x: x.mT, lambda x: x.transpose(0, 1), lambda x: torch.transpose(x, 0, 1),
    lambda x: x.permute(1, 0), lambda x: torch.permute(x, (1, 0)), lambda x: x.unsqueeze(1),
    lambda x: torch.unsqueeze(x, -1),
    lambda x: x[:1].squeeze(), lambda x: x[:1].squeeze(0), lambda x: x.squeeze(0), lambda x: x.flatten(),
    lambda x: torch.flatten(x[None], 1), lambda x: x.flatten(0, 1), lambda x: x.unflatten(1, (3, 1)),
    lambda x: x.ravel(),
    lambda x: x.expand(4, 2, 3), lambda x: x[:1].expand(5, -1), lambda x: x[0].expand_as(TY),
    lambda x: torch.broadcast_to(x, (2, 2, 3)),
    lambda x: torch.broadcast_tensors(x, TV), lambda x: x.view_as(TY), lambda x: x.movedim(0, 1),
    lambda x: x.swapaxes(0, 1),
    lambda x: torch.flip(x, (0,)), lambda x: x.flip(0, 1), lambda x: torch.fliplr(x), lambda x: torch.roll(x, 1),
    lambda x: x.roll(1, 1),
    lambda x: torch.roll(x, (1, 2), dims=(0, 1)), lambda x: torch.rot90(x), lambda x: x.repeat(2, 1),
    lambda x: torch.tile(x, (2,)),
    lambda x: x.repeat_interleave(2), lambda x: torch.repeat_interleave(x, 2, dim=1), lambda x: torch.atleast_2d(x[0]),
    # joining and splitting
    lambda x: torch.cat([x, TY]), lambda x: torch.cat((TY, x), dim=1), lambda x: torch.stack([x, TY], dim=-1),
    lambda x: torch.hstack([x, TY]),
    lambda x: torch.vstack([x, TY]), lambda x: torch.column_stack([x[0], TV]), lambda x: x.split(2, dim=1),
    lambda x: torch.split(x, [1, 2], 1),
    lambda x: x.chunk(2), lambda x: torch.chunk(x, 2, dim=1), lambda x: x.unbind(), lambda x: torch.unbind(x, 1),
    lambda x: torch.tensor_split(x, 2, dim=1), lambda x: torch.meshgrid(x[0], TV, indexing="ij"),
    lambda x: F.pad(x, (1, 2)),
    lambda x: F.pad(x, (1, -1, 0, 1), value=2.0), lambda x: [r * 2 for r in x],
    # selection
    lambda x: x[0], lambda x: x[:, 1:], lambda x: x[..., None], lambda x: x[torch.tensor([1, 0])],
    lambda x: x[:, [2, 0]],
    lambda x: x[TY > 0], lambda x: x[x > 0], lambda x: torch.where(x > 0, x, TY), lambda x: torch.where(TY > 0, x, 0.0),
    lambda x: torch.where(x > 0, 1.0, 0.0), lambda x: x.where(x > 0, TY), lambda x: x.masked_fill(x > 0, 0.0),
    lambda x: x.masked_fill(TY > 0, -1), lambda x: torch.clamp(x, -0.5, 0.5), lambda x: x.clamp(min=0),
    lambda x: x.clamp(max=0.1),
    lambda x: torch.clamp(x, min=TV), lambda x: x.clip(-1, 0), lambda x: x.clamp_min(0),
    lambda x: torch.index_select(x, 1, torch.tensor([2, 0])),
    lambda x: x.select(1, 2), lambda x: x.narrow(1, 1, 2), lambda x: torch.gather(x, 1, torch.tensor([[0, 2], [1, 1]])),
    lambda x: torch.take(x, torch.tensor([0, 5])), lambda x: torch.take_along_dim(x, x.argmax(1, keepdim=True), dim=1),
    # arrays like another, dtypes, sizes
    lambda x: torch.zeros_like(x) + x, lambda x: torch.ones_like(x), lambda x: torch.full_like(x, 2),
    lambda x: x.new_zeros(2, 2),
    lambda x: x.new_ones((3,)), lambda x: x.new_full((2,), 3.0), lambda x: x.new_tensor([1.0, 2.0]),
    lambda x: x.double(), lambda x: x.float(),
    lambda x: x.long(), lambda x: (x > 0).int(), lambda x: x.bool(), lambda x: x.to("cpu"),
    lambda x: x.to(torch.float32).type_as(TY),
    lambda x: x.size(), lambda x: x.size(1), lambda x: x.dim(), lambda x: x.numel(), lambda x: x.shape,
    lambda x: x.ndim, lambda x: len(x),
    lambda x: x.dtype, lambda x: x.is_floating_point(), lambda x: x.contiguous(), lambda x: x.detach(),
    lambda x: x.data, lambda x: x.device,
    lambda x: x.cpu(), lambda x: x.sum().item(), lambda x: F.one_hot(x.argmax(1), 3),
    # NumPy's keywords on torch's methods, and hesse's other library
    lambda x: x.sum(axis=1, keepdims=True) if is_tracer(x) else x.sum(1, keepdim=True),
    lambda x: np.sin(x) if is_tracer(x) else x.sin(),
]


@pytest.mark.parametrize("f", CASES)
def test_functions_and_methods(f: Callable[..., Any]) -> None:
    check(f, X)


LABELS = torch.tensor([2, 0])
NEURAL: list[Callable[..., Any]] = [
    lambda x: F.relu(x), lambda x: F.relu6(x * 9), lambda x: F.leaky_relu(x, 0.2), lambda x: F.elu(x, 0.5),
    lambda x: F.celu(x, 2.0),
    lambda x: F.selu(x), lambda x: F.silu(x), lambda x: F.mish(x), lambda x: F.gelu(x, approximate="tanh"),
    lambda x: F.softplus(x),
    lambda x: F.softplus(x * 20, beta=2, threshold=5), lambda x: F.logsigmoid(x), lambda x: F.softsign(x),
    lambda x: F.tanhshrink(x),
    lambda x: F.hardtanh(x), lambda x: F.softmax(x, dim=1), lambda x: torch.softmax(x, 0), lambda x: x.softmax(-1),
    lambda x: F.softmin(x, dim=1),
    lambda x: F.log_softmax(x, dim=1), lambda x: x.log_softmax(0), lambda x: F.normalize(x),
    lambda x: F.normalize(x, p=1, dim=0),
    lambda x: F.linear(x, TS, TV), lambda x: F.linear(x, TS), lambda x: F.mse_loss(x, TY),
    lambda x: F.mse_loss(x, TY, reduction="sum"),
    lambda x: F.l1_loss(x, TY, reduction="none"), lambda x: F.huber_loss(x, TY, delta=0.3),
    lambda x: F.smooth_l1_loss(x, TY, beta=0.3),
    lambda x: F.binary_cross_entropy_with_logits(x, TP),
    lambda x: F.binary_cross_entropy_with_logits(x, TP, pos_weight=TV.abs()),
    lambda x: F.binary_cross_entropy(torch.sigmoid(x), TP), lambda x: F.nll_loss(F.log_softmax(x, 1), LABELS),
    lambda x: F.nll_loss(x, LABELS, weight=TP[0]), lambda x: F.nll_loss(x, torch.tensor([1, -100]), reduction="sum"),
    lambda x: F.cross_entropy(x, LABELS), lambda x: F.cross_entropy(x, TP),
    lambda x: F.cross_entropy(x, LABELS, reduction="none"),
    lambda x: F.kl_div(F.log_softmax(x, 1), TP, reduction="batchmean"), lambda x: F.poisson_nll_loss(x, TP),
    lambda x: F.cosine_similarity(x, TY), lambda x: F.pairwise_distance(x, TY), lambda x: F.dropout(x, training=False),
    lambda x: F.embedding(torch.tensor([0, 1, 1]), x), lambda x: F.prelu(x, torch.tensor([0.3], dtype=torch.float64)),
    lambda x: torch.nn.Linear(3, 4, dtype=torch.float64).requires_grad_(False).bias.new_zeros(3) + x,
]


@pytest.mark.parametrize("f", NEURAL)
def test_activations_and_losses(f: Callable[..., Any]) -> None:
    check(f, X)


def test_a_module_traces() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).double()
    same(traced(lambda x: net(x).sum(), X), net(torch.tensor(X)).sum())


PROMOTIONS: list[Callable[..., Any]] = [
    lambda x, n: x * n, lambda x, n: n / 2, lambda x, n: n * 2.5, lambda x, n: n.sum() / 2,
    lambda x, n: x * np.float64(2),
    lambda x, n: x * torch.tensor(2.0, dtype=torch.float64), lambda x, n: n * torch.tensor(1.5),
    lambda x, n: n + torch.tensor(2, dtype=torch.int32),
    lambda x, n: x.sum() * TV, lambda x, n: torch.sin(n), lambda x, n: n.sum(), lambda x, n: (n > 1).sum(),
    lambda x, n: n > 1.5,
    lambda x, n: torch.where(n > 1, x, 0), lambda x, n: n.float() + torch.ones(3, dtype=torch.float64),
    lambda x, n: x + True,
    lambda x, n: torch.maximum(x, n.float()), lambda x, n: n**2, lambda x, n: n.prod(),
]


@pytest.mark.parametrize("f", PROMOTIONS)
def test_promotion_is_torch_s(f: Callable[..., Any]) -> None:
    check(f, V.astype(np.float32), np.array([1, 2, 3]))
    check(f, V.astype(np.float32), np.array([1, 2, 3], np.int32))


KINKS: dict[str, tuple[Callable[..., Any], list[float]]] = {
    "abs": (lambda x: x.abs().sum(), [0.0, 1.0]), "relu": (lambda x: torch.relu(x).sum(), [0.0, 1.0]),
    "relu6": (lambda x: F.relu6(x).sum(), [0.0, 6.0]), "hardtanh": (lambda x: F.hardtanh(x).pow(2).sum(), [0.5, -0.2]),
    "clamp": (lambda x: x.clamp(-1, 1).pow(2).sum(), [1.0, -1.0, 2.0]),
    "clamp min": (lambda x: x.clamp(min=0).sum(), [0.0, 1.0]),
    "max all": (lambda x: x.max() ** 2, [1.0, 1.0, 0.0]), "amax": (lambda x: x.amax() ** 2, [2.0, 2.0, 2.0]),
    "max dim": (lambda x: x.max(dim=0).values ** 2, [1.0, 1.0, 0.0]),
    "min dim": (lambda x: x.min(0)[0] ** 2, [1.0, 1.0, 3.0]),
    "norm": (lambda x: x.norm(), [0.0, 0.0]), "norm 1": (lambda x: x.norm(p=1), [0.0, 1.0]),
    "norm 3": (lambda x: x.norm(p=3), [0.0, 0.0]),
    "std": (lambda x: x.std(), [1.0, 1.0, 1.0]),
    "maximum": (lambda x: torch.maximum(x, torch.zeros(2, dtype=x.dtype)).sum(), [0.0, 1.0]),
    "leaky": (lambda x: F.leaky_relu(x).sum(), [0.0, -1.0]), "elu": (lambda x: F.elu(x).sum(), [0.0, -1.0]),
    "huber": (lambda x: F.huber_loss(x, torch.zeros(3, dtype=torch.float64), reduction="sum"), [1.0, 0.5, -1.0]),
    "smooth l1": (lambda x: F.smooth_l1_loss(x, x.new_zeros(3), reduction="sum"), [1.0, 0.5, -1.0]),
    "selu": (lambda x: F.selu(x).sum(), [0.0, -1.0]), "celu": (lambda x: F.celu(x, 2.0).sum(), [0.0, -1.0]),
    "prod": (lambda x: x.prod(), [0.0, 0.0, 3.0]), "logsumexp": (lambda x: x.logsumexp(0), [1.0, 1.0, 0.0]),
    "softplus": (lambda x: F.softplus(x).sum(), [0.0, 30.0]),
    "xlogy": (lambda x: torch.xlogy(x, 2.0 + x).sum(), [0.0, 1.0]),
    "var": (lambda x: x.var(), [1.0, 1.0, 4.0]), "softmax": (lambda x: (F.softmax(x, 0) ** 2).sum(), [1.0, 1.0, 0.0]),
    "cumprod": (lambda x: x.cumprod(0).sum(), [0.0, 2.0, 0.0]), "pow": (lambda x: (x**2).sum(), [0.0, 1.0]),
}


@pytest.mark.parametrize("case", KINKS)
def test_derivatives_at_kinks_are_torch_s(case: str) -> None:
    f, at = KINKS[case]
    x = np.array(at)
    trace = Trace("torch")
    t = trace.input(x, "x")
    slope = gradient(f(t).node, [t.node])[0]
    point = torch.tensor(x)
    same(run([slope], {t.node: x})[0], torch.func.grad(f)(point))
    hessian = torch.func.hessian(f)(point).numpy(force=True)
    for k in range(len(at)):
        direction = trace.input(np.eye(len(at))[k], "t")
        column = push_forward([slope], {t.node: direction.node})[0]
        values = {t.node: x, direction.node: np.eye(len(at))[k]}
        got = np.zeros(len(at)) if column is None else run([column], values)[0]
        np.testing.assert_allclose(got, hessian[:, k], rtol=1e-10, atol=1e-12)


# ---- branches and refusals -------------------------------------------------------------------------------------------
def test_branches_and_numbers() -> None:
    def f(x: Any) -> Any:
        if (x > 0).any() and x.sum().item() < 100:
            return x.relu().sum()
        return x.sum()

    check(f, X)


@pytest.mark.parametrize(("value", "message"), [(V, "more than one value"), (V[:0], "no values")])
def test_truth_of_many(value: Any, message: str) -> None:
    with pytest.raises(FunctionError, match=f"Boolean value of Tensor with {message} is ambiguous"):
        traced(bool, value)


def test_vmap_errors_begin_as_torch_s_do() -> None:
    def message(f: Callable[..., Any]) -> str:
        with pytest.raises(RuntimeError) as caught:
            torch.func.vmap(f)(torch.ones(2, 3))
        return str(caught.value)

    example = Trace("torch").mapped((3,), np.float64)
    cases: list[tuple[Callable[..., Any], int]] = [(lambda x: x if x[0] > 0 else -x, 99), (lambda x: x[0].item(), 70)]
    for f, length in cases:
        with pytest.raises(FunctionError) as caught:
            f(example)
        assert str(caught.value)[:length] == message(f)[:length]


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "torch.special.bessel_j0": (lambda x: torch.special.bessel_j0(x), "no-rule"),
    "torch.linalg.ldl_factor": (lambda x: torch.linalg.ldl_factor(x @ x.T), "no-rule"),
    "torch.fft.fft": (lambda x: torch.fft.fft(x), "no-rule"),
    "dropout of channels": (lambda x: F.dropout1d(x), "no-rule"),
    "rounding_mode": (lambda x: torch.div(x, 2, rounding_mode="up"), "no-rule"),
    "x.add_": (lambda x: x.add_(1), "cut-graph"), "x.relu_": (lambda x: x.relu_(), "cut-graph"),
    "float": (lambda x: float(x[0, 0]), "cut-graph"),
    "numpy": (lambda x: x.numpy(), "cut-graph"), "tolist": (lambda x: x.tolist(), "cut-graph"),
    "assign": (lambda x: x.__setitem__(0, 1), "cut-graph"),
    "out": (lambda x: torch.add(x, 1, out=torch.ones(2, 3)), "cut-graph"),
    "keyword": (lambda x: x.sum(nonsense=1), "bad-type"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    f, code = REFUSED[case]
    with pytest.raises(ArgumentTypeError) as caught:
        traced(f, X)
    assert caught.value.code == code
    if case.startswith(("torch.", "x.")):
        assert case in str(caught.value)


def test_torch_tensor_of_tracers_is_refused() -> None:
    with pytest.raises(TypeError):
        traced(lambda x: torch.tensor([x[0], x[1]]), V)


OTHERS: dict[str, tuple[Callable[..., Any], type[HesseError], str]] = {
    "cuda": (lambda x: x.to("cuda"), InputError, "device-absent"),
    "cuda 1": (lambda x: x.to(device="cuda:1"), InputError, "device-absent"),
    "meta": (lambda x: x + torch.ones(3, device="meta"), InputError, "device-absent"),
    "complex": (lambda x: x * torch.ones(3, dtype=torch.complex64), FunctionError, "unsupported-complex"),
    "complex dtype": (lambda x: x.to(torch.complex64), FunctionError, "unsupported-complex"),
    "item": (lambda x: x.item(), FunctionError, "ambiguous-tensor"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_bad_operands(case: str) -> None:
    f, error, code = OTHERS[case]
    with pytest.raises(error) as caught:
        traced(f, V)
    assert caught.value.code == code


def test_tensors_that_require_gradients_are_constants() -> None:
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    same(traced(lambda x: x * w, X), X)
    same(traced(lambda x: w * x.t()[:, :1].T, X), X[:1])


def test_numpy_arrays_take_torch_s_methods() -> None:
    """A NumPy trace: what only torch has works, torch's keywords mean torch, what both have is NumPy's."""
    trace = Trace()
    x = trace.input(X, "x")
    value = {x.node: X}
    same(run([x.pow(3).sum().node], value)[0], np.asarray((X**3).sum()))
    same(run([x.sum(dim=1, keepdim=True).node], value)[0], X.sum(1, keepdims=True))
    same(run([x.std().node], value)[0], np.asarray(X.std()))
    same(run([x.max(dim=1).values.node], value)[0], X.max(1))
    same(run([x.transpose(1, 0).node], value)[0], X.T)
    same(run([x.t().sin().node], value)[0], np.sin(X.T))
    assert x.size == 6
    assert x.dtype == np.float64
