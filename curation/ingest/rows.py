"""A batch of rows as read, from whatever container."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

ROWS = pa.schema([("source_row", pa.int64()), ("line", pa.large_binary()), ("reason", pa.string())])
"""Row number from 0; the row as JSON text, or as it was read; and the reason if it is bad already."""

RowBatches = Iterator[tuple[pa.Table, int]]
"""Batches of the schema :data:`ROWS`, each with how many bytes of the file were read since the last one."""
