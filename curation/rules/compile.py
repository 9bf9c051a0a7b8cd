"""Rules as one SQL query over all pairs at once: conditions, then what applied, then what is left of the pair.

A flip changes what later rules see, so the query is a stack of selects, one segment between two flips. A drop and a
keep end the list for their pair. Of every pair the query gives the decision and three bit sets over the rules: whose
condition held (``hits``), which of them did something (``applied``), and whose condition was NULL (``unknown``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curation.rules.expressions import Expression, parse, quoted, result_type
from curation.rules.ruleset import Rule, RuleSet
from schemas.enums import Action
from schemas.errors import RuleError

_KEY_COLUMNS = ("pair_id", "chosen_id", "rejected_id")
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "U")

RECOMPUTED = {
    "rlhf_margin": ("reference_margin + reward_gap / beta", ("reference_margin", "reward_gap")),
    "is_assumption_held": ("reference_margin + reward_gap / beta > 0", ("reference_margin", "reward_gap")),
}
"""Columns that depend on beta: rules see them at the beta of the rule file, not at the workspace's."""

_NEGATED = ("reference_margin", "reference_margin_mean", "reward_gap", "rlhf_margin", "length_difference")
_COMPLEMENTED = ("p_chosen", "p_consensus_right", "p_flip", "vote_share_chosen")
_FLIPPED = {
    "is_reference_wrong": "reference_margin > 0",
    "is_reference_wrong_mean": "reference_margin_mean > 0",
    "is_assumption_held": "reference_margin + reward_gap / beta < 0",
    "beta_max": "case when reference_margin <= 0 then 'infinity'::double"
    " when reference_margin > 0 then -reward_gap / reference_margin end",
}


@dataclass(frozen=True)
class CompiledRules:
    """Rules that passed every check, as SQL.

    Attributes:
        rules: the rule set.
        columns: columns of the pairs that the query reads.
        query: decisions of all pairs of the relation ``{pairs}``, which stands in it last.
        types: name and DuckDB type of every column that a pair has.
    """

    rules: RuleSet
    columns: tuple[str, ...]
    query: str
    types: Mapping[str, str]

    def over(self, pairs: str) -> str:
        """The query over a relation that has :attr:`columns`: a table's name, or a query in parentheses."""
        head, _, tail = self.query.rpartition("{pairs}")  # text of users stands before it
        return f"{head}{pairs}{tail}"


@dataclass(frozen=True)
class _Checked:
    """A rule with its parsed expressions."""

    number: int
    rule: Rule
    when: Expression
    value: Expression | None

    @property
    def bit(self) -> int:
        return 1 << self.number


def flipped(column: str) -> str:
    """What a column of a pair becomes when chosen and rejected change places."""
    for one, other in (("chosen", "rejected"), ("rejected", "chosen")):
        if one in column.split("_") and column not in _COMPLEMENTED:
            return quoted("_".join(other if part == one else part for part in column.split("_")))
    if column in _NEGATED:
        return f"-{quoted(column)}"
    if column in _COMPLEMENTED:
        return f"1 - {quoted(column)}"
    return _FLIPPED.get(column, quoted(column))


def compile_rules(rules: RuleSet, columns: Mapping[str, str]) -> CompiledRules:
    """Check every expression and put the rules together as one query.

    Args:
        rules: the rule set.
        columns: name and DuckDB type of every column that a pair has.

    Raises:
        RuleError: an expression is not allowed, or not of the type that its place needs.
    """
    clash = sorted(rules.parameters.keys() & columns.keys())
    if clash:
        raise RuleError(
            f"parameter {clash[0]!r} is also a column of mart.pair_diagnostics", mend="give it another name"
        )
    parameters = {"beta": rules.beta, **{name.lower(): value for name, value in rules.parameters.items()}}
    types = {**columns, **dict.fromkeys(parameters, "DOUBLE")}
    checked = [_check_rule(number, rule, types) for number, rule in enumerate(rules.rule)]
    needed = _needed_columns(checked, columns)
    query = _first_select(needed, parameters)
    for segment in _segments(checked):
        query = _segment_select(query, segment, checked, needed)
    own = tuple(column for column in needed if column not in RECOMPUTED)
    return CompiledRules(rules, own, _last_select(query, checked), columns)


def _check_rule(number: int, rule: Rule, types: Mapping[str, str]) -> _Checked:
    where = f"rule {rule.name!r}, when"
    when = parse(rule.when, known=types, where=where)
    kind = result_type(when, types, where=where)
    if kind != "BOOLEAN":
        raise RuleError(f"{where}: {rule.when!r} is {kind}, not a condition", mend="compare it with something")
    if rule.value is None:
        return _Checked(number, rule, when, None)
    where = f"rule {rule.name!r}, {'weight' if rule.action is Action.REWEIGHT else 'soft_label'}"
    value = parse(rule.value, known=types, where=where)
    kind = result_type(value, types, where=where)
    if not kind.startswith(_NUMERIC):
        raise RuleError(f"{where}: {rule.value!r} is {kind}, not a number")
    return _Checked(number, rule, when, value)


def _needed_columns(checked: Sequence[_Checked], columns: Mapping[str, str]) -> list[str]:
    """Columns to read: what expressions name, and what flipping or recomputing those needs."""
    named: set[str] = set()
    for each in checked:
        named |= each.when.names | (each.value.names if each.value else frozenset())
    needed = {*_KEY_COLUMNS, *(named & columns.keys())}
    if any(each.rule.action is Action.FLIP for each in checked):
        if "beta_max" in needed or needed & RECOMPUTED.keys():
            needed |= {"reference_margin", "reward_gap"}
        for column in ("is_reference_wrong", "is_reference_wrong_mean"):
            if column in needed:
                needed.add("reference_margin_mean" if column.endswith("_mean") else "reference_margin")
        needed |= {other for column in needed if (other := flipped(column).strip('"')) in columns}
    for column in needed & RECOMPUTED.keys():
        needed |= set(RECOMPUTED[column][1])
    return [column for column in columns if column in needed]


def _segments(checked: Sequence[_Checked]) -> list[list[_Checked]]:
    """Rules in order, cut after each flip."""
    segments: list[list[_Checked]] = [[]]
    for each in checked:
        segments[-1].append(each)
        if each.rule.action is Action.FLIP:
            segments.append([])
    return segments


def _first_select(needed: Sequence[str], parameters: Mapping[str, float]) -> str:
    """The pairs with the columns that rules read, at the rule file's beta, and the parameters as columns."""
    own = [quoted(column) for column in needed if column not in RECOMPUTED]
    numbers = [f"{value!r}::double as {quoted(name)}" for name, value in parameters.items()]
    state = ["chosen_id < rejected_id as __lower", "false as __flipped"]
    start = f"select {', '.join([*own, *numbers, *state])} from {{pairs}}"
    recomputed = [f"{RECOMPUTED[column][0]} as {quoted(column)}" for column in needed if column in RECOMPUTED]
    return f"select {', '.join(['*', *recomputed])} from ({start})" if recomputed else start


def _segment_select(query: str, segment: Sequence[_Checked], checked: Sequence[_Checked], needed: Sequence[str]) -> str:
    """Add conditions, what applied and computed values of the rules up to the next flip; then flip."""
    if not segment:
        return query
    conditions = [f"({each.when.sql}\n) as __c{each.number}" for each in segment]
    query = f"select *, {', '.join(conditions)} from ({query})"
    applied = [f"{_applies(each, checked)} as __m{each.number}" for each in segment]
    query = f"select *, {', '.join(applied)} from ({query})"
    values = [
        f"case when __m{each.number} then ({each.value.sql}\n)::double end as __v{each.number}"
        for each in segment
        if each.value is not None
    ]
    if values:
        query = f"select *, {', '.join(values)} from ({query})"
    last = segment[-1]
    if last.rule.action is not Action.FLIP:
        return query
    swapped = [
        f"case when __m{last.number} then {flipped(column)} else {quoted(column)} end as {quoted(column)}"
        for column in needed
        if flipped(column) != quoted(column)
    ]
    swapped.append(f"__flipped <> __m{last.number} as __flipped")
    return f"select * replace ({', '.join(swapped)}) from ({query})"


def _applies(each: _Checked, checked: Sequence[_Checked]) -> str:
    """Whether the condition is true and no earlier drop or keep ended the list."""
    ends = [f"__c{other.number}" for other in checked[: each.number] if other.rule.action in (Action.DROP, Action.KEEP)]
    ended = f" and ({' or '.join(ends)}) is not true" if ends else ""
    return f"(__c{each.number} is true{ended})"


def _last_select(query: str, checked: Sequence[_Checked]) -> str:
    dropped = [f"__m{e.number}" for e in checked if e.rule.action is Action.DROP]
    factors = [f"coalesce(__v{e.number}, 1)" for e in checked if e.rule.action is Action.REWEIGHT]
    is_dropped = " or ".join(dropped) or "false"
    weight = " * ".join(factors) or "1"
    columns = [
        "pair_id",
        f"{is_dropped} as is_dropped",
        "__flipped as is_flipped",
        "__lower <> __flipped as is_chosen_lower",
        f"case when {is_dropped} then 0 else ({weight})::double end as weight",
        f"{_soft_label(checked)} as soft_label",
        f"{_routed(checked)} as objective",
        f"{_bits([(e, f'__c{e.number} is true') for e in checked])} as hits",
        f"{_bits([(e, f'__m{e.number}') for e in checked])} as applied",
        f"{_bits([(e, f'__c{e.number} is null') for e in checked])} as unknown",
        f"{_values(checked)} as rule_values",
    ]
    return f"select {', '.join(columns)} from ({query})"


def _values(checked: Sequence[_Checked]) -> str:
    """Factors and soft labels of the rules that have one; no list at all, and no memory, where none of them applied."""
    valued = [e for e in checked if e.value is not None]
    if not valued:
        return "null::double[]"
    any_applied = " or ".join(f"__m{e.number}" for e in valued)
    return f"case when {any_applied} then [{', '.join(f'__v{e.number}' for e in valued)}] end"


def _soft_label(checked: Sequence[_Checked]) -> str:
    """The last soft label that applied; a flip after it turns q into 1 - q."""
    label = "null::double"
    for each in checked:
        if each.rule.action is Action.SOFT_LABEL:
            label = f"coalesce(__v{each.number}, {label})"
        elif each.rule.action is Action.FLIP and label != "null::double":
            label = f"case when __m{each.number} then 1 - ({label}) else {label} end"
    return label


def _routed(checked: Sequence[_Checked]) -> str:
    routes = [e for e in checked if e.rule.action is Action.ROUTE]
    whens = " ".join(f"when __m{e.number} then '{e.rule.objective}'" for e in reversed(routes))
    return f"case {whens} end" if routes else "null::varchar"


def _bits(flags: Sequence[tuple[_Checked, str]]) -> str:
    terms = [f"if({flag}, {each.bit}, 0)::bigint" for each, flag in flags]
    return " | ".join(terms) if terms else "0::bigint"
