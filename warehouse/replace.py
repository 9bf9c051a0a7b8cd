"""Replace a table's rows by newly computed ones, and touch only those that differ."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import polars as pl

_SLICE_ROWS = 500_000


def stage_rows(con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> str:
    """Copy a frame into a temporary table, which DuckDB spills where memory is short; returns the table's name.

    Args:
        con: the lake's connection.
        table: that the rows are meant for, with its schema.
        frame: the rows; copied some at a time.
    """
    bare = f"new_{table.replace('.', '_')}"
    con.execute(f"drop table if exists temp.{bare}")
    for start in range(0, max(len(frame), 1), _SLICE_ROWS):
        con.register("staged_slice", frame[start : start + _SLICE_ROWS].to_arrow())
        try:
            statement = f"create temp table {bare} as" if start == 0 else f"insert into temp.{bare}"
            con.execute(f"{statement} select * from staged_slice")
        finally:
            con.unregister("staged_slice")
    return f"temp.{bare}"


def replace_rows(con: duckdb.DuckDBPyConnection, table: str, staged: str, *, keys: Sequence[str], run_id: str) -> int:
    """Make a table hold exactly the staged rows; call it inside a transaction.

    Args:
        con: the lake's connection.
        table: with its schema; its columns are those of the staged rows and ``run_id``.
        staged: table of the new rows, of :func:`stage_rows`; unique by ``keys``.
        keys: columns that identify a row; they may be NULL.
        run_id: stands in every row that is written; rows that stay as they are keep theirs.

    Returns:
        Rows removed and rows inserted.
    """
    columns = [row[0] for row in con.execute(f"describe {staged}").fetchall()]
    same = " and ".join(f"new.{column} is not distinct from old.{column}" for column in columns)
    by_key = " and ".join(f"new.{column} is not distinct from old.{column}" for column in keys)
    removed = con.execute(
        f"delete from {table} as old where not exists (select 1 from {staged} as new where {same})"
    ).fetchone()
    inserted = con.execute(
        f"insert into {table} by name select {', '.join(columns)}, ?::varchar as run_id from {staged} as new"
        f" where not exists (select 1 from {table} as old where {by_key})",
        [run_id],
    ).fetchone()
    return sum(int(row[0]) for row in (removed, inserted) if row is not None)
