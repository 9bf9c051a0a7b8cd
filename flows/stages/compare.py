"""Compare two curation runs; where rules and data both changed, the old rules decide again on the new data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curation.rules.compile import compile_rules
from curation.rules.decide import DECIDED, decide
from curation.rules.ruleset import RuleSet
from flows.stages.curate import pair_columns, pairs_relation
from warehouse.connection import literal
from warehouse.diff import RunDiff, diff_runs
from warehouse.lake import Lake
from warehouse.sql_files import sql_files

_NOBODY = (
    "select null::varchar as pair_id, false as is_dropped, false as is_flipped, false as is_chosen_lower where false"
)


def compare(lake: Lake, run_a: str, run_b: str) -> RunDiff:
    """Difference of two curation runs, by id, by the beginning of one, or ``latest`` and ``previous``.

    Raises:
        QueryError: one of them does not exist, or was pruned.
    """
    return diff_runs(lake, run_a, run_b, replay=_replay)


def _replay(lake: Lake, a: Mapping[str, Any], b: Mapping[str, Any], pairs: str) -> str:
    """What the rules of ``a`` decide on the input of ``b``, before people have their say."""
    compiled = compile_rules(RuleSet.model_validate_json(a["rules"]), pair_columns(lake))
    diagnostics = next(file for file in sql_files("mart") if file.name == "pair_diagnostics")
    reference = b["reference_id"]
    policy = "reference_id is null" if reference is None else f"reference_id = {literal(reference)}"
    body = diagnostics.body_at(b["input_snapshot_id"])
    relation = pairs_relation(compiled, f"(select * from ({body}) where {policy} and pair_id in ({pairs}))")
    decide(lake.con, compiled, pairs=relation, adjudicated=_NOBODY, is_checked=False)
    return DECIDED
