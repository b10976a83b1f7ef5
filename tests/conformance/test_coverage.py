"""At least the hundred most used torch functions are there, as functions and as methods, each with a case."""

from __future__ import annotations

import re

import numpy as np
import pytest

from conformance.cases import torch
from conformance.coverage import GONE, MOST_USED, MOST_USED_NEURAL, SUCCESSORS
from conformance.test_against_torch import CASES
from hesse_engine.frontends import methods
from hesse_engine.frontends.table import find
from hesse_engine.frontends.trace import Trace

pytestmark = pytest.mark.skipif(torch is None, reason="torch says which functions and methods there are")


def test_the_list_is_of_more_than_a_hundred_names() -> None:
    names = [*MOST_USED, *MOST_USED_NEURAL]
    assert len(names) == len(set(names)) > 100


@pytest.mark.parametrize("name", [*MOST_USED, *MOST_USED_NEURAL])
def test_a_case_compares_the_function_with_torch(name: str) -> None:
    wanted = SUCCESSORS.get(name, name)
    assert wanted in {m[1] for c in CASES if (m := re.match(r"(?:torch\.|special\.|linalg[._])?(\w+)", c.name))}


@pytest.mark.parametrize("name", [n for n in MOST_USED if n not in GONE])
def test_the_function_is_found(name: str) -> None:
    assert callable(getattr(torch, name))
    assert find(name, "torch") is not None


@pytest.mark.parametrize("name", MOST_USED_NEURAL)
def test_the_function_of_neural_networks_is_found(name: str) -> None:
    assert callable(getattr(torch.nn.functional, name))
    assert find(name, "torch") is not None


@pytest.mark.parametrize("name", [n for n in [*MOST_USED, *MOST_USED_NEURAL] if n not in GONE])
def test_a_method_of_tensors_is_one_of_tracers(name: str) -> None:
    if not callable(getattr(torch.Tensor, name, None)):
        pytest.skip(f"torch.Tensor has no method {name}")
    found = methods.find(name, "torch")
    assert found is not None and find(found[1], found[0]) is not None
    assert callable(getattr(Trace("torch").input(np.ones((2, 2)), "x"), name))
