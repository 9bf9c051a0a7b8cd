"""Content hashes that identify prompts, responses and pairs, so that ingesting a file twice changes nothing.

The same definitions exist twice on purpose: in Python for single records, and as DuckDB expressions for whole columns.
A test holds that both give the same identifiers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

ID_LENGTH = 32
"""Hexadecimal characters of an identifier: 128 bits of SHA-256."""

_SEPARATOR = "\x1f"  # the ASCII unit separator; NUL is refused by ingest and cannot be used here


def digest(*parts: str) -> str:
    """First 128 bits, in hexadecimal, of SHA-256 over the parts joined by the unit separator."""
    return hashlib.sha256(_SEPARATOR.join(parts).encode()).hexdigest()[:ID_LENGTH]


def canonical_messages(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation as compact JSON, ``role`` before ``content``: the form that is stored and hashed."""
    ordered = [{"role": message["role"], "content": message["content"]} for message in messages]
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))


def prompt_id(messages_json: str) -> str:
    """Identifier of a prompt from its :func:`canonical_messages`."""
    return digest(messages_json)


def response_id(prompt_id: str, text: str) -> str:
    """Identifier of a response under its prompt."""
    return digest(prompt_id, text)


def pair_id(first_response_id: str, second_response_id: str, criterion: str) -> str:
    """Identifier of the unordered two responses on one criterion."""
    low, high = sorted((first_response_id, second_response_id))
    return digest(low, high, criterion)


def judgment_id(source: str, source_row: int, pair_id: str, annotator_id: str, vote: str) -> str:
    """Identifier of one vote: where it stands and what it says."""
    return digest(source, str(source_row), pair_id, annotator_id, vote)


def sql_digest(*expressions: str) -> str:
    """The DuckDB expression that equals :func:`digest` of the given VARCHAR expressions (none may be NULL)."""
    joined = expressions[0] if len(expressions) == 1 else f"concat_ws(chr(31), {', '.join(expressions)})"
    return f"sha256({joined})[1:{ID_LENGTH}]"


def sql_pair_id(first: str, second: str, criterion: str) -> str:
    """The DuckDB expression that equals :func:`pair_id`."""
    return sql_digest(f"least({first}, {second})", f"greatest({first}, {second})", criterion)
