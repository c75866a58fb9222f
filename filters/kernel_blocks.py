"""Sixty-four bytes at a time: one bit a byte for each class of bytes that a kernel asks about.

`class_masks` makes an intrinsic that loads 64 bytes and compares them all at once, which Numba's
own vectoriser does not do. It is plain LLVM vector code without instructions of one processor.
Bit k of a mask is the byte k places after the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

_HALF = 32  # bytes a vector: what AVX2 registers hold; others are split by LLVM
_BYTE = ir.IntType(8)
_BITS = ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, _HALF)

Class = tuple[bool, tuple[tuple[int, int], ...]]


def among(*ranges: int | tuple[int, int]) -> Class:
    """The class of these bytes and inclusive ranges of bytes."""
    return False, tuple((r, r) if isinstance(r, int) else r for r in ranges)


def letter(char: str) -> Class:
    """The class of an ASCII letter in either case; given in lower case."""
    return True, ((ord(char), ord(char)),)


def _constant(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * _HALF)


def _mask(builder: Any, halves: list[Any], wanted: Class) -> Any:
    """Code for the mask of one class; `halves` are (bytes, bytes with bit 0x20 set) each."""
    folded, ranges = wanted
    words = []
    for half in halves:
        vector = half[folded]
        hits = None
        for low, high in ranges:
            if low == high:
                hit = builder.icmp_unsigned("==", vector, _constant(low))
            elif high == 0xFF:
                hit = builder.icmp_unsigned(">=", vector, _constant(low))
            else:
                above = builder.sub(vector, _constant(low))
                hit = builder.icmp_unsigned("<=", above, _constant(high - low))
            hits = hit if hits is None else builder.or_(hits, hit)
        words.append(builder.zext(builder.bitcast(hits, ir.IntType(_HALF)), _BITS))
    return builder.or_(words[0], builder.shl(words[1], ir.Constant(_BITS, _HALF)))


def class_masks(*classes: Class) -> Callable[..., Any]:
    """An intrinsic (text: uint8[], at: int64) -> a tuple of one uint64 mask for each class.

    It reads text[at : at + 64] without a check of bounds.
    """

    @intrinsic
    def masks(typing: Any, text: Any, at: Any) -> Any:
        result = types.UniTuple(types.uint64, len(classes))  # type: ignore[attr-defined]
        signature = result(text, types.int64)

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, args[0])
            halves = []
            for k in range(2):
                place = builder.add(args[1], ir.Constant(_BITS, k * _HALF))
                pointer = builder.gep(array.data, [place])
                vector = builder.load(
                    builder.bitcast(pointer, _VECTOR.as_pointer()), align=1, typ=_VECTOR
                )
                halves.append((vector, builder.or_(vector, _constant(0x20))))
            found = [_mask(builder, halves, wanted) for wanted in classes]
            return context.make_tuple(builder, signature.return_type, found)

        return signature, code

    found: Callable[..., Any] = masks
    return found


@intrinsic
def ones(typing: Any, mask: Any) -> Any:
    """How many bits of a uint64 are set, as int64."""
    return types.int64(types.uint64), lambda _, builder, __, args: builder.ctpop(args[0])


@intrinsic
def lowest(typing: Any, mask: Any) -> Any:
    """Index of the lowest set bit of a uint64 that is not 0, as uint64."""
    return types.uint64(types.uint64), lambda _, builder, __, args: builder.cttz(
        args[0], ir.Constant(ir.IntType(1), 1)
    )


@intrinsic
def highest(typing: Any, mask: Any) -> Any:
    """Index of the highest set bit of a uint64 that is not 0, as int64."""
    return types.int64(types.uint64), lambda _, builder, __, args: builder.sub(
        ir.Constant(_BITS, 63), builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
    )
