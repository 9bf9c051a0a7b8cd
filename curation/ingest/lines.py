"""A byte stream as batches of numbered lines, in memory that depends on the batch and not on the stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.ingest.rows import ROWS
from schemas.quarantine import Reason


def read_lines(stream: BinaryIO, *, batch_bytes: int, max_row_bytes: int, max_payload_bytes: int) -> Iterator[pa.Table]:
    """Split a stream at line feeds.

    A line above ``max_row_bytes`` comes as its first ``max_payload_bytes`` with the reason ``row_too_large``. Blank
    lines come too, so that a row's number is the number of its line.

    Yields:
        Tables of the schema :data:`ROWS`.
    """
    row = 0
    for whole_lines in _whole_lines(stream, batch_bytes, max_row_bytes):
        table = _table(whole_lines, row, max_row_bytes, max_payload_bytes)
        row += table.num_rows
        yield table


def _whole_lines(stream: BinaryIO, batch_bytes: int, max_row_bytes: int) -> Iterator[bytes]:
    """Chunks that end with a line feed (but the last); a line above the limit is cut just beyond it."""
    rest = b""
    is_first = True
    while chunk := stream.read(batch_bytes):
        if is_first:
            chunk, is_first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        buffer = rest + chunk
        cut = buffer.rfind(b"\n") + 1
        rest = buffer[cut:]
        if cut:
            yield buffer[:cut]
        if len(rest) > max_row_bytes:
            head = rest[: max_row_bytes + 1]
            rest = _skip_line(stream, batch_bytes)
            yield head + b"\n"
    if rest:
        yield rest


def _skip_line(stream: BinaryIO, batch_bytes: int) -> bytes:
    """Read on to the end of the line; what follows it in the last chunk."""
    while chunk := stream.read(batch_bytes):
        end = chunk.find(b"\n")
        if end >= 0:
            return chunk[end + 1 :]
    return b""


def _table(whole_lines: bytes, first_row: int, max_row_bytes: int, max_payload_bytes: int) -> pa.Table:
    data = np.frombuffer(whole_lines, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n")) + 1
    if len(ends) == 0 or ends[-1] != len(data):
        ends = np.append(ends, len(data))
    offsets = np.concatenate([np.zeros(1, np.int64), ends.astype(np.int64)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(whole_lines)]
    lines = pa.Array.from_buffers(pa.large_binary(), len(ends), buffers)
    reasons = pa.nulls(len(lines), pa.string())
    too_large = np.diff(offsets) > max_row_bytes
    if too_large.any():
        heads = [lines[int(i)].as_buffer().to_pybytes()[:max_payload_bytes] for i in np.flatnonzero(too_large)]
        mask = pa.array(too_large)
        lines = pc.replace_with_mask(lines, mask, pa.array(heads, pa.large_binary()))
        reasons = pc.if_else(mask, Reason.ROW_TOO_LARGE.value, reasons)
    numbers = pa.array(np.arange(first_row, first_row + len(lines)))
    return pa.table([numbers, lines, reasons], schema=ROWS)
