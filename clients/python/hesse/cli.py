"""The command `hesse`.

    hesse serve --host 127.0.0.1 --port 8000 --workers 1
    hesse keys add NAME --expires 90d --quota 60000
    hesse keys list
    hesse keys revoke ID
    hesse version
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hesse import __version__

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 where something that it needs is not installed."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "version":
        print(__version__)
        return 0
    return _keys(chosen) if chosen.command == "keys" else _serve(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hesse", description="Exact Hessians and their relatives, as a service.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    serve = commands.add_parser("serve", help="start the service",
                                description="Start the service. Its limits are set by HESSE_<NAME> in the environment.")
    serve.add_argument("--host", default="127.0.0.1",
                       help="address to listen on (default: %(default)s, this machine only)")
    serve.add_argument("--port", type=_port, default=8000, help="port to listen on (default: %(default)s)")
    serve.add_argument("--workers", type=_count, default=1, help="server processes (default: %(default)s)")
    serve.add_argument("--log-level", default=os.environ.get("HESSE_LOG_LEVEL", "INFO"), type=_level,
                       metavar=f"{{{','.join(LEVELS)}}}",
                       help="least severe messages logged (default: HESSE_LOG_LEVEL, or INFO)")
    _add_keys(commands.add_parser("keys", help="make, list and revoke API keys",
                                  description="Make, list and revoke API keys: hashes in a file that servers read."))
    commands.add_parser("version", help="print the version")
    return parser


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", help="the keys file (default: HESSE_KEYS_FILE)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    add = actions.add_parser("add", help="make a key and print it, this once")
    add.add_argument("name", help="whose it is; keys of one name share functions and quota")
    add.add_argument("--expires", metavar="TIME", help="lifetime, as 90d, 12h or 30m (default: for ever)")
    add.add_argument("--quota", type=int, metavar="UNITS", help="cost units a minute (default: no quota)")
    add.add_argument("--burst", type=int, metavar="UNITS", help="most units saved up (default: the quota)")
    add.add_argument("--role", default="user", choices=("user", "operator"), help="operators may read metrics")
    actions.add_parser("list", help="list keys, without secrets")
    actions.add_parser("revoke", help="revoke a key").add_argument("id", help="its id, as list shows it")
    for action in (add, *[actions.choices[name] for name in ("list", "revoke")]):
        action.add_argument("--file", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _level(text: str) -> str:
    """`choices` would not look at a default, which is what the environment says."""
    if text.upper() not in LEVELS:
        raise argparse.ArgumentTypeError(f"HESSE_LOG_LEVEL, or the option, is one of {', '.join(LEVELS)}")
    return text.upper()


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {number}")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1 is needed, not {number}")
    return number


def _serve(chosen: argparse.Namespace) -> int:
    try:
        from hesse_service.server import serve
    except ModuleNotFoundError as error:
        return _absent("serve", error)
    serve(chosen.host, chosen.port, chosen.workers, chosen.log_level)
    return 0


def _keys(chosen: argparse.Namespace) -> int:
    try:
        from hesse_service.keys_command import run
    except ModuleNotFoundError as error:
        return _absent("keys", error)
    return run(chosen)


def _absent(command: str, error: ModuleNotFoundError) -> int:
    print(f"hesse {command} needs {error.name}, which is not installed. Install the service: "
          "pip install 'hesse[service]'", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
