"""JSON that is not one object a line: a list of objects, or objects that span lines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.ingest.candidates import literal
from curation.ingest.rows import ROWS, RowBatches
from curation.ingest.settings import IngestSettings
from schemas.errors import SourceError
from schemas.quarantine import Reason

_BATCH_ROWS = 1 << 13


def read_json(path: Path, layout: Literal["array", "unstructured"], settings: IngestSettings) -> RowBatches:
    """Elements of a JSON list, or JSON values one after another; streamed.

    Args:
        path: plain, gzip or zstd file.

    Raises:
        SourceError: the file is not valid JSON from its beginning to its end; its rows cannot be told apart then.
    """
    most = settings.max_row_bytes * 8
    query = f"""
        select (row_number() over ()) - 1 as source_row, encode(json::varchar) as line, null::varchar as reason
        from read_json_objects({literal(str(path))}, format = '{layout}', maximum_object_size = {most},
            compression = '{_compression(path)}')
    """
    size, done = path.stat().st_size, 0
    try:
        with duckdb.connect(config={"threads": 1, "memory_limit": settings.memory_limit}) as con:
            for batch in con.execute(query).to_arrow_reader(_BATCH_ROWS):
                table = pa.Table.from_batches([batch]).cast(ROWS)
                num_bytes = min(table.nbytes, size - done)
                done += num_bytes
                yield _without_large(table, settings), num_bytes
    except duckdb.Error as error:
        raise SourceError(
            f"{path} is not valid JSON: {str(error).splitlines()[0]}", mend="mend it, or write one object a line"
        ) from error


def _compression(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if head == b"\x28\xb5\x2f\xfd" else "uncompressed"


def _without_large(table: pa.Table, settings: IngestSettings) -> pa.Table:
    too_large = pc.greater(pc.binary_length(table["line"]), settings.max_row_bytes)
    if not pc.any(too_large).as_py():
        return table
    heads = [line[: settings.max_payload_bytes] for line in table["line"].filter(too_large).to_pylist()]
    lines = pc.replace_with_mask(
        table["line"].combine_chunks(), too_large.combine_chunks(), pa.array(heads, pa.large_binary())
    )
    reasons = pc.if_else(too_large, Reason.ROW_TOO_LARGE.value, table["reason"])
    return pa.table([table["source_row"], lines, reasons], schema=ROWS)
