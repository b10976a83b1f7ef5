"""Bounds on connections: how many, and how long one may say nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

from exchange_raw import connect, converse
from hostile_row import head

from serving import Server, running, wait_for

LIVE = head("GET", "/livez", ["Connection: close"], None)


def _status(server: Server) -> int:
    return converse(server.url, [LIVE]).status


def test_connections_are_counted_and_silent_ones_closed(tmp_path: Path) -> None:
    with running(tmp_path / "server.log", compute_processes=1, max_connections=4, head_timeout_s=5) as server:
        wait_for(lambda: _status(server) == 200, 30)
        with contextlib.ExitStack() as held:
            silent = [held.enter_context(connect(server.url)) for _ in range(4)]
            refused = converse(server.url, [LIVE])
            assert refused.kind == "503 busy"
            assert dict(refused.headers)["retry-after"] == "1"
            assert [peer.recv(10) for peer in silent] == [b""] * 4  # closed, none of them by us
            wait_for(lambda: _status(server) == 200, 30)
