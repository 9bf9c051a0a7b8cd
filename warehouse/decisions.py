"""How decisions are kept: one row per pair and span of runs over which its decision stayed the same.

A run over a hundred million pairs of which a hundred thousand changed writes a hundred thousand rows, and the
difference between two runs is read off the ends of the spans instead of being computed over all pairs.
"""

from __future__ import annotations

import duckdb

from warehouse.lake import claim_write

OPEN = 2147483647
"""``end_run`` of a decision that still stands."""

COLUMNS = (
    "is_dropped",
    "is_flipped",
    "is_chosen_lower",
    "weight",
    "soft_label",
    "objective",
    "rules",
    "actions",
    "amounts",
    "is_adjudicated",
)
"""What a decision says; two decisions are equal when all of these are."""


def write_run(con: duckdb.DuckDBPyConnection, run_number: int, decided: str) -> int:
    """Make the decisions of ``decided`` the standing ones from this run on; call it inside a transaction.

    Args:
        con: connection of the transaction.
        run_number: number of the new run, above all earlier ones.
        decided: relation with ``pair_id`` and :data:`COLUMNS`, one row per pair.

    Returns:
        Pairs whose decision is new, other than before, or gone.
    """
    columns = ", ".join(COLUMNS)
    insert = f"insert into raw.decisions (pair_id, first_run, end_run, {columns})"
    if not _standing(con):
        con.execute(f"{insert} select pair_id, {run_number}, {OPEN}, {columns} from {decided}")
        return _standing(con)
    con.execute(
        f"""
        create or replace temp table changed_pairs as
        select
            coalesce(new.pair_id, old.pair_id) as pair_id,
            new.pair_id is not null as is_new,
            old.pair_id is not null as is_old
        from {decided} as new
        full join (select * from raw.decisions where end_run = {OPEN}) as old on new.pair_id = old.pair_id
        where {" or ".join(f"new.{column} is distinct from old.{column}" for column in ("pair_id", *COLUMNS))}
        """
    )
    con.execute(
        f"update raw.decisions set end_run = {run_number}"
        f" where end_run = {OPEN} and pair_id in (select pair_id from changed_pairs where is_old)"
    )
    con.execute(
        f"{insert} select pair_id, {run_number}, {OPEN}, {columns} from {decided}"
        " where pair_id in (select pair_id from changed_pairs where is_new)"
    )
    row = con.execute("select count(*) from changed_pairs").fetchone()
    con.execute("drop table changed_pairs")
    assert row is not None
    return int(row[0])


def next_run_number(con: duckdb.DuckDBPyConnection) -> int:
    """Number for a new curation run, which no other transaction can take at the same time."""
    claim_write(con)
    row = con.execute("select coalesce(max(run_number), 0) + 1 from raw.curation_runs").fetchone()
    assert row is not None
    return int(row[0])


def _standing(con: duckdb.DuckDBPyConnection) -> int:
    row = con.execute(f"select count(*) from raw.decisions where end_run = {OPEN}").fetchone()
    assert row is not None
    return int(row[0])
