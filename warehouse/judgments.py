"""Insert staged judgments, prompts, responses and quarantine: each row once, whatever is in the lake already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb


@dataclass(frozen=True)
class Inserted:
    """Rows that were new to the lake."""

    judgments: int = 0
    prompts: int = 0
    responses: int = 0
    quarantine: int = 0

    @property
    def total(self) -> int:
        """Rows of all tables."""
        return self.judgments + self.prompts + self.responses + self.quarantine


def insert_staged(con: duckdb.DuckDBPyConnection, files: Mapping[str, Sequence[str]], run_id: str) -> Inserted:
    """Insert staged Parquet files, inside the caller's transaction.

    Args:
        files: paths by kind: ``judgments``, ``prompts``, ``responses``, ``quarantine``. No judgment or quarantined
            row stands twice in them; ``prompts`` and ``responses`` may, and have a ``position`` that is unique.
    """
    return Inserted(
        judgments=_insert_judgments(con, files["judgments"], run_id),
        prompts=_insert_first(con, "prompts", "prompt_id", "messages, source", files["prompts"], run_id),
        responses=_insert_first(
            con, "responses", "response_id", "prompt_id, text, model, source", files["responses"], run_id
        ),
        quarantine=_insert_quarantine(con, files["quarantine"], run_id),
    )


def _insert_judgments(con: duckdb.DuckDBPyConnection, files: Sequence[str], run_id: str) -> int:
    if not files:
        return 0
    return _count(
        con,
        """
        insert into raw.judgments by name
        with staged as (
            select * from read_parquet($files)
        ),

        scale as (
            select source, strength, dense_rank() over (partition by source order by strength) as strength_ordinal
            from (select distinct source, strength from staged where strength is not null)
        )

        select staged.*, try_cast(scale.strength_ordinal as smallint) as strength_ordinal, $run_id as run_id
        from staged
        left join scale on staged.source = scale.source and staged.strength = scale.strength
        anti join raw.judgments as known on staged.judgment_id = known.judgment_id
        """,
        files,
        run_id,
    )


def _insert_first(
    con: duckdb.DuckDBPyConnection, table: str, key: str, columns: str, files: Sequence[str], run_id: str
) -> int:
    """Insert the first row of every key that the lake lacks; only keys and positions are grouped, never the texts."""
    if not files:
        return 0
    return _count(
        con,
        f"""
        insert into raw.{table} by name
        with firsts as (
            select min(position) as position
            from read_parquet($files) as staged
            anti join raw.{table} as known on staged.{key} = known.{key}
            group by staged.{key}
        )

        select {key}, {columns}, $run_id as run_id
        from read_parquet($files)
        semi join firsts using (position)
        """,
        files,
        run_id,
    )


def _insert_quarantine(con: duckdb.DuckDBPyConnection, files: Sequence[str], run_id: str) -> int:
    if not files:
        return 0
    return _count(
        con,
        """
        insert into raw.quarantine by name
        select *, $run_id as run_id
        from read_parquet($files) as staged
        anti join raw.quarantine as known on staged.quarantine_id = known.quarantine_id
        """,
        files,
        run_id,
    )


def _count(con: duckdb.DuckDBPyConnection, sql: str, files: Sequence[str], run_id: str) -> int:
    row = con.execute(sql, {"files": list(files), "run_id": run_id}).fetchone()
    assert row is not None
    return int(row[0])
