"""Options that are not acceptable: one class, code and text, whether the engine here is asked or a service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hesse
from serving import running

X = np.linspace(0.1, 1.0, 3)


def f(x: Any) -> Any:
    return (x**3).sum()


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hesse.Client]:
    with running(tmp_path_factory.mktemp("options") / "server.log", compute_processes=1) as started, \
            hesse.Client(started.url) as client:
        yield client


def refused(client: hesse.Client, **options: Any) -> hesse.HesseError:
    with pytest.raises(hesse.HesseError) as caught:
        client.function(f).hessian(X, **options)
    return caught.value


@pytest.mark.parametrize(("options", "code"), [
    ({"chunk_size": "2"}, "bad-chunk-size"), ({"chunk_size": 1.5}, "bad-chunk-size"), ({"rows": 1}, "bad-option"),
    ({"rows": slice(0, 3)}, "bad-option"), ({"columns": {1, 2}}, "bad-option"), ({"rows": ["0"]}, "bad-option"),
    ({"threads": "1"}, "bad-option"), ({"layout": 3}, "bad-layout"), ({"strict": 1}, "bad-option"),
    ({"argnums": "0"}, "argnums-type"), ({"argnums": slice(1)}, "argnums-type"), ({"argnums": 5}, "bad-argnums"),
    ({"chunksize": 2}, "bad-option"), ({"batch": 3}, "bad-option"), ({"tangents": 3}, "bad-option"),
    ({"max_memory_bytes": 1e9}, "bad-option"),
], ids=str)
def test_a_service_says_what_the_engine_here_says(remote: hesse.Client, options: dict[str, Any], code: str) -> None:
    here, there = refused(hesse.Client(":local:"), **options), refused(remote, **options)
    assert here.code == there.code == code
    assert type(here) is type(there)
    assert str(here) == str(there)
    assert here.pointer == there.pointer


@pytest.mark.parametrize("where", [":local:", "http"])
def test_integers_of_numpy_are_integers(remote: hesse.Client, where: str) -> None:
    g = (hesse.Client(where) if where == ":local:" else remote).function(f)
    found = g.hessian(X, chunk_size=np.int64(2), threads=np.int32(1), argnums=np.int64(0),
                      max_memory_bytes=np.int64(1 << 28))
    np.testing.assert_allclose(found, np.diag(6 * X))
    np.testing.assert_allclose(g.hessian(X, rows=(np.int64(1), 2)), np.diag(6 * X)[1:])


def test_a_strange_option_is_named_and_its_neighbour_is() -> None:
    error = refused(hesse.Client(":local:"), chunksize=2)
    assert str(error).startswith("hessian takes no option 'chunksize'. Did you mean chunk_size? It takes api, ")
    assert "batched" in str(error) and "weighted" not in str(error)
    assert "Did you mean" not in str(refused(hesse.Client(":local:"), zzz=2))
    with pytest.raises(hesse.HesseError, match="hvp takes no option 'argnums'"):
        hesse.function(f).hvp(X, X, argnums=0)
    for wrong in ({"chunksize": 2}, {"batch": 3}, {"resume": 1}):
        with pytest.raises(hesse.HesseError, match=f"takes no option '{next(iter(wrong))}'") as caught:
            hesse.Client(":local:").stream_hessian(f, X, **wrong)
        assert caught.value.code == "bad-option"
