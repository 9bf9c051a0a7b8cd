"""A mapping file as the SQL query of a format."""

from __future__ import annotations

import re

from curation.ingest.candidates import candidates, extra_columns, literal
from curation.ingest.mapping import Columns, Judgment, Mapping, Value
from curation.ingest.paths import json_path, parse_path

_JSON_COLUMNS = {"prompt", "response_a", "response_b"}
_BRACES = re.compile(r"\{([^{}]+)\}")


def mapping_query(mapping: Mapping, file_columns: Columns | None = None) -> str:
    """Query of a mapping over ``rows`` and its tables, which :func:`table_name` names.

    Args:
        file_columns: columns that the file at hand overrides.

    Raises:
        ConfigError: a path is not a path.
    """
    base = mapping.columns.given() | ({} if file_columns is None else file_columns.given())
    judgments = mapping.judgment or (Judgment(),)
    extra = extra_columns(_used_columns(mapping, [base, *(each.given() for each in judgments)]))
    return " union all by name ".join(
        _judgment_query(mapping, base | each.given(), extra, is_optional=each.optional) for each in judgments
    )


def paths_of(value: Value) -> list[str]:
    """Every path that a value reads."""
    read = [value.path] if value.path else _BRACES.findall(value.template or "")
    return [*read, *value.same_as]


def table_name(name: str) -> str:
    """Relation of a table that is looked up: columns ``key`` and ``value``, the row as JSON."""
    return f"looked_up_{name}"


def _judgment_query(mapping: Mapping, columns: dict[str, Value], extra: str, *, is_optional: bool) -> str:
    selected = {name: _expression(mapping, name, value) for name, value in columns.items()}
    prompt = columns.get("prompt")
    if prompt is not None and "" in (prompt.constant, prompt.default):
        found = selected["prompt"] if prompt.path is not None else "null::json"
        selected |= {"prompt": f"coalesce({found}, '[]'::json)", "may_lack_prompt": "true"}
    if mapping.tables:
        missing = " or ".join(f"{_doc(name)} is null" for name in mapping.tables)
        selected["reason"] = f"case when {missing} then 'unknown_reference' end"
    if "is_display_order_known" in selected:
        selected["is_display_order_known"] = (
            f"coalesce(try_cast({selected['is_display_order_known']} as boolean), false)"
        )
    query = candidates(_joined(mapping), **selected, extra=extra)
    return f"({query} where {selected['vote']} is not null)" if is_optional and "vote" in selected else f"({query})"


def _joined(mapping: Mapping) -> str:
    """Rows with the document of every table beside them as a column."""
    relation = "rows"
    for name, table in mapping.tables.items():
        on = _text(mapping, parse_path(table.on))
        relation = (
            f"(select main.*, {table_name(name)}.value as {_doc(name)} from {relation} as main"
            f" left join {table_name(name)} on {table_name(name)}.key = {on})"
        )
    return relation


def _doc(table: str) -> str:
    return f"{table}_doc"


def _expression(mapping: Mapping, column: str, value: Value) -> str:
    if column in _JSON_COLUMNS and value.path is not None and not value.values:
        found = f"json_extract({', '.join(_located(mapping, parse_path(value.path)))})"
        if value.default is None:
            return found
        given = f"nullif({found}, 'null'::json)"
        return f"coalesce({given}, to_json({literal(value.default)}))" if value.default else given
    if value.path is not None:
        written = _text(mapping, parse_path(value.path))
    elif value.template is not None:
        written = _filled(mapping, value.template)
    else:
        written = literal(value.constant or "")
    if value.values or value.same_as:
        keys = {_text(mapping, parse_path(path)): meaning for path, meaning in value.same_as.items()}
        keys |= {literal(key): meaning for key, meaning in value.values.items()}
        cases = " ".join(f"when {key} then {literal(meaning)}" for key, meaning in keys.items())
        written = f"case {written} {cases} else {written} end"
    if value.default is not None and (value.default or column in _JSON_COLUMNS):
        written = f"coalesce({written}, {literal(value.default)})"
    return f"to_json({written})" if column in _JSON_COLUMNS else written


def _filled(mapping: Mapping, template: str) -> str:
    """Text with every path in braces replaced; NULL where one of them leads to nothing."""
    pieces = _BRACES.split(template)
    written = [
        _text(mapping, parse_path(piece)) if number % 2 else literal(piece)
        for number, piece in enumerate(pieces)
        if number % 2 or piece
    ]
    return "(" + " || ".join(written) + ")"


def _text(mapping: Mapping, parts: list[str | int]) -> str:
    return f"json_extract_string({', '.join(_located(mapping, parts))})"


def _located(mapping: Mapping, parts: list[str | int]) -> tuple[str, str]:
    """Relation column and JSON path, as SQL; a path that begins with a table's name goes into that table."""
    first = parts[0]
    if isinstance(first, str) and first in mapping.tables and len(parts) > 1:
        return _doc(first), literal(json_path(parts[1:]))
    return "doc", literal(json_path(parts))


def _used_columns(mapping: Mapping, groups: list[dict[str, Value]]) -> set[str]:
    """Top-level columns of the row that the mapping reads; the others are kept as ``extra``."""
    paths = [table.on for table in mapping.tables.values()]
    for value in (value for group in groups for value in group.values()):
        paths += paths_of(value)
    firsts = [parse_path(path) for path in paths]
    return {str(parts[0]) for parts in firsts if not (parts[0] in mapping.tables and len(parts) > 1)}
