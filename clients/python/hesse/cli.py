"""The command `hesse`.

    hesse serve --host 127.0.0.1 --port 8000 --workers 1
    hesse version
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hesse import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 where something that it needs is not installed."""
    chosen = _parser().parse_args(arguments)
    if chosen.command == "version":
        print(__version__)
        return 0
    return _serve(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hesse", description="Exact Hessians and their relatives, as a service.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    serve = commands.add_parser("serve", help="start the service",
                                description="Start the service. Its limits are set by HESSE_<NAME> in the environment.")
    serve.add_argument("--host", default="127.0.0.1",
                       help="address to listen on (default: %(default)s, this machine only)")
    serve.add_argument("--port", type=_port, default=8000, help="port to listen on (default: %(default)s)")
    serve.add_argument("--workers", type=_count, default=1, help="server processes (default: %(default)s)")
    serve.add_argument("--log-level", default=os.environ.get("HESSE_LOG_LEVEL", "INFO").upper(),
                       choices=("DEBUG", "INFO", "WARNING", "ERROR"), type=str.upper,
                       help="least severe messages logged (default: HESSE_LOG_LEVEL, or INFO)")
    commands.add_parser("version", help="print the version")
    return parser


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
        print(f"hesse serve needs {error.name}, which is not installed. Install the service: "
              "pip install 'hesse[service]'", file=sys.stderr)
        return 2
    serve(chosen.host, chosen.port, chosen.workers, chosen.log_level)
    return 0


if __name__ == "__main__":
    sys.exit(main())
