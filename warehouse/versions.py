"""Runs as versions of the lake: which snapshot a run made, restoring an old run, and forgetting runs nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from schemas.errors import QueryError
from warehouse.decisions import COLUMNS, next_run_number, write_run
from warehouse.lake import Lake


def snapshot_of_run(lake: Lake, run_id: str) -> int:
    """The snapshot that a run committed, of whatever stage it is.

    Raises:
        QueryError: there is no such run, or its snapshot was pruned.
    """
    known = [str(row[0]) for row in lake.con.execute("select run_id from raw.runs order by started_at").fetchall()]
    found = [name for name in known if name == run_id] or [name for name in known if name.startswith(run_id)]
    if len(found) != 1:
        latest = ", ".join(known[-3:]) or "none"
        what = "no" if not found else "more than one"
        raise QueryError(f"there is {what} run {run_id!r}", mend=f"winnow runs lists them; the latest are {latest}")
    snapshot = commits_of_runs(lake).get(found[0])
    if snapshot is None:
        raise QueryError(f"the snapshot of run {found[0]} was pruned", mend="winnow runs says which are kept")
    return snapshot


def commits_of_runs(lake: Lake) -> dict[str, int]:
    """The last snapshot that each run committed; pruned ones are missing."""
    rows = lake.con.execute(
        """
        select runs.run_id, max(snapshots.snapshot_id)
        from raw.runs as runs
        join ducklake_snapshots('lake') as snapshots
            on list_contains(string_split(snapshots.commit_message, ' '), runs.run_id)
        group by runs.run_id
        """
    ).fetchall()
    return {str(run_id): int(snapshot) for run_id, snapshot in rows}


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


def decisions_of(run_number: int) -> str:
    """The decisions of one curation run, as a query in parentheses."""
    columns = ", ".join(COLUMNS)
    return f"(select pair_id, {columns} from raw.decisions where first_run <= {run_number} and end_run > {run_number})"


def restore_run(
    con: duckdb.DuckDBPyConnection, old: dict[str, Any], *, decisions: str, run_id: str, content_id: str
) -> int:
    """Make an old run's decisions the standing ones, as a new run; call it inside a transaction.

    Args:
        con: connection of the transaction.
        old: row of ``raw.curation_runs`` to repeat.
        decisions: what to decide: :func:`decisions_of` the old run, with what people decided since then.
        run_id: id of the new run.
        content_id: hash of what it decides.

    Returns:
        Pairs whose decision is new, other than before, or gone.
    """
    number = next_run_number(con)
    con.execute(f"create or replace temp table restored as select * from {decisions}")
    num_changed = write_run(con, number, "restored")
    con.execute(
        """
        insert into raw.curation_runs
        select old.* replace (
            $1 as run_id, $2 as content_id, $3 as run_number, $4 as restored_from, $5 as num_changed,
            totals.num_pairs as num_pairs, totals.num_dropped as num_dropped, totals.num_flipped as num_flipped,
            totals.num_adjudicated as num_adjudicated, totals.total_weight as total_weight
        )
        from raw.curation_runs as old
        cross join (
            select
                count(*) as num_pairs, count(*) filter (is_dropped) as num_dropped,
                count(*) filter (is_flipped) as num_flipped, count(*) filter (is_adjudicated) as num_adjudicated,
                coalesce(sum(weight), 0) as total_weight
            from restored
        ) as totals
        where old.run_id = $4
        """,
        [run_id, content_id, number, old["run_id"], num_changed],
    )
    con.execute("drop table restored")
    return num_changed


@dataclass(frozen=True)
class Pruned:
    """What a prune kept and removed."""

    kept_runs: tuple[str, ...]
    removed_runs: tuple[str, ...]
    num_decisions_removed: int
    num_snapshots_expired: int


def prune(lake: Lake, *, keep_last: int, message: str, grace_hours: float) -> Pruned:
    """Forget curation runs but the last ones and those that exports or training runs refer to, and their snapshots.

    Args:
        lake: open for writing.
        keep_last: newest curation runs to keep.
        message: commit message.
        grace_hours: files that this long ago became unreachable are deleted now; a reader may still hold younger ones.
    """
    runs = lake.frame("select * from raw.curation_runs order by run_number").to_dicts()
    referred = {str(row[0]) for row in lake.con.execute("select distinct curation_run_id from raw.exports").fetchall()}
    newest = {run["run_id"] for run in runs[-keep_last:]} if keep_last else set()
    kept = [run for run in runs if run["run_id"] in referred | newest]
    removed = [run for run in runs if run not in kept]
    gone = 0
    if removed:
        numbers = [int(run["run_number"]) for run in kept]
        gone = lake.transact(message, lambda con: _forget(con, numbers, [run["run_id"] for run in removed]))
    expired = _expire_snapshots(lake, kept)
    lake.con.execute("call ducklake_merge_adjacent_files('lake')")
    lake.con.execute(
        f"call ducklake_cleanup_old_files('lake', older_than => now() - interval '{round(grace_hours * 3600)} seconds')"
    )
    names = tuple(tuple(str(run["run_id"]) for run in group) for group in (kept, removed))
    return Pruned(names[0], names[1], gone, expired)


def _forget(con: duckdb.DuckDBPyConnection, kept: list[int], removed: list[str]) -> int:
    """Delete spans that hold for no kept run; let the others begin and end at kept runs."""
    con.execute("create or replace temp table kept_runs as select unnest($1)::integer as run_number", [kept])
    covers = "exists (select 1 from kept_runs where run_number >= first_run and run_number < end_run)"
    before = _count(con)
    con.execute(f"delete from raw.decisions where not {covers}")
    for column in ("first_run", "end_run"):
        con.execute(
            f"""
            update raw.decisions set {column} = moved.target
            from (
                select old.{column} as source, min(kept_runs.run_number) as target
                from (select distinct {column} from raw.decisions) as old
                join kept_runs on kept_runs.run_number >= old.{column}
                group by old.{column}
            ) as moved
            where raw.decisions.{column} = moved.source and moved.source <> moved.target
            """
        )
    last = max(kept, default=0)
    con.execute("update raw.decisions set end_run = 2147483647 where end_run > $1 and end_run < 2147483647", [last])
    con.execute("delete from raw.curation_runs where list_contains($1, run_id)", [removed])
    con.execute("drop table kept_runs")
    return before - _count(con)


def _expire_snapshots(lake: Lake, kept: list[dict[str, Any]]) -> int:
    """Expire every snapshot but the latest, those of kept runs and those that exports were read from."""
    commits = commits_of_runs(lake)
    needed = {int(run["input_snapshot_id"]) for run in kept}
    needed |= {commits[run["run_id"]] for run in kept if run["run_id"] in commits}
    needed |= {int(row[0]) for row in lake.con.execute("select snapshot_id from raw.exports").fetchall() if row[0]}
    known = [int(row[0]) for row in lake.con.execute("select snapshot_id from ducklake_snapshots('lake')").fetchall()]
    expired = [snapshot for snapshot in known if snapshot not in needed and snapshot != max(known)]
    if expired:
        lake.con.execute(f"call ducklake_expire_snapshots('lake', versions => {expired})")
    return len(expired)


def _count(con: duckdb.DuckDBPyConnection) -> int:
    row = con.execute("select count(*) from raw.decisions").fetchone()
    assert row is not None
    return int(row[0])
