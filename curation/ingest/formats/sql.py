"""Pieces of SQL that several formats need."""

from __future__ import annotations

from curation.ingest.candidates import key, text, value

SIDES = (
    ("response_a", "response_b"), ("response1", "response2"), ("response_1", "response_2"),
    ("response-1", "response-2"), ("answer_a", "answer_b"), ("answer1", "answer2"), ("answer_1", "answer_2"),
    ("answer-1", "answer-2"), ("option_a", "option_b"), ("option1", "option2"), ("option_1", "option_2"),
    ("generation_a", "generation_b"), ("generation1", "generation2"), ("generation_1", "generation_2"),
    ("generation-1", "generation-2"), ("completion_a", "completion_b"), ("completion_1", "completion_2"),
    ("output_a", "output_b"), ("output_1", "output_2"), ("text_a", "text_b"), ("text1", "text2"),
    ("left", "right"), ("model_output_1", "model_output_2"), ("a", "b"),
)  # fmt: skip
"""Names under which annotation tools show the first and the second response."""

PROMPTS = ("prompt", "instruction", "question", "input", "query", "conversation", "context")
"""Names under which they show the prompt."""


def first_value(*names: str, source: str = "doc") -> str:
    """JSON value of the first of several keys that is there and not null."""
    values = [f"nullif({value(key(name), source)}, 'null'::json)" for name in names]
    return f"coalesce({', '.join(values)}, null::json)"


def first_text(*names: str, source: str = "doc") -> str:
    """Text of the first of several keys that is there and not null."""
    return f"coalesce({', '.join(text(key(name), source) for name in names)}, null::varchar)"


def flipped(score: str) -> str:
    """A rank, of which 1 is the best, as a score, of which more is better."""
    return f"-({score})"


def with_system(system: str, user: str) -> str:
    """Messages of a system text, which may be NULL or empty, and a user text; JSON, NULL without user text."""
    return (
        f"case when {user} is null then null::json when coalesce({system}, '') = '' then to_json({user}) else"
        f" to_json([{{'role': 'system', 'content': {system}}}, {{'role': 'user', 'content': {user}}}]) end"
    )
