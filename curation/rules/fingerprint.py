"""One number for a whole set of decisions, the same in whatever order and batches they come, and on every machine.

DuckDB's own ``hash`` may change from version to version, and MD5 of ten million rows takes seconds. So rows are hashed
here, column by column, with the finalizer of splitmix64 (Steele, Lea and Flood 2014), and summed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_NO_NUMBER = -1.0
_WORD_BYTES = 8

Words: TypeAlias = npt.NDArray[np.uint64]


def fingerprint(batches: Iterable[pa.RecordBatch]) -> str:
    """Hash of a multiset of rows, 128 bits in hexadecimal.

    Args:
        batches: rows of strings, booleans, integers and floats that are not below 0; NULL differs from every value.
            Columns count by their order, not by their names.
    """
    total = np.zeros(2, dtype=np.uint64)
    for batch in batches:
        rows = np.zeros(batch.num_rows, dtype=np.uint64)
        for column in batch.columns:
            if pa.types.is_string(column.type):
                rows = _with_strings(rows, column)
            elif pa.types.is_floating(column.type):
                rows = _with(rows, _floats(column).view(np.uint64))
            else:
                rows = _with(rows, _integers(column).view(np.uint64))
        total += np.array([rows.sum(dtype=np.uint64), _mix(rows ^ _FIRST).sum(dtype=np.uint64)], dtype=np.uint64)
    return "".join(f"{int(each):016x}" for each in total)


def _mix(words: Words) -> Words:
    """Finalizer of splitmix64, modulo 2^64, in place. Shape (N,)."""
    words ^= words >> np.uint64(30)
    words *= _FIRST
    words ^= words >> np.uint64(27)
    words *= _SECOND
    words ^= words >> np.uint64(31)
    return words


def _with(rows: Words, words: Words) -> Words:
    """Hashes of rows with one more word each. Shapes (N,)."""
    mixed = rows * _STEP
    mixed += words
    mixed += _STEP
    return _mix(mixed)


def _floats(column: pa.Array) -> npt.NDArray[np.float64]:
    values = pc.fill_null(column.cast(pa.float64()), _NO_NUMBER).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values) + 0.0  # -0.0 becomes 0.0


def _integers(column: pa.Array) -> npt.NDArray[np.int64]:
    values = pc.fill_null(column.cast(pa.int64()), np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values)


def _with_strings(rows: Words, column: pa.Array) -> Words:
    """Hashes of rows with their strings: the bytes in words of eight, then the length plus one, 0 for NULL."""
    lengths = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    width = int(-(-lengths.max(initial=0) // _WORD_BYTES) * _WORD_BYTES)
    is_even = bool((lengths == width).all())
    words = _bytes(column, lengths, width).view("<u8")
    for place in range(words.shape[1]):
        more = _with(rows, words[:, place])
        rows = more if is_even else np.where(lengths > place * _WORD_BYTES, more, rows)
    return _with(rows, (lengths + 1).astype(np.uint64))


def _bytes(column: pa.Array, lengths: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint8]:
    """The strings side by side, filled up with zeros. Shape (N, width)."""
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(column.buffers()[2] or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    if (lengths == width).all():
        return np.ascontiguousarray(data).reshape(len(column), width)
    padded = np.zeros((len(column), width), dtype=np.uint8)
    padded[np.arange(width) < lengths[:, None]] = data
    return padded
