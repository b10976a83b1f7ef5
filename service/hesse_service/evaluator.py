"""From a request's JSON value to an answer's bytes. The same object serves compute processes and the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hesse_engine.backend.plan import Plan
from hesse_engine.compute import Prepared, guards_hold, prepare
from hesse_engine.derivatives import DERIVATIVES
from hesse_engine.errors import HesseError, InputError, LimitError, StateError
from hesse_engine.frontends.expression import parse as parse_expression
from hesse_engine.ir.graph import Array, Graph
from hesse_engine.ir.party import serve
from hesse_engine.ir.show import graph_id
from hesse_engine.ir.wire import graph_from_json, graph_to_json, ids_as_sent
from hesse_engine.options import Options
from hesse_engine.row_blocks import RowBlocks, prepare_rows
from hesse_service import codec, media
from hesse_service.cache import Cache
from hesse_service.exchange import JSON, Terms
from hesse_service.limits import check_plan, check_work, with_verification
from hesse_service.quotas import BASE, FILE, NODE, Ledger, Meter, cost_of
from hesse_service.schemas import (
    ByExpression,
    ByGraph,
    ById,
    CallRequest,
    FunctionRequest,
    OptionsModel,
    PlanRequest,
    Signature,
)
from hesse_service.settings import Settings
from hesse_service.signatures import Named, named_by, planned, stated_by
from hesse_service.store import Store

NODE_BYTES = 900  # nodes, programs and plan of a prepared Hessian, per node of its builder: measured 490 to 840
KEPT_BLOCKS = 16  # computations in blocks of rows, prepared


@dataclass(frozen=True, slots=True)
class HotKey:
    """A computation that can be asked for by id; what one owner stored or prepared helps no other."""

    owner: str
    function: str
    operation: str
    options: Options


@dataclass(frozen=True, slots=True)
class Entry:
    """A prepared computation with the graph as it was sent (whose guards count)."""

    graph: Graph
    prepared: Prepared
    options: Options
    dtypes: tuple[str, ...]
    prepare_s: float
    units: float  # what a call costs, without planning
    planning_units: float  # what planning it costs


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """A matrix that will be sent in blocks of `height` rows."""

    shape: tuple[int, int]
    dtype: str
    row_bytes: int
    height: int
    stats: dict[str, Any]


@dataclass(slots=True)
class Answer:
    """A body in pieces, where the time went [s], and how it is written."""

    pieces: Sequence[bytes | memoryview]
    seconds: dict[str, float] = field(default_factory=dict)
    media: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    hot: HotKey | None = None  # set where the event loop could answer the next such request itself
    plan: RowsPlan | None = None
    outline: Plan | None = None

    @property
    def length(self) -> int:
        return sum([len(p) for p in self.pieces])


class Evaluator:
    """Resolves functions, prepares computations once, runs them."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.entries: Cache[Entry] = Cache(settings.prepared_functions, settings.prepared_bytes)
        self._blocks: Cache[tuple[Graph, RowBlocks]] = Cache(KEPT_BLOCKS, settings.prepared_bytes)
        self._defaults = codec.decode_options(OptionsModel(), settings)
        self.meter = Meter(None if settings.keys_file is None else Ledger(store.path.with_name(FILE)))

    def close(self) -> None:
        self.store.close()
        if self.meter.ledger is not None:
            self.meter.ledger.close()

    # ---- one method a kind of request -------------------------------------------------------------------------------
    def answer(
        self, kind: str, name: str, value: Any, terms: Terms, on_deadline: Callable[[float], None],
        rows: tuple[int, int] | None = None,
    ) -> Answer:
        """Answer a request of `kind` 'call' (of operation `name`; maybe only some `rows`), 'plan' or 'register'.

        `on_deadline` hears of `options.deadline_s` as soon as it is known.
        """
        if kind == "call":
            call = codec.validate(CallRequest, value)
            if call.options.deadline_s is not None:
                on_deadline(call.options.deadline_s)
            if call.options.stream:
                return self.blocks(name, call, terms, rows)
            return self.call(name, call, terms)
        return self.plan(value, terms) if kind == "plan" else self.register(value, terms)

    def call(self, operation: str, call: CallRequest, terms: Terms, entry: Entry | None = None) -> Answer:
        """`operation` at the inputs; `entry` is given by who looked it up before."""
        started = time.perf_counter()
        row = DERIVATIVES[operation]
        serve(terms.owner)
        try:
            with self.meter.bill(terms.quota) as bill:
                options = codec.sized(self._options(call.options), call) if entry is None else entry.options
                limit = self.settings.max_elements
                by_name = isinstance(call.function, ByExpression)
                arrays = codec.decode_inputs(call.inputs, (), limit) if by_name else None
                v = codec.decode_vector(call.v, limit)
                weights = codec.decode_vector(call.weights, limit, "/weights")
                decoded = time.perf_counter()
                was_prepared = entry is not None
                if entry is None:
                    entry, was_prepared = self._entry(operation, call.function, arrays or (), options, terms.owner)
                settled = time.perf_counter()
                is_planned = isinstance(call.function, ById) and was_prepared
                bill.charge(entry.units, 0.0 if is_planned else entry.planning_units)
            if arrays is None:
                arrays = codec.decode_inputs(call.inputs, entry.dtypes, limit)
            ready = time.perf_counter()
            self._check_guards(entry.graph, arrays, options.batch)
            result = entry.prepared(arrays, v, weights)
        except HesseError as error:
            raise self._located(error, call.function) from error
        computed = time.perf_counter()
        written = media.write(result, row.is_pair, options.aux > 0, terms.formats.answer)
        answer = Answer(
            written.pieces,
            {
                "decode": decoded - started + ready - settled,
                "plan": settled - decoded,
                "compute": computed - ready,
                "encode": time.perf_counter() - computed,
            },
            written.media,
            written.headers,
            outline=entry.prepared.outline,
        )
        if isinstance(call.function, ById) and was_prepared and self._is_tiny(entry, answer):
            answer.hot = HotKey(terms.owner, call.function.id, operation, options)
        return answer

    def blocks(self, operation: str, call: CallRequest, terms: Terms, rows: tuple[int, int] | None) -> Answer:
        """The plan of a matrix in blocks of rows, or these rows of it as raw bytes (little-endian, row-major).

        Which rows is no part of what is prepared, so all blocks share one program.
        """
        started = time.perf_counter()
        serve(terms.owner)
        try:
            with self.meter.bill(terms.quota, is_charged=rows is not None) as bill:
                options, limit = codec.sized(self._options(call.options), call), self.settings.max_elements
                named = isinstance(call.function, ByExpression)
                arrays = codec.decode_inputs(call.inputs, (), limit) if named else []
                key, graph_of = self._source(operation, call.function, arrays, options, terms.owner)
                graph, prepared, was_prepared = self._row_blocks(key, graph_of, operation, options)
                settled = time.perf_counter()
                if rows is None:  # once for the whole matrix: its blocks cost nothing more
                    is_planned = isinstance(call.function, ById) and was_prepared
                    bill.charge(cost_of(prepared.plan), 0.0 if is_planned else NODE * len(graph.builder.nodes))
                    row_bytes = prepared.shape[1] * prepared.dtype.itemsize
                    plan = RowsPlan(prepared.shape, str(prepared.dtype), row_bytes, prepared.height,
                                    prepared.describe())
                    return Answer([], {"plan": settled - started}, plan=plan)
            if not named:
                arrays = codec.decode_inputs(call.inputs, [str(n.dtype) for n in graph.inputs], limit)
            self._check_guards(graph, arrays, None)
            block = prepared(arrays, *rows, codec.decode_vector(call.weights, limit, "/weights"))
        except HesseError as error:
            raise self._located(error, call.function) from error
        little = block.astype(block.dtype.newbyteorder("<"), copy=False)
        return Answer([little.reshape(-1).view(np.uint8).data],
                      {"plan": settled - started, "compute": time.perf_counter() - settled})

    def _row_blocks(
        self, key: Any, graph_of: Callable[[], Graph], operation: str, options: Options
    ) -> tuple[Graph, RowBlocks, bool]:
        """The graph, the prepared matrix by blocks of rows, and whether it was prepared before."""
        found = self._blocks.get(key)
        if found is not None:
            return *found, True
        graph = graph_of()
        prepared = prepare_rows(graph, operation, options, self.settings.stream_block_bytes)
        check_work(prepared.plan, self.settings)
        size = graph.builder.constant_bytes + NODE_BYTES * len(graph.builder.nodes)
        self._blocks.put(key, (graph, prepared), size)
        return graph, prepared, False

    def plan(self, value: Any, terms: Terms) -> Answer:
        request = codec.validate(PlanRequest, value)
        if request.operation not in DERIVATIVES:
            raise StateError("unknown-operation", f"The operations are {', '.join(DERIVATIVES)}.", pointer="/operation")
        serve(terms.owner)
        try:
            with self.meter.bill(terms.quota) as bill:
                options, signatures = planned(self._options(request.options), request)
                graph = self._graph(request.function, signatures, terms.owner)
                made: RowBlocks | Prepared
                if request.options.stream:
                    made = prepare_rows(graph, request.operation, options, self.settings.stream_block_bytes)
                else:
                    made = prepare(graph, request.operation, options)
                plan = made.plan
                bill.charge(BASE, NODE * len(graph.builder.nodes))
        except HesseError as error:
            raise codec.located(error, _kind(request.function)) from error
        if isinstance(made, RowBlocks):
            stats = made.describe()
            text = f"{stats['strategy']}, {stats['blocks']} blocks of {stats['block_rows']} rows"
            return Answer([codec.encode({"plan": stats, "text": text})])
        return Answer([codec.encode({"plan": plan.as_dict(), "text": str(plan)})])

    def register(self, value: Any, terms: Terms) -> Answer:
        request = codec.validate(FunctionRequest, value)
        serve(terms.owner)
        try:
            with self.meter.bill(terms.quota) as bill:
                graph = self._graph(request.function, request.inputs, terms.owner)
                bill.charge(BASE, NODE * len(graph.builder.nodes))
        except HesseError as error:
            raise codec.located(error, _kind(request.function)) from error
        name = graph_id(graph)
        signature = codec.encode(codec.describe(graph, name))
        self.store.put(terms.owner, name, signature, codec.encode(graph_to_json(graph)))
        return Answer([signature])

    def document(self, name: str, owner: str) -> bytes:
        """A registered function with its graph, as JSON."""
        signature, graph = self.store.signature(owner, name), self.store.get(owner, name)
        if signature is None or graph is None:
            raise unknown_function()
        return signature[:-1] + b',"function":{"graph":' + graph + b"}}"

    def names_of(self, owner: str, name: str) -> list[str]:
        """The names of a registered function's inputs."""
        signature = self.store.signature(owner, name)
        if signature is None:
            raise unknown_function()
        return [entry["name"] for entry in codec.parse(signature)["inputs"]]

    # ---- lookups ----------------------------------------------------------------------------------------------------
    def known(self, operation: str, call: CallRequest, terms: Terms) -> Entry | None:
        """The entry of a call by id if it is prepared in this process."""
        if not isinstance(call.function, ById) or call.options.stream:
            return None
        options = codec.sized(self._options(call.options), call)
        return self.entries.get(HotKey(terms.owner, call.function.id, operation, options))

    def _options(self, model: OptionsModel) -> Options:
        return codec.decode_options(model, self.settings) if model.model_fields_set else self._defaults

    def warm(self, key: HotKey) -> Entry:
        """Prepare a computation by id."""
        serve(key.owner)

        def graph_of() -> Graph:
            return self._read(self._stored(key.owner, key.function))

        return self._prepared(key, graph_of, key.operation, key.options)[0]

    def _entry(
        self, operation: str, function: ByGraph | ByExpression | ById, arrays: Sequence[Array], options: Options,
        owner: str,
    ) -> tuple[Entry, bool]:
        """The prepared computation, and whether it was prepared before. Only an expression looks at the arrays."""
        key, graph_of = self._source(operation, function, arrays, options, owner)
        return self._prepared(key, graph_of, operation, options)

    def _source(
        self, operation: str, function: ByGraph | ByExpression | ById, arrays: Sequence[Array], options: Options,
        owner: str,
    ) -> tuple[Any, Callable[[], Graph]]:
        """(what the computation is known by, its graph when it is needed)."""
        if isinstance(function, ById):
            if not self.store.has(owner, function.id):
                raise unknown_function()
            return HotKey(owner, function.id, operation, options), lambda: self._read(self._stored(owner, function.id))
        if isinstance(function, ByExpression):
            first = 0 if options.batch is None else 1
            named = named_by(function, [(a.shape[first:], a.dtype) for a in arrays])
            return (owner, function.expression, tuple(named), operation, options), lambda: self._parse(function, named)
        graph = self._from_json(function)
        return HotKey(owner, graph_id(graph), operation, options), lambda: graph

    def _prepared(
        self, key: Any, graph_of: Callable[[], Graph], operation: str, options: Options
    ) -> tuple[Entry, bool]:
        found = self.entries.get(key)
        if found is not None:
            return found, True
        started = time.perf_counter()
        graph = graph_of()
        prepared, dtypes = prepare(graph, operation, options), tuple([str(n.dtype) for n in graph.inputs])
        work = prepared.plan if not options.verify else with_verification(prepared.plan, graph)
        check_plan(work, self.settings)
        builder = graph.builder
        planning = NODE * len(builder.nodes)
        entry = Entry(graph, prepared, options, dtypes, time.perf_counter() - started, cost_of(work), planning)
        self.entries.put(key, entry, builder.constant_bytes + NODE_BYTES * len(builder.nodes))
        return entry, False

    def _graph(
        self, function: ByGraph | ByExpression | ById, signatures: Sequence[Signature] | None, owner: str
    ) -> Graph:
        """The function's graph, with the inputs that were stated for it."""
        if isinstance(function, ByExpression):
            if signatures is None:
                raise InputError("bad-request", "An expression needs inputs with their shapes.", pointer="/inputs")
            return self._parse(function, stated_by(function, signatures))
        if isinstance(function, ByGraph):
            graph = self._from_json(function)
        else:
            graph = self._read(self._stored(owner, function.id))
        if signatures is not None:
            stated = [(s.name or n, tuple(s.shape), s.dtype) for s, n in zip(signatures, graph.names, strict=False)]
            actual = [(n.attrs["name"], n.shape, str(n.dtype)) for n in graph.inputs]
            if len(signatures) != len(actual) or stated != actual:
                raise InputError("wrong-inputs", "The inputs stated are not those of the graph.", pointer="/inputs")
        return graph

    def _from_json(self, function: ByGraph) -> Graph:
        return graph_from_json(function.graph, limits=self.settings.limits, pointer="/function/graph")

    def _parse(self, function: ByExpression, named: Sequence[Named]) -> Graph:
        return parse_expression(function.expression, named, limits=self.settings.limits)

    def _read(self, stored: bytes) -> Graph:
        return graph_from_json(codec.parse(stored), limits=self.settings.limits)

    def _stored(self, owner: str, name: str) -> bytes:
        stored = self.store.get(owner, name)
        if stored is None:
            raise unknown_function()
        return stored

    # ---- checks -----------------------------------------------------------------------------------------------------
    @staticmethod
    def _check_guards(graph: Graph, arrays: Sequence[Array], batch: int | None) -> None:
        if not graph.guards:
            return
        lead = () if batch is None else (batch,)
        fits = len(arrays) == len(graph.inputs) and all(
            [a.shape == (*lead, *n.shape) and a.dtype == n.dtype for a, n in zip(arrays, graph.inputs, strict=True)]
        )
        points = [arrays] if batch is None or not fits else ([a[k] for a in arrays] for k in range(batch))
        if fits and not all(guards_hold(graph, point) for point in points):  # the first that fails ends it
            raise StateError(
                "graph-point-specific",
                "The function branches on values: its graph was traced where other branches were taken than here.",
                hint="Trace the function again at these inputs and send that graph.",
                pointer="/inputs",
            )

    def _located(self, error: HesseError, function: ByGraph | ByExpression | ById) -> HesseError:
        """`error` with a pointer into the request, and with the node's id as it was sent."""
        found = codec.located(error, _kind(function))
        if found.code == "nonfinite-result" and found.node is not None and isinstance(function, ByGraph):
            sent = ids_as_sent(function.graph, self.settings.limits).get(found.node, found.node)
            text = found.message.replace(f"node {found.node} ", f"node {sent} ")
            return type(found)(found.code, text, hint=found.hint, pointer=found.pointer, node=sent)
        return found

    def _is_tiny(self, entry: Entry, answer: Answer) -> bool:
        settings = self.settings
        return (
            answer.seconds["compute"] < settings.inline_s
            and entry.prepare_s < 0.05
            and answer.length <= settings.inline_result_bytes
        )


def translate(error: BaseException) -> HesseError | None:
    """The declared error that an exception of Python or NumPy amounts to, if any."""
    if isinstance(error, HesseError):
        return error
    if isinstance(error, MemoryError):
        return LimitError(
            "over-memory-budget",
            "The computation needs more memory than the server has.",
            hint="Lower chunk_size, or use hvp for products with the matrix.",
        )
    return None


def internal() -> HesseError:
    """What the caller hears of an unexpected exception; the log has the rest."""
    return StateError("internal", "An unexpected error occurred; the request id identifies it in the server's log.")


def unknown_function() -> HesseError:
    return StateError(
        "unknown-function",
        "No function is registered under this id.",
        hint="Register it with PUT /v1/functions, or send the function itself.",
        pointer="/function/id",
    )


def _kind(function: ByGraph | ByExpression | ById) -> str:
    return "graph" if isinstance(function, ByGraph) else "other"
