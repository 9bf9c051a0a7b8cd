"""Which SQL of users is let through: one statement that only reads the lake.

A locked, read-only connection alone is not enough: DuckDB lets ``copy ... to`` write and ``read_text`` read inside the
folder that the lake itself needs. So every query is parsed first, and only what is known to read tables passes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import duckdb

from schemas.errors import QueryError

TABLE_FUNCTIONS = frozenset(
    {
        "current_snapshot",
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "ducklake_current_snapshot",
        "ducklake_snapshots",
        "ducklake_table_changes",
        "ducklake_table_deletions",
        "ducklake_table_info",
        "ducklake_table_insertions",
        "generate_series",
        "histogram",
        "histogram_values",
        "json_each",
        "json_tree",
        "pragma_version",
        "range",
        "repeat",
        "repeat_row",
        "snapshots",
        "summary",
        "table_changes",
        "table_deletions",
        "table_info",
        "table_insertions",
        "unnest",
    }
)
"""Table functions that read neither a file nor the session."""

_REFUSED_SCALARS = frozenset({"current_setting", "getenv", "getvariable", "write_log", "setseed", "nextval"})
_EXPLAIN = re.compile(r"^\s*explain\s+(?:analyze\s+)?(?:\([^)]*\)\s*)?", re.IGNORECASE)
_MEND = "winnow sql only reads: SELECT, EXPLAIN, DESCRIBE, SHOW and SUMMARIZE"


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"enable_external_access": False, "autoload_known_extensions": False})


def check_read_only(sql: str) -> None:
    """Let one reading statement through.

    Raises:
        QueryError: it is no SQL, more or less than one statement, writes, or reads something other than the lake.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(f"not SQL: {first_lines(error)}") from error
    if not statements:
        raise QueryError("there is no query", mend="winnow sql 'select ...'")
    kinds = [statement.type for statement in statements]
    if len(statements) > 1 and duckdb.StatementType.CREATE not in kinds:
        raise QueryError(f"{len(statements)} statements; one at a time", mend="leave out the semicolon between them")
    if kinds == [duckdb.StatementType.EXPLAIN]:
        explained = _EXPLAIN.sub("", sql, count=1)
        if explained == sql:
            raise QueryError("EXPLAIN must come first", mend="leave out what stands before it")
        return check_read_only(explained)
    if kinds != [duckdb.StatementType.SELECT]:
        raise QueryError(f"{kinds[0].name} is not allowed", mend=_pivot_mend(kinds) or _MEND)
    for node in _nodes(_tree(sql)):
        _check(node)
    return None


def first_lines(error: Exception) -> str:
    """DuckDB's message without the picture of the query: what is wrong, and its suggestion if it has one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hint = next((line for line in lines[1:] if line.lower().startswith("did you mean")), None)
    candidates = next((line for line in lines[1:] if line.startswith("Candidate")), None)
    return " ".join(line for line in (lines[0], hint, candidates) if line)


def _pivot_mend(kinds: list[Any]) -> str | None:
    if duckdb.StatementType.CREATE in kinds and len(kinds) > 1:
        return "name the values of a pivot: pivot t on x in ('a', 'b') using sum(y)"
    return None


def _tree(sql: str) -> dict[str, Any]:
    row = _parser().cursor().execute("select json_serialize_sql(?)", [sql]).fetchone()
    assert row is not None
    tree = json.loads(row[0])
    if tree["error"]:
        raise QueryError(f"this statement is not allowed: {tree['error_message']}", mend=_MEND)
    return dict(tree)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)


def _check(node: dict[str, Any]) -> None:
    if node.get("type") == "TABLE_FUNCTION":
        function = node["function"]
        name = str(function.get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise QueryError(f"the table function {name} is not allowed", mend="queries read the lake, not files")
    elif node.get("type") == "BASE_TABLE":
        name = str(node["table_name"])
        if re.search(r"[./\\:*?]", name):
            raise QueryError(f"{name!r} is a file, not a table of the lake", mend="winnow ingest brings files in")
    elif node.get("class") == "FUNCTION" and str(node.get("function_name", "")).lower() in _REFUSED_SCALARS:
        raise QueryError(f"the function {node['function_name']} is not allowed", mend="queries read the lake only")
