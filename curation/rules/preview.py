"""What rules would do, without doing it: counts, removed weight and examples of each rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from curation.rules.decide import RuleCount, count_rules
from curation.rules.ruleset import Rule
from schemas.enums import Action


@dataclass(frozen=True)
class RulePreview:
    """What one rule would do.

    Attributes:
        count: matched, applied, alone and unknown pairs.
        weight_removed: weight that the set loses by this rule, after the rules before it.
        examples: ids of up to five pairs on which it does something, the lowest ids.
    """

    count: RuleCount
    weight_removed: float
    examples: tuple[str, ...]


def preview(con: duckdb.DuckDBPyConnection, rules: Sequence[Rule], *, num_examples: int = 5) -> list[RulePreview]:
    """Previews of all rules, after :func:`curation.rules.decide.decide`."""
    if not rules:
        return []
    removed = con.execute(f"select {', '.join(_removed(rules))} from decided").fetchone()
    assert removed is not None
    return [
        RulePreview(count, float(weight), _examples(con, number, num_examples))
        for number, (count, weight) in enumerate(zip(count_rules(con, rules), removed, strict=True))
    ]


def _removed(rules: Sequence[Rule]) -> list[str]:
    """For each rule, the sum over its pairs of the weight before it minus the weight after it."""
    valued = [rule.name for rule in rules if rule.value is not None]
    sums: list[str] = []
    before = "1"
    for number, rule in enumerate(rules):
        applies = f"applied & {1 << number} <> 0"
        if rule.action is Action.DROP:
            sums.append(f"coalesce(sum({before}) filter ({applies}), 0)")
        elif rule.action is Action.REWEIGHT:
            factor = f"coalesce(rule_values[{valued.index(rule.name) + 1}], 1)"
            sums.append(f"coalesce(sum({before} * (1 - {factor})) filter ({applies}), 0)")
            before = f"{before} * {factor}"
        else:
            sums.append("0")
    return sums


def _examples(con: duckdb.DuckDBPyConnection, number: int, limit: int) -> tuple[str, ...]:
    rows: list[tuple[Any, ...]] = con.execute(
        f"select pair_id from decided where applied & {1 << number} <> 0 order by pair_id limit {limit}"
    ).fetchall()
    return tuple(str(row[0]) for row in rows)
