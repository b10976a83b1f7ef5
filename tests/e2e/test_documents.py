"""The examples that users know from torch's documentation and from tutorials, word for word but for the import line.

Each is run as torch code and, with the constructors renamed, as NumPy code; embedded and over HTTP. What is expected is
derived by hand below each example.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hesse

Values = dict[str, Any]

# torch's names -> NumPy's, in the order of replacement
RENAMED = [
    ("import torch\n", "import numpy as np\n"),
    ("torch.tensor(", "np.array("),
    ("torch.randn(", "np.random.randn("),
    ("torch.rand(", "np.random.rand("),
    ("torch.ones(2, 2)", "np.ones((2, 2))"),
    ("torch.", "np."),
]

# from torch.autograd.functional import hessian, and the like, becomes:
IMPORTS = "import torch\nfrom hesse.functional import hessian, jacobian, vhp\n"
FUNC_IMPORTS = "import torch\nfrom hesse.func import hessian, jacfwd, jacrev, vmap\n"

POW_REDUCER = """
def pow_reducer(x):
  return x.pow(3).sum()
inputs = torch.rand(2, 2)
first = hessian(pow_reducer, inputs)
again = hessian(pow_reducer, inputs, create_graph=True)
third = jacobian(lambda x: hessian(pow_reducer, x, create_graph=True), inputs)
"""

POW_ADDER_REDUCER = """
def pow_adder_reducer(x, y):
  return (2 * x.pow(2) + 3 * y.pow(2)).sum()
inputs = (torch.rand(2), torch.rand(2))
found = hessian(pow_adder_reducer, inputs)
"""

VHP = """
def pow_reducer(x):
    return x.pow(3).sum()
inputs = torch.rand(2, 2)
v = torch.ones(2, 2)
found = vhp(pow_reducer, inputs, v)
again = vhp(pow_reducer, inputs, v, create_graph=True)
"""

VHP_OF_TWO = """
def pow_adder_reducer(x, y):
    return (2 * x.pow(2) + 3 * y.pow(2)).sum()
inputs = (torch.rand(2), torch.rand(2))
v = (torch.zeros(2), torch.ones(2))
found = vhp(pow_adder_reducer, inputs, v)
"""

TUTORIAL_1 = """
def func(x):
    return x**3 + 4*x -10
input = torch.tensor([2.])
output = hessian(func, input)
"""

TUTORIAL_UNSUMMED = """
def func(x):
    return x**3 + 4*x -10
input = torch.tensor([2.,3.,4.])
output = hessian(func, input)
"""

TUTORIAL_2 = """
def func(x):
    return (x**3 + 4*x -10).sum()

# apply an input having more than one elements
input = torch.randn(2,2)
output = hessian(func, input)
"""

TUTORIAL_3 = """
# define a function
def func(x, y):
    return x**3 + x*y
input = (torch.tensor([2.]),torch.tensor([4.]))
first = hessian(func, input)

# to apply multi element tensor as input
def func(x, y):
    return (x**3 + x*y).sum()
input = (torch.tensor([2.,3.]),torch.tensor([4., 5.]))
second = hessian(func, input)
"""

FUNC_HESSIAN = """
def f(x):
  return x.sin().sum()

x = torch.randn(5)
hess = hessian(f)(x)  # equivalent to jacfwd(jacrev(f))(x)
assert torch.allclose(hess, torch.diag(-torch.sin(x)))
same = jacfwd(jacrev(f))(x)
other = jacrev(jacrev(f))(x)
by_function = hessian(lambda x: torch.sin(x).sum())(x)
"""

JACFWD = """
x = torch.randn(5)
jacobian = jacfwd(torch.sin)(x)
expected = torch.diag(torch.cos(x))
assert torch.allclose(jacobian, expected)
x = torch.randn(64, 5)
batched = vmap(jacfwd(torch.sin))(x)
assert batched.shape == (64, 5, 5)
"""

ONE_ELEMENT = """
def func(x):
    return x**3 + 4*x -10
output = hessian(func)(torch.tensor([2.]))
"""


@pytest.fixture(params=["numpy", "torch"])
def library(request: pytest.FixtureRequest) -> str:
    if request.param == "torch":
        pytest.importorskip("torch", reason="torch is an optional peer")
    name: str = request.param
    return name


@pytest.fixture
def run(library: str, client: hesse.Client) -> Any:
    """Run an example with the client as the current one; its names afterwards."""

    def execute(source: str, imports: str = IMPORTS) -> Values:
        text = imports + source
        if library == "numpy":
            for old, new in RENAMED:
                text = text.replace(old, new)
        names: Values = {}
        with hesse.use(client):
            exec(compile(text, "<example>", "exec"), names)
        return names

    return execute


def close(found: Any, wanted: Any) -> None:
    """Equal to float32's accuracy, which torch.tensor and torch.rand have."""
    plain = [v.detach() if hasattr(v, "detach") else v for v in (found, wanted)]
    np.testing.assert_allclose(np.asarray(plain[0]), np.asarray(plain[1]), rtol=1e-5, atol=1e-6)


def diagonal(values: Any) -> Any:
    """The tensor T[i, j, i, j] = values[i, j]."""
    values = np.asarray(values)
    return np.diag(values.ravel()).reshape(values.shape * 2)


def check_kind(found: Any, library: str) -> None:
    assert type(found).__module__ == library
    assert str(found.dtype).removeprefix("torch.") == ("float64" if library == "numpy" else "float32")


def test_pow_reducer(run: Any, library: str) -> None:
    names = run(POW_REDUCER)
    x = np.asarray(names["inputs"])
    check_kind(names["first"], library)
    close(names["first"], diagonal(6 * x))
    close(names["again"], names["first"])
    # d³/dx³ of x³ is 6, on the diagonal of the three
    wanted = np.zeros((4, 4, 4))
    wanted[range(4), range(4), range(4)] = 6.0
    close(names["third"], wanted.reshape(2, 2, 2, 2, 2, 2))


def test_pow_adder_reducer(run: Any) -> None:
    found = run(POW_ADDER_REDUCER)["found"]
    assert isinstance(found, tuple)
    assert all([isinstance(row, tuple) for row in found])
    for row, wanted in zip(found, ((4, 0), (0, 6)), strict=True):
        for block, factor in zip(row, wanted, strict=True):
            close(block, factor * np.eye(2))


def test_vhp(run: Any, library: str) -> None:
    names = run(VHP)
    x = np.asarray(names["inputs"])
    for output, product in (names["found"], names["again"]):
        check_kind(product, library)
        assert output.shape == ()
        close(output, (x**3).sum())
        close(product, 6 * x)


def test_vhp_of_two(run: Any) -> None:
    names = run(VHP_OF_TWO)
    output, product = names["found"]
    x, y = map(np.asarray, names["inputs"])
    close(output, (2 * x**2 + 3 * y**2).sum())
    assert isinstance(product, tuple)
    close(product[0], [0, 0])
    close(product[1], [6, 6])


def test_tutorial_one_element(run: Any) -> None:
    output = run(TUTORIAL_1)["output"]
    assert output.shape == (1, 1)
    close(output, [[12.0]])


def test_tutorial_unsummed(run: Any) -> None:
    with pytest.raises(RuntimeError, match="The Tensor returned by the function given to hessian should contain a"):
        run(TUTORIAL_UNSUMMED)


def test_tutorial_summed(run: Any) -> None:
    names = run(TUTORIAL_2)
    close(names["output"], diagonal(6 * np.asarray(names["input"])))


def test_tutorial_bivariate(run: Any) -> None:
    names = run(TUTORIAL_3)
    (a, b), (c, d) = names["first"]
    close([a, b, c, d], np.reshape([12.0, 1.0, 1.0, 0.0], (4, 1, 1)))
    (a, b), (c, d) = names["second"]
    close(a, np.diag([12.0, 18.0]))
    close([b, c], [np.eye(2), np.eye(2)])
    close(d, np.zeros((2, 2)))


def test_func_hessian(run: Any, library: str) -> None:
    names = run(FUNC_HESSIAN, FUNC_IMPORTS)
    check_kind(names["hess"], library)
    for name in ("hess", "same", "other", "by_function"):
        close(names[name], np.diag(-np.sin(np.asarray(names["x"]))))


def test_jacfwd(run: Any) -> None:
    names = run(JACFWD, FUNC_IMPORTS)
    x = np.asarray(names["x"])
    close(names["batched"], np.stack([np.diag(np.cos(row)) for row in x]))


def test_func_hessian_of_one_element(run: Any) -> None:
    assert run(ONE_ELEMENT, FUNC_IMPORTS)["output"].shape == (1, 1, 1)


def test_v_may_be_left_out_for_one_element_only(run: Any) -> None:
    names = run("output, product = vhp(lambda x: x**3, torch.tensor([2.]))")
    close(names["output"], [8.0])
    close(names["product"], [12.0])
    with pytest.raises(RuntimeError, match="The vector v can only be None if the input to the user-provided"):
        run("vhp(lambda x: (x**3).sum(), torch.tensor([2., 3.]))")
    with pytest.raises(RuntimeError, match="The vector v can only be None"):
        run("vhp(lambda x, y: x * y, (torch.tensor([2.]), torch.tensor([3.])))")
