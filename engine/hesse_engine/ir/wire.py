"""Graphs as JSON, format `hesse-graph/1`.

    {"format": "hesse-graph/1",
     "inputs":    [{"name": "x", "shape": [3], "dtype": "float64"}],
     "constants": [{"shape": [3], "dtype": "float64", "data": [1, 2, 3]}],
     "nodes":     [{"id": "a", "op": "multiply", "args": ["x", {"constant": 0}], "attrs": {}},
                   {"id": "b", "op": "power", "args": ["a", 3]},
                   {"id": "y", "op": "sum", "args": ["b"], "attrs": {"axis": [0]}}],
     "outputs":   ["y"],
     "guards":    [{"node": "c", "value": true}]}

An argument is the id of a node or the name of an input, `{"constant": k}`, or a number: a scalar that adopts the dtype
of the other operands. Nodes may come in any order and use any op of the table; composites are expanded on reading. The
body of a loop (`scan`) is a graph in the place of its attribute.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from hesse_engine.errors import GraphError, HesseError, InputError, LimitError
from hesse_engine.ir.graph import Array, Builder, Graph, Limits, Node
from hesse_engine.ir.ops.scan import Body
from hesse_engine.ir.rows import ROWS, Row
from hesse_engine.ir.tensor import decode_dtype, decode_shape, decode_tensor, encode_tensor
from hesse_engine.ir.walk import reachable

FORMAT = "hesse-graph/1"
MEMBERS = {"format", "inputs", "constants", "nodes", "outputs", "guards"}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,127}")
WIRE_LIMITS = Limits(nodes=1_000_000, rank=32, elements=1 << 34)
MAX_NODES = 100_000
MAX_INPUTS = 1_000
MAX_OUTPUTS = 4_000
MAX_ARGUMENTS = 100_000  # of one node
MAX_REFERENCES = 1_000_000  # arguments of all nodes
MAX_LOOPS = 8  # loops within loops
MAX_ATTRIBUTE = 65_536  # entries in one attribute list, characters in one attribute string


def graph_to_json(graph: Graph, encode: Callable[[Array], Any] = encode_tensor) -> dict[str, Any]:
    """`graph` in the wire format; `graph_from_json` gives a graph of the same identity. `encode` writes constants."""
    roots = [*graph.outputs, *[n for n, _ in graph.guards]]
    names: dict[Node, Any] = {**node_ids(graph)}
    constants: list[Any] = []
    nodes: list[dict[str, Any]] = []
    for node in reachable(roots):
        if node.value is not None:
            names[node] = {"constant": len(constants)}
            constants.append(encode(node.value))
        if node.value is not None or node.op == "input":
            continue
        nodes.append({"id": names[node], "op": node.op, "args": [names[a] for a in node.args],
                      "attrs": {k: _plain(v, encode) for k, v in node.attrs.items()}})
    body: dict[str, Any] = {
        "format": FORMAT,
        "inputs": [{"name": n.attrs["name"], "shape": list(n.shape), "dtype": str(n.dtype)} for n in graph.inputs],
        "constants": constants,
        "nodes": nodes,
        "outputs": [names[n] for n in graph.outputs],
    }
    if graph.guards:
        body["guards"] = [{"node": names[n], "value": v} for n, v in graph.guards]
    return body


def node_ids(graph: Graph) -> dict[Node, str]:
    """The ids that `graph_to_json` gives nodes; inputs have their names, constants none."""
    found = {n: n.attrs["name"] for n in graph.inputs}
    taken, count = set(graph.names), 0
    for node in reachable([*graph.outputs, *[n for n, _ in graph.guards]]):
        if node in found or node.value is not None:
            continue
        label = f"n{count}"
        while label in taken:
            label += "_"
        found[node], count = label, count + 1
    return found


def _plain(attribute: Any, encode: Callable[[Array], Any]) -> Any:
    """An attribute as JSON; the body of a loop is a graph of its own."""
    if isinstance(attribute, Body):
        return graph_to_json(attribute.graph, encode)
    return list(attribute) if isinstance(attribute, tuple) else attribute


def graph_from_json(value: Any, *, limits: Limits | None = None, pointer: str = "", depth: int = 0) -> Graph:
    """Read, check and expand a graph; errors name the node and the JSON pointer at fault."""
    if depth > MAX_LOOPS:
        raise LimitError("too-many-nodes", f"Loops are nested more than {MAX_LOOPS} deep.", pointer=pointer)
    reader = _Reader(_members(value, pointer), Builder(limits or WIRE_LIMITS), pointer, depth)
    return reader.read()


def ids_as_sent(value: Any, limits: Limits | None = None) -> dict[str, str]:
    """For each id of `node_ids`, the id that the node has in the document `value`; of equal nodes the first."""
    reader = _Reader(_members(value, ""), Builder(limits or WIRE_LIMITS), "", 0)
    ids = node_ids(reader.read())
    sent: dict[Node, str] = {}
    for name, node in reader.known.items():
        sent.setdefault(node, name)
    return {label: sent[node] for node, label in ids.items() if node in sent}


def _members(value: Any, pointer: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise GraphError("graph-format", f"A graph is an object with \"format\": \"{FORMAT}\".", pointer=pointer)
    unknown = set(value) - MEMBERS
    if unknown:
        raise GraphError("graph-format", f"A graph has the members {', '.join(sorted(MEMBERS))}, no others.",
                         pointer=pointer)
    for name in ("inputs", "nodes", "outputs"):
        if not isinstance(value.get(name), list):
            raise GraphError("graph-format", f"The graph's {name} must be a list.", pointer=f"{pointer}/{name}")
    for name in ("constants", "guards"):
        if not isinstance(value.get(name, []), list):
            raise GraphError("graph-format", f"The graph's {name} must be a list.", pointer=f"{pointer}/{name}")
        if len(value.get(name, [])) > MAX_NODES:
            raise LimitError("too-many-nodes", f"A graph has at most {MAX_NODES} {name}.", pointer=f"{pointer}/{name}")
    return value


class _Reader:
    """One reading of one graph: ids are resolved, nodes ordered, each built by its row."""

    def __init__(self, body: Mapping[str, Any], builder: Builder, pointer: str, depth: int) -> None:
        self.body, self.builder, self.pointer, self.depth = body, builder, pointer, depth
        self.known: dict[str, Node] = {}
        self.position: dict[str, int] = {}
        self.constants: list[Node] = []

    def read(self) -> Graph:
        inputs = self._inputs()
        for k, tensor in enumerate(self.body.get("constants", [])):
            at = f"{self.pointer}/constants/{k}"
            self.constants.append(self.builder.constant(decode_tensor(tensor, at, self.builder.limits.elements)))
        self._index()
        for k in self._order():
            self._build(k)
        outputs = self.body["outputs"]
        if not outputs:
            raise GraphError("no-outputs", "The graph has no outputs.", pointer=f"{self.pointer}/outputs")
        if len(outputs) > MAX_OUTPUTS:
            raise LimitError("too-many-nodes", f"A graph has at most {MAX_OUTPUTS} outputs, not {len(outputs)}.",
                             pointer=f"{self.pointer}/outputs")
        found = [self._reference(o, f"{self.pointer}/outputs/{k}", None) for k, o in enumerate(outputs)]
        return Graph(tuple(inputs), tuple(found), self._guards())

    def _inputs(self) -> list[Node]:
        entries = self.body["inputs"]
        if not 1 <= len(entries) <= MAX_INPUTS:
            raise GraphError("graph-format", f"A graph has 1 to {MAX_INPUTS} inputs, not {len(entries)}.",
                             pointer=f"{self.pointer}/inputs")
        nodes = []
        for k, entry in enumerate(entries):
            at = f"{self.pointer}/inputs/{k}"
            if not isinstance(entry, dict) or set(entry) - {"name", "shape", "dtype"} or "shape" not in entry:
                raise GraphError("graph-format", "An input has the members name, shape and dtype.", pointer=at)
            name = self._name(entry.get("name"), f"{at}/name")
            if name in self.known:
                raise GraphError("duplicate-id", "Two inputs have the same name.", pointer=f"{at}/name")
            shape = decode_shape(entry["shape"], f"{at}/shape", self.builder.limits.elements)
            node = self.builder.input(name, shape, decode_dtype(entry.get("dtype", "float64"), f"{at}/dtype"))
            self.known[name] = node
            nodes.append(node)
        return nodes

    @staticmethod
    def _name(name: Any, pointer: str) -> str:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise GraphError("graph-format", "Ids and names are 1 to 128 letters, digits, '_', '.' and '-', "
                                             "beginning with a letter or '_'.", pointer=pointer)
        return name

    def _index(self) -> None:
        entries = self.body["nodes"]
        if len(entries) > MAX_NODES:
            raise LimitError("too-many-nodes", f"The graph has {len(entries)} nodes; at most {MAX_NODES}.",
                             pointer=f"{self.pointer}/nodes")
        for k, entry in enumerate(entries):
            at = f"{self.pointer}/nodes/{k}"
            if (
                not isinstance(entry, dict) or set(entry) - {"id", "op", "args", "attrs"}
                or not isinstance(entry.get("args", []), list) or not isinstance(entry.get("attrs", {}), dict)
            ):
                raise GraphError("graph-format", "A node has the members id, op, args and attrs.", pointer=at)
            name = self._name(entry.get("id"), f"{at}/id")
            if name in self.position or name in self.known:
                raise GraphError("duplicate-id", "Two nodes or inputs have the same id.", pointer=f"{at}/id", node=name)
            if len(entry.get("args", [])) > MAX_ARGUMENTS:
                raise LimitError("too-many-nodes", f"A node has at most {MAX_ARGUMENTS} arguments.",
                                 pointer=f"{at}/args", node=name)
            self.position[name] = k

    def _order(self) -> list[int]:
        """Positions of the nodes, arguments first (Kahn 1962); what is left over lies on a cycle."""
        entries = self.body["nodes"]
        if sum([len(entry.get("args", [])) for entry in entries]) > MAX_REFERENCES:
            raise LimitError("too-many-nodes", f"The nodes of a graph have at most {MAX_REFERENCES} arguments.",
                             pointer=f"{self.pointer}/nodes")
        users: dict[int, list[int]] = {}
        waiting = [0] * len(entries)
        for k, entry in enumerate(entries):
            for arg in entry.get("args", []):
                source = self.position.get(arg) if isinstance(arg, str) else None
                if source is not None:
                    users.setdefault(source, []).append(k)
                    waiting[k] += 1
        ready = [k for k in range(len(entries)) if not waiting[k]]
        order: list[int] = []
        for k in ready:  # grows while it is walked
            order.append(k)
            for user in users.get(k, ()):
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        if len(order) != len(entries):
            k = next(k for k, w in enumerate(waiting) if w)
            raise GraphError("graph-cycle", "The node depends on itself.", pointer=f"{self.pointer}/nodes/{k}",
                             node=entries[k]["id"])
        return order

    def _build(self, k: int) -> None:
        entry, at = self.body["nodes"][k], f"{self.pointer}/nodes/{k}"
        name, op = entry["id"], entry.get("op")
        row = ROWS.load().get(op) if isinstance(op, str) else None
        if row is None or (row.kind == "leaf" and row.name != "zeros"):
            raise GraphError("unknown-op", "There is no such op; GET /v1/ops lists them.", pointer=f"{at}/op",
                             node=name)
        args = [self._reference(a, f"{at}/args/{j}", name) for j, a in enumerate(entry.get("args", []))]
        if not entry.get("attrs", {}).keys() <= set(row.attrs):
            raise GraphError("bad-attribute", f"{op} takes the attributes {list(row.attrs)}.", pointer=f"{at}/attrs",
                             node=name)
        attrs = {key: self._attribute(key, v, f"{at}/attrs/{key}") for key, v in entry.get("attrs", {}).items()}
        self.known[name] = _located(lambda: self._apply(row, args, attrs), f"{at}", name)

    def _attribute(self, key: str, value: Any, pointer: str) -> Any:
        if key == "body" and isinstance(value, dict):
            return Body(graph_from_json(value, limits=self.builder.limits, pointer=pointer, depth=self.depth + 1))
        return _attribute(value, pointer)

    def _apply(self, row: Row, args: list[Any], attrs: dict[str, Any]) -> Node:
        if row.name == "zeros":
            return self.builder.zeros(decode_shape(list(attrs.get("shape", ())), "", self.builder.limits.elements),
                                      decode_dtype(attrs.get("dtype", "float64"), ""))
        if row.arity is not None and len(args) != row.arity:
            raise GraphError("wrong-arity", f"{row.name} takes {row.arity} operand(s), {len(args)} were given.")
        if args and not any([isinstance(a, Node) for a in args]):
            args = [self.builder.constant(float(a)) for a in args]
        if row.kind != "pointwise" and row.name not in ("add", "subtract", "multiply", "negative", "where"):
            args = [a if isinstance(a, Node) else self.builder.constant(float(a)) for a in args]
        node: Node = row.build(*args, **attrs)
        return node

    def _reference(self, arg: Any, pointer: str, node: str | None) -> Any:
        if isinstance(arg, str):
            if arg not in self.known:
                raise GraphError("dangling-id", "No node or input has this id.", pointer=pointer, node=node)
            return self.known[arg]
        if isinstance(arg, dict) and set(arg) == {"constant"}:
            k = arg["constant"]
            if type(k) is not int or not 0 <= k < len(self.constants):
                raise GraphError("dangling-id", f"The graph has {len(self.constants)} constants.", pointer=pointer,
                                 node=node)
            return self.constants[k]
        if type(arg) in (int, float) and node is not None:
            if not abs(arg) <= sys.float_info.max:
                raise InputError("constant-overflow", "A literal overflows float64.", pointer=pointer, node=node)
            return float(arg) if abs(arg) > 2**53 else arg
        raise GraphError("graph-format", "A reference is an id, {\"constant\": k} or a number.", pointer=pointer,
                         node=node)

    def _guards(self) -> tuple[tuple[Node, bool], ...]:
        guards = []
        for k, entry in enumerate(self.body.get("guards", [])):
            at = f"{self.pointer}/guards/{k}"
            if not isinstance(entry, dict) or set(entry) != {"node", "value"} or type(entry["value"]) is not bool:
                raise GraphError("graph-format", "A guard has the members node and value (a boolean).", pointer=at)
            node = self._reference(entry["node"], f"{at}/node", None)
            if node.shape != () or node.dtype.kind != "b":
                raise GraphError("dtype-mismatch", "A guard is a scalar boolean node.", pointer=at)
            guards.append((node, entry["value"]))
        return tuple(guards)


def _attribute(value: Any, pointer: str) -> Any:
    """Attributes are numbers, booleans, null, strings and lists of integers (and the body of a loop: a graph)."""
    if isinstance(value, list):
        if len(value) > MAX_ATTRIBUTE:
            raise LimitError("attribute-too-large", f"An attribute has more than {MAX_ATTRIBUTE} entries.",
                             pointer=pointer)
        if all([type(v) is int and abs(v) < 2**62 for v in value]):
            return tuple(value)
    elif isinstance(value, str) and len(value) > MAX_ATTRIBUTE:
        raise LimitError("attribute-too-large", f"An attribute has more than {MAX_ATTRIBUTE} characters.",
                         pointer=pointer)
    elif value is None or isinstance(value, (bool, str, float)) or (type(value) is int and abs(value) < 2**62):
        return value
    raise GraphError("bad-attribute", "An attribute is a number, a string, a boolean, null or a list of integers.",
                     pointer=pointer)


def _located(build: Callable[[], Node], pointer: str, node: str) -> Node:
    """`build()`, with errors that name the node and where it stands."""
    try:
        return build()
    except HesseError as error:
        raise type(error)(error.code, error.message, hint=error.hint, pointer=error.pointer or pointer,
                          node=node) from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise GraphError("bad-attribute", "An attribute or operand does not fit the op.", pointer=pointer,
                         node=node) from error
