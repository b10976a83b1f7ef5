"""`hesse serve`: uvicorn with one or more server processes that share the registered functions."""

from __future__ import annotations

import os
import shutil
import tempfile

import uvicorn

from hesse_engine.backend.device import available_threads
from hesse_service.settings import Settings
from hesse_service.telemetry import log_config

APP = "hesse_service.app:create_app"


def serve(
    host: str = "127.0.0.1", port: int = 8000, workers: int = 1, log_level: str = "INFO", app: str = APP
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        workers: server processes, each with its own compute processes; the cores are divided among them unless
            HESSE_COMPUTE_PROCESSES says otherwise.
        app: another application under the same settings, to measure this one beside it.
    """
    settings = Settings()
    if workers > 1 and "HESSE_COMPUTE_PROCESSES" not in os.environ:
        os.environ["HESSE_COMPUTE_PROCESSES"] = str(max(1, available_threads() // workers))
    folder = None
    if workers > 1 and settings.data_dir is None:
        folder = os.environ["HESSE_DATA_DIR"] = tempfile.mkdtemp(prefix="hesse-")
    try:
        uvicorn.run(
            app,
            factory=True,
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            log_config=log_config(log_level),
            server_header=False,
            timeout_graceful_shutdown=settings.drain_s,
            lifespan="on",
            ws="none",
        )
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
