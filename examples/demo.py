"""`make demo`: start a service on a free port, run `standard_errors.py` against it, stop the service."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

STARTUP_S = 60.0


@contextlib.contextmanager
def service() -> Iterator[str]:
    """The URL of a service that lives as long as the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hesse", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603  (our own program)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_live(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def wait_until_live(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return once the service answers; end the program if it does not come up."""
    end = time.monotonic() + STARTUP_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/livez").is_success:
                return
        time.sleep(0.05)
    sys.exit("The service did not start.")


def main() -> int:
    example = Path(__file__).with_name("standard_errors.py")
    with service() as url:
        return subprocess.run([sys.executable, str(example), url], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
