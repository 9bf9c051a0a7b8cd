"""Loops that a CPU runs over values once, where torch makes a pass, and often a copy, for every operation.

They read bfloat16 as the upper half of float32, compute in float32, and take exp as a polynomial that the compiler
turns into vector instructions; its relative error is 2e-7. Each loop releases the interpreter lock and goes over the
rows that it is told to, so that :func:`curation.scoring.cpu_threads.in_parts` can hand the rows to several threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from curation.compiled import compiled
from curation.scoring.cpu_threads import in_parts

_inlined: Any = numba.njit(inline="always")

_INT32, _FLOAT32 = ir.IntType(32), ir.FloatType()
_LOG2_E = np.float32(1.4426950408889634)
_LEAST_POWER = np.float32(-126.0)  # of the smallest normal float32
_UNSEEN = np.float32(-1e30)  # a score of which exp is 0
_VECTOR = 32  # values that the compiled loops take at once, at most


@intrinsic
def _widen(_: Any, bits: Any) -> Any:
    """float32 of the bits of a bfloat16 (uint16) or of a float32 (uint32)."""

    def generate(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = arguments[0]
        if signature.args[0] is types.uint16:
            whole = builder.shl(builder.zext(whole, _INT32), ir.Constant(_INT32, 16))
        return builder.bitcast(whole, _FLOAT32)

    return types.float32(bits), generate


@intrinsic
def _order(_: Any, bits: Any) -> Any:
    """Bits of a float as a signed number in the floats' order, and back.

    So the greatest is found without comparing floats, where the compiler would have to care about NaN.
    """
    result = {
        types.uint16: types.int16,
        types.int16: types.uint16,
        types.uint32: types.int32,
        types.int32: types.uint32,
    }

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        width = arguments[0].type.width
        sign = builder.ashr(arguments[0], ir.Constant(arguments[0].type, width - 1))
        return builder.xor(arguments[0], builder.lshr(sign, ir.Constant(arguments[0].type, 1)))

    return result[bits](bits), generate


@intrinsic
def _narrow(_: Any, value: Any) -> Any:
    """Bits of the bfloat16 (uint16) that is nearest to a float32, halves to even."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _INT32)
        sixteen = ir.Constant(_INT32, 16)
        odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(_INT32, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(_INT32, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, sixteen), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def _nearest(_: Any, value: Any) -> Any:
    """The whole number nearest to a float32, as float32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [_FLOAT32]), arguments)

    return types.float32(types.float32), generate


@intrinsic
def _power_of_two(_: Any, whole: Any) -> Any:
    """2 ** n for a whole n from -126 to 127, given and returned as float32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        biased = builder.add(builder.fptosi(arguments[0], _INT32), ir.Constant(_INT32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(_INT32, 23)), _FLOAT32)

    return types.float32(types.float32), generate


@_inlined
def _exp2(x):  # type: ignore[no-untyped-def]
    """2 ** x for x below 128, and 0 for x below -126; the polynomial is Cephes' exp2f."""
    least = _LEAST_POWER if x < _LEAST_POWER else x  # so that NaN stays
    whole = _nearest(least)
    rest = least - whole
    value = np.float32(1.535336188319500e-4)
    value = value * rest + np.float32(1.339887440266574e-3)
    value = value * rest + np.float32(9.618437357674640e-3)
    value = value * rest + np.float32(5.550332471162809e-2)
    value = value * rest + np.float32(2.402264791363012e-1)
    value = value * rest + np.float32(6.931472028550421e-1)
    value = value * rest + np.float32(1.0)
    return np.float32(0.0) if x < _LEAST_POWER else value * _power_of_two(whole)


@compiled
def _log_sum_exp(first, last, bits, out):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        greatest = _order(bits[row, 0])
        for column in range(1, bits.shape[1]):
            greatest = max(greatest, _order(bits[row, column]))
        top = _widen(_order(greatest))
        shift = top * _LOG2_E
        total = np.float32(0.0)
        for column in range(bits.shape[1]):
            total += _exp2(_widen(bits[row, column]) * _LOG2_E - shift)
        out[row] = top + np.log(total)


@compiled
def _tree_softmax(first, last, bits, scale, start, count, prompt_end, begin, num_heads):  # type: ignore[no-untyped-def]
    width = bits.shape[2]
    # of a whole number of vectors, behind which the compiler would take exp of one value at a time
    weights = np.empty((width + _VECTOR - 1) // _VECTOR * _VECTOR, dtype=np.float32)
    factor = scale * _LOG2_E
    for head in range(first, last):
        tree = head // num_heads
        prompt = prompt_end[tree]
        for row in range(bits.shape[1]):
            place = start + row % count
            own = begin[tree, place]
            end = place + 1 if own >= 0 else 0  # nothing is seen from behind the row's end
            padded = (end + _VECTOR - 1) // _VECTOR * _VECTOR
            greatest = _order(bits[head, row, 0])  # every query sees the first key
            for key in range(1, min(prompt, end)):
                greatest = max(greatest, _order(bits[head, row, key]))
            for key in range(max(own, 0), end):
                greatest = max(greatest, _order(bits[head, row, key]))
            shift = _widen(_order(greatest)) * factor
            for key in range(end):
                score = _widen(bits[head, row, key]) * factor - shift
                weights[key] = score if key < prompt or key >= own else _UNSEEN
            for key in range(end, padded):
                weights[key] = _UNSEEN
            total = np.float32(0.0)
            for key in range(padded):
                weight = _exp2(weights[key])
                weights[key] = weight
                total += weight
            inverse = np.float32(1.0) / total if end else np.float32(0.0)
            for key in range(end):
                bits[head, row, key] = _narrow(weights[key] * inverse)
            for key in range(end, width):
                bits[head, row, key] = np.uint16(0)


@compiled
def _silu_product(first, last, both, out):  # type: ignore[no-untyped-def]
    size = out.shape[1]
    for row in range(first, last):
        for column in range(size):
            x = _widen(both[row, column])
            small = _exp2(-abs(x) * _LOG2_E)
            sigmoid = (small if x < np.float32(0.0) else np.float32(1.0)) / (np.float32(1.0) + small)
            out[row, column] = _narrow(x * sigmoid * _widen(both[row, size + column]))


@compiled
def _rms_norm(first, last, bits, weight, epsilon, out):  # type: ignore[no-untyped-def]
    size = bits.shape[1]
    for row in range(first, last):
        total = np.float32(0.0)
        for column in range(size):
            value = _widen(bits[row, column])
            total += value * value
        factor = np.float32(1.0) / np.sqrt(total / np.float32(size) + epsilon)
        for column in range(size):
            normal = _widen(_narrow(_widen(bits[row, column]) * factor))
            out[row, column] = _narrow(normal * _widen(weight[column]))


@compiled
def _add_rms_norm(first, last, bits, residual, weight, epsilon):  # type: ignore[no-untyped-def]
    size = bits.shape[1]
    sums = np.empty(size, dtype=np.float32)
    for row in range(first, last):
        total = np.float32(0.0)
        for column in range(size):
            value = _widen(bits[row, column]) + _widen(residual[row, column])
            sums[column] = value
            total += value * value
        factor = np.float32(1.0) / np.sqrt(total / np.float32(size) + epsilon)
        for column in range(size):
            residual[row, column] = _narrow(sums[column])
            bits[row, column] = _narrow(_widen(_narrow(sums[column] * factor)) * _widen(weight[column]))


@_inlined
def _turn(bits, row, offset, cos, sin, turned, out, head, place):  # type: ignore[no-untyped-def]
    """One head; ``turned`` lies in memory of its own, without which the compiler would fear for the inputs."""
    half = len(turned) // 2
    for i in range(half):
        one, other = _widen(bits[row, offset + i]), _widen(bits[row, offset + half + i])
        turned[i] = one * _widen(cos[row, i]) - other * _widen(sin[row, i])
    for i in range(half):
        one, other = _widen(bits[row, offset + i]), _widen(bits[row, offset + half + i])
        turned[half + i] = other * _widen(cos[row, half + i]) + one * _widen(sin[row, half + i])
    for i in range(2 * half):
        out[head, place, i] = _narrow(turned[i])


@compiled
def _rotated_heads(first, last, bits, cos, sin, length, queries, keys, values):  # type: ignore[no-untyped-def]
    size = keys.shape[2]
    turned = np.empty(size, dtype=np.float32)
    num_rows = bits.shape[0] // length
    num_heads, num_key_heads = queries.shape[0] // num_rows, keys.shape[0] // num_rows
    for row in range(first, last):
        tree, place = row // length, row % length
        for head in range(num_heads):
            _turn(bits, row, head * size, cos, sin, turned, queries, tree * num_heads + head, place)
        for head in range(num_key_heads):
            offset, into = (num_heads + head) * size, tree * num_key_heads + head
            _turn(bits, row, offset, cos, sin, turned, keys, into, place)
            offset += num_key_heads * size
            for i in range(size):
                values[into, place, i] = bits[row, offset + i]


def has_matrix_units(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products in this dtype run on instructions that are made for it: bfloat16 on a CPU that has them."""
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _bits(values: Tensor, *dtypes: torch.dtype) -> np.ndarray:
    if values.dtype not in (dtypes or (torch.bfloat16,)):
        raise TypeError(f"a loop over bfloat16 was given {values.dtype}")
    bits: np.ndarray = values.view(torch.uint16 if values.dtype == torch.bfloat16 else torch.uint32).numpy()
    return bits


def log_sum_exp(logits: Tensor) -> Tensor:
    """log of the sum of exp over the last dimension.

    Args:
        logits: bfloat16 or float32 on a CPU, shape (N, V).

    Returns:
        Shape (N,), float32.
    """
    out = torch.empty(len(logits), dtype=torch.float32)
    in_parts(_log_sum_exp, len(logits), logits.numel(), _bits(logits, torch.bfloat16, torch.float32), out.numpy())
    return out


def tree_softmax_(
    scores: Tensor, *, scale: float, start: int, count: int, prompt_end: Tensor, begin: Tensor, num_key_heads: int
) -> None:
    """Softmax of attention scores in place, over the keys that each query sees; 0 for the others.

    A query sees the keys before it that are in its row's prompt or in its own segment.

    Args:
        scores: bfloat16 on a CPU, shape (B * num_key_heads, heads of a key head * count, keys).
        scale: factor on the scores, > 0.
        start, count: place of the first query in its row, and how many there are; the first key has place 0.
        prompt_end: where each row's prompt ends, int64 of shape (B,).
        begin: where each place's own segment begins, -1 behind a row's end; int64 of shape (B, L).
        num_key_heads: heads of keys.
    """
    layout = (np.float32(scale), start, count, prompt_end.numpy(), begin.numpy(), num_key_heads)
    in_parts(_tree_softmax, len(scores), scores.numel(), _bits(scores), *layout)


def silu_product(both: Tensor) -> Tensor:
    """``silu(gate) * up``.

    Args:
        both: gate and up behind one another, bfloat16 on a CPU, shape (..., 2 D).

    Returns:
        Shape (..., D).
    """
    flat = both.flatten(0, -2).contiguous()
    out = torch.empty(len(flat), flat.shape[1] // 2, dtype=both.dtype)
    in_parts(_silu_product, len(flat), flat.numel(), _bits(flat), _bits(out))
    return out.view(*both.shape[:-1], out.shape[1])


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``x / sqrt(mean(x ** 2) + epsilon) * weight``, rounded before the weight as Llama does.

    Args:
        x: bfloat16 on a CPU, shape (..., D).
        weight: bfloat16, shape (D,).
        epsilon: added to the mean square.

    Returns:
        Shape (..., D).
    """
    flat = x.flatten(0, -2).contiguous()
    out = torch.empty_like(flat)
    in_parts(_rms_norm, len(flat), flat.numel(), _bits(flat), _bits(weight), np.float32(epsilon), _bits(out))
    return out.view(x.shape)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The RMS norm of ``x + residual``, taken before the sum is rounded, and the sum; what was given is overwritten.

    Args:
        x, residual: bfloat16 on a CPU, shape (..., D).
        weight, epsilon: as in :func:`rms_norm`.

    Returns:
        Both of the same shape, in the memory of ``x`` and ``residual`` where that is contiguous.
    """
    normal, total = x.contiguous(), residual.contiguous()
    rows = [_bits(values.view(-1, values.shape[-1])) for values in (normal, total)]
    in_parts(_add_rms_norm, len(rows[0]), x.numel(), *rows, _bits(weight), np.float32(epsilon))
    return normal, total


def rotated_heads(all_heads: Tensor, cos: Tensor, sin: Tensor, *, num_key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as they lie for products, queries and keys turned to their places by halves (RoPE).

    Args:
        all_heads: the heads of queries, then of keys, then of values; bfloat16 on a CPU, shape (B, L, heads * D).
        cos, sin: of each place, bfloat16, shape (B or 1, L, D).
        num_key_heads: K.

    Returns:
        Shapes (B, H, L, D), (B, K, L, D), (B, K, L, D).
    """
    batch, length, _ = all_heads.shape
    size = cos.shape[-1]
    num_heads = all_heads.shape[-1] // size - 2 * num_key_heads
    flat = all_heads.flatten(0, 1).contiguous()
    turns = [_bits(part.expand(batch, -1, -1).reshape(-1, size)) for part in (cos, sin)]
    out = [torch.empty(batch * count, length, size, dtype=flat.dtype) for count in (num_heads, *[num_key_heads] * 2)]
    in_parts(_rotated_heads, len(flat), flat.numel(), _bits(flat), *turns, length, *map(_bits, out))
    queries, keys, values = (part.view(batch, -1, length, size) for part in out)
    return queries, keys, values
