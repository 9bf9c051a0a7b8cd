"""Runs and differences of runs as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flows.console import out
from flows.narrow_table import narrow_table
from schemas.wording import counted
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


_RUN_FIGURES = ("rows changed", "snapshot")
_CURATED_FIGURES = ("dropped", "flipped", "weight", "exports")


def runs_table(lake: Lake, *, stage: str | None) -> None:
    """Print every run with its snapshot, then the decisions of the curation runs; both fit into 80 columns."""
    commits = commits_of_runs(lake)
    runs = lake.frame(_RUNS, [stage]).to_dicts()
    table = narrow_table("run", "started (UTC)", *_RUN_FIGURES, figures=_RUN_FIGURES)
    for run in runs:
        snapshot = str(commits.get(run["run_id"], "pruned"))
        table.add_row(run["run_id"], f"{run['started_at']:%Y-%m-%d %H:%M:%S}", _number(run["num_changed"]), snapshot)
    out.print(table)
    curated = [run for run in runs if run["rules"] is not None]
    if not curated:
        return
    table = narrow_table("curation run", "rules", *_CURATED_FIGURES, figures=_CURATED_FIGURES)
    for run in curated:
        figures = (_number(run[name]) for name in ("num_dropped", "num_flipped", "total_weight"))
        rules = f"{run['rules']}, repeats {run['restored_from']}" if run["restored_from"] else run["rules"]
        table.add_row(run["run_id"], rules, *figures, str(run["num_exports"] or ""))
    out.print(table)


def diff_tables(found: RunDiff) -> None:
    """Print what changed between two curation runs."""
    a, b = found.run_a, found.run_b
    out.print(
        f"{a['run_id']} ({a['name']}) → {b['run_id']} ({b['name']}): {counted(found.num_changed, 'pair')} changed;"
        f" weight {a['total_weight']:,.1f} → {b['total_weight']:,.1f}",
        soft_wrap=True,
    )
    if not found.num_changed:
        return
    table = narrow_table("cause", "pairs", figures={"pairs"})
    for cause, num_pairs in found.by_cause.iter_rows():
        table.add_row(cause, _number(num_pairs))
    out.print(table)
    table = narrow_table("rule", "change", "cause", "pairs", "weight", figures={"pairs", "weight"})
    for row in found.by_rule.to_dicts():
        gain = f"{row['weight_change']:+,.1f}"
        table.add_row(row["rule"], row["change"], row["cause"], _number(row["num_pairs"]), gain)
    out.print(table)
    out.print("For example:")
    for row in found.examples.to_dicts():
        for line in _example(row):
            out.print(line, soft_wrap=True, markup=False)


def _example(row: dict[str, Any]) -> Iterator[str]:
    yield f"  {row['pair_id']}  {row['change']}, {row['cause']}"
    yield f"    {_side(row, 'before')} → {_side(row, 'after')}"


def _side(row: dict[str, Any], side: str) -> str:
    """Everything that a run decided on a pair, and by which rules."""
    if row[f"{side}_weight"] is None:
        return "absent"
    parts = [f"weight {_number(row[f'{side}_weight'])}"]
    if row[f"{side}_soft_label"] is not None:
        parts.append(f"soft label {_number(row[f'{side}_soft_label'])}")
    if row[f"{side}_objective"] is not None:
        parts.append(f"objective {row[f'{side}_objective']}")
    return f"{', '.join(parts)} by {', '.join(row[f'{side}_rules']) or 'no rule'}"


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)
