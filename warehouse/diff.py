"""What changed between two curation runs, by rule and by cause.

Only the ends of spans are read, so that the cost is that of the changed pairs; :mod:`warehouse.causes` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.errors import QueryError
from warehouse.causes import Replay, caused_sql
from warehouse.decisions import COLUMNS
from warehouse.lake import Lake


@dataclass(frozen=True)
class RunDiff:
    """Difference of two curation runs.

    Attributes:
        run_a, run_b: the runs, as rows of ``raw.curation_runs``.
        num_changed: pairs whose decision differs.
        by_rule: columns rule, change, cause, num_pairs, weight_change (b - a); a pair counts once for each rule that
            it gained, lost, or whose amount changed. The change is that of the pair, by all of its rules.
        by_cause: columns cause, num_pairs; every changed pair once.
        examples: up to ten changed pairs with both decisions.
    """

    run_a: Mapping[str, Any]
    run_b: Mapping[str, Any]
    num_changed: int
    by_rule: pl.DataFrame
    by_cause: pl.DataFrame
    examples: pl.DataFrame


def curation_run(lake: Lake, run_id: str) -> dict[str, Any]:
    """Row of ``raw.curation_runs`` by id, by its beginning, or ``latest`` and ``previous``.

    Raises:
        QueryError: there is no such curation run.
    """
    runs = lake.frame("select * from raw.curation_runs order by run_number").to_dicts()
    if not runs:
        raise QueryError("nothing is curated yet", mend="winnow curate")
    if run_id == "previous" and len(runs) == 1:
        raise QueryError(
            f"there is only one curation run, {runs[0]['run_id']}, and nothing to compare it with",
            mend="winnow curate again, with other rules or after new votes",
        )
    if run_id in ("latest", "previous"):
        found = runs[-1:] if run_id == "latest" else runs[-2:-1]
    else:
        found = [run for run in runs if run["run_id"] == run_id]
        found = found or [run for run in runs if run["run_id"].startswith(run_id)]
    if len(found) != 1:
        known = ", ".join(run["run_id"] for run in runs[-5:]) or "none"
        what = "no" if not found else "more than one"
        raise QueryError(
            f"there is {what} curation run {run_id!r}", mend=f"winnow runs lists them; the latest: {known}"
        )
    return found[0]


def diff_runs(lake: Lake, run_a: str, run_b: str, *, replay: Replay) -> RunDiff:
    """Compare two curation runs.

    Args:
        lake: open, read-only will do.
        run_a, run_b: as :func:`curation_run` takes them.
        replay: decides again where rules and data both changed; see :mod:`warehouse.causes`.

    Raises:
        QueryError: one of them does not exist, or was pruned.
    """
    a, b = curation_run(lake, run_a), curation_run(lake, run_b)
    lake.con.execute(_changed_sql(a["run_number"], b["run_number"]))
    lake.con.execute(f"create or replace temp table diff_pairs as {caused_sql(lake, a, b, replay)}")
    by_rule = lake.frame(_BY_RULE)
    by_cause = lake.frame("select cause, count(*) as num_pairs from diff_pairs group by cause order by 2 desc, 1")
    examples = lake.frame(_EXAMPLES)
    num_changed = int(lake.value("select count(*) from diff_pairs"))
    lake.con.execute("drop table diff_pairs; drop table diff_changed")
    return RunDiff(a, b, num_changed, by_rule, by_cause, examples)


def _changed_sql(a: int, b: int) -> str:
    columns = ", ".join(f"{side}.{column} as {side}_{column}" for side in ("before", "after") for column in COLUMNS)
    differs = " or ".join(f"before.{column} is distinct from after.{column}" for column in ("pair_id", *COLUMNS))

    def standing(run: int, other: int) -> str:
        return (
            f"(select * from raw.decisions where first_run <= {run} and end_run > {run}"
            f" and not (first_run <= {other} and end_run > {other}))"
        )

    return f"""
        create or replace temp table diff_changed as
        select coalesce(before.pair_id, after.pair_id) as pair_id,
            before.pair_id is not null as is_in_a, after.pair_id is not null as is_in_b, {columns}
        from {standing(a, b)} as before
        full join {standing(b, a)} as after on before.pair_id = after.pair_id
        where {differs}
    """


_ACTION = """case
    when not {present} then 'absent' when {side}_is_dropped then 'drop'
    else coalesce(nullif(concat_ws(
        ' + ', if({side}_is_flipped, 'flip', null), if({side}_objective is not null, 'route', null),
        if({side}_soft_label is not null, 'soft label', null), if({side}_weight <> 1, 'reweight', null)
    ), ''), 'keep') end"""

_CHANGE = (
    f"{_ACTION.format(side='before', present='is_in_a')} || ' → ' || {_ACTION.format(side='after', present='is_in_b')}"
)

_BY_RULE = f"""
    with involved as (
        select
            *,
            {_CHANGE} as change,
            coalesce(nullif(list_concat(
                list_filter(coalesce(before_rules, []), lambda r: not list_contains(coalesce(after_rules, []), r)),
                list_filter(coalesce(after_rules, []), lambda r: not list_contains(coalesce(before_rules, []), r))
            ), []), nullif(coalesce(after_rules, before_rules), []), ['(no rule)']) as rules_involved
        from diff_pairs
    )
    select rule, change, cause, count(*) as num_pairs,
        sum(coalesce(after_weight, 0) - coalesce(before_weight, 0)) as weight_change
    from (select unnest(rules_involved) as rule, * from involved)
    group by rule, change, cause
    order by num_pairs desc, rule, change, cause
"""

_EXAMPLES = f"""
    select
        pair_id, {_CHANGE} as change, cause, before_weight, after_weight, before_soft_label, after_soft_label,
        before_objective, after_objective, before_rules, after_rules
    from diff_pairs order by pair_id limit 10
"""
