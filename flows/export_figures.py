"""Figures of the data card, from the lake."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from curation.export.card import CardFigures
from warehouse.lake import Lake
from warehouse.scores import count_responses

NUM_BINS = 40

_ADJUDICATED = """
    select
        array_to_string(list_sort(list(distinct if(is_dropped, 'drop', if(is_flipped, 'flip', 'keep')))), ', '),
        count(*)
    from model.standing_decisions where is_adjudicated
"""

_MARGINS = """
    select
        reference_margin as before,
        if(
            decisions.is_chosen_lower = (diagnostics.chosen_id < diagnostics.rejected_id),
            reference_margin,
            -reference_margin
        ) as after,
        decisions.weight
    from mart.pair_diagnostics as diagnostics
    inner join model.standing_decisions as decisions on diagnostics.pair_id = decisions.pair_id
    where diagnostics.reference_id = $1
"""


def card_figures(lake: Lake, latest: dict[str, Any]) -> CardFigures:
    """Everything that the card of the latest curation run tells."""
    stored = json.loads(lake.value("select facts from raw.runs where run_id = ?", [latest["run_id"]]))
    came_in = lake.frame(
        """
        select
            (select count(*) from raw.judgments) as judgments,
            (select count(distinct annotator_id) from raw.judgments) as "named annotators",
            (select count(*) from raw.prompts) as prompts,
            (select count(*) from raw.responses) as responses,
            (select count(*) from raw.pair_estimates) as pairs
        """
    ).row(0, named=True)
    quarantined = lake.con.execute(
        "select reason, count(*) from raw.quarantine group by 1 order by 2 desc, 1"
    ).fetchall()
    agreement = lake.frame("select * from raw.agreement where slice = 'all' order by level").to_dicts()
    noise = lake.frame(
        """
        select
            coalesce(avg(1 - p_consensus_right), 0) as mean_p_wrong,
            coalesce(avg((num_votes = 1)::int), 0) as share_single_vote,
            (select avg(p_flip) from mart.pair_diagnostics where reference_id is not distinct from $1) as mean_p_flip
        from raw.pair_estimates
        """,
        [latest["reference_id"]],
    ).row(0, named=True)
    scored = None if latest["reference_id"] is None else count_responses(lake, latest["reference_id"])
    margins, histogram = _margins(lake, latest["reference_id"])
    return CardFigures(
        came_in=list(came_in.items()),
        quarantined=quarantined,
        rules=_rules(lake, stored["rules"]),
        totals=stored,
        agreement=agreement,
        noise=noise,
        margins=margins,
        num_scored=0 if scored is None else scored.num_scored,
        num_responses=came_in["responses"],
        num_new=came_in["responses"] if scored is None else scored.num_new,
        histogram=histogram,
    )


def _rules(lake: Lake, counted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each rule did to the decisions that stand, and people in a row of their own.

    A run counts what its rules do before people overrule them; here each pair counts for what decided on it.
    """
    applied: Counter[str] = Counter()
    ruled = "select rules, count(*) from model.standing_decisions where not is_adjudicated group by 1"
    for rules, num_pairs in lake.con.execute(ruled).fetchall():
        applied.update(dict.fromkeys(rules, num_pairs))
    rows = [{**rule, "num_applied": applied[rule["rule"]]} for rule in counted]
    actions, num_pairs = lake.frame(_ADJUDICATED).row(0)
    if num_pairs:
        people = {"rule": "adjudication", "action": actions, "num_matched": num_pairs, "num_applied": num_pairs}
        rows.append({**people, "num_unknown": 0})
    return rows


def _margins(lake: Lake, reference_id: str | None) -> tuple[list[dict[str, Any]], Any]:
    """Quantiles of the reference margin before and after curation, and shares of bins between the outer ones.

    A pair without reference log-probs has no margin: it counts beside the quantiles and not in them.
    """
    if reference_id is None:
        return [], None
    lake.con.execute(f"create or replace temp table card_margins as {_MARGINS}", [reference_id])
    quantiles = "quantile_cont({0}, [0.05, 0.25, 0.5, 0.75, 0.95])"
    row = f"{quantiles}, avg(({{0}} < 0)::int), count({{0}}), count(*) from card_margins"
    rows = lake.con.execute(
        f"""
        select 'all' as label, {row.format("before")}
        union all
        select 'that train' as label, {row.format("after")} where weight > 0
        order by label
        """
    ).fetchall()
    names = ("q05", "q25", "q50", "q75", "q95")
    margins = [
        {
            "label": label,
            **dict(zip(names, q, strict=True)),
            "share_wrong": wrong,
            "num_with_margin": num_with_margin,
            "num_pairs": num_pairs,
        }
        for label, q, wrong, num_with_margin, num_pairs in rows
        if num_with_margin
    ]
    low, high = lake.frame("select quantile_cont(before, 0.01), quantile_cont(before, 0.99) from card_margins").row(0)
    histogram = None
    if low is not None and low < high:
        bin_of = f"least(floor(({{0}} - {low!r}) / {high - low!r} * {NUM_BINS}), {NUM_BINS - 1})::int"
        inside = f"between {low!r} and {high!r}"
        before, after = [0.0] * NUM_BINS, [0.0] * NUM_BINS
        for column, weight, shares in (("before", "1", before), ("after", "weight", after)):
            counts = lake.con.execute(
                f"select {bin_of.format(column)}, sum({weight}) from card_margins"
                f" where {column} {inside} group by 1 order by 1"
            ).fetchall()
            total = sum(float(count) for _, count in counts) or 1.0
            for place, count in counts:
                shares[int(place)] = round(float(count) / total, 6)  # a sum in another order must not change the plot
        histogram = ((float(low), float(high)), before, after)
    lake.con.execute("drop table card_margins")
    return margins, histogram
