"""Parquet and Arrow files, and any stream of Arrow tables, as JSON rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.ingest.candidates import identifier
from curation.ingest.rows import ROWS, RowBatches
from curation.ingest.settings import IngestSettings
from schemas.errors import SourceError
from schemas.quarantine import Reason

_MOST_ROWS = 1 << 16
_LEAST_ROWS = 64


def read_parquet(path: Path, settings: IngestSettings) -> RowBatches:
    """Rows of a Parquet file, a page at a time.

    Raises:
        SourceError: it is not Parquet, or broken.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            groups = range(file.metadata.num_row_groups)
            size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
            num_rows = file.metadata.num_rows
            batches = file.iter_batches(batch_size=_batch_rows(size, num_rows, settings))
            yield from _spread(as_rows(pa.Table.from_batches([b]) for b in batches), path.stat().st_size, num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {error}", mend="write it again") from error


def read_arrow(path: Path, settings: IngestSettings) -> RowBatches:
    """Rows of an Arrow IPC file or stream (Feather 2, ``datasets``), memory-mapped.

    Raises:
        SourceError: it is not Arrow, or broken.
    """
    try:
        with pa.memory_map(str(path)) as source:
            yield from as_rows(_sliced(_record_batches(source), settings))
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path} cannot be read as Arrow: {error}", mend="write it again") from error


def as_rows(tables: Iterable[pa.Table]) -> RowBatches:
    """Number the rows of Arrow tables and write each as JSON; a row whose text is not UTF-8 has its reason.

    The bytes that come with a batch are those that it takes in memory.
    """
    first = 0
    with duckdb.connect() as con:
        for table in tables:
            if table.num_rows:
                yield _as_json(con, table, first), table.nbytes
                first += table.num_rows


def _record_batches(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    head = source.read(6)
    source.seek(0)
    if head == b"ARROW1":
        file = pa.ipc.open_file(source)
        for number in range(file.num_record_batches):
            yield file.get_batch(number)
    else:
        yield from pa.ipc.open_stream(source)


def _sliced(batches: Iterable[pa.RecordBatch], settings: IngestSettings) -> Iterator[pa.Table]:
    for batch in batches:
        size = _batch_rows(batch.nbytes, batch.num_rows, settings)
        for start in range(0, batch.num_rows, size):
            yield pa.Table.from_batches([batch.slice(start, size)])


def _batch_rows(num_bytes: int, num_rows: int, settings: IngestSettings) -> int:
    """Rows that make about ``batch_bytes``."""
    wanted = settings.batch_bytes * max(num_rows, 1) // max(num_bytes, 1)
    return max(_LEAST_ROWS, min(_MOST_ROWS, wanted))


def _spread(batches: RowBatches, num_bytes: int, num_rows: int) -> RowBatches:
    """Batches with the file's bytes shared out by rows."""
    for batch, _ in batches:
        yield batch, num_bytes * batch.num_rows // max(num_rows, 1)


def _as_json(con: duckdb.DuckDBPyConnection, table: pa.Table, first: int) -> pa.Table:
    fields = {name: identifier(name) for name in table.column_names}
    broken = "false"
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        table, texts = _texts_as_bytes(table)
        broken = " or ".join(f"({n} is not null and try(decode({n})) is null)" for n in map(identifier, texts))
        fields |= {name: f"try(decode({identifier(name)}))" for name in texts}
    packed = ", ".join(f"{identifier(name)} := {sql}" for name, sql in fields.items())
    numbers = pa.array(np.arange(first, first + table.num_rows))
    con.register("batch", table.append_column("winnow row", numbers))
    rows = con.execute(
        f"""select "winnow row" as source_row, encode(to_json(struct_pack({packed}))::varchar) as line,
            case when {broken} then '{Reason.INVALID_UTF8}' end as reason from batch"""
    ).to_arrow_table()
    return rows.cast(ROWS)


def _texts_as_bytes(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """The table with its text columns as bytes, and their names."""
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    for name in texts:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.large_binary()))
    return table, texts
