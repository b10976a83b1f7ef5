"""`hesse serve`: uvicorn with one or more server processes that share the registered functions."""

from __future__ import annotations

import contextlib
import difflib
import logging
import multiprocessing.connection
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator

import uvicorn
from uvicorn.supervisors import Multiprocess

from hesse_engine.backend.device import available_threads
from hesse_service import keys, store_file
from hesse_service.connections import HEAD_BYTES, Connection
from hesse_service.lifecycle import CUT_S, ignored
from hesse_service.logs import log_config
from hesse_service.settings import Settings, refused

WATCH_S = 0.2

APP = "hesse_service.app:create_app"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Variables of the engine, of the command line and of the SDK.
OTHERS = {"HESSE_CACHE_DIR", "HESSE_JIT_KERNELS", "HESSE_JIT_SECONDS", "HESSE_PERFORMANCE_WARNINGS", "HESSE_LOG_LEVEL",
          "HESSE_BASE_URL", "HESSE_API_KEY"}

logger = logging.getLogger("hesse.service")


def serve(
    host: str = "127.0.0.1", port: int = 8000, workers: int = 1, log_level: str = "INFO", app: str = APP
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        workers: server processes, each with its own compute processes; the cores are divided among them unless
            HESSE_COMPUTE_PROCESSES says otherwise.
        app: another application under the same settings, to measure this one beside it.

    Raises:
        SystemExit: a setting, the keys file or the data folder cannot be used.
    """
    settings = _settings()
    if settings.keys_file is not None:
        try:
            keys.load(settings.keys_file)
        except keys.KeysFileError as error:
            raise SystemExit(f"hesse serve: {error}") from None
    fault = store_file.fault(settings)
    if fault:
        raise SystemExit(f"hesse serve: {fault}")
    os.environ["HESSE_LOG_LEVEL"] = log_level  # read by the compute processes
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ignored)  # a server answers them itself; what it raises again ends nothing
    with _shared(settings, workers):
        config = uvicorn.Config(
            app,
            factory=True,
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            log_config=log_config(log_level, settings.log_format),
            server_header=False,
            timeout_graceful_shutdown=settings.drain_s + CUT_S,
            lifespan="on",
            ws="none",
            http=Connection,
            h11_max_incomplete_event_size=HEAD_BYTES,
            loop="asyncio",  # whatever is installed beside: uvloop gained nothing here (docs/load.md)
        )
        for remark in remarks(host, settings, os.environ):
            logger.warning(remark)
        if workers == 1:
            uvicorn.Server(config).run()
        else:
            Supervisor(config, sockets=[config.bind_socket()]).run()


def remarks(host: str, settings: Settings, environ: Iterable[str]) -> list[str]:
    """What an operator may not have meant: misspelt settings, and an open address without keys."""
    known = {f"HESSE_{name.upper()}" for name in Settings.model_fields} | OTHERS
    found = []
    for name in sorted({n for n in environ if n.startswith("HESSE_")} - known):
        near = difflib.get_close_matches(name, known, 1)
        found.append(f"{name} is no setting" + (f"; {near[0]} is one" if near else ""))
    if settings.keys_file is None and host not in LOOPBACK:
        found.append(f"whoever reaches {host} may use this service: HESSE_KEYS_FILE is not set")
    return found


def _settings() -> Settings:
    try:
        return Settings()
    except ValueError as error:
        raise SystemExit(f"hesse serve: {refused(error)}") from None


@contextlib.contextmanager
def _shared(settings: Settings, workers: int) -> Iterator[None]:
    """What several server processes share: the cores, the store, and a folder for their metrics."""
    if workers == 1:
        yield
        return
    if "HESSE_COMPUTE_PROCESSES" not in os.environ:
        os.environ["HESSE_COMPUTE_PROCESSES"] = str(max(1, available_threads() // workers))
    folders = [tempfile.mkdtemp(prefix="hesse-metrics-")]
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folders[0]
    if settings.data_dir is None:
        folders.append(tempfile.mkdtemp(prefix="hesse-"))
        os.environ["HESSE_DATA_DIR"] = folders[-1]
    try:
        yield
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


class Supervisor(Multiprocess):
    """Uvicorn's supervisor of server processes, which also clears up after them and hears a second signal."""

    def keep_subprocess_alive(self) -> None:
        before = {p.pid for p in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {p.pid for p in self.processes}:
            from prometheus_client.multiprocess import mark_process_dead  # not loaded before its folder is known

            mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def join_all(self) -> None:
        """Wait until every server process has ended; end them at once on another signal."""
        self.signal_queue.clear()
        while alive := [p.process.sentinel for p in self.processes if p.process.is_alive()]:
            multiprocessing.connection.wait(alive, WATCH_S)
            if {signal.SIGTERM, signal.SIGINT} & set(self.signal_queue):
                for process in self.processes:
                    process.kill()
        super().join_all()
