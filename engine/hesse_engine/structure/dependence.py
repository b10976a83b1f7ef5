"""Which inputs each element of each node may depend on, and which elements matter, found without differentiating.

The rules are the rows' own: elementwise nodes merge their operands' sets, nodes that move elements are evaluated, by
their NumPy functions, on row numbers in the place of values, sums and contractions unite along axes. Zeros of constants
cut dependence: 0 * x does not depend on x. What has no rule depends, everywhere, on all that its operands depend on.

Sets are never too small. Source: A. Walther, Computing sparse Hessians with automatic differentiation, ACM Trans. Math.
Softw. 34 (2008), index domains; here they are arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hesse_engine.backend import reference
from hesse_engine.ir.graph import Array, Builder, Node, is_zero, scalar_value, size_of
from hesse_engine.ir.rows import ROWS, VIEWS, evaluate
from hesse_engine.ir.walk import connected, dependents, reachable
from hesse_engine.simplify.passes import simplify_nodes
from hesse_engine.structure.sets import EMPTY, IndexSets
from hesse_engine.transforms.jvp import push_forward

MOVES = VIEWS | {"concat", "unslice"}  # with `take` at constant indices: each element is one of the operands', or 0
# of the matrices on the last two axes, each apart from the others
MATRICES = frozenset({"cholesky", "triangular_solve", "solve", "cholesky_solve", "inv", "cholesky_inv", "logabsdet",
                      "signdet", "cholesky_logdet", "eigh", "eigh_values", "eigh_vectors", "spectral", "spectral_diag",
                      "svd", "svd_left", "svd_values", "svd_right", "svd_matrix", "svd_diag", "qr_factor",
                      "complement", "pinv", "expm", "expm_tangent", "det", "cofactor", "cofactor_tangent"})
GRID = 1 << 22  # elements of the index space of a contraction whose constant zeros are looked at one by one
EVALUATED = 1 << 22  # elements of a constant sub-expression that is evaluated to find its zeros


class Dependence:
    """`sets` and, for each active node, `rows`: the row number of each element. `wrt` count one after the other."""

    def __init__(self, outputs: Sequence[Node], wrt: Sequence[Node]) -> None:
        self.wrt, self.order = tuple(wrt), reachable(outputs)
        self.active = connected(self.order, set(wrt))
        self.sets = IndexSets(sum([x.size for x in wrt]))
        self.rows: dict[Node, Array] = {}
        self._variable = dependents(self.order, [n for n in self.order if n.op == "input"])
        self._constants: dict[Node, Array | None] = {}
        at = 1
        for x in wrt:
            self.rows[x] = np.arange(at, at + x.size).reshape(x.shape)
            at += x.size
        for node in self.order:
            if node in self.active and node not in self.rows:
                self.rows[node] = _RULES.get(node.op, _default)(self, node)

    def of(self, node: Node) -> Array:
        """Row numbers of any node."""
        found = self.rows.get(node)
        return np.zeros(node.shape, np.int64) if found is None else found

    def constant(self, node: Node) -> Array | None:
        """The value of a node that depends on no input, where it is not too large."""
        if node.value is not None:
            return node.value
        if node in self._variable or node.size > EVALUATED:
            return None
        if node not in self._constants:
            self._constants[node] = reference.run([node], {})[0]
        return self._constants[node]

    def nonzero(self, node: Node) -> Array | None:
        """Where a constant node is not 0; None where it is nowhere 0, or not known."""
        if node in self.active or scalar_value(node) not in (None, 0.0):
            return None
        value = self.constant(node)
        if value is None or value.dtype.kind not in "fiub":
            return None
        mask: Array = value != 0
        return None if mask.all() else mask

    def live(self, outputs: Sequence[Node]) -> dict[Node, Array]:
        """Elements of active nodes that some output may depend on."""
        found: dict[Node, Array] = {n: np.ones(n.shape, bool) for n in outputs}
        for node in reversed(self.order):
            mask = found.get(node)
            if mask is None or node not in self.active or node in self.wrt or not mask.any():
                continue
            for slot, arg in enumerate(node.args):
                if arg in self.active and ROWS[node.op].differentiable(slot):
                    mine = _live_operand(self, node, slot, mask)
                    found[arg] = mine if arg not in found else found[arg] | mine
        return found


Rule = Callable[[Dependence, Node], Array]


def linear_slots(node: Node) -> tuple[int, ...]:
    """Operands of an elementwise node whose partial derivative is not 0 throughout."""
    return _curvature(node)[0]


def curved_pairs(node: Node) -> tuple[tuple[int, int], ...]:
    """Pairs of operands (i <= j) of an elementwise node whose second partial derivative is not 0 throughout."""
    return _curvature(node)[1]


_MOST_KNOWN = 4096  # attributes hold numbers, so that distinct functions bring distinct ones
_KNOWN: dict[tuple[object, ...], tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = {}


def _curvature(node: Node) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Read off the row's own rule, once for each op and attributes."""
    key = (node.op, *node.attrs.values())
    found = _KNOWN.get(key)
    if found is None:
        row, slots = ROWS[node.op], range(len(node.args))
        if row.kind == "pointwise" and row.rule is not None:
            found = _differentiated(node)
        else:
            pairs = ((0, 1),) if row.kind == "bilinear" else ()
            found = tuple([k for k in slots if row.differentiable(k)]), pairs
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = found
    return found


def _differentiated(node: Node) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    builder, row = Builder(), ROWS[node.op]
    operands = [builder.input(f"x{k}", (), a.dtype) for k, a in enumerate(node.args)]
    scalar = builder.make(node.op, tuple(operands), node.attrs, (), node.dtype)
    assert row.rule is not None
    partials = row.rule(scalar, *operands)
    slots = [k for k, p in enumerate(partials) if p is not None and not (isinstance(p, Node) and is_zero(p))]
    pairs = []
    for i in slots:
        for j in [j for j in slots if j >= i and isinstance(partials[i], Node)]:
            tangents = {x: builder.zeros((), x.dtype) for x in operands}
            tangents[operands[j]] = builder.full((), 1.0, operands[j].dtype)
            (second,) = push_forward([partials[i]], tangents)
            if second is not None and not is_zero(simplify_nodes([second])[0]):
                pairs.append((i, j))
    return tuple(slots), tuple(pairs)


# ---- rules: the row numbers of a node from those of its operands -----------------------------------------------------
def _elementwise(known: Dependence, node: Node) -> Array:
    found: Array | None = None
    for slot in linear_slots(node):
        arg = node.args[slot]
        if arg in known.active:
            rows = _masked(known.of(arg), _factor(known, node, slot))
            found = rows if found is None else known.sets.merge(found, rows)
    return np.zeros(node.shape, np.int64) if found is None else found


def _factor(known: Dependence, node: Node, slot: int) -> Array | None:
    """Where an operand of an elementwise node has a weight that is not the constant 0; None: everywhere."""
    if node.op == "where":
        condition = known.constant(node.args[0])
        return None if condition is None else condition if slot == 1 else ~condition
    if node.op == "multiply":
        return known.nonzero(node.args[1 - slot])
    if node.op == "divide" and slot == 1:
        return known.nonzero(node.args[0])
    return None


def _masked(rows: Array, mask: Array | None) -> Array:
    return rows if mask is None else np.where(mask, rows, EMPTY)


def _moved(known: Dependence, node: Node) -> Array:
    found: Array = evaluate(node, [known.of(a) for a in node.args])
    return found


def _take(known: Dependence, node: Node) -> Array:
    x, index = node.args
    axis = node.attrs["axis"]
    if index.value is not None:
        found: Array = evaluate(node, [known.of(x), index.value])
        return found
    anywhere = known.sets.along(known.of(x), (axis,))
    spread = np.expand_dims(anywhere, tuple(range(axis, axis + index.ndim)))
    return np.broadcast_to(spread, node.shape)


def _scatter_add(known: Dependence, node: Node) -> Array:
    x, index = node.args
    rows = known.of(x)
    if index.value is not None:
        targets = _targets(node)
        return known.sets.unions(targets.reshape(-1), rows.reshape(-1), node.size).reshape(node.shape)
    axis = node.attrs["axis"]
    gathered = known.sets.along(rows, tuple(range(axis, axis + index.ndim)))
    return np.broadcast_to(np.expand_dims(gathered, axis), node.shape)


def _take_along(known: Dependence, node: Node) -> Array:
    (x, index), axis = node.args, node.attrs["axis"]
    if index.value is not None:
        found: Array = evaluate(node, [known.of(x), index.value])
        return found
    return np.broadcast_to(np.expand_dims(known.sets.along(known.of(x), (axis,)), axis), node.shape)


def _add_along(known: Dependence, node: Node) -> Array:
    (x, index), axis = node.args, node.attrs["axis"]
    if index.value is not None:
        targets = _targets_along(node).reshape(-1)
        return known.sets.unions(targets, known.of(x).reshape(-1), node.size).reshape(node.shape)
    return np.broadcast_to(np.expand_dims(known.sets.along(known.of(x), (axis,)), axis), node.shape)


def _targets_along(node: Node) -> Array:
    """As `_targets`, of add_along."""
    positions = np.arange(node.size).reshape(node.shape)
    found: Array = ROWS["take_along"].numpy(positions, node.args[1].value, axis=node.attrs["axis"])
    return found


def _targets(node: Node) -> Array:
    """For each element of a scattered operand, the element of the result that it is added to."""
    positions = np.arange(node.size).reshape(node.shape)
    found: Array = ROWS["take"].numpy(positions, node.args[1].value, axis=node.attrs["axis"])
    return found


def _sum(known: Dependence, node: Node) -> Array:
    return known.sets.along(known.of(node.args[0]), node.attrs["axis"])


def _same(known: Dependence, node: Node) -> Array:
    return known.of(node.args[0])


def _contract(known: Dependence, node: Node) -> Array:
    found: Array | None = None
    for slot, arg in enumerate(node.args):
        if arg in known.active:
            rows = _contracted(known, node, slot)
            found = rows if found is None else known.sets.merge(found, rows)
    assert found is not None
    return found


def _contracted(known: Dependence, node: Node, slot: int) -> Array:
    """sum_k a[i, k] b[k, j] depends on b[k, j] for every k with a[i, k] != 0."""
    labels, lengths = contraction_labels(node)
    own, other, out = labels[slot], labels[1 - slot], labels[2]
    rows, mask = known.of(node.args[slot]), known.nonzero(node.args[1 - slot])
    summed = "".join([c for c in own if c not in out])
    if mask is None or size_of(tuple(lengths.values())) > GRID:
        kept = "".join([c for c in own if c in out])
        rows = known.sets.along(rows, tuple([own.index(c) for c in summed]))
        return spread(rows, kept, out, lengths)
    letters = out + summed
    grid = _masked(spread(rows, own, letters, lengths), spread(mask, other, letters, lengths))
    return known.sets.along(grid, tuple(range(len(out), len(letters))))


def contraction_labels(node: Node) -> tuple[tuple[str, str, str], dict[str, int]]:
    """((a, b, result), length of each index)."""
    a, b, out = node.attrs["subscripts"].replace("->", ",").split(",")
    shapes = node.args[0].shape + node.args[1].shape
    return (a, b, out), dict(zip(a + b, shapes, strict=True))


def spread(array: Array, own: str, letters: str, lengths: dict[str, int]) -> Array:
    """`array` with indices `own` broadcast over `letters`, which has all of them."""
    ordered = array.transpose([own.index(c) for c in letters if c in own])
    column = ordered.reshape([lengths[c] if c in own else 1 for c in letters])
    return np.broadcast_to(column, [lengths[c] for c in letters])


def _reduced(known: Dependence, node: Node) -> Array:
    return known.sets.along(known.of(node.args[0]), node.attrs["axis"])


def _matrices(known: Dependence, node: Node) -> Array:
    rows = matrix_rows(known, node)
    return np.broadcast_to(rows.reshape((*rows.shape, *[1] * (node.ndim - rows.ndim))), node.shape)


def matrix_rows(known: Dependence, node: Node) -> Array:
    """For each of the matrices that a node of linear algebra works on, all that its operands depend on."""
    lead = node.args[0].ndim - 2
    found: Array | None = None
    for arg in node.args:
        if arg in known.active:
            rows = known.sets.along(known.of(arg), tuple(range(lead, arg.ndim)))
            found = rows if found is None else known.sets.merge(found, rows)
    assert found is not None
    return found


def _cumulative_sum(known: Dependence, node: Node) -> Array:
    """y_k depends on x_0 ... x_k: exactly, while these are few."""
    rows, axis, length = known.of(node.args[0]), node.attrs["axis"], node.shape[node.attrs["axis"]]
    if node.size * length > GRID:
        return np.broadcast_to(np.expand_dims(known.sets.along(rows, (axis,)), axis), node.shape)
    reach = np.tri(length, dtype=bool).T if node.attrs["reverse"] else np.tri(length, dtype=bool)
    prefixes = np.where(reach, np.moveaxis(rows, axis, -1)[..., None, :], EMPTY)
    return np.moveaxis(known.sets.along(prefixes, (prefixes.ndim - 1,)), -1, axis)


def _default(known: Dependence, node: Node) -> Array:
    if ROWS[node.op].vm is not None:
        return _elementwise(known, node)
    rows = np.concatenate([known.of(a).reshape(-1) for a in node.args if a in known.active])
    return np.full(node.shape, known.sets.add(rows))


_RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, _moved),
    "take": _take,
    "scatter_add": _scatter_add,
    "take_along": _take_along,
    "add_along": _add_along,
    "sum": _sum,
    "convert": _same,
    "contract": _contract,
    "max": _reduced,
    "min": _reduced,
    "cumulative_sum": _cumulative_sum,
    **dict.fromkeys(MATRICES, _matrices),
}


# ---- the way back: which elements of an operand the live elements of a node are made of ------------------------------
def _live_operand(known: Dependence, node: Node, slot: int, mask: Array) -> Array:
    arg, op = node.args[slot], node.op
    if ROWS[op].vm is not None:
        if slot not in linear_slots(node):
            return np.zeros(arg.shape, bool)
        factor = _factor(known, node, slot)
        return mask if factor is None else mask & factor
    if op in MOVES or (op == "take" and node.args[1].value is not None):
        return _live_source(node, slot, mask)
    if op == "scatter_add" and node.args[1].value is not None:
        found: Array = mask.reshape(-1)[_targets(node)]
        return found
    if op in ("take_along", "add_along"):
        return np.broadcast_to(mask.any(node.attrs["axis"], keepdims=True), arg.shape)
    if op in ("sum", "max", "min"):
        return np.broadcast_to(np.expand_dims(mask, node.attrs["axis"]), arg.shape)
    if op == "convert":
        return mask
    if op == "contract":
        (a, b, out), lengths = contraction_labels(node)
        own = (a, b)[slot]
        met = np.asarray(mask.any(tuple([k for k, c in enumerate(out) if c not in own])))
        return spread(met, "".join([c for c in out if c in own]), own, lengths)
    if op in MATRICES:
        lead = node.args[0].ndim - 2
        whole = mask.any(tuple(range(lead, node.ndim)), keepdims=True)
        return np.broadcast_to(whole.reshape(*mask.shape[:lead], *[1] * (arg.ndim - lead)), arg.shape)
    return np.ones(arg.shape, bool)


def _live_source(node: Node, slot: int, mask: Array) -> Array:
    """By evaluating the node on positions: 1 + position in the operand `slot`, 0 for elements of the others."""
    arg = node.args[slot]
    positions = np.arange(1, arg.size + 1).reshape(arg.shape)
    values = [a.value if a.value is not None and node.op == "take" else np.zeros(a.shape, np.int64) for a in node.args]
    values[slot] = positions
    found = np.zeros(arg.size + 1, bool)
    found[evaluate(node, list(values))[mask]] = True
    return found[1:].reshape(arg.shape)
