"""Every limit of the service: name, unit, default. Set by environment variables `HESSE_<NAME>`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from hesse_engine.backend.device import available_threads
from hesse_engine.ir.graph import Limits

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Settings(BaseSettings):
    """Settings of one server process."""

    model_config = SettingsConfigDict(env_prefix="HESSE_", frozen=True, extra="ignore")

    # ---- processes
    compute_processes: int = Field(
        default_factory=available_threads, ge=1, le=256, description="Compute processes of one server process [count]."
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Threads of a computation that asks for none [count].")
    max_threads: int = Field(
        default_factory=available_threads, ge=1, le=1024, description="Most threads a computation may ask for [count]."
    )
    queue_length: int = Field(
        default=64, ge=0, description="Requests that may wait for a compute process; more get 503 busy [count]."
    )

    # ---- time
    deadline_s: float = Field(
        default=60.0,
        gt=0,
        description="Longest a request may take, queue included, else deadline-exceeded; options may lower it [s].",
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="Longest a request body may take to arrive, else body-timeout [s]."
    )
    inline_s: float = Field(
        default=200e-6,
        ge=0,
        description="Requests by id that compute faster run on the event loop; 0 turns this off [s].",
    )

    # ---- sizes
    max_body_bytes: int = Field(
        default=64 * MIB, ge=1, description="Largest request body, else body-too-large [bytes]."
    )
    inline_body_bytes: int = Field(
        default=16 * KIB, ge=0, description="Largest body that is parsed on the event loop [bytes]."
    )
    inline_result_bytes: int = Field(
        default=64 * KIB, ge=0, description="Largest answer encoded on the event loop [bytes]."
    )
    segment_bytes: int = Field(
        default=128 * KIB, ge=1, description="Bodies from this size on cross processes in shared memory [bytes]."
    )
    max_nodes: int = Field(
        default=200_000, ge=1, description="Nodes of one function, derivatives included, else too-many-nodes [count]."
    )
    max_rank: int = Field(default=32, ge=1, le=64, description="Axes of one tensor, else rank-too-high [count].")
    max_elements: int = Field(
        default=1 << 28, ge=1, description="Elements of one tensor of a function, else too-many-elements [count]."
    )
    max_memory_bytes: int = Field(
        default=2 * GIB,
        ge=1,
        description="Predicted memory of one computation, else over-memory-budget; options may lower it [bytes].",
    )

    # ---- what is kept
    data_dir: Path | None = Field(
        default=None,
        description="Where registered functions are stored; unset: a private folder that ends with the server [path].",
    )
    store_functions: int = Field(
        default=10_000, ge=1, description="Registered functions kept, least recently used go [count]."
    )
    store_bytes: int = Field(
        default=1 * GIB, ge=1, description="Registered functions kept, least recently used go [bytes]."
    )
    prepared_functions: int = Field(default=512, ge=1, description="Prepared computations kept per process [count].")
    prepared_bytes: int = Field(default=256 * MIB, ge=1, description="Prepared computations kept per process [bytes].")

    # ---- operation
    drain_notice_s: float = Field(
        default=0.0,
        ge=0,
        description="How long requests are still taken after SIGTERM, readiness being 503 draining already [s].",
    )
    drain_s: int = Field(
        default=30,
        ge=0,
        description="How long running requests may finish after that; the rest get 503 draining [s].",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="Format of the log; auto is text on a terminal and json elsewhere [name]."
    )
    access_log: Literal["all", "errors", "none"] = Field(
        default="all", description="Requests that get a line in the log; those for health never do [name]."
    )

    # ---- browsers
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Origins of web pages that may call the service from another host [list of origins]."
    )

    @property
    def limits(self) -> Limits:
        """What a function sent by a client may hold."""
        return Limits(
            nodes=self.max_nodes,
            rank=self.max_rank,
            elements=self.max_elements,
            constant_bytes=min(self.max_memory_bytes, 8 * self.max_elements),
        )
