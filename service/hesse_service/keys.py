"""API keys at rest: a file of JSON lines, one a key. It holds the SHA-256 of each secret, never the secret.

    {"name": "ada", "id": "0f3a...", "sha256": "9c1d...", "role": "user", "created": "2026-11-21T17:00:00Z",
     "expires": "2027-02-19T17:00:00Z", "quota": 60000, "burst": 60000}

A key reads `hesse_<id>_<secret>`; the secret has 192 random bits, so that a plain hash of it cannot be searched. The
name is the owner: two keys of one name, an old and a new one say, see the same functions and share one quota.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

logger = logging.getLogger("hesse.service")

MOST = 10_000  # keys of one file
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
ID = re.compile(r"[0-9a-f]{12}")
HASH = re.compile(r"[0-9a-f]{64}")
ROLES = ("user", "operator")
MOST_UNITS = 10**15


class KeysFileError(ValueError):
    """The keys file cannot be used; the message names the file and the line, and nothing that stands in it."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: the owner of what is stored with it.
        id: the public part.
        sha256: of the secret part, in hexadecimal.
        created: time, RFC 3339.
        role: 'user', or 'operator', who may also read metrics.
        expires: time from which it is refused, RFC 3339; None: never.
        quota: cost units added each minute; None: no quota.
        burst: the most cost units that may be saved up; default `quota`.
    """

    name: str
    id: str
    sha256: str
    created: str
    role: str = "user"
    expires: str | None = None
    quota: int | None = None
    burst: int | None = None

    @property
    def expires_at(self) -> float:
        """Seconds since 1970."""
        return float("inf") if self.expires is None else _time(self.expires)

    def line(self) -> str:
        return json.dumps({k: v for k, v in asdict(self).items() if v is not None})


def load(path: Path) -> dict[str, Key]:
    """The keys of a file by id.

    Raises:
        KeysFileError: the file cannot be read, or a line is no key.
    """
    try:
        text = path.read_text("utf-8")
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            logger.warning("the keys file %s can be read by everybody on this machine; its mode should be 0600", path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise KeysFileError(f"The keys file {path} cannot be read: {reason}.") from None
    found: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            key = _key(json.loads(line))
            _check_beside(key, found)
        except (ValueError, TypeError, RecursionError) as error:
            reason = "it is not JSON" if isinstance(error, (json.JSONDecodeError, RecursionError)) else str(error)
            raise KeysFileError(f"Line {number} of the keys file {path} is no key: {reason}.") from None
        found[key.id] = key
    return found


def _key(value: object) -> Key:
    if not isinstance(value, dict) or not all([isinstance(k, str) for k in value]):
        raise ValueError("it is not a JSON object")
    unknown = sorted(set(value) - set(Key.__dataclass_fields__))
    missing = sorted({"name", "id", "sha256", "created"} - set(value))
    if unknown or missing:
        raise ValueError(f"{len(unknown)} member(s) are unknown" if unknown else f"{', '.join(missing)} is missing")
    key = Key(**value)
    for name, pattern in (("name", NAME), ("id", ID), ("sha256", HASH)):
        given = getattr(key, name)
        if not isinstance(given, str) or not pattern.fullmatch(given):
            raise ValueError(f"{name} does not match {pattern.pattern}")
    if key.role not in ROLES:
        raise ValueError(f"role is not one of {', '.join(ROLES)}")
    _check_quota(key)
    _time(key.created)
    if key.expires is not None:
        _time(key.expires)
    return key


def _check_quota(key: Key) -> None:
    for name, number in (("quota", key.quota), ("burst", key.burst)):
        if number is not None and (type(number) is not int or not 1 <= number <= MOST_UNITS):
            raise ValueError(f"{name} is not a whole number from 1 to {MOST_UNITS}")
    if key.burst is not None and key.quota is None:
        raise ValueError("burst needs a quota")


def _check_beside(key: Key, others: dict[str, Key]) -> None:
    if key.id in others:
        raise ValueError("its id stands in an earlier line")
    if len(others) >= MOST:
        raise ValueError(f"there are more than {MOST} keys")
    for other in others.values():
        if other.name == key.name and (other.quota, other.burst) != (key.quota, key.burst):
            raise ValueError("another key of this name has a different quota, and keys of one name share it")


def _time(text: object) -> float:
    if not isinstance(text, str):
        raise ValueError("a time is no text")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time is not written as in RFC 3339") from None
    if found.tzinfo is None:
        raise ValueError("a time has no zone; write Z for UTC")
    return found.timestamp()


# ---- what operators do ---------------------------------------------------------------------------------------------
def made(
    name: str, *, expires: timedelta | None = None, quota: int | None = None, burst: int | None = None,
    role: str = "user",
) -> tuple[Key, str]:
    """A new key, and the text that its holder keeps.

    Raises:
        ValueError: an argument is not acceptable.
    """
    identity, secret = secrets.token_hex(6), secrets.token_hex(24)
    now = datetime.now(UTC).replace(microsecond=0)
    until = None if expires is None else _text(now + expires)
    key = _key(asdict(Key(name, identity, digest(secret), _text(now), role, until, quota, burst)))
    return key, f"hesse_{identity}_{secret}"


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def add(path: Path, key: Key) -> None:
    """Add `key` to the file, which is made (mode 0600) where there is none.

    A key whose name is there already takes over that quota unless it has one of its own.

    Raises:
        KeysFileError: the file is broken, or the key contradicts another.
    """
    found = load(path) if path.exists() else {}
    same = [k for k in found.values() if k.name == key.name]
    if same and key.quota is None:
        key = replace(key, quota=same[0].quota, burst=same[0].burst)
    try:
        _check_beside(key, found)
    except ValueError as error:
        raise KeysFileError(f"The key cannot be added to {path}: {error}.") from None
    _write(path, [*found.values(), key])


def revoke(path: Path, identity: str) -> bool:
    """Remove the key with this id; whether there was one."""
    found = load(path)
    if found.pop(identity, None) is None:
        return False
    _write(path, list(found.values()))
    return True


def _write(path: Path, found: Sequence[Key]) -> None:
    """Replace the file in one step: a server that reads it meanwhile sees all of the old or all of the new."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(lines(found))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(name, stat.S_IMODE(path.stat().st_mode))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def lines(found: Iterable[Key]) -> str:
    return "".join([f"{k.line()}\n" for k in found])
