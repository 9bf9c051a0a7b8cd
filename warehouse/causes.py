"""Why the decision on a pair differs between two curation runs a and b.

A human decision on either side is the whole cause, unless both sides have the same one. Else, where only the rules
differ, or only the data, that is the cause. Where both do, the rules of a decide once more on the data of b: if that
gives what b decided, the data alone did it; if it gives what a decided, the rules alone did; if neither, both did.

The data are the estimates from votes and the scores of the two responses, each compared at the runs' input snapshots;
where neither differs, other diagnostics did it: near-duplicates, cycles, contradictions, text features. A table that no
run wrote between the snapshots is not compared at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from warehouse.connection import literal
from warehouse.decisions import COLUMNS
from warehouse.lake import Lake

Replay: TypeAlias = Callable[[Lake, Mapping[str, Any], Mapping[str, Any], str], str]
"""Decide with the rules of one run (a row of ``raw.curation_runs``) on the input of another one, over the pairs of a
query of ``pair_id``. Returns a relation with ``pair_id`` and :data:`warehouse.decisions.COLUMNS`."""

_VOTES = ("chosen_id", "num_votes", "num_votes_chosen", "num_ties", "p_chosen", "p_tie", "p_consensus_right")
_VOTE_STAGES = {"ingest", "diagnose"}
_SCORE_STAGES = {"score"}
_NOTHING = "select null::varchar as pair_id where false"

_IS_HUMAN = """(
    is_in_a and is_in_b and (before_is_adjudicated or after_is_adjudicated)
    and (
        before_is_adjudicated <> after_is_adjudicated
        or before_is_dropped <> after_is_dropped
        or before_is_chosen_lower <> after_is_chosen_lower
    )
)"""

_RULED = "is_in_a and is_in_b and not before_is_adjudicated and not after_is_adjudicated"


def caused_sql(lake: Lake, a: Mapping[str, Any], b: Mapping[str, Any], replay: Replay) -> str:
    """Every pair of the temporary table ``diff_changed`` with its cause, as a query."""
    snapshots = (a["input_snapshot_id"], b["input_snapshot_id"])
    wrote = _stages_between(lake, *snapshots)
    has_other_reference = a["reference_id"] != b["reference_id"]
    votes = _votes_changed(*snapshots) if wrote & _VOTE_STAGES else _NOTHING
    scores = _NOTHING
    if wrote & _SCORE_STAGES and not has_other_reference:
        scores = _scores_changed(*snapshots, str(b["reference_id"]))
    has_other_data = has_other_reference or bool(wrote & (_VOTE_STAGES | _SCORE_STAGES))
    has_other_rules = a["rules_hash"] != b["rules_hash"]
    if has_other_data and has_other_rules:
        again = replay(lake, a, b, f"select pair_id from diff_changed where {_RULED}")
        by_data = f"(before_is_adjudicated or {_differs('before')})"
        by_rules = f"(not before_is_adjudicated and {_differs('after')})"
    else:
        again = "(select null::varchar as pair_id where false)"
        by_data, by_rules = str(has_other_data).lower(), str(has_other_rules).lower()
    return f"""
        select
            diff_changed.*,
            case
                when not is_in_a then 'new pair'
                when not is_in_b then 'pair gone'
                when {_IS_HUMAN} then 'adjudication'
                else coalesce(nullif(concat_ws(
                    ' and ',
                    case when {by_data} then {_data_words(has_other_reference)} end,
                    case when {by_rules} then 'changed rules' end
                ), ''), 'other diagnostics')
            end as cause
        from diff_changed
        left join ({votes}) as votes on diff_changed.pair_id = votes.pair_id
        left join ({scores}) as scores on diff_changed.pair_id = scores.pair_id
        left join {again} as again on diff_changed.pair_id = again.pair_id
    """


def _data_words(has_other_reference: bool) -> str:
    """Which data of the pair differ, in words."""
    has_scores = f"(scores.pair_id is not null or {has_other_reference})"
    return f"""case
        when votes.pair_id is not null and {has_scores} then 'new votes and new scores'
        when votes.pair_id is not null then 'new votes'
        when {has_scores} then 'new scores'
        else 'other diagnostics'
    end"""


def _differs(side: str) -> str:
    """Whether the rules of a, on the data of b, decide otherwise than the run on one side: before or after."""
    return f"({' or '.join(f'again.{name} is distinct from {side}_{name}' for name in COLUMNS)})"


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
            f" where reference_id = {literal(reference_id)}"
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
