"""Errors beside the installed torch: the same exception family and the same words, embedded and over HTTP.

A case is written once, as a function of the two modules. What is raised before anything is sent is raised over HTTP as
well; what the service itself says is asked for by plain requests, where `options.api` chooses whose words they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

import hesse
from hesse_engine.errors import CODES

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
from torch import func as torch_func  # noqa: E402
from torch.autograd import functional as torch_functional  # noqa: E402

from serving import Server, running  # noqa: E402
from torch_points import (  # noqa: E402
    BATCH,
    COMPLEX,
    EMPTY,
    INTEGER,
    ONE,
    SCALAR,
    SINGLE,
    Case,
    M,
    X,
    Y,
    constant,
    cube,
    mixed,
    product,
    sine,
    truncated,
)

# what torch warns of inside is its own affair
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")

ERRORS: dict[str, Case] = {
    # ---- functional
    "non-scalar": lambda af, tf: af.hessian(sine, X),
    "non-scalar, vhp": lambda af, tf: af.vhp(sine, X, X),
    "non-scalar, hvp": lambda af, tf: af.hvp(sine, X, X),
    "tuple output": lambda af, tf: af.hessian(lambda x: (cube(x),), X),
    "tuple output, vhp": lambda af, tf: af.vhp(lambda x: (cube(x),), X, X),
    "float output": lambda af, tf: af.hessian(lambda x: 1.0, X),
    "None output": lambda af, tf: af.jacobian(lambda x: None, X),
    "float in a tuple output": lambda af, tf: af.jacobian(lambda x: (x, 1.0), X),
    "list inputs": lambda af, tf: af.hessian(cube, [1.0, 2.0]),
    "list of tensors": lambda af, tf: af.vhp(cube, [X], X),
    "float input": lambda af, tf: af.jacobian(cube, 1.0),
    "float in a tuple input": lambda af, tf: af.hessian(mixed, (X, 1.0)),
    "integer input": lambda af, tf: af.hessian(cube, INTEGER),
    "integer input, jvp": lambda af, tf: af.jvp(cube, INTEGER, INTEGER),
    "integer output, jvp": lambda af, tf: af.jvp(truncated, X, X),
    "complex input": lambda af, tf: af.hessian(cube, COMPLEX),
    "complex input, vhp": lambda af, tf: af.vhp(cube, COMPLEX, COMPLEX),
    "empty input": lambda af, tf: af.hessian(cube, EMPTY),
    "empty input, vectorize": lambda af, tf: af.hessian(cube, EMPTY, vectorize=True),
    "empty output": lambda af, tf: af.jacobian(lambda x: x[:0], X),
    "v missing, vhp": lambda af, tf: af.vhp(cube, X),
    "v missing, hvp": lambda af, tf: af.hvp(mixed, (ONE, ONE)),
    "v missing, jvp": lambda af, tf: af.jvp(cube, X),
    "v missing, vjp": lambda af, tf: af.vjp(sine, X),
    "v too long": lambda af, tf: af.vhp(cube, X, torch.ones(4)),
    "v too long in a tuple": lambda af, tf: af.vhp(mixed, (X, Y), (X, torch.ones(4))),
    "v of the wrong count": lambda af, tf: af.vhp(mixed, (X, Y), (X,)),
    "v a tuple for one": lambda af, tf: af.vhp(cube, X, (X, X)),
    "v a list": lambda af, tf: af.vhp(cube, X, [1.0, 2.0, 3.0]),
    "v of the wrong size, vjp": lambda af, tf: af.vjp(sine, X, torch.ones(2)),
    "strict, constant": lambda af, tf: af.hessian(constant, X, strict=True),
    "strict, linear": lambda af, tf: af.hessian(lambda x: x.sum(), X, strict=True),
    "strict, disconnected": lambda af, tf: af.hessian(lambda x, y: cube(x), (X, Y), strict=True),
    "strict, no mixed term": lambda af, tf: af.hessian(lambda x, y: cube(x) + cube(y), (X, Y), strict=True),
    "strict, jacobian": lambda af, tf: af.jacobian(lambda x, y: x * 2, (X, Y), strict=True),
    "strict, jacobian, second output": lambda af, tf: af.jacobian(lambda x, y: (x * y, x), (X, Y), strict=True),
    "strict, jacobian, constant": lambda af, tf: af.jacobian(constant, X, strict=True),
    "strict, jacobian of a linear one, create_graph": lambda af, tf: af.jacobian(
        lambda x: x * 2, X, strict=True, create_graph=True),
    "strict, vjp": lambda af, tf: af.vjp(lambda x, y: x * 2, (X, Y), X, strict=True),
    "strict, jvp": lambda af, tf: af.jvp(lambda x, y: x * 2, (X, Y), (X, Y), strict=True),
    "strict, vhp": lambda af, tf: af.vhp(lambda x, y: cube(x), (X, Y), (X, Y), strict=True),
    "strict, vhp, linear": lambda af, tf: af.vhp(lambda x: x.sum(), X, X, strict=True),
    "strict, hvp, linear": lambda af, tf: af.hvp(lambda x: x.sum(), X, X, strict=True),
    "strict, vhp of a linear input": lambda af, tf: af.vhp(lambda x, y: cube(x) + y.sum(), (X, Y), (X, Y), strict=True),
    "strict, hessian of squares, create_graph": lambda af, tf: af.hessian(
        lambda x, y: (x**2).sum() + (y**2).sum(), (X, Y), strict=True, create_graph=True),
    "strict, detached": lambda af, tf: af.jacobian(lambda x: x.detach() * 2, X, strict=True),
    "strict and vectorize": lambda af, tf: af.hessian(cube, X, strict=True, vectorize=True),
    "strict and vectorize, jacobian": lambda af, tf: af.jacobian(sine, X, strict=True, vectorize=True),
    "strict and forward": lambda af, tf: af.hessian(
        cube, X, strict=True, vectorize=True, outer_jacobian_strategy="forward-mode"),
    "forward without vectorize": lambda af, tf: af.hessian(cube, X, outer_jacobian_strategy="forward-mode"),
    "forward without vectorize, jacobian": lambda af, tf: af.jacobian(sine, X, strategy="forward-mode"),
    "forward and create_graph": lambda af, tf: af.jacobian(
        sine, X, create_graph=True, vectorize=True, strategy="forward-mode"),
    "bad strategy": lambda af, tf: af.hessian(cube, X, outer_jacobian_strategy="sideways"),
    "bad strategy, jacobian": lambda af, tf: af.jacobian(sine, X, strategy="sideways"),
    # ---- functional, empty and odd arguments
    "no inputs": lambda af, tf: af.hessian(lambda: torch.ones(1), ()),
    "no inputs, vhp": lambda af, tf: af.vhp(lambda: torch.ones(1), (), ()),
    "no outputs": lambda af, tf: af.jacobian(lambda x: (), X),
    "no outputs, vjp": lambda af, tf: af.vjp(lambda x: (), X),
    "no outputs, jvp": lambda af, tf: af.jvp(lambda x: (), X, X),
    "list output": lambda af, tf: af.jacobian(lambda x: [x], X),
    "None output, hessian": lambda af, tf: af.hessian(lambda x: None, X),
    "None output, vhp": lambda af, tf: af.vhp(lambda x: None, X, X),
    "None output, jvp": lambda af, tf: af.jvp(lambda x: None, X, X),
    "None output, vjp": lambda af, tf: af.vjp(lambda x: None, X, X),
    "string input": lambda af, tf: af.hessian(cube, "abc"),
    "boolean input": lambda af, tf: af.hessian(cube, X > 0),
    "unsigned input": lambda af, tf: af.jacobian(cube, torch.ones(2, dtype=torch.uint8)),
    "integer input, vjp": lambda af, tf: af.vjp(sine, INTEGER, INTEGER),
    "integer input, hvp": lambda af, tf: af.hvp(cube, INTEGER, INTEGER),
    "integer input, second": lambda af, tf: af.hessian(mixed, (X, INTEGER)),
    "integer input, forward": lambda af, tf: af.hessian(
        cube, INTEGER, vectorize=True, outer_jacobian_strategy="forward-mode"),
    "integer input, jacobian, forward": lambda af, tf: af.jacobian(
        sine, INTEGER, vectorize=True, strategy="forward-mode"),
    "tuple output, hvp": lambda af, tf: af.hvp(lambda x: (cube(x),), X, X),
    "non-scalar, forward": lambda af, tf: af.hessian(
        sine, X, vectorize=True, outer_jacobian_strategy="forward-mode"),
    "not callable": lambda af, tf: af.jacobian(3, X),
    "too few arguments": lambda af, tf: af.jacobian(mixed, X),
    "an error of the function": lambda af, tf: af.jacobian(lambda x: {}["a"], X),
    "empty input, vhp without v": lambda af, tf: af.vhp(cube, EMPTY),
    "v an empty tuple": lambda af, tf: af.vhp(cube, ONE, ()),
    "v of None in a tuple": lambda af, tf: af.vhp(cube, ONE, (None,)),
    "v of the wrong shape": lambda af, tf: af.vhp(cube, (M,), (M.T,)),
    "v of the wrong count, vjp": lambda af, tf: af.vjp(lambda x: (x, x), X, (X,)),
    "v a tuple for one, vjp": lambda af, tf: af.vjp(sine, X, (X, X)),
    "v too long in a tuple, vjp": lambda af, tf: af.vjp(lambda x: (x, x), X, (X, torch.ones(4))),
    "v of the wrong size, jvp": lambda af, tf: af.jvp(sine, X, torch.ones(2)),
    "v of the wrong size, hvp": lambda af, tf: af.hvp(cube, X, torch.ones(2)),
    "v complex": lambda af, tf: af.vhp(cube, X, X.to(torch.complex128)),
    "v complex, jvp": lambda af, tf: af.jvp(sine, X, X.to(torch.complex128)),
    "v complex, vjp": lambda af, tf: af.vjp(sine, SINGLE, X.to(torch.complex128)),
    "complex input, jvp": lambda af, tf: af.jacobian(sine, COMPLEX),
    # ---- functional, which of two errors
    "bad strategy and list inputs": lambda af, tf: af.hessian(cube, [X], outer_jacobian_strategy="sideways"),
    "bad strategy and list inputs, jacobian": lambda af, tf: af.jacobian(cube, [X], strategy="sideways"),
    "forward and list inputs": lambda af, tf: af.jacobian(cube, [X], strategy="forward-mode"),
    "forward, create_graph and list inputs": lambda af, tf: af.jacobian(
        cube, [X], create_graph=True, strategy="forward-mode"),
    "forward and create_graph, hessian": lambda af, tf: af.hessian(
        cube, X, create_graph=True, outer_jacobian_strategy="forward-mode"),
    "strict, forward and list inputs": lambda af, tf: af.jacobian(cube, [X], strict=True, strategy="forward-mode"),
    "strict, vectorize and constant": lambda af, tf: af.jacobian(constant, X, strict=True, vectorize=True),
    "strict and non-scalar": lambda af, tf: af.hessian(sine, X, strict=True),
    "strict, constant and tuple": lambda af, tf: af.hessian(lambda x: (cube(x), constant(x)), X, strict=True),
    "v wrong and list inputs": lambda af, tf: af.vhp(cube, [X], X[:1]),
    "v wrong and output wrong": lambda af, tf: af.vhp(sine, X, X[:1]),
    "v wrong and output wrong, vjp": lambda af, tf: af.vjp(lambda x: None, X, X[:1]),
    # ---- func
    "grad, non-scalar": lambda af, tf: tf.grad(sine)(X),
    "grad, one element": lambda af, tf: tf.grad(lambda x: cube(x).reshape(1))(X),
    "grad, tuple output": lambda af, tf: tf.grad(product)(X, Y),
    "grad, None output": lambda af, tf: tf.grad(lambda x: None)(X),
    "grad of a float": lambda af, tf: tf.grad(cube)(1.0),
    "grad of integers": lambda af, tf: tf.grad(cube)(INTEGER),
    "grad of complex": lambda af, tf: tf.grad(cube)(COMPLEX),
    "grad, no aux": lambda af, tf: tf.grad(cube, has_aux=True)(X),
    "grad, aux of strings": lambda af, tf: tf.grad(lambda x: (cube(x), "aux"), has_aux=True)(X),
    "jacrev of integers": lambda af, tf: tf.jacrev(sine)(INTEGER),
    "jacfwd of integers": lambda af, tf: tf.jacfwd(sine)(INTEGER),
    "hessian of integers": lambda af, tf: tf.hessian(cube)(INTEGER),
    "jvp of integers": lambda af, tf: tf.jvp(cube, (INTEGER,), (INTEGER,)),
    "vjp of integers": lambda af, tf: tf.vjp(cube, INTEGER),
    "jacrev, integer output": lambda af, tf: tf.jacrev(truncated)(X),
    "hessian, integer output": lambda af, tf: tf.hessian(truncated)(X),
    "jacrev, None output": lambda af, tf: tf.jacrev(lambda x: None)(X),
    "jacrev, float output": lambda af, tf: tf.jacrev(lambda x: 1.0)(X),
    "jacrev, no output": lambda af, tf: tf.jacrev(lambda x: ())(X),
    "jacfwd, None output": lambda af, tf: tf.jacfwd(lambda x: None)(X),
    "jacfwd, float output": lambda af, tf: tf.jacfwd(lambda x: 1.0)(X),
    "hessian, None output": lambda af, tf: tf.hessian(lambda x: None)(X),
    "jacrev of complex": lambda af, tf: tf.jacrev(sine)(COMPLEX),
    "hessian of complex": lambda af, tf: tf.hessian(cube)(COMPLEX),
    "jacrev, no aux": lambda af, tf: tf.jacrev(sine, has_aux=True)(X),
    "jacfwd, no aux": lambda af, tf: tf.jacfwd(sine, has_aux=True)(X),
    "chunk_size 0": lambda af, tf: tf.jacrev(sine, chunk_size=0),
    "chunk_size negative": lambda af, tf: tf.jacrev(sine, chunk_size=-3),
    "argnums empty": lambda af, tf: tf.hessian(cube, argnums=())(X),
    "argnums twice": lambda af, tf: tf.grad(cube, argnums=(0, 0))(X),
    "argnums too large": lambda af, tf: tf.jacrev(cube, argnums=3)(X),
    "argnums too small": lambda af, tf: tf.jacfwd(cube, argnums=-2)(X),
    "argnums a float": lambda af, tf: tf.grad(cube, argnums=1.5)(X),
    "argnums a list": lambda af, tf: tf.jacrev(cube, argnums=[0])(X),
    "argnums a float in a tuple": lambda af, tf: tf.hessian(cube, argnums=(0, 1.5))(X),
    "no arguments": lambda af, tf: tf.grad(cube)(),
    "jvp, no tuple": lambda af, tf: tf.jvp(cube, X, X),
    "jvp, other structure": lambda af, tf: tf.jvp(cube, (X,), X),
    "jvp of a float": lambda af, tf: tf.jvp(cube, (1.0,), (1.0,)),
    "jvp, other size": lambda af, tf: tf.jvp(sine, (X,), (torch.ones(4),)),
    "jvp, strict": lambda af, tf: tf.jvp(constant, (X,), (X,), strict=True),
    "vjp, other structure": lambda af, tf: tf.vjp(sine, X)[1]((X,)),
    "vjp, other size": lambda af, tf: tf.vjp(sine, X)[1](torch.ones(4)),
    "vjp of a float cotangent": lambda af, tf: tf.vjp(sine, X)[1](1.0),
    # ---- vmap
    "vmap, sizes differ": lambda af, tf: tf.vmap(lambda a, b: a + b)(BATCH, torch.ones(3, 3)),
    "vmap, in_dims structure": lambda af, tf: tf.vmap(cube, in_dims=(0, 0))(BATCH),
    "vmap, in_dims None": lambda af, tf: tf.vmap(cube, in_dims=None)(BATCH),
    "vmap, in_dims (None,)": lambda af, tf: tf.vmap(cube, in_dims=(None,))(BATCH),
    "vmap, in_dims too large": lambda af, tf: tf.vmap(cube, in_dims=2)(BATCH),
    "vmap, in_dims a list": lambda af, tf: tf.vmap(cube, in_dims=[0])(BATCH),
    "vmap, in_dims a string": lambda af, tf: tf.vmap(cube, in_dims=("a",))(BATCH),
    "vmap over a number": lambda af, tf: tf.vmap(lambda a, b: a * b)(BATCH, 3),
    "vmap, no arguments": lambda af, tf: tf.vmap(cube)(),
    "vmap over a 0-dim tensor": lambda af, tf: tf.vmap(cube)(SCALAR),
    "vmap, out_dims structure": lambda af, tf: tf.vmap(cube, out_dims=(0, 0))(BATCH),
    "vmap, out_dims None": lambda af, tf: tf.vmap(cube, out_dims=None)(BATCH),
    "vmap, out_dims a string": lambda af, tf: tf.vmap(cube, out_dims="a")(BATCH),
    "vmap, out_dims too large": lambda af, tf: tf.vmap(cube, out_dims=3)(BATCH),
    "vmap, float output": lambda af, tf: tf.vmap(lambda x: 1.0)(BATCH),
    "vmap, chunk_size 0": lambda af, tf: tf.vmap(cube, chunk_size=0),
    "vmap, chunk_size negative": lambda af, tf: tf.vmap(cube, chunk_size=-1),
    "vmap, randomness": lambda af, tf: tf.vmap(cube, randomness="x"),
    "vmap, item": lambda af, tf: tf.vmap(lambda x: x.sum().item())(BATCH),
    "vmap, branch": lambda af, tf: tf.vmap(lambda x: x if x.sum() > 0 else -x)(BATCH),
}

# Where a text differs on purpose, what ours must begin with.
TEXTS = {
    # torch writes "isonly"
    "forward without vectorize": "Computing Jacobian using forward-AD or forward-over-reverse Hessian is",
    "forward without vectorize, jacobian": "Computing Jacobian using forward-AD or forward-over-reverse Hessian is",
    # torch asks for an issue at its own address
    "vmap, branch":
        "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support "
        "that yet, please",
    "vmap, item":
        "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a "
        "Tensor, please try to rewrite what you're doing with other operations.",
    # structures are printed in our own notation
    "vmap, in_dims structure":
        "vmap(cube, in_dims=(0, 0), ...)(<inputs>): in_dims is not compatible with the structure of `inputs`. in_dims "
        "has structure ",
    "vmap, out_dims structure":
        "vmap(cube, ..., out_dims=(0, 0))(<inputs>): out_dims is not compatible with the structure of `outputs`. "
        "out_dims has structure ",
    "jvp, other structure":
        "jvp(f, primals, tangents): Expected primals and tangents to have the same python structure. For example, if "
        "primals is a tuple of 3 tensors, tangents also must be. Got primals with structure ",
}
# raised by Python, or by the function itself
OF_PYTHON = {"not callable", "too few arguments", "an error of the function"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("errors") / "server.log", compute_processes=1) as started:
        yield started


@pytest.fixture(scope="module", params=["embedded", "http"])
def client(request: pytest.FixtureRequest) -> Iterator[hesse.Client]:
    url = ":local:" if request.param == "embedded" else request.getfixturevalue("server").url
    with hesse.Client(url) as opened:
        yield opened


@pytest.mark.parametrize("name", ERRORS)
def test_error(client: hesse.Client, name: str) -> None:
    case = ERRORS[name]
    with pytest.raises(Exception) as theirs:
        case(torch_functional, torch_func)
    with pytest.raises(type(theirs.value)) as ours:
        case(client.functional, client.func)
    if name not in OF_PYTHON:
        assert isinstance(ours.value, hesse.HesseError)
    expected = TEXTS.get(name, str(theirs.value).replace("torch.autograd.functional", "hesse.functional"))
    assert str(ours.value).startswith(expected)
    if name not in TEXTS:
        assert str(ours.value) == expected


IN_THEIR_PLACE = r"transforms of hesse\.func in their place"


# ---- tensors that only torch has ------------------------------------------------------------------------------------
ONLY_TORCH: dict[str, tuple[Any, str]] = {
    "sparse": (lambda: torch.eye(2).to_sparse(), r"layout torch\.sparse_coo; only dense tensors .* x\.to_dense\(\)"),
    "meta": (lambda: torch.ones(2, device="meta"), "device 'meta'; available: 'cpu'"),
    "half": (lambda: torch.ones(2, dtype=torch.float16), "dtype float16 is not supported"),
    "bfloat": (lambda: torch.ones(2, dtype=torch.bfloat16), r"dtype torch\.bfloat16 is not supported"),
}


@pytest.mark.parametrize("name", ONLY_TORCH)
def test_a_tensor_that_cannot_be_read(name: str) -> None:
    make, words = ONLY_TORCH[name]
    for call in (lambda x: hesse.functional.hessian(cube, x), lambda x: hesse.func.grad(cube)(x),
                 lambda x: hesse.func.vmap(cube)(x)):
        with pytest.raises(ValueError, match=words):
            call(make())


def test_transforms_that_cannot_see_in_are_refused() -> None:
    with pytest.raises(RuntimeError, match=IN_THEIR_PLACE):
        torch_func.grad(lambda x: hesse.functional.hessian(cube, x, create_graph=True).sum())(X)
    with pytest.raises(RuntimeError, match=IN_THEIR_PLACE):
        torch_func.grad(lambda a: hesse.func.grad(lambda x: (a * x**3).sum())(X).sum())(Y)
    with pytest.raises(RuntimeError, match=IN_THEIR_PLACE):
        torch_func.vmap(hesse.func.grad(cube))(BATCH)
    forward = torch.autograd.forward_ad
    with forward.dual_level(), pytest.raises(RuntimeError, match=IN_THEIR_PLACE):
        hesse.func.grad(cube)(forward.make_dual(X, Y))
    with forward.dual_level():
        assert torch.equal(hesse.func.grad(cube)(X), 3 * X**2)


# ---- the words of the service ----------------------------------------------------------------------------------------
def graph(body: list[tuple[str, str, list[Any]]], dtype: str = "float64", shape: tuple[int, ...] = (3,)) -> Any:
    nodes = [{"id": name, "op": op, "args": args} for name, op, args in body]
    return {"graph": {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": list(shape), "dtype": dtype}],
                      "constants": [], "nodes": nodes, "outputs": [body[-1][0]]}}


SINE = graph([("y", "sin", ["x"])])
CUBE = graph([("p", "power", ["x", 3]), ("y", "sum", ["p"])])
SUM = graph([("y", "sum", ["x"])])
COMPARED = graph([("y", "greater", ["x", 0.0])])
WHOLE = graph([("y", "sum", ["x"])], dtype="int64")
POINT = [0.3, -1.2, 2.0]

# name -> (operation, body, torch's error of the same call; None: a result)
SAID: dict[str, tuple[str, dict[str, Any], Any]] = {
    "functional, vector": ("hessian", {"function": SINE}, lambda: torch_functional.hessian(sine, X)),
    "func, vector": ("hessian", {"function": SINE, "options": {"api": "func"}}, None),
    "functional, grad of a vector": ("grad", {"function": SINE}, lambda: _renamed(
        lambda: torch_functional.hessian(sine, X), "hessian", "grad")),
    "func, grad of a vector": ("grad", {"function": SINE, "options": {"api": "func"}},
                               lambda: torch_func.grad(sine)(X)),
    "functional, integers": ("hessian", {"function": WHOLE, "inputs": [[1, 2, 3]]},
                             lambda: torch_functional.hessian(cube, INTEGER)),
    "func, integers": ("hessian", {"function": WHOLE, "inputs": [[1, 2, 3]], "options": {"api": "func"}},
                       lambda: torch_func.hessian(cube)(INTEGER)),
    "func, integers, reverse": ("grad", {"function": WHOLE, "inputs": [[1, 2, 3]], "options": {"api": "func"}},
                                lambda: torch_func.grad(cube)(INTEGER)),
    "functional, boolean output": ("jacobian", {"function": COMPARED}, None),
    "func, boolean output": ("jacobian", {"function": COMPARED, "options": {"api": "func"}},
                             lambda: torch_func.jacrev(lambda x: x > 0)(X)),
    "argnums empty": ("hessian", {"function": CUBE, "options": {"api": "func", "argnums": []}},
                      lambda: torch_func.hessian(cube, argnums=())(X)),
    "argnums twice": ("hessian", {"function": CUBE, "options": {"api": "func", "argnums": [0, 0]}},
                      lambda: torch_func.hessian(cube, argnums=(0, 0))(X)),
    "argnums too large": ("hessian", {"function": CUBE, "options": {"api": "func", "argnums": 3}},
                          lambda: torch_func.hessian(cube, argnums=3)(X)),
    "v missing": ("vhp", {"function": CUBE}, lambda: torch_functional.vhp(cube, X)),
    "v missing, vjp": ("vjp", {"function": SINE}, lambda: torch_functional.vjp(sine, X)),
    "v too long": ("hvp", {"function": CUBE, "v": [[1.0, 2.0]]},
                   lambda: torch_functional.hvp(cube, X, torch.ones(2))),
    "strict, linear": ("hessian", {"function": SUM, "options": {"strict": True}},
                       lambda: torch_functional.hessian(lambda x: x.sum(), X, strict=True)),
    "strict, linear, vhp": ("vhp", {"function": SUM, "v": [POINT], "options": {"strict": True}},
                            lambda: torch_functional.vhp(lambda x: x.sum(), X, X, strict=True)),
}


def _renamed(call: Any, old: str, new: str) -> None:
    try:
        call()
    except RuntimeError as error:
        raise RuntimeError(str(error).replace(old, new)) from None


@pytest.mark.parametrize("name", SAID)
def test_what_the_service_says(server: Server, name: str) -> None:
    operation, body, theirs = SAID[name]
    answer = httpx2.post(f"{server.url}/v1/{operation}", json={"inputs": [POINT], **body}, timeout=60)
    if theirs is None:
        assert answer.status_code == 200, answer.text
        return
    with pytest.raises((RuntimeError, ValueError)) as expected:
        theirs()
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["detail"] == str(expected.value)
    rebuilt = CODES[problem["code"]]
    assert issubclass(rebuilt, type(expected.value))


def test_the_service_keeps_the_two_conventions_apart(server: Server) -> None:
    """Shapes and block dtypes of torch.autograd.functional and of torch.func, by the same graph."""
    inputs = [{"name": "a", "shape": [2], "dtype": "float64"}, {"name": "b", "shape": [3], "dtype": "float32"}]
    nodes = [{"id": "s", "op": "sum", "args": ["a"]}, {"id": "t", "op": "sum", "args": ["b"]},
             {"id": "u", "op": "exp", "args": ["t"]}, {"id": "m", "op": "multiply", "args": ["s", "u"]},
             {"id": "y", "op": "reshape", "args": ["m"], "attrs": {"shape": [1]}}]
    body = {"function": {"graph": {"format": "hesse-graph/1", "inputs": inputs, "constants": [], "nodes": nodes,
                                   "outputs": ["y"]}},
            "inputs": [{"shape": [2], "dtype": "float64", "data": [1.0, 2.0]},
                       {"shape": [3], "dtype": "float32", "data": [0.5, 0.25, 1.0]}]}

    def f(a: Any, b: Any) -> Any:
        return (a.sum() * b.sum().exp()).reshape(1)

    a, b = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([0.5, 0.25, 1.0])
    expected = {"functional": torch_functional.hessian(f, (a, b)), "func": torch_func.hessian(f, argnums=(0, 1))(a, b)}
    assert expected["functional"][0][1].dtype != expected["func"][0][1].dtype
    assert expected["functional"][0][1].shape != expected["func"][0][1].shape
    for api, blocks in expected.items():
        answer = httpx2.post(f"{server.url}/v1/hessian", json={**body, "options": {"api": api, "argnums": [0, 1]}},
                             timeout=60)
        assert answer.status_code == 200, answer.text
        found = answer.json()["result"]
        for i in range(2):
            for j in range(2):
                block = found[i][j]
                assert tuple(block["shape"]) == tuple(blocks[i][j].shape)
                assert f"torch.{block['dtype']}" == str(blocks[i][j].dtype)
                np.testing.assert_allclose(np.reshape(block["data"], block["shape"]), blocks[i][j].numpy(), rtol=1e-6)
