"""Decisions of all pairs in one pass: run the compiled rules, check what they computed, let people overrule them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from curation.rules.compile import CompiledRules
from curation.rules.failures import RUN_TIME_ERRORS, failure_of
from curation.rules.fingerprint import fingerprint
from curation.rules.ruleset import Rule, RuleSet
from schemas.enums import Action
from schemas.errors import RuleError
from schemas.wording import counted

_BATCH_ROWS = 16_384


@dataclass(frozen=True)
class RuleCount:
    """What one rule did in one run.

    Attributes:
        rule: its name.
        action: its action.
        num_matched: pairs on which its condition held, whatever earlier rules did.
        num_applied: pairs on which it did something.
        num_alone: pairs on which only its condition held.
        num_unknown: pairs on which its condition was NULL.
    """

    rule: str
    action: str
    num_matched: int
    num_applied: int
    num_alone: int
    num_unknown: int


def decide(
    con: duckdb.DuckDBPyConnection, compiled: CompiledRules, *, pairs: str, adjudicated: str, is_checked: bool = True
) -> None:
    """Fill the temporary tables ``decided`` (bits, one row per pair) and ``rule_sets`` (what the bits mean).

    Args:
        con: connection, inside the run's transaction or over an in-memory copy.
        compiled: the rules.
        pairs: relation with the columns that the rules read.
        adjudicated: relation of human decisions: ``pair_id, is_dropped, is_flipped, is_chosen_lower``, unique.
        is_checked: whether values that no loss can use stop it; not when old rules are only looked at again.

    Raises:
        RuleRunError: an expression failed on a value, as ``ln(0.0)`` does; an open transaction is then aborted.
        RuleError: a weight is negative or not finite, or a soft label is not a probability.
    """
    try:
        con.execute(f"create or replace temp table decided as {compiled.over(pairs)}")
    except RUN_TIME_ERRORS as error:
        raise failure_of(compiled, error) from error
    if is_checked:
        _check_values(con, compiled.rules)
    con.execute(f"create or replace temp table adjudicated_pairs as {adjudicated}")
    masks = [int(row[0]) for row in con.execute("select distinct applied from decided").fetchall()]
    con.register("rule_sets_frame", _rule_sets(compiled.rules.rule, masks))
    con.execute("create or replace temp table rule_sets as select * from rule_sets_frame")
    con.unregister("rule_sets_frame")


def overruled(decisions: str) -> str:
    """Decisions with those of people, in the table ``adjudicated_pairs``, in their place; a query in parentheses."""
    return f"""(
    select
        ruled.pair_id,
        coalesce(human.is_dropped, ruled.is_dropped) as is_dropped,
        coalesce(human.is_flipped, ruled.is_flipped) as is_flipped,
        coalesce(human.is_chosen_lower, ruled.is_chosen_lower) as is_chosen_lower,
        if(human.pair_id is null, ruled.weight, if(human.is_dropped, 0, 1)) as weight,
        if(human.pair_id is null, ruled.soft_label, null) as soft_label,
        if(human.pair_id is null, ruled.objective, null) as objective,
        if(human.pair_id is null, ruled.rules, ['adjudication']) as rules,
        if(
            human.pair_id is null,
            ruled.actions,
            [if(human.is_dropped, 'drop', if(human.is_flipped, 'flip', 'keep'))]
        ) as actions,
        if(human.pair_id is null, ruled.amounts, null) as amounts,
        ruled.is_adjudicated or human.pair_id is not null as is_adjudicated
    from {decisions} as ruled
    left join adjudicated_pairs as human on ruled.pair_id = human.pair_id
)"""


DECIDED = overruled(
    """(
    select
        decided.*,
        rule_sets.rules,
        rule_sets.actions,
        if(rule_sets.has_values, list_select(decided.rule_values, rule_sets.value_positions), null) as amounts,
        false as is_adjudicated
    from decided
    inner join rule_sets on decided.applied = rule_sets.applied
)"""
)
"""The decisions, with names instead of bits and human decisions on top, after :func:`decide`."""


def content_hash(con: duckdb.DuckDBPyConnection) -> str:
    """Hash of all decisions after :func:`decide`, the same in whatever order and batches they came."""
    flags = "is_flipped::utinyint * 2 + is_chosen_lower::utinyint"
    columns = f"pair_id, applied, {flags}, weight, soft_label, objective"
    ruled = con.execute(f"select {columns} from decided").to_arrow_reader(_BATCH_ROWS)
    return hashlib.sha256((fingerprint(ruled) + adjudications_hash(con)).encode()).hexdigest()


def adjudications_hash(con: duckdb.DuckDBPyConnection) -> str:
    """Hash of the human decisions in ``adjudicated_pairs``."""
    human = con.execute("select pair_id, is_dropped, is_flipped, is_chosen_lower from adjudicated_pairs")
    return fingerprint(human.to_arrow_reader(_BATCH_ROWS))


def count_rules(con: duckdb.DuckDBPyConnection, rules: Sequence[Rule]) -> list[RuleCount]:
    """What each rule did, after :func:`decide`, from one pass over the bits."""
    groups = con.execute("select hits, applied, unknown, count(*) from decided group by all").fetchall()
    counts = []
    for number, rule in enumerate(rules):
        bit = 1 << number
        counts.append(
            RuleCount(
                rule.name,
                rule.action.value,
                num_matched=sum(n for hits, _, _, n in groups if hits & bit),
                num_applied=sum(n for _, applied, _, n in groups if applied & bit),
                num_alone=sum(n for hits, _, _, n in groups if hits == bit),
                num_unknown=sum(n for _, _, unknown, n in groups if unknown & bit),
            )
        )
    return counts


def _rule_sets(rules: Sequence[Rule], masks: Sequence[int]) -> pa.Table:
    """One row per set of rules that applied together, with their names, actions and places of their values."""
    valued = [rule.name for rule in rules if rule.value is not None]
    place = {name: position for position, name in enumerate(valued, start=1)}
    beyond = len(valued) + 1  # list_select gives NULL there
    rows: list[dict[str, Any]] = []
    for mask in masks:
        matched = [rule for number, rule in enumerate(rules) if mask >> number & 1]
        rows.append(
            {
                "applied": mask,
                "rules": [rule.name for rule in matched],
                "actions": [rule.action.value for rule in matched],
                "value_positions": [place.get(rule.name, beyond) for rule in matched],
                "has_values": any(rule.value is not None for rule in matched),
            }
        )
    schema = pa.schema(
        {
            "applied": pa.int64(),
            "rules": pa.list_(pa.string()),
            "actions": pa.list_(pa.string()),
            "value_positions": pa.list_(pa.int64()),
            "has_values": pa.bool_(),
        }
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _check_values(con: duckdb.DuckDBPyConnection, rules: RuleSet) -> None:
    """Refuse weights and soft labels that no loss can use, with an example."""
    valued = [(number, rule) for number, rule in enumerate(rules.rule) if rule.value is not None]
    bad = []
    for position, (number, rule) in enumerate(valued, start=1):
        top = 1 if rule.action is Action.SOFT_LABEL else math.inf
        value = f"rule_values[{position}]"
        allowed = f"{value} >= 0 and isfinite({value}) and {value} <= '{top}'::double"
        bad.append(f"applied & {1 << number} <> 0 and ({allowed}) is not true")
    if not bad:
        return
    counts = con.execute(f"select {', '.join(f'count(*) filter ({each})' for each in bad)} from decided").fetchone()
    assert counts is not None
    for position, (count, (_, rule)) in enumerate(zip(counts, valued, strict=True), start=1):
        if count:
            _refuse(con, rule, count, f"select pair_id, rule_values[{position}] from decided where {bad[position - 1]}")


def _refuse(con: duckdb.DuckDBPyConnection, rule: Rule, num_bad: int, bad: str) -> None:
    row = con.execute(f"{bad} order by pair_id limit 1").fetchone()
    assert row is not None
    is_weight = rule.action is Action.REWEIGHT
    what, meant = ("weight", "finite and not below 0") if is_weight else ("soft label", "between 0 and 1")
    shown = "NULL" if row[1] is None else f"{row[1]:g}"
    raise RuleError(
        f"rule {rule.name!r}: the {what} {rule.value!r} is {shown} on pair {row[0]} and bad on"
        f" {counted(num_bad, 'pair')}",
        mend=f"a {what} is {meant}; use greatest, least or coalesce",
    )
