"""Python's operators on traced arrays, each by the name of its function."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from hesse_engine.frontends.refusals import EXPLICIT, cut

CPU = (1, 0)  # DLPack's kind and number of the device


class Operators:
    """Every operator in terms of `_binary(name, other, reflected)`, `_in_place(name, other)` and `_unary(name)`."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # == is elementwise, as for arrays

    @abstractmethod
    def _binary(self, name: str, other: Any, reflected: bool = False) -> Any: ...

    @abstractmethod
    def _in_place(self, name: str, other: Any) -> Any: ...

    @abstractmethod
    def _unary(self, name: str) -> Any: ...

    def __add__(self, other: Any) -> Any:
        return self._binary("add", other)

    def __radd__(self, other: Any) -> Any:
        return self._binary("add", other, True)

    def __sub__(self, other: Any) -> Any:
        return self._binary("subtract", other)

    def __rsub__(self, other: Any) -> Any:
        return self._binary("subtract", other, True)

    def __mul__(self, other: Any) -> Any:
        return self._binary("multiply", other)

    def __rmul__(self, other: Any) -> Any:
        return self._binary("multiply", other, True)

    def __truediv__(self, other: Any) -> Any:
        return self._binary("divide", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary("divide", other, True)

    def __floordiv__(self, other: Any) -> Any:
        return self._binary("floor_divide", other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._binary("floor_divide", other, True)

    def __mod__(self, other: Any) -> Any:
        return self._binary("remainder", other)

    def __rmod__(self, other: Any) -> Any:
        return self._binary("remainder", other, True)

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return other // self, other % self

    def __pow__(self, other: Any, modulus: None = None) -> Any:
        return self._binary("power", other)

    def __rpow__(self, other: Any) -> Any:
        return self._binary("power", other, True)

    def __matmul__(self, other: Any) -> Any:
        return self._binary("matmul", other)

    def __rmatmul__(self, other: Any) -> Any:
        return self._binary("matmul", other, True)

    def __and__(self, other: Any) -> Any:
        return self._binary("bitwise_and", other)

    def __rand__(self, other: Any) -> Any:
        return self._binary("bitwise_and", other, True)

    def __or__(self, other: Any) -> Any:
        return self._binary("bitwise_or", other)

    def __ror__(self, other: Any) -> Any:
        return self._binary("bitwise_or", other, True)

    def __xor__(self, other: Any) -> Any:
        return self._binary("bitwise_xor", other)

    def __rxor__(self, other: Any) -> Any:
        return self._binary("bitwise_xor", other, True)

    def __lshift__(self, other: Any) -> Any:
        return self._binary("left_shift", other)

    def __rlshift__(self, other: Any) -> Any:
        return self._binary("left_shift", other, True)

    def __rshift__(self, other: Any) -> Any:
        return self._binary("right_shift", other)

    def __rrshift__(self, other: Any) -> Any:
        return self._binary("right_shift", other, True)

    def __lt__(self, other: Any) -> Any:
        return self._binary("less", other)

    def __le__(self, other: Any) -> Any:
        return self._binary("less_equal", other)

    def __gt__(self, other: Any) -> Any:
        return self._binary("greater", other)

    def __ge__(self, other: Any) -> Any:
        return self._binary("greater_equal", other)

    def __eq__(self, other: Any) -> Any:
        return self._binary("equal", other)

    def __ne__(self, other: Any) -> Any:
        return self._binary("not_equal", other)

    def __neg__(self) -> Any:
        return self._unary("negative")

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self._unary("abs")

    def __round__(self, ndigits: int | None = None) -> Any:
        if ndigits is None:
            return self._unary("round")
        scale = 10.0 ** abs(ndigits)
        return (self * scale).__round__() / scale if ndigits >= 0 else (self / scale).__round__() * scale

    def __invert__(self) -> Any:
        return self._unary("invert")

    def __iadd__(self, other: Any) -> Any:
        return self._in_place("add", other)

    def __isub__(self, other: Any) -> Any:
        return self._in_place("subtract", other)

    def __imul__(self, other: Any) -> Any:
        return self._in_place("multiply", other)

    def __itruediv__(self, other: Any) -> Any:
        return self._in_place("divide", other)

    def __ifloordiv__(self, other: Any) -> Any:
        return self._in_place("floor_divide", other)

    def __imod__(self, other: Any) -> Any:
        return self._in_place("remainder", other)

    def __ipow__(self, other: Any) -> Any:  # type: ignore[misc]
        return self._in_place("power", other)

    def __imatmul__(self, other: Any) -> Any:
        return self._in_place("matmul", other)

    def __iand__(self, other: Any) -> Any:
        return self._in_place("bitwise_and", other)

    def __ior__(self, other: Any) -> Any:
        return self._in_place("bitwise_or", other)

    def __ixor__(self, other: Any) -> Any:
        return self._in_place("bitwise_xor", other)

    # ---- the array API's protocol of exchange ------------------------------------------------------------------------
    def __dlpack__(self, **options: Any) -> Any:
        raise cut("The loan of a traced value to another library by DLPack", EXPLICIT)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU
