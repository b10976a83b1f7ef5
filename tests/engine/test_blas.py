"""BLAS threads: those of the program that runs, in whatever thread it runs, and the caller's own again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from hesse_engine.backend import blas, workspace
from hesse_engine.backend.program import Program, build_program
from hesse_engine.ir.graph import FLOAT64, Array, Builder, apply

pytestmark = pytest.mark.skipif(not blas.thread_counts(), reason="no BLAS whose threads can be set")


def run_in_thread(action: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  (raised again in the test)
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def product(n: int, threads: int, tier: str = "vm") -> tuple[Program, list[Array]]:
    builder = Builder()
    x, y = builder.input("x", (n, n), FLOAT64), builder.input("y", (n, n), FLOAT64)
    node = apply("contract", x, y, subscripts="ab,bc->ac")
    return build_program([x, y], [node], threads=threads, tier=tier), [np.eye(n), np.ones((n, n))]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("where", [run_in_thread, lambda action: action()], ids=["other thread", "main thread"])
def test_threads_are_held_and_given_back(count: int, where: Callable[[Callable[[], None]], None]) -> None:
    before = blas.thread_counts()

    def check() -> None:
        with blas.hold(count):
            assert blas.thread_counts() == [count] * len(before)

    where(check)
    assert blas.thread_counts() == before


def test_they_are_given_back_after_an_error() -> None:
    before = blas.thread_counts()
    with pytest.raises(ZeroDivisionError), blas.hold(1):
        raise ZeroDivisionError
    assert blas.thread_counts() == before


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("where", [run_in_thread, lambda action: action()], ids=["other thread", "main thread"])
def test_a_program_holds_its_own_number(
    count: int, where: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    program, arrays = product(200, count)
    program.run(arrays)
    matmul, seen = np.matmul, []

    def spy(*args: Array, **options: Array) -> Array:
        seen.append(blas.thread_counts())
        found: Array = matmul(*args, **options)  # type: ignore[call-overload]
        return found

    monkeypatch.setattr(np, "matmul", spy)
    where(lambda: np.testing.assert_array_equal(program.run(arrays)[0], np.ones((200, 200))))
    assert seen == [[count] * len(blas.thread_counts())]


def test_programs_with_different_numbers_do_not_run_at_once() -> None:
    wrong: list[list[int]] = []

    def work(count: int) -> None:
        for _ in range(200):
            with blas.hold(count):
                found = blas.thread_counts()
                if set(found) != {count}:
                    wrong.append(found)

    before = blas.thread_counts()
    threads = [threading.Thread(target=work, args=(1 + k % 2,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not wrong
    assert blas.thread_counts() == before


def test_small_products_leave_the_libraries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(count: int) -> None:
        raise AssertionError("held")

    monkeypatch.setattr(workspace, "hold", refuse)
    program, arrays = product(4, 1)
    np.testing.assert_array_equal(program.run(arrays)[0], np.ones((4, 4)))
    large, arrays = product(200, 1)
    with pytest.raises(AssertionError, match="held"):
        large.run(arrays)


def test_a_library_that_is_loaded_later_is_found() -> None:
    import scipy.linalg  # noqa: F401

    counts = blas.thread_counts()
    with blas.hold(1):
        assert blas.thread_counts() == [1] * len(counts)
