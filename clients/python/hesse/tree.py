"""Nested containers and their leaves: tuple, list, dict, OrderedDict and namedtuple nest; the rest are leaves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEAF = "*"
MAPPINGS = (dict, OrderedDict)


@dataclass(frozen=True, slots=True)
class Structure:
    """The shape of a tree: `kind` is the container's type (None: a leaf), `keys` those of a dict."""

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()

    @property
    def leaves(self) -> int:
        return 1 if self.kind is None else sum([c.leaves for c in self.children])

    def __repr__(self) -> str:
        if self.kind is None:
            return LEAF
        inner = [repr(c) for c in self.children]
        if self.kind in MAPPINGS:
            return "{" + ", ".join([f"{k!r}: {c}" for k, c in zip(self.keys, inner, strict=True)]) + "}"
        if self.kind is list:
            return "[" + ", ".join(inner) + "]"
        body = ", ".join(inner) + ("," if len(inner) == 1 else "")
        return f"({body})" if self.kind is tuple else f"{self.kind.__name__}({', '.join(inner)})"


THE_LEAF = Structure(None)


def is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _children(tree: Any) -> tuple[type, tuple[Any, ...], tuple[Any, ...]] | None:
    """(kind, keys, children) of a container, None for a leaf."""
    kind = type(tree)
    if kind is tuple or kind is list or is_namedtuple(tree):
        return kind, (), tuple(tree)
    if kind in MAPPINGS:
        return kind, tuple(tree), tuple(tree.values())
    return None


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves from left to right, and the structure that `unflatten` restores."""
    found = _children(tree)
    if found is None:
        return [tree], THE_LEAF
    kind, keys, children = found
    leaves: list[Any] = []
    structures = []
    for child in children:
        below, structure = flatten(child)
        leaves.extend(below)
        structures.append(structure)
    return leaves, Structure(kind, keys, tuple(structures))


def unflatten(leaves: list[Any], structure: Structure) -> Any:
    """The tree of `structure` with these leaves."""
    if structure.kind is None:
        return leaves[0]
    children, at = [], 0
    for child in structure.children:
        children.append(unflatten(leaves[at:at + child.leaves], child))
        at += child.leaves
    if structure.kind in MAPPINGS:
        return structure.kind(zip(structure.keys, children, strict=True))
    return structure.kind(*children) if hasattr(structure.kind, "_fields") else structure.kind(children)


def map_leaves(change: Callable[[Any], Any], tree: Any) -> Any:
    leaves, structure = flatten(tree)
    return unflatten([change(leaf) for leaf in leaves], structure)


def broadcast(prefix: Any, structure: Structure) -> list[Any] | None:
    """One entry of `prefix` for each leaf: a leaf of the prefix stands for all below it. None where they disagree."""
    found = _children(prefix)
    if found is None:
        return [prefix] * structure.leaves
    kind, keys, children = found
    if kind is not structure.kind or keys != structure.keys or len(children) != len(structure.children):
        return None
    entries: list[Any] = []
    for child, below in zip(children, structure.children, strict=True):
        spread = broadcast(child, below)
        if spread is None:
            return None
        entries.extend(spread)
    return entries
