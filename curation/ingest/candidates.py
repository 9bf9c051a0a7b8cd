"""What every format's query returns: candidates for judgments, not yet checked."""

from __future__ import annotations

import json
from collections.abc import Iterable

DEFAULTS = {
    "source_row": "source_row",
    "other_row": "null::bigint",
    "prompt": "null::json",
    "response_a": "null::json",
    "response_b": "null::json",
    "vote": "null::varchar",
    "criterion": "null::varchar",
    "is_display_order_known": "false",
    "strength": "null::varchar",
    "annotator_id": "null::varchar",
    "annotator_kind": "null::varchar",
    "annotated_at": "null::varchar",
    "batch": "null::varchar",
    "source_split": "null::varchar",
    "model_a": "null::varchar",
    "model_b": "null::varchar",
    "extra": "null::varchar",
    "may_lack_prompt": "false",
    "reason": "null::varchar",
    "detail": "null::varchar",
}
"""Column and the SQL that stands for it where a format does not give it.

Prompt and responses are JSON values as they stand in the row (text or a list of messages), so that a number where text
belongs is seen. ``other_row`` is the second row that a judgment is made of, where there is one. Everything else is
text, still to be parsed.
"""


def candidates(source: str, **columns: str) -> str:
    """A query over ``source`` with every column of :data:`DEFAULTS`; ``columns`` gives the SQL of those that are there.

    Args:
        source: relation with ``source_row`` and ``doc`` (the row as JSON text).
    """
    unknown = columns.keys() - DEFAULTS.keys()
    assert not unknown, f"not columns of a candidate: {unknown}"
    selected = {**DEFAULTS, **columns}
    return f"select {', '.join(f'{sql} as {name}' for name, sql in selected.items())} from {source}"


def extra_columns(used: Iterable[str]) -> str:
    """SQL of the row's other columns as a JSON object; NULL where there is none."""
    names = sorted(set(used))
    listed = "[" + ", ".join(literal(name) for name in names) + "]"
    removed = "{" + ", ".join(f"{_json_string(name)}:null" for name in names) + "}"
    return (
        f"case when len(list_filter(json_keys(doc), lambda k: not list_contains({listed}, k))) > 0"
        f" then nullif(json_merge_patch(doc, {literal(removed)})::varchar, '{{}}') end"
    )


def literal(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A SQL name."""
    return '"' + name.replace('"', '""') + '"'


def _json_string(text: str) -> str:
    return json.dumps(text)


def value(path: str, source: str = "doc") -> str:
    """SQL of the JSON value at a JSON path."""
    return f"json_extract({source}, {literal(path)})"


def text(path: str, source: str = "doc") -> str:
    """SQL of the text at a path; a number or boolean as it is written, NULL where absent or null."""
    return f"json_extract_string({source}, {literal(path)})"


def key(name: str) -> str:
    """JSON path of a top-level key, whatever characters it has."""
    return '$."' + name.replace('"', '\\"') + '"'
