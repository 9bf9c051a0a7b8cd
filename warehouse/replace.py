"""Replace a table's rows by newly computed ones, and touch only those that differ."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import polars as pl


def replace_rows(
    con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, *, keys: Sequence[str], run_id: str
) -> int:
    """Make a table hold exactly the rows of a frame; call it inside a transaction.

    Args:
        con: the lake's connection.
        table: with its schema; its columns are the frame's and ``run_id``.
        frame: the new rows, unique by ``keys``.
        keys: columns that identify a row; they may be NULL.
        run_id: stands in every row that is written; rows that stay as they are keep theirs.

    Returns:
        Rows removed and rows inserted.
    """
    name = f"new_{table.replace('.', '_')}"
    con.register(name, frame.to_arrow())
    try:
        same = " and ".join(f"new.{column} is not distinct from old.{column}" for column in frame.columns)
        by_key = " and ".join(f"new.{column} is not distinct from old.{column}" for column in keys)
        removed = con.execute(
            f"delete from {table} as old where not exists (select 1 from {name} as new where {same})"
        ).fetchone()
        columns = ", ".join(frame.columns)
        inserted = con.execute(
            f"insert into {table} by name select {columns}, ?::varchar as run_id from {name} as new"
            f" where not exists (select 1 from {table} as old where {by_key})",
            [run_id],
        ).fetchone()
    finally:
        con.unregister(name)
    return sum(int(row[0]) for row in (removed, inserted) if row is not None)
