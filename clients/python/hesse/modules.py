"""`func.functional_call` and its kin: torch modules as functions of their parameters.

A traced parameter is no `torch.Tensor`, so `torch.func.functional_call` refuses it; here the entries of the module's
own tables are exchanged for the duration of the call, and put back whatever happens.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hesse.scope import is_tensor
from hesse_engine.errors import ArgumentTypeError, FunctionError, InputError

_MISSING = object()


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """`module(*args, **kwargs)` with other parameters and buffers, which may be traced.

    Args:
        module: a `torch.nn.Module`; or any function of (parameters, *args).
        parameter_and_buffer_dicts: {name: tensor}, or a sequence of such dicts without a name in common. What is not
            named keeps the module's own value. For a plain function: its first argument, of any kind.
        args: a tuple of arguments, or a single one.
        kwargs: keyword arguments.
        tie_weights: treat what is tied in the module as tied in the call, too.
        strict: the names must be those of the module, all and only.

    Raises:
        ValueError: `wrong-inputs`: no dicts, names that repeat, or two values for one tied parameter.
        RuntimeError: `bad-structure`: names that `strict` refuses.
        TypeError: `bad-type`; `cut-graph` where the module changes a traced buffer in place.
    """
    given = () if args is None else args if isinstance(args, tuple) else (args,)
    if not _is_module(module):
        if not callable(module):
            raise ArgumentTypeError("bad-type", "functional_call: expected a torch.nn.Module or a function of "
                                                f"(parameters, *args), got {type(module)}.")
        return module(parameter_and_buffer_dicts, *given, **(kwargs or {}))
    values = _merged(parameter_and_buffer_dicts)
    for name, value in values.items():
        if value is not None and not is_tensor(value):
            raise ArgumentTypeError("bad-type", f"{value} is not an instance of torch.Tensor")
        if not name:
            raise InputError("wrong-inputs", 'tensor name can\'t be empty string ""')
    found = _untied(module, values) if tie_weights else dict(values)
    if strict:
        _check_names(module, found)
    return _called(module, found, values, given, kwargs or {})


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _merged(dicts: Any) -> dict[str, Any]:
    if isinstance(dicts, dict):
        return dicts
    if not isinstance(dicts, Sequence) or isinstance(dicts, str):
        raise InputError("wrong-inputs", "Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, "
                                         f"but got {type(dicts)}")
    if not all([isinstance(d, dict) for d in dicts]):
        raise InputError("wrong-inputs", "Expected all elements of parameter_and_buffer_dicts to be dictionaries")
    names = [k for d in dicts for k in d]
    repeated = [k for k in dict.fromkeys(names) if names.count(k) > 1]
    if repeated:
        raise InputError("wrong-inputs", f"{repeated} appeared in multiple dictionaries; behavior of functional call "
                                         "is ambiguous")
    return {k: v for d in dicts for k, v in d.items()}


def _named(module: Any) -> dict[str, Any]:
    """Every parameter and buffer by every name that it has."""
    return {**dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False))}


def _untied(module: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` under all the names of what is tied."""
    groups: dict[int, list[str]] = {}
    for name, tensor in _named(module).items():
        groups.setdefault(id(tensor), []).append(name)
    found = dict(values)
    for names in groups.values():
        given = [n for n in names if n in values]
        if len(given) > 1 and any([values[n] is not values[given[0]] for n in given]):
            raise InputError("wrong-inputs", f"functional_call got multiple values for keys {sorted(names)}, which are "
                                             "tied. Consider using tie_weights=False")
        found.update({n: values[given[0]] for n in names if given})
    return found


def _check_names(module: Any, values: Mapping[str, Any]) -> None:
    names = set(_named(module))
    unexpected, missing = sorted(set(values) - names), sorted(names - set(values))
    messages = [f"{what} key(s): {', '.join([repr(n) for n in found])}."
                for what, found in (("Unexpected", unexpected), ("Missing", missing)) if found]
    if messages:
        raise FunctionError("bad-structure", f"Error(s) in reparametrizing for {type(module).__name__}:\n\t"
                                             + "\n\t".join(messages))


def _called(
    module: Any, values: Mapping[str, Any], given: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    before: dict[str, Any] = {}
    try:
        for name, value in values.items():
            before[name] = _exchange(module, name, value)
        return module(*args, **kwargs)
    finally:
        after = {name: _exchange(module, name, value) for name, value in reversed(before.items())}
        # a module may give its buffers new values: the caller sees them where he gave the old ones
        given.update({name: value for name, value in after.items() if name in given and value is not _MISSING})


def _exchange(module: Any, name: str, value: Any) -> Any:
    """Put `value` in the place of a parameter, a buffer or an attribute; what was there."""
    *path, last = name.split(".")
    owner = module
    for part in path:
        owner = getattr(owner, part)
    table = next((t for t in (owner._parameters, owner._buffers) if last in t), owner.__dict__)
    before = table.get(last, _MISSING)
    if value is _MISSING:
        del table[last]
    else:
        table[last] = value
    return before


def stack_module_state(models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, buffers) of several modules of one class, each stacked along a new first axis: torch's own function.

    Raises:
        TypeError: `bad-type`: no torch module can be among them, as torch is not imported.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        raise ArgumentTypeError("bad-type", f"stack_module_state: expected torch modules, got {type(models)}.")
    found: tuple[dict[str, Any], dict[str, Any]] = torch.func.stack_module_state(models)
    return found


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """`func` itself: what is traced has neither mutations nor views.

    Raises:
        RuntimeError: `bad-structure` for another `remove` than 'mutations' and 'mutations_and_views'.
    """
    if remove not in ("mutations", "mutations_and_views"):
        raise FunctionError("bad-structure", "functionalize(f, remove='mutations'): received invalid argument for "
                                             f"remove={remove}. Valid options are:\n     remove='mutations': all "
                                             "inplace and out= operators will be removed from the program, and "
                                             "replaced with their out-of-place equivalents.\n     "
                                             "remove='mutations_and_views': In addition to the above, all aliasing "
                                             "operators {view} will be replaced with their non-aliasing counterparts, "
                                             "{view}_copy.\n")

    @functools.wraps(func, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


__all__ = ["functional_call", "functionalize", "stack_module_state"]
