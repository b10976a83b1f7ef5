"""`torch.func`: function transforms with its signatures, conventions and errors, over whatever arrays go in.

Arguments and outputs may be nested in tuples, lists, dicts and namedtuples. Transforms nest to any order: an inner one
becomes part of the graph of the outer one, and the outermost call is one computation. Nothing is ever detached: results
of torch tensors that require grad, among the arguments or closed over, carry a grad_fn, as in torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hesse import tree
from hesse.batching import vmapped
from hesse.columns import columns_apart
from hesse.current import current_client
from hesse.evaluation import (
    GRAD,
    JVP,
    VJP,
    Argnums,
    Evaluated,
    Function,
    Give,
    cast,
    check_dependence,
    check_forward_outputs,
    check_randomness,
    check_reverse_outputs,
    check_scalar,
    check_sizes,
    check_tensors,
    evaluate,
    stand_in,
)
from hesse.interop import torch_size
from hesse.jacobians import Jacobian, jacobian_of
from hesse.jets import jet_of, taylor_of
from hesse.linearization import linearized
from hesse.modules import functional_call, functionalize, stack_module_state
from hesse.scope import Send, is_tensor
from hesse_engine.errors import ArgumentTypeError, FunctionError, InputError
from hesse_engine.frontends.trace import active_trace, is_tracer
from hesse_engine.result import Result


class Func:
    """The transforms, over one way of sending calls. What an async client's transforms return is awaited."""

    def __init__(self, send: Send, runs_chunks: Callable[[], bool]) -> None:
        self._send, self._runs_chunks = send, runs_chunks

    # ---- first order -------------------------------------------------------------------------------------------------
    def grad(self, func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
        """The gradient of a scalar function: `grad(f)(*args)` has the structure and dtypes of `args[argnums]`.

        Args:
            func: returns a 0-dimensional tensor, or with `has_aux` a pair of it and any tree of tensors.
            argnums: which arguments; a tuple gives a tuple.
            has_aux: return (gradient, aux).

        Raises:
            RuntimeError: `not-scalar`, `not-floating`, `bad-argnums`, `argnums-type`, `bad-aux`.
            ValueError: `not-tensor`.
        """

        def pick(gradient: Any, value: Any, aux: Any) -> Any:
            return (gradient, aux) if has_aux else gradient

        @functools.wraps(func, updated=())
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return self._gradient(func, argnums, has_aux, args, kwargs, pick)

        return wrapper

    def grad_and_value(self, func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
        """(gradient, value), or (gradient, (value, aux)), in one computation; otherwise as `grad`."""

        def pick(gradient: Any, value: Any, aux: Any) -> Any:
            return gradient, (value, aux) if has_aux else value

        @functools.wraps(func, updated=())
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return self._gradient(func, argnums, has_aux, args, kwargs, pick)

        return wrapper

    def _gradient(
        self, func: Function, argnums: Argnums, has_aux: bool, args: tuple[Any, ...], kwargs: dict[str, Any],
        pick: Callable[[Any, Any, Any], Any],
    ) -> Any:
        run = evaluate(func, args, kwargs, argnums, has_aux, GRAD, check_scalar)
        output = run.outputs[0]
        # f(x) travels with the auxiliaries, so gradient and value are one computation
        graph = run.scope.graph([stand_in(output), output, *run.aux])
        options = replace(run.options(), aux=1 + len(run.aux))

        def finish(result: Result, give: Give) -> Any:
            gradient = tree.unflatten([give(g) for g in result.value], run.inner)
            return pick(gradient, give(result.aux[0]), run.aux_tree(result.aux, give))

        return run.scope.run(self._send, "grad", graph, options, finish)

    def jacrev(
        self,
        func: Function,
        argnums: Argnums = 0,
        *,
        has_aux: bool = False,
        chunk_size: int | None = None,
        _preallocate_and_copy: bool = False,
    ) -> Function:
        """The Jacobian, row by row.

            J[o][j] = d f(*args)[o] / d args[j] of shape out_o + in_j

        Args:
            func: returns a tree of tensors, or with `has_aux` a pair of it and another tree.
            argnums: which arguments; a tuple gives a tuple at the place of each output.
            has_aux: return (Jacobian, aux).
            chunk_size: most rows computed at once; 1 is a loop over rows.
            _preallocate_and_copy: write the chunks into one result instead of concatenating them: same bits, lower
                peak.

        Raises:
            ValueError: `bad-chunk-size`, `not-tensor`.
            RuntimeError: `bad-argnums`, `not-floating`, `not-floating-output`, `unsupported-complex`, `empty-output`.
        """
        if not (chunk_size is None or chunk_size > 0):
            raise InputError("bad-chunk-size", "jacrev: `chunk_size` should be greater than 0.")
        plain = Jacobian("reverse", func, argnums, is_plain=not has_aux)

        @functools.wraps(func, updated=())
        def wrapper(*args: Any) -> Any:
            return jacobian_of(self._send, plain, args, has_aux, chunk_size, _preallocate_and_copy)

        wrapper._jacobian = plain  # type: ignore[attr-defined]
        return wrapper

    def jacfwd(
        self, func: Function, argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error"
    ) -> Function:
        """The Jacobian, column by column; otherwise as `jacrev`.

        Args:
            func: returns a tree of tensors, or with `has_aux` a pair of it and another tree.
            argnums: which arguments; a tuple gives a tuple at the place of each output.
            has_aux: return (Jacobian, aux).
            randomness: what random numbers drawn by `func` do: 'error' raises, 'same' is one draw for all columns,
                'different' one for each column.
        """
        plain = Jacobian("forward", func, argnums, not has_aux, randomness)

        @functools.wraps(func, updated=())
        def wrapper(*args: Any) -> Any:
            check_randomness(randomness)
            if randomness == "different":
                return columns_apart(self, func, argnums, args, has_aux)
            return jacobian_of(self._send, plain, args, has_aux, None, False)

        wrapper._jacobian = plain  # type: ignore[attr-defined]
        return wrapper

    # ---- second order ------------------------------------------------------------------------------------------------
    def hessian(self, func: Function, argnums: Argnums = 0) -> Function:
        """The Hessian of every output, by forward over reverse: `jacfwd(jacrev(func, argnums), argnums)`.

            H[o][i][j] = d² f(*args)[o] / d args[i] d args[j] of shape out_o + in_i + in_j, dtype of input i

        Args:
            func: returns a tree of tensors.
            argnums: which arguments; a tuple gives a tuple of tuples at the place of each output.

        Raises:
            ValueError: `not-floating-primal`, `not-tensor`.
            RuntimeError: `bad-argnums`, `not-floating-output`, `unsupported-complex`, `empty-output`.
        """
        return self.jacfwd(self.jacrev(func, argnums), argnums)

    # ---- products ----------------------------------------------------------------------------------------------------
    def vjp(self, func: Function, *primals: Any, has_aux: bool = False) -> Any:
        """(func(*primals), vjp_fn), and aux; `vjp_fn(cotangents)` is the tuple of ct' J for each of the primals.

        Args:
            func: returns a tree of tensors, or with `has_aux` a pair of it and another tree.
            primals: the arguments, trees of floating tensors.
            has_aux: return (output, vjp_fn, aux).

        Raises:
            RuntimeError: `not-floating`, `not-floating-output`, `empty-output`, `bad-structure`, `bad-v`.
            ValueError: `not-tensor`.
        """
        run = evaluate(func, primals, {}, None, has_aux, VJP, check_reverse_outputs)

        def pull(cotangents: Any) -> Any:
            return self._pull(func, primals, has_aux, run, cotangents)

        def finish(result: Result, give: Give) -> Any:
            values = [result.value] if len(run.outputs) == 1 else result.value
            output = tree.unflatten([give(y) for y in values], run.structure)
            return (output, pull, run.aux_tree(result.aux, give)) if has_aux else (output, pull)

        graph = run.scope.graph([*run.outputs, *run.aux])
        return run.scope.run(self._send, "value", graph, run.options(), finish)

    def _pull(self, func: Function, primals: tuple[Any, ...], has_aux: bool, run: Evaluated, cotangents: Any) -> Any:
        leaves, structure = tree.flatten(cotangents)
        if structure != run.structure:
            raise FunctionError(
                "bad-structure",
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                f"function. cotangents: {structure}, primal output: {run.structure}",
            )
        for k, (leaf, output) in enumerate(zip(leaves, run.outputs, strict=True)):
            if not is_tensor(leaf):
                raise ArgumentTypeError(
                    "bad-type", f"gradients can be either Tensors or None, but got {type(leaf).__name__}"
                )
            if tuple(leaf.shape) != output.node.shape:
                raise FunctionError(
                    "bad-v", f"Mismatch in shape: grad_output[{k}] has a shape of {torch_size(tuple(leaf.shape))} and "
                             f"output[{k}] has a shape of {torch_size(output.node.shape)}."
                )
        outer = next((x.trace for x in leaves if is_tracer(x)), None) or active_trace()
        if outer is not None and outer is not run.scope.trace:
            # the function was traced on its own; the cotangents belong to another trace, so it is traced there again
            run = evaluate(func, primals, {}, None, has_aux, VJP, check_reverse_outputs, around=leaves)

        def finish(result: Result, give: Give) -> Any:
            return tree.unflatten([give(p) for p in result.value], run.inner)

        graph = run.scope.graph(run.outputs)
        return run.scope.run(self._send, "vjp", graph, replace(run.options(), aux=0), finish, leaves)

    def jvp(
        self, func: Function, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
    ) -> Any:
        """(func(*primals), J tangents), and aux.

        Args:
            func: returns a tree of tensors, or with `has_aux` a pair of it and another tree.
            primals: a tuple of the arguments, trees of floating tensors.
            tangents: of the structure and shapes of the primals.
            strict: refuse outputs that do not depend on the primals.
            has_aux: return (output, product, aux).

        Raises:
            RuntimeError: `bad-structure`, `bad-v`, `independent`, `empty-output`.
            ValueError: `not-floating-primal`.
        """
        if not isinstance(primals, tuple):
            raise FunctionError("bad-structure", f"{JVP}: Expected primals to be a tuple. E.g. it should be valid to "
                                                 "call f(*primals).")
        leaves, structure = tree.flatten(primals)
        vectors, given = tree.flatten(tangents)
        if structure != given:
            raise FunctionError(
                "bad-structure",
                f"{JVP}: Expected primals and tangents to have the same python structure. For example, if primals is a "
                f"tuple of 3 tensors, tangents also must be. Got primals with structure {structure} and tangents with "
                f"structure {given}",
            )
        check_tensors(leaves, "primals")
        check_tensors(vectors, "tangents")
        check_sizes(leaves, vectors)
        run = evaluate(func, primals, {}, None, has_aux, JVP, check_forward_outputs, is_forward=True, around=vectors)
        check_dependence(run, strict)
        graph = run.scope.graph([*map(stand_in, run.outputs), *run.outputs, *run.aux])
        options = replace(run.options(), aux=len(run.outputs) + len(run.aux))
        dtypes = [t.node.dtype for t in run.outputs]

        def finish(result: Result, give: Give) -> Any:
            values = [result.value] if len(dtypes) == 1 else result.value
            product = tree.unflatten([give(p if d.kind == "f" else cast(p, d))
                                      for p, d in zip(values, dtypes, strict=True)], run.structure)
            output = tree.unflatten([give(y) for y in result.aux[:len(dtypes)]], run.structure)
            return (output, product, run.aux_tree(result.aux, give)) if has_aux else (output, product)

        return run.scope.run(self._send, "jvp", graph, options, finish, vectors)

    def linearize(self, func: Function, *primals: Any) -> tuple[Any, Function]:
        """(func(*primals), jvp_fn); `jvp_fn(*tangents)` is J tangents, at these primals whatever becomes of them.

        The point is visited once: a product costs the part of the function that is linear in the tangents.

        Raises:
            RuntimeError: `bad-structure`, `bad-v` where tangents are not of the nesting, shapes and dtypes of the
                primals; `empty-output`, `no-tensor-output`.
            ValueError: `not-floating-primal`, `not-tensor`.
        """
        found: tuple[Any, Function] = linearized(self._send, self._runs_chunks(), func, primals)
        return found

    # ---- Taylor series -----------------------------------------------------------------------------------------------
    def jet(self, func: Function, primals: Any, series: Any) -> Any:
        """(y_0, [y_1, ..., y_K]): derivatives of func along a curve, as `jax.experimental.jet`.

            x(t) = sum_k x_k t^k / k!,    y(t) = func(x(t)) = sum_k y_k t^k / k!

        Args:
            func: returns a tree of tensors.
            primals: a tuple of the arguments x_0, trees of floating tensors.
            series: for each argument the list of x_1, ..., x_K, trees like the argument; [v, 0, 0] is a straight line.

        Returns:
            func(*primals), and a tree like it with the list of K derivatives in the place of each tensor.

        Raises:
            RuntimeError: `bad-structure`, `bad-v`, `empty-output`, `not-floating-output`.
        """
        return jet_of(self._send, func, primals, series)

    def taylor(self, func: Function, x: Any, v: Any, order: int) -> Any:
        """[c_0, ..., c_order]: the Taylor coefficients of func from x along v, factorials divided out.

            func(x + t v) = sum_k c_k t^k + O(t^(order + 1))

        Args:
            func: of one argument; returns a tree of tensors.
            x: a tree of floating tensors.
            v: a tree like x.
            order: the highest coefficient.

        Raises:
            ValueError: `bad-option`. TypeError: `bad-type`. RuntimeError: `bad-structure`, `bad-v`.
        """
        return taylor_of(self._send, func, x, v, order)

    # ---- batches -----------------------------------------------------------------------------------------------------
    def vmap(
        self, func: Function, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
        chunk_size: int | None = None,
    ) -> Function:
        """`func` over an axis of its arguments, all examples at once.

        Args:
            func: a function of one example.
            in_dims: the axis of each argument; an int for all, None for an argument that is the same for every example,
                or a tuple nested like the arguments.
            out_dims: where the axis appears in each output, nested like the outputs; None for one that has none.
            randomness: what random numbers drawn by `func` do: 'error' raises, 'same' is one draw for all examples,
                'different' one for each (`hesse.numpy.random`, or torch's functions).
            chunk_size: most examples computed at once. An embedded client computes chunk by chunk; over HTTP the batch
                is one request.

        Raises:
            ValueError: `bad-chunk-size`, `vmap-in-dims`, `vmap-size`.
            RuntimeError: `bad-randomness`, `vmap-branch`, `vmap-item`.
            IndexError: `index-out-of-range`.
        """
        check_randomness(randomness)
        if not (chunk_size is None or chunk_size > 0):
            raise InputError("bad-chunk-size",
                             f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

        @functools.wraps(func, updated=())
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            chunk = chunk_size if self._runs_chunks() else None
            return vmapped(self._send, func, in_dims, out_dims, randomness, chunk, args, kwargs)

        return wrapper


# ---- the module's transforms, over the current client ----------------------------------------------------------------
def _send_by_current(call: Any) -> Any:
    return current_client().send(call)


def _current_runs_chunks() -> bool:
    return current_client().embedded is not None


_transforms = Func(_send_by_current, _current_runs_chunks)
grad, grad_and_value, vjp, jvp = _transforms.grad, _transforms.grad_and_value, _transforms.vjp, _transforms.jvp
hessian, jacfwd, jacrev, vmap = _transforms.hessian, _transforms.jacfwd, _transforms.jacrev, _transforms.vmap
linearize, jet, taylor = _transforms.linearize, _transforms.jet, _transforms.taylor

__all__ = [
    "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jet", "jvp",
    "linearize", "stack_module_state", "taylor", "vjp", "vmap",
]
