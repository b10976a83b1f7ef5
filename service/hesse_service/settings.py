"""Every limit of the service: name, unit, default. Set by environment variables `HESSE_<NAME>`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
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
        default_factory=available_threads,
        ge=1,
        le=1024,
        description="Most threads a computation may ask for [count] -> bad-option.",
    )
    queue_length: int = Field(
        default=64,
        ge=0,
        description="Requests that may wait for a compute process [count] -> busy.",
    )
    queue_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Part of the queue that one key may hold [ratio] -> too-many-requests.",
    )
    process_memory_bytes: int | None = Field(
        default=None,
        ge=256 * MIB,
        description="Memory of a compute process beyond which it is ended; unset: twice max_memory_bytes and 1 GiB, "
        "since JSON takes more room than arrays [bytes] -> memory-exceeded.",
    )
    recycle_bytes: int = Field(
        default=1 * GIB,
        ge=64 * MIB,
        description="An idle compute process with more memory is replaced by a warm one [bytes].",
    )
    recycle_requests: int = Field(
        default=100_000,
        ge=0,
        description="Requests after which a compute process is replaced by a warm one; 0: never [count].",
    )

    # ---- time
    deadline_s: float = Field(
        default=60.0,
        gt=0,
        description="Longest a request may take, waiting included; options.deadline_s may lower it [s] -> "
        "deadline-exceeded.",
    )
    body_timeout_s: float = Field(
        default=30.0, gt=0,
        description="Longest a request body may take to arrive [s] -> body-timeout.",
    )
    inline_s: float = Field(
        default=200e-6,
        ge=0,
        description="Requests by id that compute faster run on the event loop; 0 turns this off [s].",
    )

    # ---- sizes
    max_body_bytes: int = Field(default=64 * MIB, ge=1, description="Largest request body [bytes] -> body-too-large.")
    inline_body_bytes: int = Field(
        default=16 * KIB, ge=0, description="Largest body that is parsed on the event loop [bytes]."
    )
    inline_result_bytes: int = Field(
        default=64 * KIB, ge=0, description="Largest answer encoded on the event loop [bytes]."
    )
    segment_bytes: int = Field(
        default=128 * KIB, ge=1, description="Bodies from this size on cross processes in shared memory [bytes]."
    )
    max_inflated_bytes: int = Field(
        default=256 * MIB, ge=1,
        description="Largest request body or npz archive once inflated [bytes] -> inflated-too-large.",
    )
    max_json_parts: int = Field(
        default=4_000_000,
        ge=1,
        description="Lists, objects, members and elements of one JSON body [count] -> too-many-parts.",
    )
    compress_bytes: int = Field(
        default=1 * KIB, ge=0, description="JSON answers from this size on are compressed where asked for [bytes]."
    )
    kept_segment_bytes: int = Field(
        default=64 * MIB, ge=0, description="Shared memory kept by one server process for further answers [bytes]."
    )
    max_nodes: int = Field(
        default=200_000,
        ge=1,
        description="Nodes of one function, derivatives included [count] -> too-many-nodes.",
    )
    max_rank: int = Field(default=32, ge=1, le=64, description="Axes of one tensor [count] -> rank-too-high.")
    max_elements: int = Field(
        default=1 << 28,
        ge=1,
        description="Elements of one tensor of a function [count] -> too-many-elements.",
    )
    max_memory_bytes: int = Field(
        default=2 * GIB,
        ge=1,
        description="Predicted memory of one computation; options.max_memory_bytes may lower it [bytes] -> "
        "over-memory-budget.",
    )

    max_flops: int = Field(
        default=10**13, ge=1, description="Predicted work of one computation [flops] -> too-much-work."
    )
    max_result_bytes: int = Field(
        default=1 * GIB, ge=1, description="Predicted result of one computation [bytes] -> result-too-large."
    )

    # ---- who may ask
    keys_file: Path | None = Field(
        default=None,
        description="File of API keys, made by hesse keys; unset: no keys, all share all functions [path].",
    )
    key_concurrency: int = Field(
        default=64,
        ge=1,
        description="Requests of the keys of one owner at a time in a server process [count] -> too-many-requests.",
    )

    # ---- matrices in blocks of rows (options.stream)
    stream_block_bytes: int = Field(
        default=32 * MIB, ge=1, description="Rows computed at a time; two such blocks may wait in memory [bytes]."
    )
    stream_deadline_s: float = Field(
        default=3600.0,
        gt=0,
        description="Longest a streamed matrix may take, its client's reading included; deadline_s holds for each of "
        "its blocks [s] -> deadline-exceeded.",
    )

    # ---- connections
    max_connections: int = Field(
        default=4096, ge=1, description="Open connections of one server process [count] -> busy."
    )
    head_timeout_s: float = Field(
        default=10.0, gt=0, description="Longest the head of a request may take; the connection is closed then [s]."
    )
    stall_timeout_s: float = Field(
        default=30.0, gt=0, description="A client that takes nothing of its answer for this long is given up [s]."
    )

    # ---- what is kept
    data_dir: Path | None = Field(
        default=None,
        description="Where functions, jobs, results and quotas are kept; unset: one that ends with the server [path].",
    )
    store_functions: int = Field(
        default=10_000, ge=1, description="Registered functions kept of each owner, least recently used go [count]."
    )
    store_bytes: int = Field(
        default=1 * GIB,
        ge=1,
        description="Registered functions kept of each owner, least recently used go; one larger is refused [bytes] -> "
        "function-too-large.",
    )
    prepared_functions: int = Field(default=512, ge=1, description="Prepared computations kept per process [count].")
    prepared_bytes: int = Field(default=256 * MIB, ge=1, description="Prepared computations kept per process [bytes].")

    # ---- jobs
    jobs_at_once: int | None = Field(
        default=None,
        ge=1,
        description="Jobs that one server process runs at a time; unset: compute_processes - 1, at least 1 [count].",
    )
    job_deadline_s: float = Field(
        default=3600.0,
        gt=0,
        description="Longest one attempt of a job may take; options.deadline_s may lower it [s] -> deadline-exceeded.",
    )
    job_attempts: int = Field(
        default=3, ge=1, le=100, description="Times a job is started before it fails [count] -> worker-died."
    )
    max_jobs: int = Field(
        default=100, ge=1, description="Jobs of one owner that may wait [count] -> too-many-jobs."
    )
    job_keep_s: float = Field(
        default=3600.0, gt=0, description="How long results of jobs are kept [s] -> job-expired."
    )
    jobs_kept: int = Field(default=1000, ge=1, description="Finished jobs of one owner kept, oldest go first [count].")
    job_bytes: int = Field(
        default=1 * GIB,
        ge=1,
        description="Results of one owner's jobs kept, oldest go first; one larger is refused [bytes] -> "
        "result-too-large.",
    )

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
    def process_limit_bytes(self) -> int:
        """Memory that a compute process may have [bytes]."""
        given = self.process_memory_bytes
        return 2 * self.max_memory_bytes + GIB if given is None else given

    @property
    def limits(self) -> Limits:
        """What a function sent by a client may hold."""
        return Limits(
            nodes=self.max_nodes,
            rank=self.max_rank,
            elements=self.max_elements,
            constant_bytes=min(self.max_memory_bytes, 8 * self.max_elements),
        )


def refused(error: ValueError) -> str:
    """Which variables do not fit, and why; not their values."""
    if not isinstance(error, ValidationError):  # names the field between quotes
        return f"HESSE_{str(error).partition(chr(34))[2].partition(chr(34))[0].upper()}: Input should be a JSON list"
    return "; ".join([f"HESSE_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_url=False)])
