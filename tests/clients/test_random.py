"""Random draws in traced functions: torch's three rules for `vmap` and `jacfwd`; what is traced once refuses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse import func

BATCH = np.linspace(-2.0, 2.0, 12).reshape(4, 3)
RULE = "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' " \
       "randomness flags on vmap or perform the randomness operation out of vmap"
random = xp.random

DRAWS: dict[str, Callable[[], Any]] = {
    "standard_normal": lambda: random.standard_normal(3),
    "normal": lambda: random.normal(1.0, 2.0, 3),
    "random": lambda: random.random(3),
    "uniform": lambda: random.uniform(-1.0, 1.0, (3,)),
    "exponential": lambda: random.exponential(2.0, 3),
    "standard_exponential": lambda: random.standard_exponential(3),
    "integers": lambda: random.integers(0, 1000000, 3),
    "permutation": lambda: random.permutation(3),
    "choice": lambda: random.choice(1000, 3),
    "choice without replacement": lambda: random.choice(1000, 3, replace=False),
}


# ---- outside of a trace: NumPy's own numbers -------------------------------------------------------------------------
def test_a_seed_gives_numpys_numbers() -> None:
    ours, theirs = random.default_rng(3), np.random.default_rng(3)
    np.testing.assert_array_equal(ours.standard_normal((2, 3)), theirs.standard_normal((2, 3)))
    np.testing.assert_array_equal(ours.random(4, np.float32), theirs.random(4, np.float32))
    np.testing.assert_array_equal(ours.integers(0, 9, 5), theirs.integers(0, 9, 5))
    np.testing.assert_array_equal(ours.integers([1, 5], 9), theirs.integers([1, 5], 9))
    np.testing.assert_array_equal(ours.permutation(7), theirs.permutation(7))
    np.testing.assert_array_equal(ours.choice(9, 4, replace=False), theirs.choice(9, 4, replace=False))
    random.seed(3)
    first = random.normal(size=2)
    random.seed(3)
    np.testing.assert_array_equal(first, random.normal(size=2))


def test_orders_and_choices_of_rows() -> None:
    rows = np.arange(12.0).reshape(4, 3)
    assert sorted(random.permutation(rows)[:, 0]) == [0.0, 3.0, 6.0, 9.0]
    assert sorted(random.permutation(rows, axis=1)[0]) == [0.0, 1.0, 2.0]
    assert random.choice(rows, 5).shape == (5, 3)
    assert set(random.choice(3, 50, p=[0.5, 0.0, 0.5])) <= {0, 2}


# ---- under vmap ------------------------------------------------------------------------------------------------------
def noisy(draw: Callable[[], Any]) -> Callable[[Any], Any]:
    return lambda x: 0.0 * x + draw()


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_raises_by_default(name: str) -> None:
    with pytest.raises(RuntimeError) as found:
        func.vmap(noisy(DRAWS[name]))(BATCH)
    assert str(found.value) == RULE


@pytest.mark.parametrize("name", DRAWS)
def test_same_is_one_draw(name: str) -> None:
    found = func.vmap(noisy(DRAWS[name]), randomness="same")(BATCH)
    assert (found == found[0]).all()
    again = func.vmap(noisy(DRAWS[name]), randomness="same", chunk_size=3)(BATCH)
    assert (again == again[0]).all()


@pytest.mark.parametrize("name", DRAWS)
def test_different_is_a_draw_for_each_example(name: str) -> None:
    many = np.zeros((40, 3))
    for chunk_size in (None, 9, 1):
        found = func.vmap(noisy(DRAWS[name]), randomness="different", chunk_size=chunk_size)(many)
        assert len({tuple(row) for row in found}) > (5 if name == "permutation" else 39)


def test_different_follows_the_distribution() -> None:
    found = func.vmap(lambda x: random.normal(x, 2.0), randomness="different")(np.full(20000, 3.0))
    assert abs(found.mean() - 3.0) < 0.1
    assert abs(found.std() - 2.0) < 0.1
    orders = func.vmap(lambda x: random.permutation(4) + 0 * x, randomness="different")(np.zeros(50))
    assert (np.sort(orders, 1) == np.arange(4)).all()
    some = func.vmap(lambda x: random.choice(5, 3, replace=False) + 0 * x, randomness="different")(np.zeros(50))
    assert all([len(set(row)) == 3 for row in some])


@pytest.mark.parametrize(("inner", "outer", "rows", "columns"), [
    ("different", "different", True, True), ("different", "same", False, True), ("same", "different", True, False),
    ("same", "same", False, False),
])
def test_nested(inner: str, outer: str, rows: bool, columns: bool) -> None:
    one = noisy(random.standard_normal)
    found = func.vmap(func.vmap(one, randomness=inner), randomness=outer)(BATCH)
    assert (np.ptp(found, axis=0).max() > 0) == rows
    assert (np.ptp(found, axis=1).max() > 0) == columns


@pytest.mark.parametrize(("inner", "outer"), [("error", "different"), ("different", "error")])
def test_an_error_anywhere_is_an_error(inner: str, outer: str) -> None:
    with pytest.raises(RuntimeError, match="randomness error mode"):
        func.vmap(func.vmap(noisy(random.random), randomness=inner), randomness=outer)(BATCH)


def test_what_differs_is_mapped() -> None:
    with pytest.raises(ValueError, match="can not return a BatchedTensor when out_dim is None"):
        func.vmap(lambda x: (x, random.random()), out_dims=(0, None), randomness="different")(BATCH)
    found = func.vmap(lambda x: (x, random.random()), out_dims=(0, None), randomness="same")(BATCH)
    assert found[1].shape == ()


def test_derivatives_of_noise() -> None:
    # reparametrized: d/ds (m + s z) = z
    slopes = func.vmap(func.grad(lambda s: random.normal(0.0, s)), randomness="different")(np.ones(30))
    assert len(set(slopes)) == 30
    random.seed(5)
    g = func.grad(lambda s: (random.normal(s[0], s[1], 4) ** 2).sum())(np.array([1.0, 2.0]))
    random.seed(5)
    z = random.standard_normal(4)
    np.testing.assert_allclose(g, [(2 * (1 + 2 * z)).sum(), (2 * (1 + 2 * z) * z).sum()], rtol=1e-13)


# ---- columns ---------------------------------------------------------------------------------------------------------
def test_jacfwd() -> None:
    x = np.ones(4)

    def scaled(z: Any) -> Any:
        return z * random.standard_normal()

    def summed(z: Any) -> Any:
        return (scaled(z) ** 2).sum()

    for transform in (func.jacfwd(scaled), func.hessian(summed), func.jacrev(func.jacfwd(scaled))):
        with pytest.raises(RuntimeError, match="randomness error mode"):
            transform(x)
    same = func.jacfwd(scaled, randomness="same")(x)
    assert len(set(np.diag(same))) == 1
    different = func.jacfwd(scaled, randomness="different")(x)
    assert len(set(np.diag(different))) == 4
    np.testing.assert_array_equal(different - np.diag(np.diag(different)), 0.0)
    assert func.jacrev(scaled)(x).shape == (4, 4)
    assert func.jacfwd(func.jacrev(lambda z: (scaled(z) ** 2).sum()), randomness="same")(x).shape == (4, 4)


def test_jacfwd_different_has_torchs_blocks() -> None:
    at = ({"a": np.ones(2), "b": np.ones((1, 3))}, np.ones(()))

    def f(p: Any, s: Any) -> Any:
        return {"y": p["a"] * s, "z": (p["b"] * 2, s**2)}, [s]

    for argnums in (0, 1, (0, 1), (-1,)):
        literal = func.jacfwd(f, argnums, has_aux=True, randomness="different")(*at)
        usual = func.jacfwd(f, argnums, has_aux=True)(*at)
        assert repr(literal) == repr(usual).replace("-0.", "0.")


# ---- what is traced once ---------------------------------------------------------------------------------------------
def test_a_function_refuses_a_draw() -> None:
    g = hesse.function(lambda x: (x * random.random(2)).sum())
    with pytest.raises(RuntimeError, match="Pass the noise as an argument") as found:
        g.grad(np.ones(2))
    assert found.value.code == "random-once"


def test_a_function_may_make_a_seeded_generator() -> None:
    g = hesse.function(lambda x: (x * random.default_rng(7).random(2)).sum())
    np.testing.assert_array_equal(g.grad(np.ones(2)), np.random.default_rng(7).random(2))
    outside = random.default_rng(7)  # its numbers go on, so they would differ between calls
    with pytest.raises(RuntimeError, match="Pass the noise"):
        hesse.function(lambda x: (x * outside.random(2)).sum()).grad(np.ones(2))


def test_a_function_inside_a_transform_draws_as_any() -> None:
    g = hesse.function(lambda x: x * random.random())
    assert len(set(func.vmap(g, randomness="different")(np.ones(5)))) == 5


def test_a_distribution_of_traced_values_is_refused() -> None:
    with pytest.raises(TypeError, match="may not depend on traced"):
        func.grad(lambda x: random.integers(0, x))(np.array(2.0))


# ---- torch's own functions -------------------------------------------------------------------------------------------
def torch_draws(torch: Any) -> dict[str, Callable[[Any], Any]]:
    return {
        "randn": lambda x: 0 * x + torch.randn(3, dtype=x.dtype),
        "randn, size": lambda x: 0 * x + torch.randn(size=(3,)),
        "rand": lambda x: 0 * x + torch.rand((3,)),
        "randint": lambda x: 0 * x + torch.randint(0, 10**6, (3,)),
        "randn_like": lambda x: torch.randn_like(x),
        "rand_like": lambda x: torch.rand_like(x),
        "normal": lambda x: torch.normal(0 * x, 2.0),
        "dropout": lambda x: torch.nn.functional.dropout(0 * x + torch.ones(3, dtype=x.dtype), 0.5),
        "dropout of a tensor": lambda x: 0 * x + torch.nn.functional.dropout(torch.ones(3), 0.5),
        "bernoulli": lambda x: torch.bernoulli(0 * x, 0.5),
    }


NAMES = ["randn", "randn, size", "rand", "randint", "randn_like", "rand_like", "normal", "dropout",
         "dropout of a tensor", "bernoulli"]


@pytest.mark.parametrize("name", NAMES)
def test_torchs_draws(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
    draw = torch_draws(torch)[name]
    x = torch.zeros(20, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError) as found:
        func.vmap(draw)(x)
    assert str(found.value) == RULE
    same = func.vmap(draw, randomness="same")(x)
    assert (same == same[0]).all()
    different = func.vmap(draw, randomness="different")(x)
    assert len({tuple(row.tolist()) for row in different}) > 3
    with pytest.raises(RuntimeError, match="Pass the noise"):
        hesse.function(lambda z: draw(z).sum())(x[0])
    assert different.dtype == torch.func.vmap(draw, randomness="different")(x).dtype


@pytest.mark.parametrize("name", ["randn", "rand", "randn_like", "rand_like", "dropout"])
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_torchs_seed_gives_torchs_numbers(name: str, randomness: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
    draw, x = torch_draws(torch)[name], torch.zeros(5, 3, dtype=torch.float64)
    torch.manual_seed(11)
    ours = func.vmap(draw, randomness=randomness)(x)
    torch.manual_seed(11)
    theirs = torch.func.vmap(draw, randomness=randomness)(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_dropout_that_drops_nothing_is_certain() -> None:
    torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")
    x = torch.ones(4, 3)
    for dropout in (lambda z: torch.nn.functional.dropout(z, 0.0),
                    lambda z: torch.nn.functional.dropout(z, 0.5, training=False),
                    lambda z: z + 0 * torch.nn.functional.dropout(torch.ones(3), 0.5, False)):
        assert (func.vmap(dropout)(x) == x).all()
    found = func.grad(lambda z: torch.nn.functional.dropout(z, 0.5).sum())(torch.ones(1000))
    assert set(found.tolist()) == {0.0, 2.0}
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 2"):
        func.grad(lambda z: torch.nn.functional.dropout(z, 2.0).sum())(x[0])


def test_in_place_draws_follow_torchs_rule() -> None:
    torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")

    def draw(z: Any) -> Any:
        return z + torch.empty(3).normal_()

    for randomness in ("error", "different"):
        texts = []
        for vmap in (func.vmap, torch.func.vmap):
            with pytest.raises(RuntimeError) as found:
                vmap(draw, randomness=randomness)(torch.zeros(4, 3))
            texts.append(str(found.value))
        assert texts[0] == texts[1]
    same = func.vmap(draw, randomness="same")(torch.zeros(4, 3))
    assert (same == same[0]).all()
