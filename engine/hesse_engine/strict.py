"""torch's `strict=True`: what does not depend on an input is refused, in torch's words.

Dependence is connectivity of the graph as it was traced, before anything is folded: `x * 0` depends on x, `x.detach()`
and an index made from x do not. Gradients are derived for it and thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hesse_engine.errors import FunctionError
from hesse_engine.ir.graph import Graph, Node, apply
from hesse_engine.ir.walk import connected, reachable, rebuild
from hesse_engine.options import Options
from hesse_engine.transforms.vjp import pull_back

CREATE = " This is not allowed in strict mode when create_graph=True."
PLAIN = " This is not allowed in strict mode."


@dataclass(frozen=True, slots=True)
class Sources:
    """The differentiated inputs, and further nodes that torch wants derivatives of: tensors closed over."""

    wrt: Sequence[Node]
    closed: Sequence[Node]

    def require(self, node: Node) -> bool:
        """What torch calls `node.requires_grad`."""
        return depends(node, [*self.wrt, *self.closed])


def check_strict(
    graph: Graph,
    operation: str,
    count: int,
    argnums: Sequence[int],
    options: Options,
    *,
    create_graph: bool = False,
    closed: Sequence[Node] = (),
) -> None:
    """Raise unless the first `count` outputs, and what `operation` derives from them, depend on the inputs `argnums`.

    Raises:
        FunctionError: `independent`.
    """
    check = CHECKS.get(operation)
    if check is not None and options.api == "functional":
        outputs = as_torch_sees(graph.outputs[:count])
        sources = Sources([graph.inputs[k] for k in argnums], closed)
        for i, node in enumerate(outputs):
            if not sources.require(node):
                raise _independent(f"Output {i} of the user-provided function does not require gradients. The outputs "
                                   "must be computed in a differentiable manner from the input when running in strict "
                                   "mode.")
        check(outputs, sources, create_graph)


def as_torch_sees(outputs: Sequence[Node]) -> list[Node]:
    """`outputs` with x^p in the place of x^(p-1), for integers p > 1.

    torch writes the k-th derivative of x^p with a factor x^(p-k), so it still counts as depending on x when k = p.
    """
    new: dict[Node, Node] = {}
    for node in reachable(outputs):
        args = tuple([new.get(a, a) for a in node.args])
        exponent = 2.0 if node.op == "square" else node.attrs["exponent"] if node.op == "power_scalar" else 0.0
        if exponent >= 1.0 and exponent == int(exponent):
            new[node] = apply("power_scalar", args[0], exponent=exponent + 1.0)
        elif args != node.args:
            new[node] = rebuild(node, args)
    return [new.get(n, n) for n in outputs]


def _independent(message: str) -> FunctionError:
    return FunctionError("independent", message)


def depends(node: Node | None, wrt: Sequence[Node]) -> bool:
    """Whether derivatives of `node` with respect to any of `wrt` flow at all."""
    if node is None:
        return False
    order = [n for n in reachable([node]) if n.op != "stop_gradient"]
    return node in connected(order, set(wrt)) and (node.op != "stop_gradient" or node in wrt)


def _slopes(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[Node | None]:
    """ct' J with placeholders for the cotangents; None where an input is not reached."""
    seeds = [y.builder.input("ct", y.shape, y.dtype) for y in outputs]
    reached = [any([depends(y, [x]) for y in outputs]) for x in wrt]
    pulled = pull_back(outputs, seeds, wrt)
    filled = [x.builder.zeros(x.shape, x.dtype) if c is None else c for x, c in zip(wrt, pulled, strict=True)]
    return [c if r else None for c, r in zip(filled, reached, strict=True)]


def _no_output(k: int) -> FunctionError:
    return _independent(f"The output of the user-provided function is independent of input {k}.{PLAIN}")


def _linear(k: int) -> FunctionError:
    return _independent(
        "While computing the hessian, found that the jacobian of the user-provided function with respect to "
        f"input {k} is independent of the input. This is not allowed in strict mode. You should ensure that "
        "your function is twice differentiable and that the jacobian depends on the inputs (this would be "
        "violated by a linear function for example)."
    )


def _check_vjp(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    for k, slope in enumerate(_slopes(outputs, sources.wrt)):
        if slope is None:
            raise _no_output(k)
        if create_graph and not sources.require(slope):
            raise _independent(f"The jacobian of the user-provided function is independent of input {k}.{CREATE}")


def _check_jvp(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    for k, slope in enumerate(_slopes(outputs, sources.wrt)):
        if slope is None:
            raise _no_output(k)
        if not any([n.op == "input" for n in reachable([slope])]):  # not even of the cotangents
            raise _independent(f"The gradient with respect to input {k} is independent of the inputs of the "
                               f"user-provided function.{PLAIN}")
    for i, y in enumerate(outputs):
        slopes = _slopes([y], sources.wrt)
        if all([s is None for s in slopes]):
            raise _independent(f"The gradient with respect to the input is independent of entry {i} in the "
                               "grad_outputs when using the double backward trick to compute forward mode gradients."
                               f"{PLAIN}")
        # torch counts outputs here, and calls them inputs
        if create_graph and not any([s is not None and sources.require(s) for s in slopes]):
            raise _independent(f"The jacobian of the user-provided function is independent of input {i}.{CREATE}")


def _check_jacobian(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    for i, y in enumerate(outputs):
        for k, slope in enumerate(_slopes([y], sources.wrt) if y.size else []):
            if slope is None:
                raise _independent(f"Output {i} of the user-provided function is independent of input {k}.{PLAIN}")
            if create_graph and not sources.require(slope):
                raise _independent(f"The jacobian of the user-provided function is independent of input {i}.{CREATE}")


def _check_hessian(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    slopes = []
    for k, slope in enumerate(_slopes(outputs, sources.wrt)):
        if slope is None or not sources.require(slope):
            raise _linear(k)
        slopes.append(slope)
    _check_jacobian(slopes, sources, create_graph)


def _nonlinear(outputs: list[Node], sources: Sources) -> list[Node]:
    """The gradients, each of which depends on an input."""
    slopes = []
    for k, slope in enumerate(_slopes(outputs, sources.wrt)):
        if slope is None:
            raise _no_output(k)
        if not sources.require(slope):
            raise _linear(k)
        slopes.append(slope)
    return slopes


def _check_vhp(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    for k, second in enumerate(_slopes(_nonlinear(outputs, sources), sources.wrt)):
        if second is None:
            raise _independent(f"The jacobian of the user-provided function is independent of input {k}.{PLAIN}")
        if create_graph and not sources.require(second):
            raise _independent(f"The hessian of the user-provided function is independent of input {k}.{CREATE}")


def _check_hvp(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    for k, slope in enumerate(_nonlinear(outputs, sources)):
        if not depends(slope, sources.wrt):
            raise _independent(f"The hessian of the user-provided function is independent of entry {k} in the "
                               "grad_jacobian. This is not allowed in strict mode as it prevents from using the double "
                               "backward trick to replace forward mode AD.")
        seconds = _slopes([slope], sources.wrt) if create_graph else []
        if create_graph and not any([s is not None and sources.require(s) for s in seconds]):
            raise _independent(f"The hessian of the user-provided function is independent of input {k}.{CREATE}")


def _check_slopes(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    for k, slope in enumerate(_slopes(outputs, sources.wrt)):
        if slope is None or not sources.require(slope):
            raise _linear(k)


def _check_nothing_more(outputs: list[Node], sources: Sources, create_graph: bool) -> None:
    """The outputs were looked at already."""


# the operations, and two stages of a Hessian that torch looks at before it goes on
CHECKS: dict[str, Callable[[list[Node], Sources, bool], None]] = {
    "jacobian": _check_jacobian,
    "hessian": _check_hessian,
    "vjp": _check_vjp,
    "jvp": _check_jvp,
    "vhp": _check_vhp,
    "hvp": _check_hvp,
    "outputs": _check_nothing_more,
    "slopes": _check_slopes,
}
