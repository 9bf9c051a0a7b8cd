"""Insert staged judgments, prompts, responses and quarantine: each row once, whatever is in the lake already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from schemas.identity import sql_repeated


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
        files: paths by kind: ``judgments``, ``prompts``, ``responses``, ``quarantine``. Of each source they hold all
            rows or none. An identifier may stand in them several times: a judgment or a quarantined row is then each
            time another one, while the first prompt or response, by its unique ``position``, stands for all.
    """
    return Inserted(
        judgments=_insert_judgments(con, files["judgments"], run_id),
        prompts=_insert_first(con, "prompts", "prompt_id", "messages, source", files["prompts"], run_id),
        responses=_insert_first(
            con, "responses", "response_id", "prompt_id, text, model, source", files["responses"], run_id
        ),
        quarantine=_insert_quarantine(con, files["quarantine"], run_id),
    )


def num_judgments_of(
    con: duckdb.DuckDBPyConnection, sources: Sequence[str], *, run_id: str | None = None
) -> dict[str, int]:
    """How many judgments of each of the sources the lake has, or a run inserted; sources without any are left out."""
    found = con.execute(
        "select source, count(*) from raw.judgments where list_contains($sources, source)"
        " and ($run_id is null or run_id = $run_id) group by source",
        {"sources": list(sources), "run_id": run_id},
    ).fetchall()
    return dict(found)


def _insert_judgments(con: duckdb.DuckDBPyConnection, files: Sequence[str], run_id: str) -> int:
    if not files:
        return 0
    return _count(
        con,
        f"""
        insert into raw.judgments by name
        with {_staged("judgment_id")},

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
        f"""
        insert into raw.quarantine by name
        with {_staged("quarantine_id")}

        select staged.*, $run_id as run_id
        from staged
        anti join raw.quarantine as known on staged.quarantine_id = known.quarantine_id
        """,
        files,
        run_id,
    )


def _staged(key: str) -> str:
    """CTEs up to ``staged``: the staged rows, what stands in a source several times under identifiers of its own.

    An identifier is that of a content, and the second row of one content gets another, so that a row keeps its
    identifier wherever it moves in its file. Hashes of 8 bytes find the few that are repeated; only those are sorted.
    """
    return f"""
        repeated as materialized (
            select hash({key}) as key from read_parquet($files) group by hash({key}) having count(*) > 1
        ),

        numbered as (
            select *, row_number() over (partition by {key} order by source_row, file_row_number) - 1 as ordinal
            from read_parquet($files, file_row_number = true)
            where hash({key}) in (select key from repeated)
        ),

        staged as (
            select * from read_parquet($files) where hash({key}) not in (select key from repeated)
            union all by name
            select * exclude (file_row_number, ordinal) replace ({sql_repeated(key, "ordinal")} as {key}) from numbered
        )
    """


def _count(con: duckdb.DuckDBPyConnection, sql: str, files: Sequence[str], run_id: str) -> int:
    row = con.execute(sql, {"files": list(files), "run_id": run_id}).fetchone()
    assert row is not None
    return int(row[0])
