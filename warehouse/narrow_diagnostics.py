"""``mart.pair_diagnostics`` under one reference policy, for a reader of all of its rows.

The view looks up scores and text features twice each, for chosen and for rejected, because a view cannot keep what it
looked up. Here both are first put beside each other, one row a response, and looked up once for each side: two joins
over the whole set instead of four. The query is the view's own; a test holds that both give the same rows.
"""

from __future__ import annotations

import re

import duckdb

from warehouse.connection import literal
from warehouse.sql_files import sql_files

SIDES = "response_sides"
"""Temporary table of the responses; to be dropped when the query has run."""

_LOOKED_UP_ONCE = (
    ("select * from raw.reference_scores", f"select * from {SIDES}"),
    ("    left join features as chosen_features on estimates.chosen_id = chosen_features.response_id\n", ""),
    ("    left join features as rejected_features on estimates.rejected_id = rejected_features.response_id\n", ""),
    ("on policies.reference_id = chosen.reference_id and estimates", "on estimates"),
    ("on policies.reference_id = rejected.reference_id and estimates", "on estimates"),
    ("chosen_features.", "chosen."),
    ("rejected_features.", "rejected."),
)


def diagnostics_under(con: duckdb.DuckDBPyConnection, reference_id: str | None) -> str:
    """Fill the temporary table :data:`SIDES`; the rows of one reference policy over it, as a query in parentheses.

    Args:
        con: connection to the lake.
        reference_id: the policy; None where nothing is scored.
    """
    body = next(file.body for file in sql_files("mart") if file.name == "pair_diagnostics")
    for twice, once in _LOOKED_UP_ONCE:
        if twice not in body:
            raise AssertionError(f"mart.pair_diagnostics no longer says {twice.strip()!r}")
        body = body.replace(twice, once)
    columns = sorted(set(re.findall(r"\b(?:chosen|rejected)\.(\w+)", body)) - {"response_id"})
    policy = "false" if reference_id is None else f"reference_id = {literal(reference_id)}"
    con.execute(
        f"""
        create or replace temp table {SIDES} as
        select coalesce(scores.response_id, features.response_id) as response_id, {", ".join(columns)}
        from (select * from raw.reference_scores where {policy}) as scores
        full join raw.response_features as features on scores.response_id = features.response_id
        """
    )
    is_this_policy = "reference_id is null" if reference_id is None else policy
    return f"(select * from ({body}) where {is_this_policy})"
