"""Who asks: API keys checked on every request, their quota on every answer. One ASGI layer inside the envelope.

Where no keys file is set there is no such layer, and everybody is the owner "". `/livez` and `/readyz` need no key;
everything else does, `/openapi.json` and `/v1/ops` included: strangers learn nothing but that the process lives.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections import Counter
from pathlib import Path

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hesse_engine.errors import HesseError, StateError
from hesse_service import keys
from hesse_service.exchange import ANYBODY
from hesse_service.journal import exchange_of
from hesse_service.keys import Key, KeysFileError
from hesse_service.problems import problem_response
from hesse_service.quotas import BASE, Ledger, Quota, over_quota, quota_headers
from hesse_service.settings import Settings

logger = logging.getLogger("hesse.service")

EXEMPT = frozenset({"/livez", "/readyz"})
RELOAD_S = 1.0
LONGEST = 256  # characters of a credential
NOBODY = Key("nobody", "0" * 12, keys.digest("nobody has this"), "1970-01-01T00:00:00Z")


class Keyring:
    """The keys of a file, read again when it changes. Looking a key up touches no file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = self._stamped()
        self._install(keys.load(path))

    def _install(self, found: dict[str, Key]) -> None:
        self._holders = {k.id: (k, k.expires_at, _quota(k)) for k in found.values()}

    def _stamped(self) -> tuple[int, ...]:
        try:
            found = os.stat(self.path)
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

    def refresh(self) -> None:
        """Read the file again where it changed; a broken one is reported once, and the last good keys stay."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            found = keys.load(self.path)
        except KeysFileError as error:
            logger.error("%s The keys read before stay in force.", error)
            return
        self._install(found)
        logger.info("%d keys were read from %s", len(found), self.path)

    async def watch(self) -> None:
        """Refresh every second, in a thread; runs until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_S)
            await asyncio.to_thread(self.refresh)

    def holder(self, headers: list[tuple[bytes, bytes]]) -> tuple[Key, Quota | None]:
        """The key that a request shows, and its quota. Measured: 4 us.

        Raises:
            StateError: `unauthorized`.
        """
        identity, secret = _credential(headers)
        key, expires_at, quota = self._holders.get(identity, (NOBODY, 0.0, None))
        # compared in any case: the time tells nothing about which ids exist
        is_right = hmac.compare_digest(keys.digest(secret), key.sha256)
        if not is_right or key is NOBODY:
            raise unauthorized("The API key is not known here.", "It may have been revoked; ask the operator for one.")
        if time.time() >= expires_at:
            raise unauthorized("The API key has expired.", "Ask the operator for a new one.")
        return key, quota


def _quota(key: Key) -> Quota | None:
    return None if key.quota is None else Quota(key.name, key.quota, key.burst or key.quota)


def _credential(headers: list[tuple[bytes, bytes]]) -> tuple[str, str]:
    """(id, secret) of the one key that the headers show."""
    shown = [(n, v) for n, v in headers if n in (b"authorization", b"x-api-key")]
    if not shown:
        raise unauthorized("This server asks for an API key.", "Send Authorization: Bearer <key>, or X-API-Key: <key>.")
    if len(shown) > 1:
        raise unauthorized("The request shows more than one credential.", "Send one API key, in one header.")
    name, value = shown[0]
    text = value.decode("latin-1").strip(" ")
    if name == b"authorization":
        scheme, _, text = text.partition(" ")
        text = text.strip(" ") if scheme.lower() == "bearer" else ""
    parts = text.split("_")
    if len(text) > LONGEST or len(parts) != 3 or parts[0] != "hesse" or not text.isascii():
        raise unauthorized("The credential is no API key.", "A key reads hesse_<id>_<secret>; the scheme is Bearer.")
    return parts[1], parts[2]


def unauthorized(message: str, hint: str) -> HesseError:
    return StateError("unauthorized", message, hint=hint)


def owner_of(request: Request) -> str:
    """Whose functions and jobs a request is about."""
    key: Key | None = request.scope.get("hesse.key")
    return ANYBODY if key is None else key.name


def quota_of(request: Request) -> Quota | None:
    quota: Quota | None = request.scope.get("hesse.quota")
    return quota


def require_operator(request: Request) -> None:
    """For what only operators may see. Where no keys are asked for, everybody may.

    Raises:
        StateError: `forbidden`.
    """
    key: Key | None = request.scope.get("hesse.key")
    if key is not None and key.role != "operator":
        raise StateError("forbidden", "This needs the key of an operator.", hint="hesse keys add NAME --role operator")


class Gate:
    """Admits requests with a good key, so many at a time of each owner, and states the quota on every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.limit = app, settings.key_concurrency
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in EXEMPT:
            await self.app(scope, receive, send)
            return
        service = scope["app"].state.service
        ledger: Ledger = service.ledger
        refusal: HesseError | None = None
        try:
            key, quota = service.keyring.holder(scope["headers"])
        except StateError as error:
            await _refuse(error, scope, receive, send)
            return
        scope["hesse.key"], scope["hesse.quota"] = key, quota
        if quota is not None:
            send = _with_quota(send, ledger, quota)
            refusal = _spent(scope, ledger, quota)
        if self._running[key.name] >= self.limit:
            refusal = self._too_many()
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
            return
        self._running[key.name] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._running[key.name] -= 1
            if not self._running[key.name]:
                del self._running[key.name]

    def _too_many(self) -> HesseError:
        error = StateError(
            "too-many-requests",
            f"{self.limit} requests of this key are being answered already.",
            hint="Wait for one of them to end.",
        )
        error.retry_after_s = 1.0
        return error


async def _refuse(error: HesseError, scope: Scope, receive: Receive, send: Send) -> None:
    await problem_response(error, exchange_of(scope))(scope, receive, send)


def _spent(scope: Scope, ledger: Ledger, quota: Quota) -> HesseError | None:
    """The refusal before the body is read, where not even that much is left. Reading and deleting functions is free."""
    if scope["method"] in ("GET", "HEAD", "DELETE"):
        return None
    level = ledger.level(quota)
    return over_quota(BASE, level, quota) if level < BASE else None


def _with_quota(send: Send, ledger: Ledger, quota: Quota) -> Send:
    async def send_wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            waits = [v for n, v in message["headers"] if n == b"retry-after"] if message["status"] == 429 else []
            message["headers"] = [*message["headers"], *quota_headers(ledger, quota, waits)]
        await send(message)

    return send_wrapped
