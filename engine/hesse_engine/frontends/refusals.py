"""What tracing refuses: values that are not there, and conversions that would cut the graph in silence."""

from __future__ import annotations

from hesse_engine.errors import ArgumentTypeError, FunctionError, HesseError, InputError
from hesse_engine.ir.graph import Node


class ValueAbsent(Exception):
    """The node depends on an input without a value: an example under vmap."""


def ambiguous(node: Node, library: str) -> HesseError:
    if library == "torch":
        many = "more than one value" if node.size else "no values"
        return FunctionError("ambiguous-tensor", f"Boolean value of Tensor with {many} is ambiguous")
    return InputError(
        "ambiguous-array",
        "The truth value of an empty array is ambiguous. Use `array.size > 0` to check that an array is not empty."
        if not node.size else
        "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()",
    )


def cut(what: str, instead: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        "cut-graph", f"{what} would cut the graph: no derivative flows through it.", hint=f"{instead}"
    )


EXPLICIT = "Write t.item() for the number itself, a constant of the graph, or t.detach() for a constant array."


API_VERSIONS = (None, "2021.12", "2022.12", "2023.12", "2024.12")


def check_api_version(version: str | None) -> None:
    """Refuse a version of the array API standard that is not one of ours; None is the newest."""
    if version not in API_VERSIONS:
        allowed = ", ".join([v for v in API_VERSIONS if v])
        raise ArgumentTypeError("bad-type", f"The array API standard {version} is not offered; allowed: {allowed}.")
