"""Vectors of eight doubles for compiled functions: each instruction works on eight atoms.

Loops over small arrays are not reliably vectorised, since the compiler cannot know that arrays do
not overlap. Explicit vectors are, on any processor: LLVM divides them where its registers are
shorter. Sums are evaluated as written, except that a product and a sum may become one instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES: Final = 8
"""Doubles in a vector."""

_VECTOR: Final = ir.VectorType(ir.DoubleType(), LANES)
_SQUARE_ROOT: Final = f"llvm.sqrt.v{LANES}f64"
_ALIGNMENT: Final = 8
_FLAGS: Final = ("contract",)


class _LanesType(types.Type):  # type: ignore[misc]  # numba has no types
    def __init__(self) -> None:
        super().__init__(name=f"Lanes({LANES})")


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


_lanes: Final = _LanesType()


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def load(_: Any, array: Any, index: Any) -> Any:
    """The eight numbers of a one-dimensional array from an index on."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = builder.load(_address(context, builder, signature.args[0], *arguments))
        found.align = _ALIGNMENT
        return found

    return _lanes(array, types.intp), code


@intrinsic
def store(_: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write eight numbers into a one-dimensional array from an index on."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *place, value = arguments
        written = builder.store(value, _address(context, builder, signature.args[0], *place))
        written.align = _ALIGNMENT
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), code


@intrinsic
def spread(_: Any, number: Any) -> Any:
    """Eight times the same number."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, arguments[0], ir.Constant(ir.IntType(32), 0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, nothing, places)

    return _lanes(types.float64), code


def _operation(name: str) -> Callable[[Any, Any], Any]:
    """A compiled function of two vectors."""

    @intrinsic
    def operation(_: Any, one: Any, other: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments, flags=_FLAGS)

        return _lanes(one, other), code

    return operation


add, subtract, multiply, divide = (_operation(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def root(_: Any, vector: Any) -> Any:
    """Square roots."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, _SQUARE_ROOT)
        return builder.call(function, arguments)

    return _lanes(vector), code
