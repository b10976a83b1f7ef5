"""Edge pushing on arrays: the Hessian of sums of elementwise functions of linear images, term by term.

The second differential d²f is a quadratic form in the differentials of the nodes. Going backwards, each elementwise
node v = phi(a, b, ...) is eliminated from it by dv = sum_i phi_i da_i, and adds adj(v) phi_ij da_i da_j of its own.
What is left is a form in the images u = L x alone:

    d²f = sum_ab sum_e h_ab[e] du_a[e] du_b[e] + sum_t (dq_t <b_t, dx> + <b_t, dx> dq_t)
    H   = sum_ab L_a' diag(h_ab) L_b           + sum_t (grad q_t b_t' + b_t grad q_t')

The second sum comes from scalars (means, norms) that are used nonlinearly or broadcast back. Weights are nodes: the
rules are the rows' own, applied as transposes, masks of `where` included.

Source: R. M. Gower and M. P. Mello, A new framework for the computation of Hessians, Optim. Methods Softw. 27 (2012);
here each "edge" is a pair of arrays over one iteration space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hesse_engine.ir.graph import Node, apply, flat
from hesse_engine.ir.rows import ROWS, VIEWS
from hesse_engine.ir.walk import connected, post_order
from hesse_engine.structure.images import Contribution, Image, MatrixImage, images
from hesse_engine.structure.products import product_terms
from hesse_engine.structure.sinking import is_elementwise
from hesse_engine.transforms.batch import batch
from hesse_engine.transforms.compose import basis
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import Cotangent, merged, pull_back, transposed

MAX_PAIRS = 512  # pairs of images; beyond this a sweep is shorter
GROWTH, MIN_GROWTH = 64, 4096  # nodes that weights may take for each node of the function, and for any function
MIN_ROWS = 8  # outer products are allowed up to this number, or that of the inputs: then a sweep has fewer passes


@dataclass(frozen=True, slots=True)
class OuterProduct:
    """sum_k g_k b_k' + b_k g_k'; one node for each input, of shape in + (k,)."""

    g: tuple[Node, ...]
    b: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class QuadraticForm:
    """d²f over images: `pairs` (a, b, h_ab), a and b of h's shape, each unordered pair once."""

    pairs: list[tuple[Node, Node, Node]] = field(default_factory=list)
    images: dict[Node, Image] = field(default_factory=dict)
    outer: list[OuterProduct] = field(default_factory=list)
    products: list[Contribution] = field(default_factory=list)


class _NotCovered(Exception):
    """Some node is neither elementwise nor an image, and its second differential is needed."""


def second_differential(output: Node, wrt: Sequence[Node]) -> QuadraticForm | None:
    """The form of `output` (one element), or None where the function is not of this kind."""
    # what is made for one user stands right before it, so few nodes are open at once: in a recurrence a few, not all
    order = post_order([output])
    active = connected(order, set(wrt))
    if any([x in active and x.dtype != output.dtype for x in wrt]):
        return None
    pushing = _Pushing(output, wrt, active, images(order, wrt, active))
    nodes = output.builder.nodes
    largest = len(nodes) + GROWTH * len(order) + MIN_GROWTH
    try:
        for node in reversed(order):
            if node in active:
                pushing.eliminate(node)
            if len(nodes) > largest:
                return None
    except _NotCovered:
        return None
    return pushing.form()


class _Pushing:
    """The state of one elimination: adjoints, and the symmetric weights W of the quadratic form."""

    def __init__(self, output: Node, wrt: Sequence[Node], active: set[Node], found: dict[Node, Image]) -> None:
        self.wrt, self.active, self.images = wrt, active, found
        one = output.builder.full(output.shape, 1.0, output.dtype)
        self.adjoints: dict[Node, Cotangent] = {output: Cotangent(one)}
        self.weights: dict[Node, dict[Node, Cotangent]] = {}
        self.outer: list[OuterProduct] = []
        self.products: list[Contribution] = []
        self.rows = 0  # of all outer products together
        self._last: Node | None = None  # the node whose factors are at hand
        self._last_factors: list[tuple[Node, Node | float | None]] | None = None

    def eliminate(self, node: Node) -> None:
        if node in self.images:
            return  # a leaf of the form
        adjoint, row = self.adjoints.pop(node, None), self._pop(node)
        if adjoint is None and not row:
            return
        if is_elementwise(node):
            self._push(node, row)
            if adjoint is not None:
                self._create(node, adjoint)
        elif self._expand(node, row, adjoint):
            return
        elif row:
            self._split_off(node, row)
        if adjoint is not None:
            if ROWS[node.op].kind not in ("linear", "pointwise") and not self._is_linear(node):
                raise _NotCovered
            parts = self._parts(node, adjoint) if is_elementwise(node) else self._transposed(node, adjoint)
            for arg, ct in parts:
                self.adjoints[arg] = merged(self.adjoints.get(arg), ct)

    def _expand(self, node: Node, row: dict[Node, Cotangent], adjoint: Cotangent | None) -> bool:
        """Whether `node`, a product of two variable images, went into contributions of its own."""
        own = row.get(node)
        if node.op != "contract" or set(row) - {node} or any([a not in self.active for a in node.args]):
            return False
        if any([c is not None and c.mask is not None for c in (own, adjoint)]):
            return False
        weights = [None if c is None else c.value for c in (own, adjoint)]
        found = product_terms(node, weights[0], weights[1], self.images)
        self.products += found or []
        return found is not None

    def _is_linear(self, node: Node) -> bool:
        """multiply is elementwise and was seen to; other products are linear while one factor is constant."""
        row = ROWS[node.op]
        return row.kind == "bilinear" and (row.vm is not None or sum([a in self.active for a in node.args]) == 1)

    def _pop(self, node: Node) -> dict[Node, Cotangent]:
        row = self.weights.pop(node, {})
        for other in row:
            if other is not node:
                del self.weights[other][node]
        return row

    def _add(self, a: Node, b: Node, weight: Cotangent) -> None:
        for p, q in ((a, b), (b, a)) if a is not b else ((a, b),):
            row = self.weights.setdefault(p, {})
            row[q] = merged(row.get(q), weight)

    def _parts(self, node: Node, weight: Cotangent) -> list[tuple[Node, Cotangent]]:
        """phi_i * weight for each active operand i."""
        factors = self._factors(node)
        if factors is None:
            return self._transposed(node, weight)
        return [(a, weight if p is None else _times(weight, p)) for a, p in factors]

    def _transposed(self, node: Node, weight: Cotangent) -> list[tuple[Node, Cotangent]]:
        parts = zip(node.args, transposed(node, weight, self.active), strict=True)
        return [(a, c) for a, c in parts if c is not None and a in self.active]

    def _factors(self, node: Node) -> list[tuple[Node, Node | float | None]] | None:
        """(operand, phi) for the active operands of pointwise nodes and products; phi = None is 1."""
        if self._last is not node:
            self._last, row = node, ROWS[node.op]
            phi: Sequence[Node | float | None] | None = None
            if row.kind == "pointwise" and row.rule is not None:
                phi = row.rule(node, *node.args)
            elif row.kind == "bilinear":
                phi = node.args[::-1]
            self._last_factors = None if phi is None else [
                (a, None if isinstance(p, float) and p == 1.0 else p)
                for a, p in zip(node.args, phi, strict=True)
                if p is not None and a in self.active
            ]
        return self._last_factors

    def _push(self, node: Node, row: dict[Node, Cotangent]) -> None:
        for other, weight in row.items():
            parts = self._parts(node, weight)
            if other is not node:
                for a, c in parts:
                    self._add(a, other, c)
                    if a is other:
                        self._add(a, other, c)
                continue
            for i, (a, left) in enumerate(parts):
                for j, (b, both) in enumerate(self._parts(node, left)):
                    if a is b or i < j:
                        self._add(a, b, both)

    def _create(self, node: Node, adjoint: Cotangent) -> None:
        """adj phi_ij da_i da_j: the derivative of each part of the adjoint, the adjoint held fixed."""
        row = ROWS[node.op]
        if row.kind == "bilinear" and all([a in self.active for a in node.args]):
            a, b = node.args
            self._add(a, b, adjoint)
            if a is b:
                self._add(a, b, adjoint)
        if row.kind != "pointwise":
            return
        factors = self._factors(node) or []
        operands = list(dict.fromkeys([a for a, _ in factors]))  # one that stands twice, as in x^x, varies as one
        for a, phi in factors:
            for b in operands[operands.index(a):]:
                if isinstance(phi, Node):
                    second = self._derivative(phi, b, operands)
                    if second is not None:
                        self._add(a, b, _times(adjoint, second))

    @staticmethod
    def _derivative(partial: Node, by: Node, operands: Sequence[Node]) -> Node | None:
        """d partial / d by with the other operands held fixed."""
        zero = by.builder.zeros(by.shape, by.dtype)
        tangents = dict.fromkeys(operands, zero)
        tangents[by] = by.builder.full(by.shape, 1.0, by.dtype)
        return push_forward([partial], tangents)[0]

    def _split_off(self, node: Node, row: dict[Node, Cotangent]) -> None:
        """A node that is neither elementwise nor an image: its differential stays whole, by its Jacobian.

        sum_e w_e dv_e dp_e over its pairs is sum_k (g_k' dx) (b_k' dx) with one k for each element of v, g_k its
        gradient and b_k that of sum_p w_p . p, w held fixed. A view repeats elements of its operand: k counts those.
        """
        own, source = row.pop(node, None), node
        if node.op in VIEWS:
            source = node.args[0]
            if own is not None:
                (moved, *_) = transposed(node, own, self.active)
                assert moved is not None
                self._add(source, source, moved)
        elif own is not None:
            row[node] = Cotangent(own.value * 0.5, own.mask)
        if not row:
            return
        self.rows += source.size
        if self.rows > max(MIN_ROWS, flat(self.wrt)):
            raise _NotCovered
        seed = node.builder.input("seed", source.shape, source.dtype)
        spread = apply(node.op, seed, **node.attrs) if node.op in VIEWS else seed
        others = list(row)
        g = pull_back([source], [self._live(node, spread, seed, [row[p].mask for p in others])], self.wrt)
        b = pull_back(others, [Cotangent(row[p].value * spread, row[p].mask) for p in others], self.wrt)
        self.outer.append(OuterProduct(self._rows(g, seed), self._rows(b, seed)))

    def _live(self, node: Node, spread: Node, seed: Node, masks: Sequence[Node | None]) -> Cotangent:
        """`seed`, zero for elements whose weights all are: gradients infinite there must not meet the zeros."""
        mask: Node | None = None
        for other in masks:
            if other is None:
                return Cotangent(seed)
            mask = other if mask is None else apply("logical_or", mask, other)
        if mask is not None and node.op in VIEWS:
            (moved, *_) = transposed(node, Cotangent(spread, mask), self.active)
            mask = None if moved is None else moved.mask
        if mask is None:
            return Cotangent(seed)
        return Cotangent(apply("where", mask, seed, seed.builder.zeros(seed.shape, seed.dtype)), mask)

    def _rows(self, pulled: Sequence[Node | None], seed: Node) -> tuple[Node, ...]:
        """`pulled`, linear in `seed`, at every unit seed: the seeds on a new last axis."""
        pairs = zip(self.wrt, pulled, strict=True)
        filled = [x.builder.zeros(x.shape, x.dtype) if c is None else c for x, c in pairs]
        return tuple(batch(filled, {seed: basis(seed)}, seed.size))

    def form(self) -> QuadraticForm | None:
        """What is left, or None if it is too long."""
        pairs, seen = [], set()
        for a, row in self.weights.items():
            for b, weight in row.items():
                if (b, a) not in seen:
                    seen.add((a, b))
                    pairs.append((a, b, weight.value))
        if len(pairs) > MAX_PAIRS or not all([_have_one_batch(self.images[a], self.images[b]) for a, b, _ in pairs]):
            return None
        return QuadraticForm(pairs, self.images, self.outer, self.products)


def _have_one_batch(a: Image, b: Image) -> bool:
    """Two matrix images multiply block by block only over the same batch axes."""
    if isinstance(a, MatrixImage) and isinstance(b, MatrixImage):
        return a.batch_axes == b.batch_axes
    return True


def _times(weight: Cotangent, factor: Node | float) -> Cotangent:
    value = weight.value * factor
    if weight.mask is None:
        return Cotangent(value)
    return Cotangent(apply("where", weight.mask, value, value.builder.zeros(value.shape, value.dtype)), weight.mask)
