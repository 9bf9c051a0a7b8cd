"""Bring the rows of one key together, wherever they stand in a file: an external sort."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from curation.ingest.candidates import literal
from curation.ingest.rows import ROWS, RowBatches
from curation.ingest.settings import IngestSettings

_BATCH_ROWS = 1 << 12


def grouped(
    batches: RowBatches, key: str, settings: IngestSettings, *, temporary_directory: str | None = None
) -> RowBatches:
    """The same rows, sorted by a hash of their key; no key is cut by the end of a batch.

    The bytes read are reported as they come in; the sorted rows come with none.

    Args:
        key: SQL over ``doc``.
        temporary_directory: where DuckDB spills what does not fit into ``memory_limit``.
    """
    with duckdb.connect(config={"memory_limit": settings.memory_limit}) as con:
        if temporary_directory is not None:
            con.execute(f"set temp_directory = {literal(temporary_directory)}")
        con.execute("create temp table kept (source_row bigint, line blob, reason varchar, key ubigint)")
        for batch, num_bytes in batches:
            con.register("batch", batch)
            con.execute(
                f"insert into kept select source_row, line, reason, case when json_valid(doc) then hash({key}) end"
                " from (select *, try(decode(line)) as doc from batch)"
            )
            con.unregister("batch")
            yield ROWS.empty_table(), num_bytes
        reader = con.execute("select * from kept order by key nulls first, source_row").to_arrow_reader(_BATCH_ROWS)
        yield from _whole_groups(reader)


def _whole_groups(reader: pa.RecordBatchReader) -> RowBatches:
    rest: pa.Table | None = None
    for batch in reader:
        table = pa.Table.from_batches([batch])
        table = table if rest is None else pa.concat_tables([rest, table])
        keys = table["key"].to_numpy()
        is_last = keys == keys[-1]
        if is_last.all():
            rest = table
            continue
        cut = int(is_last.argmax())
        yield table.slice(0, cut).select(ROWS.names).cast(ROWS), 0
        rest = table.slice(cut)
    if rest is not None:
        yield rest.select(ROWS.names).cast(ROWS), 0
