"""The store and the cache keep to their bounds; the least recently used goes first."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from hesse_engine.errors import LimitError, StateError
from hesse_service.cache import Cache
from hesse_service.store import Store


def test_what_is_put_is_got(tmp_path: Path) -> None:
    store = Store(tmp_path / "f.sqlite", 10, 1000)
    store.put("", "a", b"signature", b"graph")
    assert (store.signature("", "a"), store.get("", "a"), store.has("", "a")) == (b"signature", b"graph", True)
    assert (store.signature("", "b"), store.get("", "b"), store.has("", "b")) == (None, None, False)
    assert store.delete("", "a")
    assert not store.delete("", "a")
    assert not store.has("", "a")
    store.close()


def test_two_processes_worth_of_connections_see_each_other(tmp_path: Path) -> None:
    one, two = [Store(tmp_path / "f.sqlite", 10, 1000) for _ in range(2)]
    one.put("", "a", b"", b"graph")
    assert two.get("", "a") == b"graph"
    two.delete("", "a")
    assert not one.has("", "a")
    one.close()
    two.close()


def test_bounded_by_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "f.sqlite", 3, 1000)
    for name in "abc":
        store.put("", name, b"", b"x")
    store.put("", "a", b"", b"x")  # used again
    store.put("", "d", b"", b"x")
    assert [store.has("", n) for n in "abcd"] == [True, False, True, True]
    store.close()


def test_bounded_by_bytes(tmp_path: Path) -> None:
    store = Store(tmp_path / "f.sqlite", 100, 100)
    store.put("", "a", b"", b"x" * 60)
    store.put("", "b", b"", b"x" * 60)
    assert [store.has("", n) for n in "ab"] == [False, True]
    with pytest.raises(LimitError, match="100 bytes") as caught:
        store.put("", "c", b"", b"x" * 101)
    assert caught.value.code == "function-too-large"
    assert store.has("", "b")
    store.close()


def test_reading_counts_as_use(tmp_path: Path) -> None:
    store = Store(tmp_path / "f.sqlite", 2, 1000)
    store.put("", "a", b"", b"x")
    store.put("", "b", b"", b"x")
    store.get("", "a")
    store.put("", "c", b"", b"x")
    assert [store.has("", n) for n in "abc"] == [True, False, True]
    store.close()


def test_a_broken_file_is_a_declared_error(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError) as caught:
        Store(path, 10, 1000)
    assert caught.value.code == "store-unavailable"
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "f.sqlite", 1000, 100_000)

    def fill(k: int) -> None:
        for j in range(20):
            store.put("", f"{k}-{j}", b"", b"x")

    threads = [threading.Thread(target=fill, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([store.has("", f"{k}-{j}") for k in range(5) for j in range(20)])
    store.close()


def test_cache_is_bounded_by_count_and_bytes() -> None:
    cache: Cache[str] = Cache(3, 100)
    for name in "abc":
        cache.put(name, name.upper(), 10)
    assert cache.get("a") == "A"
    cache.put("d", "D", 10)
    assert [cache.get(n) for n in "abcd"] == ["A", None, "C", "D"]
    cache.put("e", "E", 90)
    assert (len(cache), cache.bytes) == (2, 100)
    cache.put("f", "F", 101)
    assert cache.get("f") is None
    cache.put("e", "E2", 5)
    cache.drop("d")
    assert (len(cache), cache.bytes, cache.get("e")) == (1, 5, "E2")
