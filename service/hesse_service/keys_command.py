"""`hesse keys`: what an operator does with the keys file. It starts no server and loads none."""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import timedelta
from pathlib import Path

from hesse_service import keys
from hesse_service.keys import Key, KeysFileError

UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def lifetime(text: str) -> timedelta:
    """`90d`, `12h` or `30m`.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", text)
    if match is None:
        raise ValueError(f"a lifetime reads 90d, 12h or 30m, not {text!r:.20}")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def run(chosen: argparse.Namespace) -> int:
    """Do what the arguments say; the exit status is 1 where that is impossible."""
    given = chosen.file or os.environ.get("HESSE_KEYS_FILE")
    if not given:
        return _failed("Say which file: --file PATH, or HESSE_KEYS_FILE in the environment.")
    try:
        return {"add": _add, "list": _list, "revoke": _revoke}[chosen.action](Path(given), chosen)
    except (ValueError, OSError) as error:
        return _failed(str(error))


def _failed(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def _add(path: Path, chosen: argparse.Namespace) -> int:
    expires = None if chosen.expires is None else lifetime(chosen.expires)
    key, text = keys.made(chosen.name, expires=expires, quota=chosen.quota, burst=chosen.burst, role=chosen.role)
    keys.add(path, key)
    print(text)
    print(f"This is the key of {key.name}. It is shown this once: {path} holds only its hash.", file=sys.stderr)
    return 0


def _list(path: Path, chosen: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [("id", "name", "role", "created", "expires", "quota/min", "burst")]
    rows += [_row(k) for k in keys.load(path).values()]
    widths = [max([len(row[k]) for row in rows]) for k in range(len(rows[0]))]
    for row in rows:
        print("  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)]).rstrip())
    return 0


def _row(key: Key) -> tuple[str, ...]:
    quota = "-" if key.quota is None else str(key.quota)
    burst = "-" if key.quota is None else str(key.burst or key.quota)
    return key.id, key.name, key.role, key.created, key.expires or "-", quota, burst


def _revoke(path: Path, chosen: argparse.Namespace) -> int:
    if not keys.revoke(path, chosen.id):
        raise KeysFileError(f"No key in {path} has the id {chosen.id!r:.20}; hesse keys list shows them.")
    print(f"Key {chosen.id} is revoked; running servers notice within two seconds.", file=sys.stderr)
    return 0
