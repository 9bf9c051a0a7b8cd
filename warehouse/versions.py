"""Runs as versions of the lake: which snapshot a run made."""

from __future__ import annotations

from schemas.errors import QueryError
from warehouse.lake import Lake


def snapshot_of_run(lake: Lake, run_id: str) -> int:
    """The snapshot that a run committed, of whatever stage it is.

    Raises:
        QueryError: there is no such run, or its snapshot was pruned.
    """
    known = [str(row[0]) for row in lake.con.execute("select run_id from raw.runs order by started_at").fetchall()]
    if run_id not in known:
        latest = ", ".join(known[-3:]) or "none"
        raise QueryError(f"there is no run {run_id!r}", mend=f"winnow runs lists them; the latest are {latest}")
    found = lake.value(
        "select max(snapshot_id) from ducklake_snapshots('lake') where contains(commit_message, ?)", [run_id]
    )
    if found is None:
        raise QueryError(f"the snapshot of run {run_id} was pruned", mend="winnow runs says which are kept")
    return int(found)


def check_snapshot(lake: Lake, snapshot_id: int) -> int:
    """A snapshot that is there.

    Raises:
        QueryError: there is none with this number, or it was pruned.
    """
    low, high, is_there = lake.frame(
        "select min(snapshot_id), max(snapshot_id), bool_or(snapshot_id = ?) from ducklake_snapshots('lake')",
        [snapshot_id],
    ).row(0)
    if not is_there:
        raise QueryError(f"there is no snapshot {snapshot_id}", mend=f"the lake has snapshots between {low} and {high}")
    return snapshot_id
