"""`torch.autograd.functional`, with its signatures, nesting, dtypes and errors, over whatever arrays go in.

A function of the module uses the current client (`hesse.use`, else the default one); `client.functional` has the same
functions for one client. Called inside a function that is being traced, they become part of its graph; with
`create_graph=False` their results are cut off from the derivative around them, as in torch. With `create_graph=True`
results that are torch tensors carry a grad_fn: torch differentiates them further, with respect to the inputs, to v and
to tensors that the function closes over; its backward is one more computation by the same client.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hesse.caller import user_level
from hesse.conventions import (
    ABOUT_INPUTS,
    ABOUT_OUTPUTS,
    HINT,
    OUTPUTS,
    Flags,
    Function,
    Given,
    as_tuple,
    called,
    check_any,
    check_dependence,
    check_empty,
    check_forward,
    check_mode,
    check_vector,
    check_vectorized,
    scalar_graph,
)
from hesse.current import current_client
from hesse.errors import DetachedWarning
from hesse.scope import Scope, Send, cut
from hesse_engine.errors import FunctionError
from hesse_engine.ir.graph import Graph, Node
from hesse_engine.ir.shapes import convert
from hesse_engine.options import Options
from hesse_engine.result import Result


class Functional:
    """The functions, over one way of sending calls. An async client's are awaited."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def hessian(
        self,
        func: Function,
        inputs: Any,
        create_graph: bool = False,
        strict: bool = False,
        vectorize: bool = False,
        outer_jacobian_strategy: str = "reverse-mode",
    ) -> Any:
        """The Hessian of a scalar function.

            H[i][j] = d²f / d inputs[i] d inputs[j]

        Args:
            func: takes the inputs as arguments, returns one tensor of one element, of any shape.
            inputs: a tensor, or a tuple of tensors, float64 or float32.
            create_graph: keep the result differentiable, inside a traced function and by torch.
            strict: refuse a function, or a gradient, that does not depend on an input.
            vectorize: accepted as in torch; columns are always vectorized.
            outer_jacobian_strategy: 'reverse-mode', or 'forward-mode' (needs `vectorize=True`).

        Returns:
            A tensor of shape in + in; for a tuple a tuple of tuples, block [i][j] of shape in_i + in_j and dtype of
            input j.

        Raises:
            RuntimeError: `not-scalar`, `not-single`, `not-floating`, `independent`, `strict-vectorize`, `empty-result`.
            TypeError: `bad-type`, `bad-outputs`.
            AssertionError: `bad-strategy`.
            NotImplementedError: `forward-mode-needs-vectorize`.
        """
        flags = Flags("hessian", create_graph, strict)
        given = as_tuple(inputs, "inputs", "hessian")
        check_mode(outer_jacobian_strategy)
        is_forward = outer_jacobian_strategy == "forward-mode"
        if is_forward:
            check_forward(flags)
            check_vectorized(vectorize)
        scope, outputs = called(func, given, flags, is_forward=is_forward)
        graph = scalar_graph(scope, outputs, flags)
        check_dependence(scope, graph, "hessian", flags, vectorize)
        check_empty(sum([t.node.size for t in scope.inputs]), vectorize, outer_jacobian_strategy)
        strategy = "auto" if outer_jacobian_strategy == "reverse-mode" else "forward-over-reverse"

        def finish(value: list[list[Any]], output: Any) -> Any:
            return given.nest([given.nest(row) for row in value])

        return self._run(scope, "hessian", graph, flags, finish, strategy=strategy)

    def jacobian(
        self,
        func: Function,
        inputs: Any,
        create_graph: bool = False,
        strict: bool = False,
        vectorize: bool = False,
        strategy: str = "reverse-mode",
    ) -> Any:
        """The Jacobian.

            J[o][j] = d func(inputs)[o] / d inputs[j]

        Args:
            func: takes the inputs as arguments, returns a tensor or a tuple of tensors.
            inputs: a tensor, or a tuple of tensors, float64 or float32.
            create_graph: keep the result differentiable, inside a traced function and by torch.
            strict: refuse an output that does not depend on an input.
            vectorize: accepted as in torch; the sweeps are always vectorized.
            strategy: 'reverse-mode', or 'forward-mode' (needs `vectorize=True`).

        Returns:
            Blocks of shape out_o + in_j, nested as outputs (if a tuple), then inputs (if a tuple); dtype of input j
            ('forward-mode': of output o).

        Raises:
            As `hessian`.
        """
        flags = Flags("jacobian", create_graph, strict)
        check_mode(strategy, HINT)
        is_forward = strategy == "forward-mode"
        if is_forward:
            check_forward(flags)
        given = as_tuple(inputs, "inputs", "jacobian")
        if is_forward:
            check_vectorized(vectorize)
        scope, outputs = called(func, given, flags, is_forward=is_forward)
        results = as_tuple(outputs, OUTPUTS, "jacobian")
        if is_forward and not results.values:
            return ()
        check_any(results)
        graph = scope.graph([scope.lift(y) for y in results.values])
        check_dependence(scope, graph, "jacobian", flags, vectorize)
        for y in graph.outputs:
            check_empty(y.size, vectorize, strategy)
        dtypes = [y.dtype for y in graph.outputs]

        def finish(value: Any, output: Any) -> Any:
            rows = value if len(results.values) != 1 else [value]
            return results.nest([given.nest(row) for row in rows])

        def cast(result: Result) -> Result:
            rows = result.value if len(dtypes) != 1 else [result.value]
            cast_rows = [[_as_dtype(b, d) for b in row] for row, d in zip(rows, dtypes, strict=True)]
            return Result(cast_rows if len(dtypes) != 1 else cast_rows[0], None, result.aux, result.stats)

        return self._run(scope, "jacobian", graph, flags, finish, strategy="forward" if is_forward else "auto",
                         change=cast if is_forward else None)

    def vhp(self, func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
        """Vector-Hessian product of a scalar function.

            product[j] = sum_i v[i]' H[i][j]

        Args:
            func: takes the inputs as arguments, returns one tensor of one element.
            inputs: a tensor, or a tuple of tensors, float64 or float32.
            v: as the inputs; may be left out for a single input of a single element, and is 1 then.
            create_graph: keep output and product differentiable, inside a traced function and by torch.
            strict: refuse a function, or a gradient, that does not depend on an input.

        Returns:
            (func(inputs), product), the product with the shapes and dtypes of the inputs.

        Raises:
            RuntimeError: `not-scalar`, `not-single`, `not-floating`, `bad-v`, `independent`.
            TypeError: `bad-type`, `bad-outputs`.
        """
        return self._product("vhp", func, inputs, v, create_graph, strict)

    def hvp(self, func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
        """Hessian-vector product of a scalar function.

            product[i] = sum_j H[i][j] v[j]

        Args, Returns, Raises: as `vhp`; a Hessian is symmetric, so the two differ in nothing but their errors' names.
        """
        return self._product("hvp", func, inputs, v, create_graph, strict)

    def jvp(self, func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
        """Jacobian-vector product.

            product[o] = sum_j J[o][j] v[j]

        Args:
            func: takes the inputs as arguments, returns a tensor or a tuple of tensors.
            inputs: a tensor, or a tuple of tensors, float64 or float32.
            v: as the inputs; may be left out for a single input of a single element, and is 1 then.
            create_graph: keep output and product differentiable, inside a traced function and by torch.
            strict: refuse an output that does not depend on the inputs.

        Returns:
            (func(inputs), product), the product with the shapes and dtypes of the outputs.

        Raises:
            RuntimeError: `not-floating`, `bad-v`, `independent`.
            TypeError: `bad-type`, `bad-outputs`.
        """
        flags = Flags("jvp", create_graph, strict)
        given = as_tuple(inputs, "inputs", "jvp")
        vector = check_vector(v, given, flags.name, ABOUT_INPUTS)
        scope, outputs = called(func, given, flags, around=vector or ())
        results = as_tuple(outputs, OUTPUTS, "jvp")
        check_any(results)
        graph = scope.graph([scope.lift(y) for y in results.values])
        check_dependence(scope, graph, "jvp", flags)
        for y in graph.outputs:
            if not y.is_floating:
                raise FunctionError("not-floating",
                                    "Only Tensors of floating point and complex dtype can require gradients")

        def finish(value: Any, output: Any) -> Any:
            products = value if len(results.values) != 1 else [value]
            return _outputs(results, output), results.nest(products)

        return self._run(scope, "jvp", graph, flags, finish, v=vector)

    def vjp(self, func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
        """Vector-Jacobian product.

            product[j] = sum_o v[o]' J[o][j]

        Args:
            func: takes the inputs as arguments, returns a tensor or a tuple of tensors.
            inputs: a tensor, or a tuple of tensors, float64 or float32.
            v: as the outputs; may be left out for a single output of a single element, and is 1 then.
            create_graph: keep output and product differentiable, inside a traced function and by torch.
            strict: refuse an input that no output depends on.

        Returns:
            (func(inputs), product), the product with the shapes and dtypes of the inputs.

        Raises:
            As `jvp`.
        """
        flags = Flags("vjp", create_graph, strict)
        given = as_tuple(inputs, "inputs", "vjp")
        scope, outputs = called(func, given, flags, around=v if isinstance(v, tuple) else (v,))
        results = as_tuple(outputs, OUTPUTS, "vjp")
        tracers = [scope.lift(y) for y in results.values]
        graph = scope.graph(tracers)
        vector = check_vector(v, Given(tuple(tracers), results.is_tuple), flags.name, ABOUT_OUTPUTS)
        check_dependence(scope, graph, "vjp", flags)

        def finish(value: Any, output: Any) -> Any:
            return _outputs(results, output), given.nest(value)

        return self._run(scope, "vjp", graph, flags, finish, v=vector)

    def gradient(self, func: Function, inputs: Any) -> Any:
        """The gradient of a one-element function, with the shapes and dtypes of the inputs; always differentiable."""
        flags = Flags("grad", create_graph=True, strict=False)
        given = as_tuple(inputs, "inputs", "grad")
        scope, outputs = called(func, given, flags)
        graph = scalar_graph(scope, outputs, flags)
        return self._run(scope, "grad", graph, flags, lambda value, output: given.nest(value))

    def second_order(self, name: str, func: Function, inputs: Any) -> Any:
        """'hessian_diag', 'laplacian' or 'value_grad_hessian' of a one-element function; always differentiable."""
        flags = Flags(name, create_graph=True, strict=False)
        given = as_tuple(inputs, "inputs", name)
        scope, outputs = called(func, given, flags)
        graph = scalar_graph(scope, outputs, flags)
        if name == "laplacian":
            return self._run(scope, name, graph, flags, lambda value, output: value)
        if name == "hessian_diag":
            return self._run(scope, name, graph, flags, lambda value, output: given.nest(value))

        def finish(value: list[Any], output: Any) -> Any:
            *rows, slope = value
            return output, given.nest(slope), given.nest([given.nest(row) for row in rows])

        def with_slope(result: Result) -> Result:
            return replace(result, value=[*result.value, result.gradient])

        return self._run(scope, name, graph, flags, finish, change=with_slope)

    # ---- shared ------------------------------------------------------------------------------------------------------
    def _product(self, name: str, func: Function, inputs: Any, v: Any, create_graph: bool, strict: bool) -> Any:
        flags = Flags(name, create_graph, strict)
        given = as_tuple(inputs, "inputs", name)
        vector = check_vector(v, given, flags.name, ABOUT_INPUTS)
        scope, outputs = called(func, given, flags, around=vector or ())
        graph = scalar_graph(scope, outputs, flags)
        check_dependence(scope, graph, name, flags)

        def finish(value: Any, output: Any) -> Any:
            return output, given.nest(value)

        return self._run(scope, name, graph, flags, finish, v=vector)

    def _run(
        self,
        scope: Scope,
        operation: str,
        graph: Graph,
        flags: Flags,
        finish: Callable[[Any, Any], Any],
        *,
        v: tuple[Any, ...] | None = None,
        strategy: str = "auto",
        change: Callable[[Result], Result] | None = None,
    ) -> Any:
        options = Options(argnums=tuple(range(len(scope.inputs))), strategy=strategy, strict=False)

        def finished(result: Result, give: Callable[[Any], Any]) -> Any:
            if change is not None:
                result = change(result)
            if scope.is_nested and not flags.create_graph and scope.depends_on_inputs(result):
                _warn_detached(flags.name)
                result = cut(result)
            return finish(_each(give, result.value), _each(give, result.output))

        if v is None and operation in ("jvp", "vjp", "hvp", "vhp"):
            v = _ones(graph.outputs if operation == "vjp" else graph.inputs)
        return scope.run(self._send, operation, graph, options, finished, v)


def _each(give: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_each(give, v) for v in value]
    return None if value is None else give(value)


def _outputs(results: Given, output: Any) -> Any:
    return results.nest(output if isinstance(output, list) else [output])


def _ones(like: Any) -> tuple[Any, ...]:
    return tuple([np.ones(n.shape, n.dtype) for n in like])


def _as_dtype(block: Any, dtype: Any) -> Any:
    return convert(block, dtype) if isinstance(block, Node) else block.astype(dtype, copy=False)


def _warn_detached(name: str) -> None:
    warnings.warn(
        f"functional.{name} was called inside a function that is being traced, with create_graph=False: its result is "
        f"treated there as a constant, as in torch. Say create_graph=True to differentiate through it.",
        DetachedWarning,
        stacklevel=user_level(),
    )


# ---- the module's functions, over the current client -----------------------------------------------------------------
def _send_by_current(call: Any) -> Any:
    return current_client().send(call)


_functions = Functional(_send_by_current)
hessian, jacobian = _functions.hessian, _functions.jacobian
vhp, hvp, jvp, vjp = _functions.vhp, _functions.hvp, _functions.jvp, _functions.vjp

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
