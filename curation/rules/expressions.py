"""User expressions of rules: parsed, checked and typed before anything runs.

An expression is one scalar DuckDB expression over known columns and parameters. Sub-queries, aggregates, windows, table
and file functions, and functions that give another answer on another day are refused.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb

from schemas.errors import RuleError

_SCALAR_CLASSES = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "LAMBDA",
    "OPERATOR",
}
_REFUSED = {
    "SUBQUERY": "a sub-query",
    "WINDOW": "a window function",
    "STAR": "a star",
    "PARAMETER": "a placeholder",
    "DEFAULT": "DEFAULT",
    "POSITIONAL_REFERENCE": "a positional reference",
    "LAMBDA_REF": "a lambda reference",
}
_SESSION_FUNCTIONS = {"current_setting", "getvariable", "getenv", "current_localtime", "current_localtimestamp"}
"""Scalar functions that DuckDB calls consistent, and that still read the session or the clock."""


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes:
        sql: the text as the user wrote it.
        names: columns and parameters that it reads, in lower case.
    """

    sql: str
    names: frozenset[str]


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty in-memory database that reads no file; only parses and binds."""
    return duckdb.connect(
        config={
            "enable_external_access": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
    )


@cache
def _functions() -> dict[str, tuple[frozenset[str], frozenset[str], list[tuple[str, list[str]]]]]:
    """Every function name with its kinds, its stabilities and, for macros, their definitions and parameters."""
    rows = (
        _parser()
        .cursor()
        .execute(
            """
        select
            lower(function_name),
            list(distinct function_type),
            list(distinct coalesce(stability, 'CONSISTENT')),
            list((macro_definition, parameters)) filter (where macro_definition is not null)
        from duckdb_functions()
        group by 1
        """
        )
    )
    return {name: (frozenset(kinds), frozenset(stable), defs or []) for name, kinds, stable, defs in rows.fetchall()}


def parse(sql: str, *, known: Collection[str], where: str) -> Expression:
    """Check one expression without running it.

    Args:
        sql: the expression.
        known: columns and parameters that it may name, in lower case.
        where: what to call it in an error, such as ``rule 'x', when``.

    Raises:
        RuleError: it is not one scalar expression, names an unknown column, or calls what rules may not call.
    """
    tree = _tree(sql, where)
    names = frozenset(_check(tree, where, frozenset()))
    for name in sorted(names - set(known)):
        raise RuleError(f"{where}: there is no column or parameter {name!r}", mend=_did_you_mean(name, known))
    return Expression(sql, names)


def result_type(expression: Expression, types: Mapping[str, str], *, where: str) -> str:
    """DuckDB type of an expression over columns of these types.

    Raises:
        RuleError: it does not type-check, as in ``chosen_id + 1``.
    """
    columns = ", ".join(f"null::{types[name]} as {quoted(name)}" for name in sorted(expression.names)) or "1 as one"
    try:
        row = (
            _parser()
            .cursor()
            .execute(f"describe select ({expression.sql}) as result from (select {columns})")
            .fetchone()
        )
    except duckdb.Error as error:
        raise RuleError(f"{where}: {expression.sql!r} does not type-check: {str(error).splitlines()[0]}") from error
    assert row is not None
    return str(row[1])


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def closest(name: str, known: Collection[str]) -> list[str]:
    """Up to three known names that look like ``name``."""
    return difflib.get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.6)


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = closest(name, known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "winnow sql \"select column_name, meaning from mart.columns where mart = 'pair_diagnostics'\" lists them"


def _tree(sql: str, where: str) -> dict[str, Any]:
    query = f"select {sql}\nas result"
    row = _parser().cursor().execute("select json_serialize_sql(?)", [query]).fetchone()
    assert row is not None
    parsed = json.loads(row[0])
    if parsed["error"]:
        raise RuleError(f"{where}: {sql!r} is not a SQL expression: {parsed['error_message']}")
    statements = parsed["statements"]
    node = statements[0]["node"]
    plain = (
        len(statements) == 1
        and node["type"] == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["select_list"][0].get("alias") == "result"
        and node["from_table"]["type"] == "EMPTY"
        and not node["cte_map"]["map"]
        and not node["modifiers"]
        and all(node[part] in (None, []) for part in ("where_clause", "having", "qualify", "group_expressions"))
    )
    if not plain:
        raise RuleError(f"{where}: {sql!r} is not one scalar expression")
    return dict(node["select_list"][0])


def _check(node: dict[str, Any], where: str, bound: frozenset[str]) -> Iterator[str]:
    """Refuse what is not scalar; yield the names that the expression reads."""
    kind = node["class"]
    if kind not in _SCALAR_CLASSES:
        what = _REFUSED.get(kind, kind.lower())
        raise RuleError(
            f"{where}: {what} is not allowed in a rule", mend="write one scalar expression over the pair's columns"
        )
    if kind == "COLUMN_REF":
        names = [str(name).lower() for name in node["column_names"]]
        if names[0] not in bound:
            if len(names) > 1:
                raise RuleError(f"{where}: {'.'.join(names)!r} is not a column", mend=f"write {names[-1]!r} alone")
            yield names[0]
        return
    if kind == "FUNCTION":
        _check_function(str(node["function_name"]).lower(), where)
    if kind == "LAMBDA":
        bound = bound | _lambda_parameters(node)
    for child in _children(node):
        yield from _check(child, where, bound)


def _children(value: Any) -> Iterator[dict[str, Any]]:
    """Direct sub-expressions of a node, wherever they stand in it."""
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict) and "class" in part:
            yield part
        elif isinstance(part, dict | list):
            yield from _children(part)


def _lambda_parameters(node: dict[str, Any]) -> frozenset[str]:
    left = node["lhs"]
    parts = [left] if left["class"] == "COLUMN_REF" else left.get("children", [])
    return frozenset(str(part["column_names"][0]).lower() for part in parts)


def _check_function(name: str, where: str) -> None:
    found = _functions().get(name)
    if found is None:
        near = closest(name, _functions())
        raise RuleError(f"{where}: there is no function {name!r}", mend=f"did you mean {near[0]}?" if near else None)
    kinds, stability, definitions = found
    if not kinds <= {"scalar", "macro"}:
        kind = "an aggregate" if "aggregate" in kinds else "a table function"
        if "scalar" not in kinds:
            raise RuleError(
                f"{where}: {name} is {kind}, which is not allowed in a rule", mend="rules see one pair at a time"
            )
    if stability != {"CONSISTENT"} or name in _SESSION_FUNCTIONS:
        raise RuleError(
            f"{where}: {name} gives another answer on another day",
            mend="rules read only the pair's columns, so that a run can be repeated",
        )
    for definition, parameters in definitions:
        if set(_check(_tree(definition, where), f"{where}: {name}", frozenset())) - set(parameters):
            # a bare name that is no parameter is the clock or the session: current_timestamp, current_user
            raise RuleError(f"{where}: {name} gives another answer on another day", mend="read only the pair's columns")
