'''Expressions: `"sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)"` becomes a graph.

    expression  = comparison
    comparison  = or [("<" | "<=" | ">" | ">=" | "==" | "!=") or]
    or, xor, and = "|", "^", "&" of booleans, binding tighter in this order
    sum         = product {("+" | "-") product}
    product     = unary {("*" | "/" | "//" | "%" | "@") unary}
    unary       = {"+" | "-" | "~"} power
    power       = primary ["**" unary]
    primary     = atom {"[" index {"," index} "]" | "." name ["(" arguments ")"]}
    atom        = number | input | "pi" | "e" | name "(" arguments ")" | "(" expression ")"
                | "(" items ")" | "[" items "]" | "True" | "False" | "None" | "'text'"
    index       = expression | [expression] ":" [expression] [":" [expression]] | "..." | "None"
    arguments   = {expression ","} {name "=" expression ","}

Precedence and names are Python's and NumPy's: `-x**2` is `-(x**2)`, `2**3**2` is `2**9`. Functions are the rows of
the op table and NumPy's names for what they can express, with or without `np.`; axes, shapes and indices are written as
integers, every other number is a float64 that adopts the dtype of the arrays it meets. Nothing is evaluated as Python,
and nothing recurses: one pass over the words with a stack of open brackets, each holding its operators and operands.
'''

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hesse_engine.errors import ArgumentTypeError, GraphError, HesseError, LimitError
from hesse_engine.frontends import functions, methods  # noqa: F401  (methods registers every function by name)
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.literals import as_float, fold, fold_unary, is_flat, is_number, nodes_in, settle
from hesse_engine.frontends.operands import has_node, is_elementwise, tensor
from hesse_engine.frontends.table import NUMPY, NUMPY_ROWS, call, refusing, required
from hesse_engine.frontends.tokens import Token, number_of, syntax_error, tokens_of
from hesse_engine.ir.graph import FLOAT64, Builder, Graph, Limits, Node, apply
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.shapes import convert, dtype_of, shape_of

LONGEST = 1_000_000  # characters

UNARY = {"-": "negative", "+": "positive", "~": "invert"}
BINARY = {
    "<": ("less", 1), "<=": ("less_equal", 1), ">": ("greater", 1), ">=": ("greater_equal", 1), "==": ("equal", 1),
    "!=": ("not_equal", 1), "|": ("bitwise_or", 2), "^": ("bitwise_xor", 3), "&": ("bitwise_and", 4), "+": ("add", 5),
    "-": ("subtract", 5), "*": ("multiply", 6), "/": ("divide", 6), "//": ("floor_divide", 6), "%": ("remainder", 6),
    "@": ("matmul", 6), "**": ("power", 8),
}
COMPARISON, UNARY_PRECEDENCE, POWER = 1, 7, 8
CONSTANTS: dict[str, Any] = {"pi": math.pi, "e": math.e, "True": True, "False": False, "None": None}
NAMESPACES = {"np", "numpy", "xp", "linalg"}
TORCH_NAMES = (
    "relu", "leaky_relu", "elu", "silu", "softmax", "log_softmax", "logsumexp", "logsigmoid", "xlogy", "cdist",
)
CLOSING = {"group": ")", "call": ")", "list": "]", "index": "]"}
ATTRIBUTES = {"T", "mT", "shape", "size", "ndim"}


def function_names() -> list[str]:
    """Every name that can be called."""
    rows = [r.name for r in ROWS.values() if r.kind != "leaf"]
    apart = ("shape", "ndim", "size", "array", "asarray")
    known = [n for n in NUMPY if "." not in n and n[0] != "_" and n not in apart]
    return sorted({*rows, *known, *[a for a, r in NUMPY_ROWS.items() if r in ROWS], *TORCH_NAMES})


def parse(expression: str, inputs: Sequence[tuple[str, Any, Any]], *, limits: Limits | None = None) -> Graph:
    """The graph of `expression` on `inputs`, each a name, a shape and a dtype.

    Raises:
        GraphError: `expression-syntax` with the position and what was expected there, `unknown-name` with what comes
            close, and what the rows raise for shapes, dtypes and attributes.
        InputError: `constant-overflow` for literals, or arithmetic on them, that is not finite.
        LimitError: `expression-too-long`, and what the builder's limits refuse.
    """
    if not isinstance(expression, str):
        raise ArgumentTypeError("bad-type", f"An expression is a string, not {type(expression).__name__}.")
    if len(expression) > LONGEST:
        raise LimitError(
            "expression-too-long", f"The expression has {len(expression)} characters; at most {LONGEST} are allowed."
        )
    builder = Builder(limits)
    names: dict[str, Node] = {}
    for name, shape, dtype in inputs:
        if not isinstance(name, str) or not name.isidentifier():
            raise GraphError("graph-format", "The name of an input must be an identifier, like 'x' or 'theta_1'.")
        if name in names:
            raise GraphError("duplicate-id", f"Two inputs are named {name!r}.")
        names[name] = builder.input(name, shape_of("input", shape), dtype_of("input", dtype))
    result = Parser(builder, names, tokens_of(expression)).run()
    return Graph(tuple(names.values()), (result,))


@dataclass(slots=True)
class Frame:
    """An open bracket, or the whole expression: its pending operators and operands, and the items read so far."""

    kind: Literal["top", "group", "call", "list", "index"]
    at: int
    target: Any = None                                       # what is called or indexed
    operands: list[Any] = field(default_factory=list)
    operators: list[tuple[str, int, int]] = field(default_factory=list)  # (row, precedence, position)
    items: list[Any] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)
    keyword: str | None = None
    bounds: list[Any] | None = None                          # of a slice being read
    is_tuple: bool = False


class Parser:
    """One pass over the tokens. `wants_operand` says which of the two kinds of word comes next."""

    def __init__(self, builder: Builder, names: dict[str, Node], tokens: list[Token]) -> None:
        self.builder, self.names, self.tokens = builder, names, tokens
        self.next = 0
        self.frames = [Frame("top", 0)]
        self.wants_operand = True

    def run(self) -> Node:
        while True:
            token = self.take()
            if self.wants_operand:
                self.operand(token)
            elif token.kind == "end":
                return self.finish(token)
            else:
                self.after_operand(token)

    def take(self) -> Token:
        token = self.tokens[self.next]
        self.next += 1
        return token

    def is_next(self, symbol: str) -> bool:
        token = self.tokens[self.next]
        return token.kind == "symbol" and token.text == symbol

    @property
    def frame(self) -> Frame:
        return self.frames[-1]

    # ---- where a value is expected -----------------------------------------------------------------------------------
    def operand(self, token: Token) -> None:
        frame = self.frame
        if token.kind == "number":
            self.push(number_of(token))
        elif token.kind == "text":
            self.push(token.text[1:-1])
        elif token.kind == "name":
            self.name(token)
        elif token.text in UNARY and token.kind == "symbol":
            frame.operators.append((UNARY[token.text], UNARY_PRECEDENCE, token.at))
        elif token.text in ("(", "["):
            self.frames.append(Frame("group" if token.text == "(" else "list", token.at))
        elif token.text == "..." and frame.kind == "index":
            self.push(Ellipsis)
        elif token.text == ":" and frame.kind == "index" and not frame.operators:
            self.bound(None, token)
        elif token.text in (")", "]") and not frame.operators:
            self.close(token, has_value=False)
        elif token.text == "," and frame.bounds is not None and not frame.operators:
            self.item(token, has_value=False)
        else:
            raise syntax_error(token.at, "a value", token.shown)

    def push(self, value: Any) -> None:
        self.frame.operands.append(value)
        self.wants_operand = False

    def name(self, token: Token) -> None:
        frame, name = self.frame, token.text
        if name in NAMESPACES and name not in self.names and self.is_next("."):
            self.take()
            if self.tokens[self.next].kind != "name":
                raise syntax_error(self.tokens[self.next].at, "a name", self.tokens[self.next].shown)
            self.name(self.take()) if self.tokens[self.next].text not in NAMESPACES else self.qualified(token)
        elif self.is_next("("):
            if name in self.names:
                found = f"the input {token.shown} (write {name} * (...) for a product)"
                raise syntax_error(token.at, "a function", found)
            self.frames.append(Frame("call", token.at, ("function", self.known(name, token.at))))
            self.take()
        elif frame.kind == "call" and self.is_next("=") and not frame.operators and frame.keyword is None:
            if name in frame.keywords:
                raise syntax_error(token.at, "each keyword once", token.shown)
            frame.keyword = name
            self.take()
        elif name in self.names:
            self.push(self.names[name])
        elif name in CONSTANTS:
            self.push(CONSTANTS[name])
        else:
            raise self.unknown(name, token.at, [*self.names, *CONSTANTS], "names are")

    def qualified(self, token: Token) -> None:
        """`np.linalg.f`: the second namespace is read over."""
        inner = self.take()
        if not self.is_next("."):
            raise syntax_error(self.tokens[self.next].at, "'.'", self.tokens[self.next].shown)
        self.take()
        following = self.tokens[self.next]
        if following.kind != "name" or following.text in NAMESPACES:
            raise syntax_error(following.at, f"a function of {inner.text}", following.shown)
        self.name(self.take())

    def known(self, name: str, at: int) -> str:
        is_row = name in ROWS and ROWS[name].kind != "leaf"
        if name in NUMPY or name in TORCH_NAMES or is_row or is_elementwise(NUMPY_ROWS.get(name, name)):
            return name
        raise self.unknown(name, at, function_names(), "functions are")

    def unknown(self, name: str, at: int, allowed: Iterable[str], what: str) -> GraphError:
        close = difflib.get_close_matches(name[:80], list(allowed), n=3)
        shown = name if len(name) <= 40 else name[:37] + "..."
        listed = sorted(allowed)
        rest = f" and {len(listed) - 40} more" if len(listed) > 40 else ""
        meant = f"Did you mean {' or '.join(close)}? " if close else ""
        return GraphError(
            "unknown-name", f"At position {at}: nothing is named {shown!r}.",
            hint=f"{meant}Allowed {what} {', '.join(listed[:40])}{rest}.",
        )

    # ---- after a value -----------------------------------------------------------------------------------------------
    def after_operand(self, token: Token) -> None:
        frame, text = self.frame, token.text
        if token.kind != "symbol":
            raise syntax_error(token.at, self.expected_after(), token.shown)
        if text in BINARY:
            self.binary(token)
        elif text == "[":
            self.frames.append(Frame("index", token.at, frame.operands.pop()))
            self.wants_operand = True
        elif text == ".":
            self.attribute(token)
        elif text == ":" and frame.kind == "index":
            self.reduce_all()
            self.bound(frame.operands.pop(), token)
        elif text == "," and frame.kind != "top":
            self.item(token, has_value=True)
        elif text in (")", "]"):
            self.close(token, has_value=True)
        else:
            raise syntax_error(token.at, self.expected_after(), token.shown)

    def expected_after(self) -> str:
        return "an operator or the end" if self.frame.kind == "top" else \
            f"an operator, ',' or '{CLOSING[self.frame.kind]}'"

    def binary(self, token: Token) -> None:
        frame = self.frame
        name, precedence = BINARY[token.text]
        while frame.operators and frame.operators[-1][1] >= precedence and not (
            precedence == POWER and frame.operators[-1][1] == POWER
        ):
            if precedence == COMPARISON == frame.operators[-1][1]:
                raise syntax_error(token.at, "one comparison (write (a < b) & (b < c))", token.shown)
            self.reduce()
        frame.operators.append((name, precedence, token.at))
        self.wants_operand = True

    def reduce(self) -> None:
        frame = self.frame
        name, precedence, at = frame.operators.pop()
        b = self.value(frame.operands.pop(), at)
        if precedence == UNARY_PRECEDENCE:
            frame.operands.append(self.unary_value(name, b, at))
        else:
            frame.operands.append(self.binary_value(name, self.value(frame.operands.pop(), at), b, at))

    def reduce_all(self) -> None:
        while self.frame.operators:
            self.reduce()

    def attribute(self, token: Token) -> None:
        name = self.take()
        if name.kind != "name":
            raise syntax_error(name.at, "the name of a method", name.shown)
        frame = self.frame
        if self.is_next("("):
            special = f"ndarray.{name.text}"
            found = special if special in NUMPY else self.known(name.text, name.at)
            self.frames.append(Frame("call", name.at, ("method", found, frame.operands.pop())))
            self.take()
            self.wants_operand = True
            return
        if name.text not in ATTRIBUTES:
            raise self.unknown(name.text, name.at, sorted(ATTRIBUTES), "attributes are")
        x = tensor(self.value(frame.operands.pop(), name.at), self.builder)
        if name.text in ("T", "mT"):
            frame.operands.append(apply("permute_dims", x) if name.text == "T" else functions.matrix_transpose(x))
        else:
            frame.operands.append(getattr(x, name.text))

    # ---- items and brackets ------------------------------------------------------------------------------------------
    def bound(self, value: Any, token: Token) -> None:
        """A ':' of a slice, with the bound before it."""
        frame = self.frame
        frame.bounds = [*(frame.bounds or []), value]
        if len(frame.bounds) > 2:
            raise syntax_error(token.at, "at most two ':' in a slice", token.shown)
        self.wants_operand = True

    def item(self, token: Token, has_value: bool) -> None:
        """The end of an item, at a ',' or a closing bracket."""
        frame = self.frame
        self.reduce_all()
        value = frame.operands.pop() if has_value else None
        if frame.bounds is not None:
            bounds: list[Any] = [*frame.bounds, value, None]
            value, frame.bounds = slice(*bounds[:3]), None
        elif not has_value:
            raise syntax_error(token.at, "a value", token.shown)
        if frame.keyword is not None:
            frame.keywords[frame.keyword], frame.keyword = value, None
        elif frame.keywords:
            raise syntax_error(token.at, "keywords after a keyword", "a value without one")
        else:
            frame.items.append(value)
        frame.is_tuple = token.text == "," or frame.is_tuple
        self.wants_operand = True

    def close(self, token: Token, has_value: bool) -> None:
        frame = self.frame
        if frame.kind == "top" or CLOSING[frame.kind] != token.text:
            expected = self.expected_after() if has_value else "a value"
            raise syntax_error(token.at, expected, token.shown)
        is_started = bool(has_value or frame.bounds is not None or frame.keyword is not None)
        if is_started:
            was_tuple = frame.is_tuple
            self.item(token, has_value)
            frame.is_tuple = was_tuple
        elif frame.kind == "index" and not frame.items:
            raise syntax_error(token.at, "an index", token.shown)
        self.frames.pop()
        self.push(self.closed(frame))

    def closed(self, frame: Frame) -> Any:
        """The value of a bracket that has just been closed."""
        if frame.kind == "list":
            return frame.items
        if frame.kind == "group":
            return frame.items[0] if len(frame.items) == 1 and not frame.is_tuple else tuple(frame.items)
        if frame.kind == "index":
            return self.index_value(frame)
        return self.call_value(frame)

    def finish(self, token: Token) -> Node:
        if len(self.frames) > 1:
            missing = f"'{CLOSING[self.frame.kind]}' for the bracket at position {self.frame.at}"
            raise syntax_error(token.at, missing, token.shown)
        self.reduce_all()
        return tensor(as_float(self.value(self.frame.operands.pop(), 0)), self.builder)

    # ---- values ------------------------------------------------------------------------------------------------------
    def value(self, value: Any, at: int) -> Any:
        """`value` as an operand: a node or a number."""
        if isinstance(value, Node) or is_number(value):
            return value
        if isinstance(value, (list, tuple)) and value:
            node = tensor(value, self.builder)
            return convert(node, FLOAT64) if node.dtype.kind == "i" and not has_node(value) else node
        shown = {list: "an empty list", tuple: "an empty tuple", str: "a text", slice: "a slice"}.get(
            type(value), "None" if value is None else "'...'"
        )
        raise syntax_error(at, "an array or a number", shown)

    def unary_value(self, name: str, x: Any, at: int) -> Any:
        if is_number(x):
            return fold_unary(name, x, at)
        if name == "positive":
            return x
        with At(name, at):
            return settle(functions.operator(name, x), [x], at)

    def binary_value(self, name: str, a: Any, b: Any, at: int) -> Any:
        if is_number(a) and is_number(b):
            return fold(name, a, b, at)
        with At(name, at):
            return settle(functions.operator(name, as_float(a), as_float(b)), [a, b], at)

    def index_value(self, frame: Frame) -> Any:
        key = tuple(frame.items) if len(frame.items) > 1 or frame.is_tuple else frame.items[0]
        if isinstance(frame.target, (list, tuple)) and type(key) is int:
            if not -len(frame.target) <= key < len(frame.target):
                raise syntax_error(frame.at, f"an index below {len(frame.target)}", str(key))
            return frame.target[key]
        x = tensor(self.value(frame.target, frame.at), self.builder)
        with At("index", frame.at), refusing("index", index, (x, key), {}):
            return settle(index(x, key), [x], frame.at)

    def call_value(self, frame: Frame) -> Any:
        name, args, at = frame.target[1], [*frame.target[2:], *frame.items], frame.at
        plain = name.removeprefix("ndarray.")
        if not args:
            raise GraphError("wrong-arity", f"At position {at}: {plain} takes at least one operand.")
        if is_elementwise(NUMPY_ROWS.get(name, name)) or name in ("where", "clip"):
            args = [as_float(self.value(a, at)) if a is not None else None for a in args]
        if not has_node([*args, *frame.keywords.values()]):
            args = self.constants(name, args)
        operands = [*args, *frame.keywords.values()]
        with At(plain, at):
            result = self.called(name, args, frame.keywords)
        return settle(result, nodes_in(operands), at)

    def constants(self, name: str, args: list[Any]) -> list[Any]:
        """The operands of a call on literals alone as nodes."""
        count = len(args) if is_elementwise(NUMPY_ROWS.get(name, name)) or name == "where" else 1
        nodes: list[Any] = []
        for a in args[:count]:
            if isinstance(a, (list, tuple)) and not is_flat(a):
                nodes.append([tensor(v, self.builder) for v in a])
            elif isinstance(a, (list, tuple)):
                nodes.append([tensor(as_float(v), self.builder) for v in a])
            elif is_number(a):
                nodes.append(self.builder.constant(a, None if type(a) is bool else FLOAT64))
            else:
                nodes.append(a)
        return [*nodes, *args[count:]]

    def called(self, name: str, args: list[Any], keywords: dict[str, Any]) -> Any:
        if name in TORCH_NAMES:
            return call("torch", name, args, keywords, name)
        if name in NUMPY or is_elementwise(NUMPY_ROWS.get(name, name)):
            return call("numpy", name, args, keywords, name.removeprefix("ndarray."))
        row = ROWS[name]
        if not set(keywords) <= set(row.attrs):
            raise GraphError("bad-attribute", f"{name} has the attributes {', '.join(row.attrs) or 'none'}.")
        if missing := [a for a in required(row) if a not in keywords]:
            raise GraphError("bad-attribute", f"{name} needs the attributes {', '.join(missing)}.")
        with refusing(name, row.build, args, keywords):
            return apply(name, *[tensor(a, self.builder) for a in args], **keywords)


class At:
    """Errors raised within name the operation and the position."""

    def __init__(self, name: str, at: int) -> None:
        self.place = f"{name} at position {at}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, HesseError) and error.node is None:
            error.node = self.place
