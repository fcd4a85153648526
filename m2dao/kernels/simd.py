"""Eight float32 lanes as a Numba type: kernels say exactly what is vectorised.

LLVM's automatic vectoriser gives up on the rasteriser's inner loop (many arrays that might alias, a branch per pixel,
a call to exp). Here each operation becomes one LLVM vector instruction: one AVX instruction where the processor has
them, two or more narrower ones elsewhere. Usable inside ``numba.njit`` functions only.

A ``float8`` supports + - * between two vectors. Numbers become vectors with ``splat8``.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 8
_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_FLOAT8 = ir.VectorType(_FLOAT, LANES)
_INT8 = ir.VectorType(_INT, LANES)
_CONTRACT = ("contract",)  # a*b+c may become one fused instruction


class Float8Type(types.Type):
    """Eight float32 values in one register."""

    def __init__(self):
        super().__init__(name="float8")


float8 = Float8Type()


@register_model(Float8Type)
class _Float8Model(models.PrimitiveModel):
    def __init__(self, data_model_manager, numba_type):
        super().__init__(data_model_manager, numba_type, _FLOAT8)


def _element_pointer(context, builder, array_type, array, index):
    """Pointer to eight elements of a one-dimensional contiguous float32 array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOAT8.as_pointer())


def _is_float_array(numba_type) -> bool:
    return isinstance(numba_type, types.Array) and numba_type.ndim == 1 and numba_type.dtype == types.float32


@intrinsic
def load8(typing_context, array, index):
    """``array[index : index + 8]``; the caller guarantees the bounds."""
    if not (_is_float_array(array) and isinstance(index, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        index_value = context.cast(builder, args[1], signature.args[1], types.intp)
        pointer = _element_pointer(context, builder, signature.args[0], args[0], index_value)
        value = builder.load(pointer)
        value.align = 4
        return value

    return float8(array, index), codegen


@intrinsic
def store8(typing_context, array, index, value):
    """``array[index : index + 8] = value``; the caller guarantees the bounds."""
    if not (_is_float_array(array) and isinstance(index, types.Integer) and value is float8):
        return None

    def codegen(context, builder, signature, args):
        index_value = context.cast(builder, args[1], signature.args[1], types.intp)
        pointer = _element_pointer(context, builder, signature.args[0], args[0], index_value)
        builder.store(args[2], pointer).align = 4
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


@intrinsic
def get(typing_context, array, index):
    """``array[index]`` without Python's negative indices, which cost two instructions; bounds as above."""
    if not (_is_float_array(array) and isinstance(index, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        index_value = context.cast(builder, args[1], signature.args[1], types.intp)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [index_value]))

    return types.float32(array, index), codegen


@intrinsic
def put(typing_context, array, index, value):
    """``array[index] = value``, like ``get``."""
    if not (_is_float_array(array) and isinstance(index, types.Integer) and isinstance(value, types.Number)):
        return None

    def codegen(context, builder, signature, args):
        index_value = context.cast(builder, args[1], signature.args[1], types.intp)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store(
            context.cast(builder, args[2], signature.args[2], types.float32), builder.gep(data, [index_value])
        )
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


@intrinsic
def splat8(typing_context, number):
    """The same number in all lanes."""
    if not isinstance(number, (types.Float, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        scalar = context.cast(builder, args[0], signature.args[0], types.float32)
        first = builder.insert_element(ir.Constant(_FLOAT8, ir.Undefined), scalar, ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, ir.Constant(_FLOAT8, ir.Undefined), ir.Constant(_INT8, [0] * LANES))

    return float8(number), codegen


@intrinsic
def lane_numbers8(typing_context):
    """0, 1, ... 7."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_FLOAT8, [float(lane) for lane in range(LANES)])

    return float8(), codegen


def _binary(emit):
    """An intrinsic of two vectors from a function that emits its instruction."""

    @intrinsic
    def operation(typing_context, left, right):
        if left is not float8 or right is not float8:
            return None

        def codegen(context, builder, signature, args):
            return emit(builder, *args)

        return float8(left, right), codegen

    return operation


def _extremum(name: str):
    """LLVM's own minimum or maximum; compare-and-select may turn into slow masked stores."""

    def emit(builder, left, right):
        function = builder.module.declare_intrinsic(name, (), ir.FunctionType(_FLOAT8, [_FLOAT8, _FLOAT8]))
        return builder.call(function, [left, right], fastmath=("nnan", "nsz"))

    return emit


_add = _binary(lambda builder, left, right: builder.fadd(left, right, flags=_CONTRACT))
_subtract = _binary(lambda builder, left, right: builder.fsub(left, right, flags=_CONTRACT))
_multiply = _binary(lambda builder, left, right: builder.fmul(left, right, flags=_CONTRACT))
divide8 = _binary(lambda builder, left, right: builder.fdiv(left, right))
minimum8 = _binary(_extremum("llvm.minnum.v8f32"))
maximum8 = _binary(_extremum("llvm.maxnum.v8f32"))


@overload(operator.add)
def _overload_add(left, right):
    if left is float8 and right is float8:
        return lambda left, right: _add(left, right)
    return None


@overload(operator.sub)
def _overload_subtract(left, right):
    if left is float8 and right is float8:
        return lambda left, right: _subtract(left, right)
    return None


@overload(operator.mul)
def _overload_multiply(left, right):
    if left is float8 and right is float8:
        return lambda left, right: _multiply(left, right)
    return None


def _choice(comparison: str):
    """An intrinsic ``f(a, b, yes, no)`` that picks lanes of ``yes`` where the comparison of a and b holds."""

    @intrinsic
    def operation(typing_context, left, right, yes, no):
        if any(argument is not float8 for argument in (left, right, yes, no)):
            return None

        def codegen(context, builder, signature, args):
            return builder.select(builder.fcmp_ordered(comparison, args[0], args[1]), args[2], args[3])

        return float8(left, right, yes, no), codegen

    return operation


where_ge8 = _choice(">=")  # yes where left >= right, else no
where_gt8 = _choice(">")  # yes where left > right, else no


@intrinsic
def any_gt8(typing_context, left, right):
    """Whether left > right in any lane."""
    if left is not float8 or right is not float8:
        return None

    def codegen(context, builder, signature, args):
        mask = builder.fcmp_ordered(">", args[0], args[1])
        bits = builder.bitcast(mask, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(left, right), codegen


@intrinsic
def sum8(typing_context, vector):
    """Sum of the lanes, always in the same order (pairs, then pairs of pairs)."""
    if vector is not float8:
        return None

    def codegen(context, builder, signature, args):
        total = args[0]
        for width in (4, 2, 1):
            order = [(lane + width) % LANES for lane in range(LANES)]
            shifted = builder.shuffle_vector(total, ir.Constant(_FLOAT8, ir.Undefined), ir.Constant(_INT8, order))
            total = builder.fadd(total, shifted)
        return builder.extract_element(total, ir.Constant(_INT, 0))

    return types.float32(vector), codegen


# 2^f for f in [-0.5, 0.5], minimax in relative error (Remez exchange): 7.5e-8, with float32 rounding 2.1e-7.
_EXP2_COEFFICIENTS = (
    1.0000001192092896,
    0.6931469440460205,
    0.24022120237350464,
    0.05550713092088699,
    0.009675540961325169,
    0.0013276472454890609,
)
_ROUNDING_MAGIC = 12582912.0  # 1.5 * 2^23: adding it leaves the rounded integer in the low mantissa bits


# Constants for exp2_8, each eight times. Loaded from memory they are operands of the arithmetic itself; written as
# constants, the compiler fetches each by two more instructions in every round of a loop that has no registers left.
EXP2_TABLE = np.repeat(np.float32([_ROUNDING_MAGIC, *_EXP2_COEFFICIENTS[::-1]]), LANES)


@intrinsic
def exp2_8(typing_context, vector, table, offset):
    """2**x for x in [-126, 126], garbage beyond; relative error below 3e-7, no branches.

    ``table`` is a float32 array that holds a copy of ``EXP2_TABLE`` from element ``offset`` on.
    """
    if vector is not float8 or not (_is_float_array(table) and isinstance(offset, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        x = args[0]
        first = context.cast(builder, args[2], signature.args[2], types.intp)

        def entry(number):
            index = builder.add(first, ir.Constant(first.type, number * LANES))
            value = builder.load(_element_pointer(context, builder, signature.args[1], args[1], index))
            value.align = 4
            return value

        # Adding and subtracting the magic number rounds, so these must not be simplified away.
        magic = entry(0)
        shifted = builder.fadd(x, magic)
        fraction = builder.fsub(x, builder.fsub(shifted, magic))
        power = entry(1)
        for number in range(2, 2 + len(_EXP2_COEFFICIENTS) - 1):
            product = builder.fmul(power, fraction, flags=_CONTRACT)
            power = builder.fadd(product, entry(number), flags=_CONTRACT)
        exponent = builder.shl(builder.bitcast(shifted, _INT8), ir.Constant(_INT8, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(power, _INT8), exponent), _FLOAT8)

    return float8(vector, table, offset), codegen


@intrinsic
def fetch_add(typing_context, array, amount):
    """Adds to ``array[0]`` (int64) atomically and returns what was there before: a queue's next number."""
    if not (isinstance(array, types.Array) and array.dtype == types.int64):
        return None

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        amount_value = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.atomic_rmw("add", data, amount_value, "monotonic")

    return types.int64(array, amount), codegen
