"""What requests and answers look like. Models are strict and know no other members; tensors are checked by the codec.

`data` of a tensor is `Any` here on purpose: NumPy reads it, and validating a million elements one by one would cost
more than the Hessian.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from hesse_engine.derivatives import DERIVATIVES
from hesse_engine.ir.graph import DTYPES
from hesse_engine.options import APIS, HESSIAN_STRATEGIES, JACOBIAN_STRATEGIES, LAYOUTS, NONFINITE, TIERS

NAME = r"^[A-Za-z_][A-Za-z0-9_.\-]{0,127}$"
ID = r"^[0-9a-f]{64}$"
CURSOR = r"^[A-Za-z0-9_-]{54}$"
JOB_ID = r"^[0-9a-f]{32}$"
MAX_INPUTS = 1_000
MAX_MEMBERS = 1_000  # of an object with a fixed set of them, strange ones included
MAX_EXPRESSION = 65_536
MAX_CHOSEN = 1_000_000  # rows or columns


def _one_of(*values: str) -> Any:
    """A string whose values the engine checks, so that its stable codes answer; the schema lists them."""
    return Field(json_schema_extra={"enum": list(values)})


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, value: Any) -> Any:
        """Every strange member is an error of its own, which takes 5 us; a million of them 5 s."""
        if isinstance(value, dict) and len(value) > MAX_MEMBERS:
            raise PydanticCustomError("too_many_members", f"An object has at most {MAX_MEMBERS} members")
        return value


class Tensor(Model):
    """An array. `data` is nested or flat in row-major order; answers send it flat."""

    shape: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, max_length=32, description="Lengths of the axes; may be left out where `data` is nested."
    )
    dtype: Annotated[str, _one_of(*DTYPES)] | None = Field(
        default=None, description="Defaults to that of the function's input, else float64."
    )
    data: Any = Field(description='Numbers, or booleans; "NaN", "Infinity" and "-Infinity" are strings.')


TensorLike = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "A tensor, or its data alone: nested lists or a number.",
            "anyOf": [{"$ref": "#/components/schemas/Tensor"}, {"type": "array", "items": {}}, {"type": "number"}],
        }
    ),
]
Vector = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "One tensor for each differentiated input (vjp: for each output), or a single tensor.",
            "anyOf": [
                {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/Tensor"},
                            {"type": "array", "items": {}},
                            {"type": "number"},
                        ]
                    },
                },
                {"$ref": "#/components/schemas/Tensor"},
                {"type": "number"},
                {"type": "null"},
            ],
        }
    ),
]


class Signature(Model):
    """Shape and dtype of an input."""

    name: str | None = Field(default=None, pattern=NAME)
    shape: list[Annotated[int, Field(ge=0)]] = Field(max_length=32)
    dtype: Annotated[str, _one_of(*DTYPES)] = "float64"


class GraphDocument(Model):
    """A function as a graph, format hesse-graph/1; `GET /v1/ops` lists the ops and their attributes."""

    format: Literal["hesse-graph/1"]
    inputs: list[Signature] = Field(min_length=1, max_length=MAX_INPUTS)
    constants: list[TensorLike] = []
    nodes: list[dict[str, Any]] = Field(description='{"id", "op", "args", "attrs"}, in any order.')
    outputs: list[Any] = Field(min_length=1, description="Ids of nodes or names of inputs.")
    guards: list[dict[str, Any]] = Field(default=[], description='{"node", "value"}: where the graph is valid.')


GraphLike = Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/GraphDocument"}]})]


class ByGraph(Model):
    """A function as a graph."""

    graph: GraphLike


class ByExpression(Model):
    """A function as a formula over named inputs; it is parsed, never evaluated as code."""

    expression: str = Field(min_length=1, max_length=MAX_EXPRESSION)
    inputs: list[Annotated[str, Field(pattern=NAME)]] | None = Field(
        default=None, max_length=MAX_INPUTS, description="Names of the inputs, in their order."
    )


class ById(Model):
    """A registered function."""

    id: str = Field(pattern=ID)


def _kind_of(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((f"by-{k}" for k in ("graph", "id") if k in keys), "by-expression")


Function = Annotated[
    Annotated[ByGraph, Tag("by-graph")] | Annotated[ByExpression, Tag("by-expression")] | Annotated[ById, Tag("by-id")],
    Discriminator(_kind_of),
]
Definition = Annotated[
    Annotated[ByGraph, Tag("by-graph")] | Annotated[ByExpression, Tag("by-expression")], Discriminator(_kind_of)
]


class OptionsModel(Model):
    """How to compute; everything has a default."""

    api: Annotated[str, _one_of(*APIS)] = Field(
        default="functional", description="Whose conventions: torch.autograd.functional or torch.func."
    )
    argnums: int | Annotated[list[int], Field(fail_fast=True)] | None = Field(
        default=None, description="Differentiated inputs; null: all (func: the first)."
    )
    chunk_size: int | None = Field(
        default=None, description="Most columns, rows, vectors or points in flight at once."
    )
    preallocate: bool = Field(default=True, description="Write chunks into one result instead of concatenating them.")
    device: str = Field(default="cpu", max_length=64)
    threads: int | None = Field(default=None, description="Threads of this computation.")
    strategy: Annotated[str, _one_of("auto", *HESSIAN_STRATEGIES, *JACOBIAN_STRATEGIES)] = "auto"
    layout: Annotated[str, _one_of(*LAYOUTS)] = Field(
        default="dense", description="Of a matrix result: blocks, a sparse matrix, its diagonal or upper triangle."
    )
    rows: Annotated[list[int], Field(fail_fast=True)] | None = Field(
        default=None, max_length=MAX_CHOSEN, description="Which rows of a matrix, among all elements; null: all."
    )
    columns: Annotated[list[int], Field(fail_fast=True)] | None = Field(
        default=None, max_length=MAX_CHOSEN, description="Which columns of a matrix, among all elements; null: all."
    )
    batched: bool = Field(default=False, description="Every tensor has a leading axis of points; results, too.")
    many: bool = Field(default=False, description="`v` holds several vectors, on a leading axis; products, too.")
    weighted: bool = Field(default=False, description="For a plan: weights will be given. Calls give them.")
    max_memory_bytes: int | None = Field(default=None, description="Refuse what is predicted to need more.")
    strict: bool = Field(default=False, description="Refuse outputs that do not depend on an input.")
    aux: int = Field(default=0, description="How many of the last outputs are evaluated, not differentiated.")
    nonfinite: Annotated[str, _one_of(*NONFINITE)] = Field(
        default="allow", description="'error': refuse a result with a NaN or an infinity, naming the node it is from."
    )
    verify: bool = Field(
        default=False,
        description="hessian, jacobian, value_grad_hessian, hvp and vhp, of one point: check the result in ways that "
        "share little with how it was computed; the answer gains `verification`.",
    )
    tier: Annotated[str, _one_of(*TIERS)] = Field(default="auto", description="Which interpreter answers.")
    deadline_s: float | None = Field(default=None, ge=0.001, description="Give up after this many seconds.")
    stream: bool = Field(
        default=False,
        description="hessian and jacobian, dense: the matrix as one binary answer, its rows sent as they are computed "
        "and never whole in the server's memory. Needs the header Accept: application/octet-stream; deadline_s then "
        "holds for each block of rows.",
    )


class CallRequest(Model):
    """One computation."""

    function: Function
    inputs: list[TensorLike] = Field(max_length=MAX_INPUTS)
    v: Vector = Field(default=None, description="Only for products: jvp, vjp, hvp, vhp.")
    weights: Vector = Field(
        default=None, description="One tensor for each output: second derivatives are those of the weighted sum."
    )
    options: OptionsModel = OptionsModel()


class PlanRequest(Model):
    """A computation to be planned, not run; inputs may be left out for a function that knows its own."""

    operation: str = Field(json_schema_extra={"enum": list(DERIVATIVES)}, max_length=64)
    function: Function
    inputs: list[Signature] | None = Field(default=None, max_length=MAX_INPUTS)
    options: OptionsModel = OptionsModel()


class FunctionRequest(Model):
    """A function to be registered. An expression needs its inputs; a graph has them."""

    function: Definition
    inputs: list[Signature] | None = Field(default=None, max_length=MAX_INPUTS)


# ---- answers, for the OpenAPI document: the codec writes them ------------------------------------------------------
class TensorAnswer(Model):
    """An array, flat in row-major order."""

    shape: list[int]
    dtype: str
    data: list[Any]


class Pair(Model):
    """Answer of a product: f(x) and the product."""

    output: Any
    product: Any


class SparseAnswer(Model):
    """A matrix over the concatenated flattened elements; entries that are not listed are zero."""

    layout: Literal["csr", "coo"]
    shape: list[int]
    dtype: str
    indptr: list[int] | None = Field(default=None, description="csr: where each row starts.")
    rows: list[int] | None = Field(default=None, description="coo: the row of each value.")
    indices: list[int] = Field(description="The column of each value.")
    data: list[Any]


class Triple(Model):
    """Answer of value_grad_hessian."""

    value: Any
    gradient: Any
    hessian: Any


Number = float | Literal["NaN", "Infinity", "-Infinity"]


class Verification(Model):
    """How well a result M holds. |.| is the 2-norm (of M: Frobenius), u, d random directions that the inputs fix.

    Below about 1e-12 is usual, over sqrt(eps) (1.5e-8 in double precision) alarming; differences may be off by their
    `..._error`.
    """

    symmetry_defect: Number | None = Field(default=None, description="max |H - H'| / max |H|; of a whole Hessian.")
    directional_residual: Number = Field(
        description="|M u - P(u)| / (|M| |u|), P(u) by the textbook transforms in the reference interpreter; of a "
        "product p with v: |p - P(v)| / |P(v)|."
    )
    difference_residual: Number = Field(
        description="The same against differences of the gradient (of a Jacobian: of the function)."
    )
    difference_error: Number = Field(description="How far off those differences may be.")
    slope_residual: Number | None = Field(
        default=None, description="|g' d - (f(x + h d) - f(x - h d)) / 2h| / (|g| |d|): the gradient, from f alone."
    )
    slope_error: Number | None = Field(default=None, description="How far off those differences may be.")
    suspicious: list[str] = Field(description="The alarming ones of these numbers.")


class CallAnswer(Model):
    """`result` is a tensor, lists of them where torch nests tuples, a sparse matrix, a pair or a triple."""

    result: TensorAnswer | SparseAnswer | Pair | Triple | list[Any]
    aux: list[TensorAnswer] | None = Field(default=None, description="Present when options.aux > 0.")
    verification: Verification | None = Field(default=None, description="Present with options.verify.")
    stats: dict[str, Any] = Field(description="How it was computed: strategy, tier, threads, chunks, seconds, ...")


class PlanAnswer(Model):
    """What would be done and what it would cost."""

    plan: dict[str, Any]
    text: str = Field(description="The same in a few readable lines.")


class FunctionAnswer(Model):
    """A registered function."""

    id: str = Field(pattern=ID, description="SHA-256 of the canonical graph; one signature per id.")
    inputs: list[Signature]
    outputs: list[Signature]


class FunctionDocument(FunctionAnswer):
    """A registered function with its graph."""

    function: ByGraph


class ListedFunction(FunctionAnswer):
    """A function of a list."""

    bytes: int = Field(description="Size of its graph [bytes].")
    created: str = Field(description="When it was registered, RFC 3339.")
    used: str = Field(description="When it was used last, to about a minute, RFC 3339.")


class FunctionList(Model):
    """A page of registered functions."""

    functions: list[ListedFunction]
    next: str | None = Field(description="Path of the next page; null on the last one.")


class OpsAnswer(Model):
    """The tables of ops and operations."""

    format: str
    ops: list[dict[str, Any]]
    operations: list[dict[str, Any]]
    limits: dict[str, Any]


class JobProgress(Model):
    """Chunks."""

    done: int
    total: int


class JobDocument(Model):
    """A job; times are those of the clock on the wall."""

    id: str = Field(pattern=JOB_ID)
    state: Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
    operation: str
    created: str = Field(description="RFC 3339.")
    started: str | None
    finished: str | None
    expires: str | None = Field(description="Until when the result is kept.")
    attempts: int = Field(description="How often it was started.")
    progress: JobProgress | None
    error: Problem | None = Field(description="What it failed with.")
    links: dict[str, str] = Field(description="Paths of this document, the result and the events.")


class JobsAnswer(Model):
    """A page of jobs."""

    jobs: list[JobDocument]
    next: str | None = Field(description="Where the next page begins: its `after`.")


class Status(Model):
    """Health."""

    status: Literal["ok"]


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="urn:hesse:problem:<code>")
    title: str
    status: int
    detail: str = Field(description="What was given, what is allowed.")
    code: str = Field(description="Stable; clients rebuild the exception from it.")
    pointer: str | None = Field(default=None, description="JSON pointer (RFC 6901) into the request, at the fault.")
    node: str | None = Field(default=None, description="Id of the graph's node at fault.")
    hint: str | None = Field(default=None, description="What to do about it.")
    retryable: bool
    request_id: str
