"""Runs and differences of runs as tables on the terminal."""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.table import Column, Table

from flows.console import out
from warehouse.diff import RunDiff
from warehouse.lake import Lake
from warehouse.versions import commits_of_runs

_RUNS = """
    select
        runs.run_id, runs.stage, runs.started_at, runs.num_changed, curation.name as rules, curation.num_pairs,
        curation.num_dropped, curation.num_flipped, curation.total_weight, curation.restored_from,
        (select count(*) from raw.exports as exports where exports.curation_run_id = runs.run_id) as num_exports
    from raw.runs as runs
    left join raw.curation_runs as curation on runs.run_id = curation.run_id
    where $1 is null or runs.stage = $1
    order by runs.started_at, runs.run_id
"""


def runs_table(lake: Lake, *, stage: str | None) -> None:
    """Print every run with its snapshot and, for curation runs, its decisions."""
    commits = commits_of_runs(lake)
    names = (
        "run",
        "stage",
        "started (UTC)",
        "rows changed",
        "snapshot",
        "rules",
        "dropped",
        "flipped",
        "weight",
        "exports",
    )
    table = Table(*(Column(name, overflow="fold") for name in names), header_style="bold")
    for run in lake.frame(_RUNS, [stage]).to_dicts():
        rules = run["rules"] or ""
        if run["restored_from"]:
            rules += f" (as {run['restored_from']})"
        table.add_row(
            run["run_id"],
            run["stage"],
            f"{run['started_at']:%Y-%m-%d %H:%M:%S}",
            _number(run["num_changed"]),
            str(commits.get(run["run_id"], "pruned")),
            rules,
            _number(run["num_dropped"]),
            _number(run["num_flipped"]),
            _number(run["total_weight"]),
            str(run["num_exports"] or ""),
        )
    out.print(table)


def diff_tables(found: RunDiff) -> None:
    """Print what changed between two curation runs."""
    a, b = found.run_a, found.run_b
    out.print(
        f"{a['run_id']} ({a['name']}) → {b['run_id']} ({b['name']}): {found.num_changed:,} pairs changed;"
        f" weight {a['total_weight']:,.1f} → {b['total_weight']:,.1f}",
        soft_wrap=True,
    )
    if found.num_changed:
        for frame in (found.by_cause, found.by_rule, found.examples):
            out.print(frame_table(frame))


def frame_table(frame: pl.DataFrame) -> Table:
    """A frame as a table; numbers with separators, lists joined by commas."""
    columns = (Column(name.replace("_", " "), overflow="fold") for name in frame.columns)
    table = Table(*columns, header_style="bold")
    for row in frame.iter_rows():
        table.add_row(*(_number(value) for value in row))
    return table


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return str(value)
