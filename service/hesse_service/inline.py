"""Computations small enough for the event loop: a hop to a process would cost more than they do."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

from hesse_engine.errors import StateError
from hesse_service.evaluator import Answer, Entry, Evaluator, HotKey, unknown_function
from hesse_service.exchange import Terms
from hesse_service.schemas import ById, CallRequest

logger = logging.getLogger("hesse.service")

STRIKES = 3  # slow runs in a row after which a computation leaves the event loop
MOST_STRIKES = 4096  # computations that are remembered to have been slow
BAN_S = 60.0
SEEN_S = 0.01
MOST_SEEN = 10_000


class Inline:
    """Answers calls by id that were prepared here because a process measured them as tiny."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._thread = ThreadPoolExecutor(1, "hesse-inline")
        self._seen: dict[tuple[str, str], float] = {}
        self._pending: set[HotKey] = set()
        self._strikes: dict[HotKey, int] = {}
        self._banned: dict[HotKey, float] = {}

    def entry(self, operation: str, call: CallRequest, terms: Terms) -> Entry | None:
        """The prepared computation, or None where a process has to answer."""
        return self.evaluator.known(operation, call, terms)

    def answer(self, operation: str, call: CallRequest, entry: Entry, terms: Terms) -> Answer:
        """Run it here and now.

        Raises:
            StateError: `unknown-function` where it was deleted since.
        """
        assert isinstance(call.function, ById)
        store, name = self.evaluator.store, call.function.id
        if not self._is_stored(terms.owner, name):
            raise unknown_function()
        is_watched = bool(self._strikes)
        started = time.thread_time() if is_watched else 0.0
        answer = self.evaluator.call(operation, call, terms, entry)
        slow_s = answer.seconds["compute"]
        if is_watched:
            slow_s = min(slow_s, time.thread_time() - started)
        if store.is_stale(terms.owner, name):
            self._thread.submit(store.touch, terms.owner, name)
        if is_watched or slow_s > self.evaluator.settings.inline_s:
            self._watch(slow_s, HotKey(terms.owner, name, operation, entry.options))
        return answer

    def _is_stored(self, owner: str, name: str) -> bool:
        """Looked up once in `SEEN_S`: so long may a function be called that another server process deleted."""
        seen, now = self._seen.get((owner, name), 0.0), time.monotonic()
        if now - seen < SEEN_S:
            return True
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        is_stored = self.evaluator.store.has(owner, name)
        if is_stored:
            self._seen[owner, name] = now
        return is_stored

    def forget(self, owner: str, name: str) -> None:
        """The function was deleted here: the next call is told so."""
        self._seen.pop((owner, name), None)

    def promote(self, key: HotKey) -> None:
        """Prepare a computation here, in the background."""
        if key in self._pending or self._banned.get(key, 0.0) > time.monotonic():
            return
        self._pending.add(key)
        self._thread.submit(self._prepare, key)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _prepare(self, key: HotKey) -> None:
        try:
            self.evaluator.warm(key)
        except StateError:  # deleted, or evicted, in the meantime
            logger.debug("function %s is gone", key.function)
        except Exception:
            logger.exception("function %s could not be prepared", key.function)
        finally:
            self._pending.discard(key)

    def _watch(self, seconds: float, key: HotKey) -> None:
        """Send a computation back to the processes when it is slow again and again (a single slow run may be noise).

        After a slow run, slow is what takes processor time: on busy cores the clock runs on while others compute, and
        to leave the event loop for that would make every call slower still. Reading that time costs 1 us, so it is not
        read before.
        """
        if seconds <= self.evaluator.settings.inline_s:
            self._strikes.pop(key, None)
            return
        if len(self._strikes) >= MOST_STRIKES:
            self._strikes.clear()
        self._strikes[key] = self._strikes.get(key, 0) + 1
        if self._strikes[key] >= STRIKES:
            del self._strikes[key]
            self._banned = {k: until for k, until in self._banned.items() if until > time.monotonic()}
            self._banned[key] = time.monotonic() + BAN_S
            self.evaluator.entries.drop(key)
