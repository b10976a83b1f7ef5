"""Requests, and what becomes of them: members dropped, doubled and retyped, bytes flipped. Random, but by seed."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import wild

from hesse_service import examples

ATOMS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, -0.0, 0.5, 1e308, 5e-324, 2**31, 2**53, 2**62, 2**63, 10**30, "", "x", "y",
        "NaN",
    "Infinity", "float64", "float32", "int64", "bool", "sum", "sin", "take", "scan", "reshape", [], {}, [[]], [0], [1,
        2],
    [-1], [[1.0, 2.0]], {"constant": 0}, {"data": [1.0]}, {"shape": [2], "data": [1.0, 2.0]}, "0" * 64, [1] * 40,
)
BYTES = b'[]{}:,"\\0123456789eE+-.naNIty \x00\xff\xc3'
WORDS = (
    "x", "y", "1", "2.5", "0", "-", "+", "*", "/", "**", "//", "%", "@", "<", "==", "!=", "(", ")", "[", "]", ",", ":",
    ".", "...", "None", "True", "pi", "sum", "sin", "exp", "log", "where", "dot", "outer", "reshape", "T", "shape",
        "np",
    "axis=", "0", "1e9", "1e308", "'a'", "mean", "max", "sort", "cumsum", "roll", "repeat", "stack", "concatenate", "|",
    "inv", "det", "tile", "pad", "norm", "clip", "einsum", "'i,i->'", "diag", "take", "softmax", "gamma", "zeros", "~",
)


def seeds() -> list[tuple[str, dict[str, Any]]]:
    """(operation, request) that work: the examples of the document."""
    found = [(name, example["value"]) for name, shown in examples.OPERATIONS.items() for example in shown.values()]
    found += [("plan", example["value"]) for example in examples.PLANS.values()]
    return found + [("register", example["value"]) for example in examples.FUNCTIONS.values()]


def mutated(request: Any, chance: random.Random) -> Any:
    """`request` with one or two faults."""
    made = copy.deepcopy(request)
    for _ in range(chance.randint(1, 2)):
        places = _places(made)
        holder, key = chance.choice(places)
        _strike(holder, key, chance, places)
    return made


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) in nested lists and objects."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        entries = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, member in entries:
            found.append((holder, key))
            if isinstance(member, (dict, list)):
                waiting.append(member)
    return found or [({"a": 1}, "a")]


def _strike(holder: Any, key: Any, chance: random.Random, places: list[tuple[Any, Any]]) -> None:
    kind = chance.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 1:
        holder[chance.choice(("shape", "dtype", "data", "id", "x", "axis", "v", "inputs"))] = copy.deepcopy(holder[key])
    elif kind == 2:
        other, there = chance.choice(places)
        if (there in other) if isinstance(other, dict) else there < len(other):
            holder[key] = copy.deepcopy(other[there])
    elif kind == 3 and isinstance(holder[key], (int, float)):
        holder[key] = chance.choice((-holder[key], holder[key] + 1, holder[key] * 1000, float(holder[key]), 0))
    elif kind == 4 and isinstance(holder[key], str):
        holder[key] = spoiled(holder[key].encode(), chance).decode("utf-8", "replace")
    else:
        holder[key] = copy.deepcopy(chance.choice(ATOMS))


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """`data` with bytes flipped, dropped, doubled, cut."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        if not made:
            break
        at, kind = chance.randrange(len(made)), chance.randrange(5)
        if kind == 0:
            made[at] = chance.choice(BYTES)
        elif kind == 1:
            del made[at : at + chance.randint(1, 8)]
        elif kind == 2:
            made[at:at] = made[at : at + chance.randint(1, 20)]
        elif kind == 3:
            made[at] ^= 1 << chance.randrange(8)
        else:
            made.insert(at, chance.choice(BYTES))
    return bytes(made)


def sentence(chance: random.Random) -> str:
    """A formula, mostly wrong."""
    words = [chance.choice(WORDS) for _ in range(chance.randint(1, 14))]
    text = chance.choice(("", " ")).join(words)
    return f"sum({text})" if chance.random() < 0.5 else text


def bodies(seed: int, count: int) -> list[tuple[str, bytes]]:
    """`count` hostile (operation, body)."""
    chance, known = random.Random(seed), seeds()
    made = []
    for _ in range(count):
        operation, request = chance.choice(known)
        kind = chance.random()
        if kind < 0.1:
            body = spoiled(json.dumps(request).encode(), chance)
        elif kind < 0.5:
            operation, request = wild.request(chance)
            body = json.dumps(request if chance.random() < 0.8 else mutated(request, chance)).encode()
        elif kind < 0.8:
            text = sentence(chance) if chance.random() < 0.3 else wild.formula(chance)
            function = {"expression": text, "inputs": ["x"]}
            body = json.dumps({"function": function, "inputs": [[[1.0, 2.0], [3.0, 4.5]]]}).encode()
            operation = chance.choice(("value", "grad", "hessian"))
        else:
            body = json.dumps(mutated(request, chance)).encode()
        made.append((operation, body))
    return made
