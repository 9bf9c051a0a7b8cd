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


def judgment_id(
    source: str,
    pair_id: str,
    response_a_id: str,
    vote: str,
    *,
    annotator_id: str = "",
    strength: str = "",
    annotated_at: str = "",
    ordinal: int = 0,
) -> str:
    """Identifier of one vote: who said what in which source, how strongly and when; not in which row.

    Args:
        vote: ``a``, ``b``, ``tie`` or ``both_bad``, in display order.
        annotator_id, strength, annotated_at: empty where the source does not say.
        ordinal: number of votes above it in the source that say exactly the same.
    """
    first = digest(source, pair_id, response_a_id, vote, annotator_id, strength, annotated_at)
    return digest(first, str(ordinal)) if ordinal else first


def sql_digest(*expressions: str) -> str:
    """The DuckDB expression that equals :func:`digest` of the given VARCHAR expressions (none may be NULL)."""
    joined = expressions[0] if len(expressions) == 1 else f"concat_ws(chr(31), {', '.join(expressions)})"
    return f"sha256({joined})[1:{ID_LENGTH}]"


def sql_judgment_id(source: str) -> str:
    """The DuckDB expression that equals :func:`judgment_id` at ordinal 0, over the long form's columns.

    Args:
        source: expression of the source's name.
    """
    return sql_digest(
        source,
        "pair_id",
        "response_a_id",
        "case when is_both_bad then 'both_bad' else vote end",
        "coalesce(annotator_id, '')",
        "coalesce(strength::varchar, '')",
        "coalesce(annotated_at::varchar, '')",
    )


def sql_repeated(identifier: str, ordinal: str) -> str:
    """The DuckDB expression of the identifier of what stands in a source again: ``ordinal`` equal ones are above it."""
    return f"case when {ordinal} = 0 then {identifier} else {sql_digest(identifier, f'({ordinal})::varchar')} end"


def sql_pair_id(first: str, second: str, criterion: str) -> str:
    """The DuckDB expression that equals :func:`pair_id`."""
    return sql_digest(f"least({first}, {second})", f"greatest({first}, {second})", criterion)
