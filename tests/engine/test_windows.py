"""Windows under products: the mixed second derivative, against the index equation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hesse import functional
from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import FLOAT64, Builder, apply


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (2, 3), (1, 3), (3, 1)])
def test_kernel_and_image_have_the_mixed_derivative_of_their_products(rows: int, columns: int) -> None:
    """sum_ab s_ab sum_kl x[a + k, b + l] w[k, l]: d²/dx_ij dw_kl = s[i - k, j - l]."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 4)), rng.standard_normal((rows, columns))
    high, wide = 6 - rows, 5 - columns
    scale = rng.standard_normal((high, wide))
    at, along = np.arange(high)[:, None] + np.arange(rows), np.arange(wide)[:, None] + np.arange(columns)
    expected = np.zeros((5, 4, rows, columns))
    for a, b, k, m in product(range(high), range(wide), range(rows), range(columns)):
        expected[a + k, b + m, k, m] += scale[a, b]

    def correlation(x, w):  # type: ignore[no-untyped-def]
        return (scale * np.einsum("akbl,kl->ab", x[at][:, :, along], w)).sum()

    found = functional.hessian(correlation, (x, w))
    np.testing.assert_allclose(found[0][1], expected, rtol=1e-13)
    np.testing.assert_allclose(found[1][0], np.moveaxis(expected, (0, 1), (2, 3)), rtol=1e-13)
    assert not np.any(found[0][0]) and not np.any(found[1][1])


@pytest.mark.parametrize("attrs", [{"size": 0}, {"size": 2, "step": 0}, {"size": 2, "dilation": -1}, {"size": 1.5}])
def test_a_window_has_a_positive_size_and_step(attrs: dict[str, int]) -> None:
    x = Builder().input("x", (4,), FLOAT64)
    with pytest.raises(GraphError, match="windows"):
        apply("windows", x, axis=0, **attrs)
