"""Restore an old curation run, and prune runs that nobody needs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import duckdb

from curation.rules.decide import adjudications_hash, overruled
from flows.lineage import Run
from flows.report import StageReport
from flows.stages.curate import ADJUDICATED, curation_id, run_totals, unused_run_id
from flows.workspace import Workspace
from schemas.wording import counted
from warehouse.diff import curation_run
from warehouse.versions import decisions_of, restore_run
from warehouse.versions import prune as prune_lake


def restore(workspace: Workspace, run_id: str) -> StageReport:
    """A new curation run that decides as an old one, but for what people decided since then: that stays.

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
        facts = lake.transact(started.run_id, lambda con: _restore(con, old, started, rules))
    lines = [
        f"{facts['curation_run_id']} decides as {old['run_id']}; {counted(facts['num_changed'], 'decision')} changed."
    ]
    if facts["num_overruled"]:
        lines.append(
            f"People decided otherwise on {counted(facts['num_overruled'], 'pair')} since then, and that stays."
        )
    return StageReport("restore", facts["curation_run_id"], facts["num_changed"], facts, tuple(lines))


def _restore(
    con: duckdb.DuckDBPyConnection, old: dict[str, Any], started: Run, rules: list[dict[str, Any]]
) -> dict[str, Any]:
    num_overruled, people = _overrule(con, old["run_number"])
    content_id = curation_id(old["content_id"], people) if num_overruled else old["content_id"]
    run = replace(started, run_id=unused_run_id(con, content_id))
    con.execute("call lake.set_commit_message('winnow', ?)", [run.run_id])
    num_changed = restore_run(con, old, decisions="overruled_run", run_id=run.run_id, content_id=content_id)
    con.execute("drop table overruled_run; drop table adjudicated_pairs")
    facts = {
        "curation_run_id": run.run_id,
        "restored_from": old["run_id"],
        "reference_id": old["reference_id"],
        "num_changed": num_changed,
        "num_overruled": num_overruled,
        **run_totals(con),
        "rules": rules,
    }
    run.record(con, num_changed=max(num_changed, 1), facts=facts)
    return facts


def _overrule(con: duckdb.DuckDBPyConnection, run_number: int) -> tuple[int, str]:
    """Fill ``overruled_run`` with an old run under today's human decisions; how many these change, and their hash."""
    before = decisions_of(run_number)
    con.execute(f"create or replace temp table adjudicated_pairs as {ADJUDICATED}")
    con.execute(f"create or replace temp table overruled_run as select * from {overruled(before)}")
    row = con.execute(
        f"""
        select count(*) from overruled_run as after join {before} as before on after.pair_id = before.pair_id
        where after.is_adjudicated and (
            not before.is_adjudicated
            or after.is_dropped <> before.is_dropped
            or after.is_chosen_lower <> before.is_chosen_lower
        )
        """
    ).fetchone()
    assert row is not None
    return int(row[0]), adjudications_hash(con)


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
        f"Kept {counted(len(pruned.kept_runs), 'curation run')}, forgot {len(pruned.removed_runs)}, with"
        f" {counted(pruned.num_decisions_removed, 'decision')} and {counted(pruned.num_snapshots_expired, 'snapshot')}."
    )
    return StageReport("prune", None, pruned.num_decisions_removed, facts, (line,))
