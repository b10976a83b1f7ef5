"""The words of an expression, each with the position it starts at."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from hesse_engine.errors import GraphError, InputError

Kind = Literal["number", "name", "text", "symbol", "end"]
EXACT = 2**53  # integers below it are exact in float64

_WORD = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<number>(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[^\W\d]\w*)
      | (?P<text>'[^'\n]*'|"[^"\n]*")
      | (?P<symbol>\.\.\.|\*\*|//|<=|>=|==|!=|[-+*/%@<>&|^~()\[\],:=.])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word; `at` counts characters from 0."""

    kind: Kind
    text: str
    at: int

    @property
    def shown(self) -> str:
        if self.kind == "end":
            return "the end"
        return f"'{self.text if len(self.text) <= 24 else self.text[:20] + '...'}'"


def syntax_error(at: int, expected: str, found: str) -> GraphError:
    return GraphError("expression-syntax", f"At position {at}: expected {expected}, found {found}.")


def tokens_of(expression: str) -> list[Token]:
    """The words of `expression`, closed by one of kind `end`."""
    found: list[Token] = []
    at = 0
    while True:
        match = _WORD.match(expression, at)
        if match is None:
            at += len(expression[at:]) - len(expression[at:].lstrip(" \t\r\n"))
            raise syntax_error(at, "a number, a name or an operator", ascii(expression[at]))
        kind = match.lastgroup
        assert kind is not None
        found.append(Token(kind, match.group(kind), match.start(kind)))  # type: ignore[arg-type]
        at = match.end()
        if kind == "end":
            return found


def number_of(token: Token) -> int | float:
    """The literal's value: an int where it is written as one and exact in float64, else a float."""
    value = float(token.text)
    if math.isinf(value):
        raise InputError(
            "constant-overflow", f"At position {token.at}: the number {token.shown} is too large for float64."
        )
    is_integer = token.text.isdigit() and value < EXACT
    return int(value) if is_integer else value
