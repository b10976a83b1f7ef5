"""Equal views are one node: chains of views that read the same elements of the same root in the same places.

    broadcast(x[2])[:, 0]  and  broadcast(x)[..., 2]    both are the element x_2, repeated

Sinking views to the leaves makes such pairs, one for each operand that a value was broadcast into. Once they are one
node, what is computed from them is, and edge pushing sees one image where it saw two.
"""

from __future__ import annotations

from hesse_engine.ir.graph import Node
from hesse_engine.ir.rows import VIEWS
from hesse_engine.ir.walk import reachable, rebuild
from hesse_engine.structure.forms import Form, contiguous, view


def merge_views(output: Node) -> Node:
    """`output` with equal views replaced by the first of them."""
    forms: dict[Node, Form] = {}
    first: dict[object, Node] = {}
    new: dict[Node, Node] = {}
    for node in reachable([output]):
        args = tuple([new[a] for a in node.args])
        changed = node if args == node.args else rebuild(node, args)
        if changed.op in VIEWS:
            (source,) = changed.args
            form = view(changed, forms.get(source) or Form(source, 0, contiguous(source.shape)))
            if form is not None:
                forms[changed] = form
                strides = tuple([0 if n == 1 else s for n, s in zip(changed.shape, form.strides, strict=True)])
                changed = first.setdefault((form.root, form.offset, strides, changed.shape), changed)
        new[node] = changed
    return new[output]
