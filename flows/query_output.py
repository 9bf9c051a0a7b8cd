"""Results of ``winnow sql`` as a table, CSV, JSON, Parquet or a polars frame; streamed where the form allows it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa

from schemas.errors import QueryError

_MAX_WIDTH = 10_000


def write_table(reader: pa.RecordBatchReader, stream: IO[str], *, max_rows: int) -> None:
    """A table for people: the first ``max_rows`` rows, and whether there are more."""
    from rich.console import Console
    from rich.table import Table

    rows: list[tuple[Any, ...]] = []
    for batch in reader:
        rows += _tuples(batch.slice(0, max_rows + 1 - len(rows)))
        if len(rows) > max_rows:
            break
    table = Table(*reader.schema.names, header_style="bold")
    for row in rows[:max_rows]:
        table.add_row(*(_cell(value) for value in row))
    width = None if stream.isatty() else _MAX_WIDTH  # a pipe has no edge to wrap at
    console = Console(file=stream, highlight=False, markup=False, width=width)
    console.print(table)
    if len(rows) > max_rows:
        console.print(f"The first {max_rows} rows; --max-rows shows more, --format csv, json or parquet all.")


def write_csv(reader: pa.RecordBatchReader, stream: IO[bytes]) -> None:
    """CSV with a header; lists and structs as JSON."""
    is_first = True
    for batch in _batches(reader):
        stream.write(_flat(batch).write_csv(include_header=is_first).encode())
        is_first = False


def write_json(reader: pa.RecordBatchReader, stream: IO[bytes]) -> None:
    """One JSON array of objects, one object a line."""
    stream.write(b"[")
    separator = b"\n"
    for batch in _batches(reader):
        lines = batch.write_ndjson().encode().rstrip(b"\n")
        if lines:
            stream.write(separator + lines.replace(b"\n", b",\n"))
            separator = b",\n"
    stream.write(b"\n]\n")


def write_parquet(reader: pa.RecordBatchReader, path: Path) -> int:
    """A Parquet file; returns its rows."""
    import pyarrow.parquet as pq

    temporary = path.with_name(f".{path.name}.tmp")
    num_rows = 0
    try:
        with pq.ParquetWriter(temporary, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                num_rows += batch.num_rows
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return num_rows


def write_polars(reader: pa.RecordBatchReader, stream: IO[str]) -> None:
    """The frame as polars prints it."""
    stream.write(f"{pl.from_arrow(reader.read_all())}\n")


def write_result(reader: pa.RecordBatchReader, *, format: str, output: Path | None, max_rows: int) -> None:
    """Write a result in one of :data:`FORMATS` to a file, or to standard output.

    Raises:
        QueryError: the format is unknown, or Parquet is to go to a terminal.
    """
    if format not in FORMATS:
        raise QueryError(f"there is no output format {format!r}", mend=f"one of {', '.join(FORMATS)}")
    if format == "parquet":
        if output is None:
            raise QueryError("Parquet needs a file", mend="--output FILE.parquet")
        write_parquet(reader, output)
        return
    binary: dict[str, Callable[..., None]] = {"csv": write_csv, "json": write_json}
    if format in binary:
        if output is None:
            binary[format](reader, sys.stdout.buffer)
        else:
            with output.open("wb") as stream:
                binary[format](reader, stream)
        return
    with output.open("w", encoding="utf-8") if output else _unclosed() as text:
        if format == "table":
            write_table(reader, text, max_rows=max_rows)
        else:
            write_polars(reader, text)


FORMATS = ("table", "csv", "json", "parquet", "polars")


class _unclosed:  # noqa: N801 - a context, read like a function
    """Standard output, which a block must not close."""

    def __enter__(self) -> IO[str]:
        return sys.stdout

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()


def _batches(reader: pa.RecordBatchReader) -> Any:
    """Frames of the stream; one empty frame where there are no rows, so that a header is still written."""
    is_empty = True
    for batch in reader:
        is_empty = False
        yield pl.from_arrow(batch)
    if is_empty:
        yield pl.from_arrow(reader.schema.empty_table())


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.col(name).map_elements(lambda value: _json(value), return_dtype=pl.String) for name in nested
    )


def _tuples(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    columns = [column.to_pylist() for column in batch.columns]
    return list(zip(*columns, strict=True)) if columns else []


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | dict):
        return _json(value)
    return str(value)


def _json(value: Any) -> str:
    plain = value.to_list() if isinstance(value, pl.Series) else value
    return json.dumps(plain, ensure_ascii=False, default=str)
