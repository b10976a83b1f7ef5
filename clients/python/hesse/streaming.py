"""Matrices larger than memory: rows are written to a file as they arrive, none is kept.

    client.stream_hessian(f, x, out="h.npy", progress=True)    an np.memmap of shape (n, n)
    client.stream_jacobian(f, x, y, rows=range(1000))          of f's outputs by all elements of x and y

The result is one matrix over the concatenated flattened elements, as `rows` and `columns` count them. A connection that
breaks is taken up again at the first missing row. Keywords:

    out             a path (a .npy file is made there, or replaced, once all rows have come; until then, and after a
                    failure, they are in a file beside it whose name ends in .part), an array of the result's shape and
                    dtype (after a failure its later rows are not the result's), or None: a temporary file that lasts as
                    long as the array
    rows, columns   positions among all elements: only these, in this order
    argnums         which inputs are differentiated; default all
    progress        True shows a bar (with the extra `progress`), or a function that is called with (done, total) rows
    resumes         how often a connection that breaks after the first row is taken up again; before it, the client's
                    max_retries counts
    chunk_size, strategy, threads, max_memory_bytes, nonfinite    as elsewhere; the budget is that of one block
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hesse.asked import plain
from hesse.caller import user_level
from hesse.conventions import OUTPUTS, as_tuple
from hesse.errors import TransportError
from hesse.protocol import Call, Reply, call_request, delay, failure, is_worth_retrying
from hesse.scope import Scope
from hesse.transport import translated
from hesse_engine.errors import HesseError, InputError
from hesse_engine.frontends.trace import is_tracer
from hesse_engine.ir import frames
from hesse_engine.ir.graph import DTYPES, Array, DType
from hesse_engine.options import Options
from hesse_engine.result import check_out

if TYPE_CHECKING:
    from hesse.async_client import AsyncClient
    from hesse.client import Client
    from hesse.remote import Server

RESUMES = 5
MAX_HEAD = 1 << 20  # bytes of the JSON before the rows
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Download:
    """One matrix on its way into `out`.

    Attributes:
        call: what is asked for; its options have the rows, all or chosen.
        done: rows that are in the file.
    """

    call: Call
    out: Any
    progress: bool | Progress
    resumes: int = RESUMES
    done: int = 0
    matrix: Array | None = None
    _part: str | None = None  # the file, as long as rows are missing in it
    _total: int = 0
    _last: int = -1  # rows that were told last
    _told: Progress | None = None
    _pending: bytearray = field(default_factory=bytearray)  # the head while it arrives
    _head: int = 0  # bytes of it that are missing before it can be read
    _at: int = 0  # bytes of the matrix that are written

    @classmethod
    def of(cls, f: Callable[..., Any], inputs: Sequence[Any], operation: str, asked: Mapping[str, Any]) -> Self:
        """Trace `f` and check what is asked.

        Raises:
            InputError: `bad-option`, `wrong-inputs`.
        """
        more = plain(operation, asked, ("out", "progress", "resumes"))
        out, progress, resumes = more.pop("out", None), more.pop("progress", False), more.pop("resumes", RESUMES)
        if not (isinstance(progress, bool) or callable(progress)):
            raise InputError("bad-option", "progress must be a boolean or a function of (done, total).")
        if type(resumes) is not int or resumes < 0:
            raise InputError("bad-option", "resumes must be a non-negative integer.")
        if progress is True and importlib.util.find_spec("tqdm") is None:
            warnings.warn("progress=True shows no bar without tqdm: pip install 'hesse[progress]'.", UserWarning,
                          stacklevel=user_level())
        if not (out is None or isinstance(out, (str, os.PathLike, np.ndarray))):
            raise InputError("bad-out", f"out must be a path or a NumPy array, not {type(out).__name__}.")
        given = as_tuple(tuple(inputs) if len(inputs) != 1 else inputs[0], "inputs", operation)
        scope = Scope(given.values)
        if scope.is_nested or any([is_tracer(x) for x in given.values]):
            raise InputError("wrong-inputs", "A matrix is streamed for arrays, not inside a traced function.")
        results = as_tuple(scope.call(f, *scope.inputs), OUTPUTS, operation)
        graph = scope.graph([scope.lift(y) for y in results.values])
        more.setdefault("argnums", tuple(range(len(graph.inputs))))
        options = Options(**more).checked()
        return cls(Call(operation, graph, scope.arrays, None, options, lambda result: result), out, progress, resumes)

    # ---- performed ---------------------------------------------------------------------------------------------------
    def run(self, client: Client) -> Array:
        """Compute, or fetch, all rows."""
        with self._shown(), self._counted():
            if client.embedded is not None:
                return self._embedded(client)
            attempt = 0
            while True:
                before = self.done
                failed, error = self._attempt(client)
                if error is None:
                    return self._finished()
                attempt = 0 if self.done > before else attempt
                time.sleep(self._pause(failed, error, attempt, client._server.retries))
                attempt += 1

    async def run_async(self, client: AsyncClient) -> Array:
        import asyncio

        if client.embedded is not None:
            return await asyncio.to_thread(self.run, client)  # type: ignore[arg-type]  # it looks at the engine only
        with self._shown(), self._counted():
            attempt = 0
            while True:
                before = self.done
                failed, error = await self._attempt_async(client)
                if error is None:
                    return self._finished()
                attempt = 0 if self.done > before else attempt
                await asyncio.sleep(self._pause(failed, error, attempt, client._server.retries))
                attempt += 1

    def _attempt(self, client: Client) -> tuple[Reply | None, HesseError | None]:
        """(the refusal, what went wrong) of one request for the missing rows."""
        with translated() as failed, client._http.stream(**self._request(client._server)) as answer:
            if answer.status_code >= 400:
                reply = Reply(answer.status_code, answer.headers, answer.read())
                return reply, failure(reply)
            self._begin(answer.headers)
            for piece in answer.iter_raw():
                self._take(piece)
        return None, failed[0] if failed else self._short()

    async def _attempt_async(self, client: AsyncClient) -> tuple[Reply | None, HesseError | None]:
        with translated() as failed:
            async with client._http.stream(**self._request(client._server)) as answer:
                if answer.status_code >= 400:
                    reply = Reply(answer.status_code, answer.headers, await answer.aread())
                    return reply, failure(reply)
                self._begin(answer.headers)
                async for piece in answer.aiter_raw():
                    self._take(piece)
        return None, failed[0] if failed else self._short()

    def _embedded(self, client: Client) -> Array:
        assert client.embedded is not None
        blocks = client.embedded.rows(self.call)
        matrix = self._allocated(blocks.shape, blocks.dtype)
        for start in range(0, self._total, blocks.height):
            stop = min(start + blocks.height, self._total)
            matrix[start:stop] = blocks(self.call.inputs, start, stop)
            self._tell(stop)
        return self._finished()

    # ---- what is said ------------------------------------------------------------------------------------------------
    def _request(self, server: Server) -> dict[str, Any]:
        """A request for the rows that are missing."""
        call, options = self.call, self.call.options
        if self.done:
            rows = range(self._total) if options.rows is None else options.rows
            options = replace(options, rows=tuple(rows[self.done:]))
        request = call_request(replace(call, options=options), server.wire, is_streamed=True)
        return {"method": request.method, "url": server.url(request), **server.arguments(request)}

    def _pause(self, failed: Reply | None, error: HesseError, attempt: int, retries: int) -> float:
        """Seconds to wait before the next request; raises `error` where there is none."""
        status = None if failed is None else failed.status
        if self.done:
            self.resumes -= 1
        is_spent = self.resumes < 0 if self.done else attempt >= retries
        if is_spent or not (error.code == "incomplete" or is_worth_retrying(status, error)):
            raise error
        return delay(attempt, {} if failed is None else failed.headers)

    # ---- what arrives ------------------------------------------------------------------------------------------------
    def _begin(self, headers: Mapping[str, str]) -> None:
        length = headers.get(frames.LENGTH, "")
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_HEAD:
            raise _strange()
        self._pending, self._head = bytearray(), int(length)
        self._at = -1

    def _take(self, piece: bytes) -> None:
        """Write what arrived where it belongs."""
        if self._at < 0:
            self._pending += piece
            if len(self._pending) < self._head:
                return
            head, piece = bytes(self._pending[:self._head]), bytes(self._pending[self._head:])
            self._read_head(head)
        assert self.matrix is not None
        size, row_bytes = self.matrix.nbytes, self.matrix.shape[1] * self.matrix.itemsize
        if self._at + len(piece) > size:
            raise _strange()
        self.matrix.reshape(-1).view(np.uint8)[self._at:self._at + len(piece)] = np.frombuffer(piece, np.uint8)
        self._at += len(piece)
        if row_bytes:
            self._tell(self._at // row_bytes)

    def _read_head(self, head: bytes) -> None:
        try:
            result = json.loads(head)["result"]
            (rows, columns), dtype = result["shape"], DTYPES[result["dtype"]]
            is_sound = type(rows) is int and type(columns) is int and rows >= 0 and columns >= 0
        except (ValueError, KeyError, TypeError):
            raise _strange() from None
        if not is_sound:
            raise _strange()
        matrix = self._allocated((self.done + rows, columns), dtype) if self.matrix is None else self.matrix
        if matrix.shape != (self.done + rows, columns) or matrix.dtype != dtype:
            raise _strange()
        self._at = self.done * columns * dtype.itemsize

    def _short(self) -> HesseError | None:
        if self.matrix is not None and self._at == self.matrix.nbytes:
            return None
        return TransportError("incomplete", "The answer ended before its last row.",
                              hint="Ask for the rest by `rows`, or raise `resumes`.")

    # ---- where it goes -----------------------------------------------------------------------------------------------
    def _allocated(self, shape: tuple[int, int], dtype: DType) -> Array:
        self._total = shape[0]
        dtype = dtype.newbyteorder("<")
        if isinstance(self.out, np.ndarray):
            self.matrix = check_out(self.out, shape, dtype)
        elif self.out is not None:
            self.matrix = np.lib.format.open_memmap(f"{os.fsdecode(self.out)}.part", "w+", dtype, shape)
            self._part = f"{os.fsdecode(self.out)}.part"
        elif 0 in shape:
            self.matrix = np.zeros(shape, dtype)  # a file of no bytes cannot be mapped
        else:
            with tempfile.TemporaryFile() as file:  # the mapping keeps it
                self.matrix = np.memmap(file, dtype, "w+", shape=shape)
        self._tell(0)
        return self.matrix

    def _finished(self) -> Array:
        assert self.matrix is not None
        self._tell(self._total)
        if isinstance(self.matrix, np.memmap):
            self.matrix.flush()
        if self._part is not None:
            self.matrix = None  # some systems rename no file that is mapped
            os.replace(self._part, os.fsdecode(self.out))
            self.matrix = np.lib.format.open_memmap(self.out, "r+")
        return self.matrix

    def _tell(self, rows: int) -> None:
        self.done = rows
        if self._told is not None and rows != self._last:
            self._last = rows
            self._told(rows, self._total)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Say in an error how many rows there are, and where."""
        try:
            yield
        except HesseError as error:
            if self.matrix is not None and self.out is not None:
                where = "out" if self._part is None else self._part
                error.message = f"{error.message} {self.done} of {self._total} rows are in {where}."
                error.args = (error.message if error.hint is None else f"{error.message} {error.hint}",)
            raise

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        """With a bar, if one is asked for and tqdm is there."""
        self._told = None if isinstance(self.progress, bool) else self.progress
        try:
            from tqdm import tqdm
        except ImportError:
            tqdm = None
        if self.progress is not True or tqdm is None:
            yield
            return
        with tqdm(unit="row", desc=self.call.operation) as bar:
            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            self._told = show
            yield


def _strange() -> TransportError:
    return TransportError("bad-answer", "The server answered with rows that Hesse does not send.",
                          hint="Is the base URL that of a Hesse service?")
