"""Everything that the lake knows of one pair, as lines to print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from flows.narrow_table import narrow_table
from flows.policies import policy_names
from schemas.errors import QueryError
from warehouse.lake import Lake

_OF_POLICY = frozenset(
    {
        "reference_id",
        "reference_chosen_logps",
        "reference_rejected_logps",
        "chosen_num_tokens",
        "rejected_num_tokens",
        "reference_margin",
        "reference_margin_mean",
        "is_margin_uncertain",
        "is_reference_wrong",
        "is_reference_wrong_mean",
        "rlhf_margin",
        "is_assumption_held",
        "beta_max",
        "p_flip",
        "is_truncated",
        "is_prompt_cut",
        "length_difference",
    }
)
"""Columns of ``mart.pair_diagnostics`` that another reference policy gives another value."""

_FIGURES = ("tokens", "logps", "margin", "a token", "rlhf_margin", "beta_max")
_NOTES = {"is_truncated": "does not fit", "is_prompt_cut": "prompt cut", "is_margin_uncertain": "within noise"}

_VOTES = """
    select
        coalesce(judgments.annotator_id, 'unnamed:' || judgments.source) as annotator_id,
        case judgments.vote when 'tie' then 'a tie'
            else case when (judgments.vote = 'a') = (judgments.response_a_id = estimates.chosen_id)
                then 'chosen' else 'rejected' end
        end as preferred,
        case when judgments.is_display_order_known
            then if(judgments.response_a_id = estimates.chosen_id, 'chosen', 'rejected') || ' shown first' end as shown,
        report.reliability, report.position_bias, judgments.source, judgments.judgment_id
    from raw.judgments as judgments
    join raw.pair_estimates as estimates using (pair_id)
    left join mart.annotator_report as report
        on report.annotator_id = coalesce(judgments.annotator_id, 'unnamed:' || judgments.source)
        and report.criterion = judgments.criterion
    where judgments.pair_id = ?
    order by judgments.source, judgments.source_row
"""


def find_pair(lake: Lake, beginning: str) -> str:
    """The diagnosed pair whose id begins so.

    Raises:
        QueryError: there is none, or more than one.
    """
    sql = "select pair_id from raw.pair_estimates where starts_with(pair_id, ?) order by pair_id limit 2"
    found = [str(row[0]) for row in lake.con.execute(sql, [beginning]).fetchall()]
    if len(found) == 1 or beginning in found:
        return beginning if beginning in found else found[0]
    raise QueryError(
        f"there is {'more than one pair that begins with' if found else 'no diagnosed pair'} {beginning!r}",
        mend="give more of it" if found else "winnow diagnose, then take a pair_id of mart.pair_diagnostics",
    )


def pair_evidence(lake: Lake, pair_id: str) -> Iterator[str | Table]:
    """Lines on a pair's texts, votes, consensus, contradictions and decision, and a table of its reference policies.

    Raises:
        QueryError: there is no such pair among the diagnosed ones, or more than one that begins so.
    """
    pair_id = find_pair(lake, pair_id)
    rows = lake.frame("select * from mart.pair_diagnostics where pair_id = ? order by reference_id", [pair_id])
    first = rows.row(0, named=True)
    yield f"pair {pair_id}, criterion {first['criterion']}, source {first['source']}"
    messages = json.loads(lake.value("select messages from raw.prompts where prompt_id = ?", [first["prompt_id"]]))
    for message in messages:
        yield f"{message['role']}: {message['content']}"
    for side in ("chosen", "rejected"):
        text = lake.value("select text from raw.responses where response_id = ?", [first[f"{side}_id"]])
        yield f"{side} {first[f'{side}_id']}: {text}"
    yield "votes"
    for vote in lake.frame(_VOTES, [pair_id]).iter_rows(named=True):
        yield f"  {_vote(vote)}"
    yield "evidence"
    for name, value in first.items():
        if value is not None and name not in _OF_POLICY and not name.endswith("_id"):
            yield f"  {name}: {_value(value)}"
    if first["reference_id"] is None:
        yield "not scored by any reference policy yet"
    else:
        yield "reference policies: tokens and log-probs of chosen and rejected; margins in nats"
        yield _policies(policy_names(lake), rows.to_dicts())
    yield from _more(lake, pair_id)


def _policies(names: dict[str, str], rows: list[dict[str, Any]]) -> Table:
    """A row for each reference policy."""
    table = narrow_table("reference", *_FIGURES, "", figures=_FIGURES)
    for row in sorted(rows, key=lambda row: list(names).index(row["reference_id"])):
        sides = ("chosen_num_tokens", "rejected_num_tokens"), ("reference_chosen_logps", "reference_rejected_logps")
        margins = ("reference_margin", "reference_margin_mean", "rlhf_margin", "beta_max")
        table.add_row(
            names[row["reference_id"]],
            *(" ".join(_figure(row[name]) for name in pair) for pair in sides),
            *(_figure(row[name]) for name in margins),
            ", ".join(note for name, note in _NOTES.items() if row[name]),
        )
    return table


def _more(lake: Lake, pair_id: str) -> Iterator[str]:
    found = lake.frame("select * from mart.contradictions where pair_id = ? order by kind, contradiction_id", [pair_id])
    for row in found.iter_rows(named=True):
        yield f"contradiction {row['kind']}: {row['num_for']} for, {row['num_against']} against, {row['evidence']}"
    decisions = lake.frame("select * from mart.decisions where pair_id = ? order by run_id", [pair_id])
    for row in decisions.iter_rows(named=True):
        known = {name: value for name, value in row.items() if value is not None and name != "pair_id"}
        yield "decision " + ", ".join(f"{name} {_value(value)}" for name, value in known.items())


def _vote(vote: dict[str, Any]) -> str:
    reliability = "" if vote["reliability"] is None else f", reliability {vote['reliability']:.2f}"
    shown = "" if vote["shown"] is None else f", {vote['shown']}"
    return f"{vote['annotator_id']}: {vote['preferred']}{shown}{reliability} ({vote['source']}, {vote['judgment_id']})"


def _figure(value: Any) -> str:
    return "-" if value is None else _value(value)


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
