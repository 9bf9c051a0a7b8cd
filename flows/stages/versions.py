"""Restore an old curation run, and prune runs that nobody needs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import duckdb

from flows.lineage import Run
from flows.report import StageReport
from flows.stages.curate import run_totals, unused_run_id
from flows.workspace import Workspace
from warehouse.diff import curation_run
from warehouse.versions import prune as prune_lake
from warehouse.versions import restore_run


def restore(workspace: Workspace, run_id: str) -> StageReport:
    """A new curation run that decides exactly as an old one.

    Raises:
        QueryError: there is no such curation run, or it was pruned.
    """
    with workspace.lake() as lake:
        old = curation_run(lake, run_id)
        if old["run_number"] == lake.value("select max(run_number) from raw.curation_runs"):
            return StageReport("restore", None, 0, {}, (f"Nothing to do: {old['run_id']} is the latest run.",))
        stored = lake.value("select settings from raw.runs where run_id = ?", [old["run_id"]])
        settings = {**json.loads(stored), "restored_from": old["run_id"]}
        rules = json.loads(lake.value("select facts from raw.runs where run_id = ?", [old["run_id"]]))["rules"]
        started = Run.start("curate", input_hash=f"restored:{old['run_id']}", settings=settings)

        def work(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
            run = replace(started, run_id=unused_run_id(con, old["content_id"]))
            con.execute("call lake.set_commit_message('winnow', ?)", [run.run_id])
            row = con.execute("select id from lake.current_snapshot()").fetchone()
            assert row is not None
            num_changed = restore_run(con, old, run_id=run.run_id, input_snapshot_id=row[0])
            facts = {
                "curation_run_id": run.run_id,
                "restored_from": old["run_id"],
                "reference_id": old["reference_id"],
                "num_changed": num_changed,
                **run_totals(con),
                "rules": rules,
            }
            run.record(con, num_changed=max(num_changed, 1), facts=facts)
            return facts

        facts = lake.transact(started.run_id, work)
    line = f"{facts['curation_run_id']} decides as {old['run_id']}; {facts['num_changed']:,} decisions changed."
    return StageReport("restore", facts["curation_run_id"], facts["num_changed"], facts, (line,))


def prune(workspace: Workspace, *, keep_last: int, grace_hours: float = 1.0) -> StageReport:
    """Forget curation runs but the newest and those that exports or training runs refer to."""
    with workspace.lake() as lake:
        pruned = prune_lake(lake, keep_last=keep_last, message="winnow: prune", grace_hours=grace_hours)
    facts = {
        "kept_runs": list(pruned.kept_runs),
        "removed_runs": list(pruned.removed_runs),
        "num_decisions_removed": pruned.num_decisions_removed,
        "num_snapshots_expired": pruned.num_snapshots_expired,
    }
    line = (
        f"Kept {len(pruned.kept_runs)} curation runs, forgot {len(pruned.removed_runs)}, with"
        f" {pruned.num_decisions_removed:,} decisions and {pruned.num_snapshots_expired:,} snapshots."
    )
    return StageReport("prune", None, pruned.num_decisions_removed, facts, (line,))
