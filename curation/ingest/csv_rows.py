"""CSV and TSV as JSON rows: every field a text, an empty one absent."""

from __future__ import annotations

from typing import Any, BinaryIO

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv

from curation.ingest.candidates import identifier
from curation.ingest.rows import ROWS, RowBatches
from curation.ingest.settings import IngestSettings
from schemas.errors import SourceError
from schemas.quarantine import Reason

_HEADER_BYTES = 1 << 16
_DELIMITERS = ",\t;|"


def read_csv(stream: BinaryIO, name: str, settings: IngestSettings, file: BinaryIO) -> RowBatches:
    """Rows of a CSV file with a header; the delimiter is the one that the header has most of.

    A row with too many or too few fields comes with the reason ``bad_csv_row``.

    Args:
        stream: decompressed bytes, buffered, so that the header can be peeked at.
        name: of the file, for errors.
        file: whose ``tell()`` is how far reading has come.

    Raises:
        SourceError: there is no header, it is not UTF-8, a column stands in it twice, or quotes do not close.
    """
    header = stream.peek(_HEADER_BYTES)[:_HEADER_BYTES]  # type: ignore[attr-defined]
    delimiter, columns = _header(header, name)
    bad: list[tuple[int, str]] = []

    def set_aside(row: Any) -> str:
        bad.append((row.number - 2, row.text))  # numbered from 1, and the header is the first
        return "skip"

    try:
        reader = pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=settings.batch_bytes),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.binary()), strings_can_be_null=False
            ),
        )
        yield from _batches(reader, bad, file)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{name} is not valid CSV: {error}", mend="close its quotes, or write it again") from error


def _header(head: bytes, name: str) -> tuple[str, list[str]]:
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    try:
        first.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} has a CSV header that is not UTF-8", mend="save the file as UTF-8") from error
    delimiter = max(_DELIMITERS, key=lambda each: first.count(each.encode()))
    options = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        columns = pyarrow.csv.read_csv(pa.BufferReader(head[: head.find(b"\n") + 1] or head), parse_options=options)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{name} has no CSV header: {error}", mend="give a file with column names") from error
    names = columns.column_names
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise SourceError(f"{name} has the column {twice[0]!r} twice", mend="rename one of them")
    return delimiter, names


def _batches(reader: Any, bad: list[tuple[int, str]], file: BinaryIO) -> RowBatches:
    with duckdb.connect() as con:
        next_row = done = 0
        for batch in reader:
            numbers, next_row, skipped = _numbers(next_row, batch.num_rows, bad)
            now = file.tell()
            yield pa.concat_tables([_as_json(con, batch, numbers), _bad_rows(skipped)]), now - done
            done = now
    if bad:
        yield _bad_rows(bad), 0


def _numbers(first: int, num_rows: int, bad: list[tuple[int, str]]) -> tuple[np.ndarray, int, list[tuple[int, str]]]:
    """Row numbers of a batch: those from ``first`` on that are not bad; and the bad rows among them, taken out."""
    numbers = np.arange(first, first + num_rows + len(bad))
    numbers = numbers[~np.isin(numbers, [row for row, _ in bad])][:num_rows]
    end = int(numbers[-1]) + 1 if num_rows else first
    skipped = [each for each in bad if each[0] < end]
    bad[:] = [each for each in bad if each[0] >= end]
    return numbers, end, skipped


def _as_json(con: duckdb.DuckDBPyConnection, batch: pa.RecordBatch, numbers: np.ndarray) -> pa.Table:
    names = list(batch.schema.names)
    fields = ", ".join(f"{identifier(name)} := nullif(try(decode({identifier(name)})), '')" for name in names)
    broken = " or ".join(f"try(decode({identifier(name)})) is null" for name in names)
    con.register("batch", pa.Table.from_batches([batch]).append_column("winnow row", pa.array(numbers)))
    table = con.execute(
        f"""select "winnow row" as source_row, encode(to_json(struct_pack({fields}))::varchar) as line,
            case when {broken} then '{Reason.INVALID_UTF8}' end as reason from batch"""
    ).to_arrow_table()
    return table.cast(ROWS)


def _bad_rows(rows: list[tuple[int, str]]) -> pa.Table:
    columns = [[row for row, _ in rows], [text.encode() for _, text in rows], [Reason.BAD_CSV_ROW.value] * len(rows)]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, ROWS, strict=True)], schema=ROWS)
