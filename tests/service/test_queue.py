"""The queue before the compute processes: owners take turns, nobody is lost, and the full queue is said to be full."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hesse_engine.errors import HesseError
from hesse_service.bodies import Body
from hesse_service.exchange import Terms
from hesse_service.queue import Queue
from hesse_service.settings import Settings
from hesse_service.workers import Reply, Work, Workers

FAST = b'{"function": {"expression": "sum(x**2)"}, "inputs": [[3.0]]}'


async def served(owners: list[str], leaving: frozenset[int] = frozenset()) -> list[int]:
    """The order in which waiting requests of `owners` get the only slot; those `leaving` stop waiting before."""
    queue: Queue[str] = Queue()
    queue.give("slot")
    order: list[int] = []

    async def one(k: int) -> None:
        slot = await queue.take(owners[k])
        order.append(k)
        await asyncio.sleep(0)
        queue.give(slot)

    held = await queue.take("somebody")
    tasks = [asyncio.create_task(one(k)) for k in range(len(owners))]
    await asyncio.sleep(0)
    assert len(queue) == len(owners)
    for k in leaving:
        tasks[k].cancel()
    await asyncio.sleep(0)
    assert len(queue) == len(owners) - len(leaving)
    queue.give(held)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(queue) == 0
    assert queue.has("slot")
    return order


@pytest.mark.parametrize(
    ("owners", "order"),
    [
        ("aaa", [0, 1, 2]),
        ("aaab", [0, 3, 1, 2]),
        ("aaaabbc", [0, 4, 6, 1, 5, 2, 3]),
        ("", []),
    ],
)
def test_owners_take_turns(owners: str, order: list[int]) -> None:
    assert asyncio.run(served(list(owners))) == order


def test_who_stops_waiting_is_passed_over() -> None:
    assert asyncio.run(served(list("aabb"), frozenset({0, 2}))) == [1, 3]
    assert asyncio.run(served(list("ab"), frozenset({0, 1}))) == []


def test_a_slot_given_to_one_who_leaves_in_the_same_moment_is_free_again() -> None:
    async def scenario() -> bool:
        queue: Queue[str] = Queue()
        waiting = asyncio.create_task(queue.take("a"))
        await asyncio.sleep(0)
        queue.give("slot")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return queue.has("slot")

    assert asyncio.run(scenario())


def work(owner: str, body: bytes = FAST) -> Work:
    return Work("call", "hessian", Body([body], len(body)), Terms(owner), 60.0)


async def refused(workers: Workers, owner: str) -> HesseError:
    with pytest.raises(HesseError) as caught:
        await workers.run(work(owner))
    return caught.value


def test_one_key_holds_its_share_of_the_queue_and_no_more(tmp_path: Path) -> None:
    """Five requests at once of key a, for one process: one computes, two wait, two are refused; key b still waits."""

    async def scenario() -> tuple[list[Reply | BaseException], HesseError, Reply]:
        workers = Workers(Settings(compute_processes=1, queue_length=4, queue_share=0.5), tmp_path / "f.sqlite")
        await workers.start()
        try:
            many = [asyncio.create_task(workers.run(work("a"))) for _ in range(5)]
            await asyncio.sleep(0)
            assert (workers.waiting, workers.busy) == (2, 1)
            other = [asyncio.create_task(workers.run(work("b"))) for _ in range(2)]
            await asyncio.sleep(0)
            full = await refused(workers, "c")
            return await asyncio.gather(*many, return_exceptions=True), full, (await asyncio.gather(*other))[0]
        finally:
            await workers.close()

    many, full, other = asyncio.run(scenario())
    replies = [m for m in many if isinstance(m, Reply)]
    errors = [m for m in many if isinstance(m, HesseError)]
    assert [b'"data":[2.0]' in r.body for r in [*replies, other]] == [True] * 4
    assert [(e.code, e.status) for e in errors] == [("too-many-requests", 429)] * 2
    assert (full.code, full.status) == ("busy", 503)
    assert all([e.retry_after_s is not None and 1 <= e.retry_after_s <= 30 for e in [*errors, full]])


def test_without_keys_everybody_shares_the_whole_queue(tmp_path: Path) -> None:
    async def scenario() -> list[Reply | BaseException]:
        workers = Workers(Settings(compute_processes=1, queue_length=4, queue_share=0.5), tmp_path / "f.sqlite")
        await workers.start()
        try:
            return await asyncio.gather(*[workers.run(work("")) for _ in range(6)], return_exceptions=True)
        finally:
            await workers.close()

    found = asyncio.run(scenario())
    assert [getattr(f, "code", "") for f in found] == [""] * 5 + ["busy"]
