"""What changed between two curation runs, by rule and by cause.

Only the ends of spans are read, so that the cost is that of the changed pairs. Causes come from the two input
snapshots: a table that no run wrote between them is not compared at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.errors import QueryError
from warehouse.decisions import COLUMNS
from warehouse.lake import Lake

_VOTES = ("chosen_id", "num_votes", "num_votes_chosen", "num_ties", "p_chosen", "p_tie", "p_consensus_right")
_VOTE_STAGES = ("ingest", "diagnose")
_SCORE_STAGES = ("score",)


@dataclass(frozen=True)
class RunDiff:
    """Difference of two curation runs.

    Attributes:
        run_a, run_b: the runs, as rows of ``raw.curation_runs``.
        num_changed: pairs whose decision differs.
        by_rule: columns rule, change, cause, num_pairs, weight_change (b - a); a pair counts once for each rule that
            it gained, lost, or whose amount changed.
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


def diff_runs(lake: Lake, run_a: str, run_b: str) -> RunDiff:
    """Compare two curation runs.

    Raises:
        QueryError: one of them does not exist, or was pruned.
    """
    a, b = curation_run(lake, run_a), curation_run(lake, run_b)
    lake.con.execute(_changed_sql(a["run_number"], b["run_number"]))
    lake.con.execute(f"create or replace temp table diff_pairs as {_caused_sql(lake, a, b)}")
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


def _caused_sql(lake: Lake, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Every changed pair with its cause, as a query."""
    snapshots = (a["input_snapshot_id"], b["input_snapshot_id"])
    wrote = _stages_between(lake, *snapshots)
    votes = _votes_changed(*snapshots) if wrote & set(_VOTE_STAGES) else "select null as pair_id where false"
    scores = "select null as pair_id where false"
    if wrote & set(_SCORE_STAGES) and a["reference_id"] == b["reference_id"]:
        scores = _scores_changed(*snapshots, str(b["reference_id"]))
    has_other_reference = str(a["reference_id"] != b["reference_id"]).lower()
    has_other_rules = str(a["rules_hash"] != b["rules_hash"]).lower()
    return f"""
        select
            diff_changed.*,
            case when not is_in_a then 'new pair' when not is_in_b then 'pair gone' else coalesce(nullif(concat_ws(
                ' and ',
                case when before_is_adjudicated <> after_is_adjudicated then 'adjudication' end,
                case when votes.pair_id is not null then 'new votes' end,
                case when scores.pair_id is not null or {has_other_reference} then 'new scores' end,
                case when {has_other_rules} then 'changed rules' end
            ), ''), 'other diagnostics') end as cause
        from diff_changed
        left join ({votes}) as votes on diff_changed.pair_id = votes.pair_id
        left join ({scores}) as scores on diff_changed.pair_id = scores.pair_id
    """


def _stages_between(lake: Lake, a: int, b: int) -> set[str]:
    """Stages with runs that one snapshot has and the other has not."""
    rows = lake.con.execute(
        f"""
        select distinct stage from (
            (select run_id, stage from raw.runs at (version => {a})
                except select run_id, stage from raw.runs at (version => {b}))
            union all
            (select run_id, stage from raw.runs at (version => {b})
                except select run_id, stage from raw.runs at (version => {a}))
        )
        """
    ).fetchall()
    return {str(row[0]) for row in rows}


def _votes_changed(a: int, b: int) -> str:
    def at(version: int) -> str:
        return (
            f"select pair_id, {', '.join(_VOTES)} from raw.pair_estimates at (version => {version})"
            " where pair_id in (select pair_id from diff_changed)"
        )

    differs = " or ".join(f"one.{column} is distinct from two.{column}" for column in _VOTES)
    return (
        f"select one.pair_id from ({at(a)}) as one join ({at(b)}) as two on one.pair_id = two.pair_id where {differs}"
    )


def _scores_changed(a: int, b: int, reference_id: str) -> str:
    def at(version: int) -> str:
        return (
            f"select response_id, logps from raw.reference_scores at (version => {version})"
            f" where reference_id = '{reference_id}'"
        )

    return f"""
        select distinct estimates.pair_id
        from (select * from raw.pair_estimates at (version => {b})) as estimates
        join (
            select coalesce(one.response_id, two.response_id) as response_id
            from ({at(a)}) as one full join ({at(b)}) as two on one.response_id = two.response_id
            where one.logps is distinct from two.logps
        ) as changed on changed.response_id in (estimates.chosen_id, estimates.rejected_id)
        where estimates.pair_id in (select pair_id from diff_changed)
    """


_ACTION = """case
    when not {present} then 'absent' when {side}_is_dropped then 'drop' when {side}_is_flipped then 'flip'
    when {side}_objective is not null then 'route' when {side}_soft_label is not null then 'soft label'
    when {side}_weight <> 1 then 'reweight' else 'keep' end"""

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
    select pair_id, {_CHANGE} as change, cause, before_weight, after_weight, before_rules, after_rules
    from diff_pairs order by pair_id limit 10
"""
