"""Reference scores in the lake: what is not scored yet, and a shard's scores in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from schemas.identity import digest
from warehouse.lake import Lake

WINDOW_PROMPTS = 100_000
"""Prompts that are read at once."""

_ID_SPACE = 1 << 32  # windows cut the space of prompt ids, which are hashes, by their first 32 bits

SCORE_COLUMNS: Mapping[str, Any] = {
    "response_id": pl.String,
    "logps": pl.Float64,
    "noise": pl.Float64,
    "num_tokens": pl.Int32,
    "num_prompt_tokens": pl.Int32,
    "is_truncated": pl.Boolean,
    "embedding": pl.List(pl.Float32),
}
"""Columns of a score that differ from response to response."""

NOT_SCORED = "not_scored"
"""Reason in ``raw.quarantine`` of a response that could not be scored."""

FAILURE_COLUMNS = ("quarantine_id", "source", "reason", "detail", "payload", "run_id")
"""Columns of ``raw.quarantine`` that a response which could not be scored has."""

_KNOWN = """
    from raw.reference_scores as known
    where known.reference_id = $reference_id and known.response_id = responses.response_id
"""
_IS_NEW = f"not exists ({_KNOWN})"
_HAS_FAILED = f"exists ({_KNOWN} and known.logps is null and not known.is_truncated and known.run_id <> $run_id)"
_TODO = """
    select
        responses.prompt_id,
        any_value(prompts.messages) as messages,
        list(responses.response_id order by responses.response_id) as response_ids,
        list(responses.text order by responses.response_id) as texts
    from raw.responses as responses
    join raw.prompts as prompts on responses.prompt_id = prompts.prompt_id
    where responses.prompt_id >= $low and responses.prompt_id < $high and {condition}
    group by responses.prompt_id
    order by responses.prompt_id
"""
_REPLACED = """
    select known.response_id
    from raw.reference_scores as known
    join shard_scores as found using (reference_id, response_id)
    where known.logps is null and not known.is_truncated and (found.logps is not null or found.is_truncated)
"""
_DELETE = """
    delete from raw.reference_scores as known
    where known.reference_id = $reference_id and list_contains($response_ids, known.response_id)
"""
_RELEASE = "delete from raw.quarantine where list_contains($quarantine_ids, quarantine_id)"
_INSERT = """
    insert into raw.reference_scores
    select
        reference_id, response_id, logps, noise, num_tokens, num_prompt_tokens, is_truncated, embedding, engine,
        engine_path, engine_version, dtype, scored_at, run_id
    from shard_scores
    anti join raw.reference_scores as known using (reference_id, response_id)
"""
_QUARANTINE = """
    insert into raw.quarantine
    select quarantine_id, source, null, reason, detail, payload, run_id
    from shard_failures
    anti join raw.quarantine as known using (quarantine_id)
"""


@dataclass(frozen=True, slots=True)
class ResponseCounts:
    """How far a reference policy has come with the responses of the lake.

    Attributes:
        num_new: responses that it has not met yet.
        num_scored: those with a log-prob.
        num_truncated: those that do not fit beside their prompt.
        num_failed: those that could not be scored.
    """

    num_new: int
    num_scored: int
    num_truncated: int
    num_failed: int


def last_policy(lake: Lake) -> dict[str, Any] | None:
    """What made the reference policy that was used first most lately, named as in ``[scoring]``; None without one."""
    columns = "model, revision, adapter, template, max_length, truncate, quantization"
    found = lake.frame(
        f"select {columns} from raw.reference_policies order by created_at desc, reference_id limit 1"
    ).rows(named=True)
    return found[0] if found else None


def scored_by(lake: Lake, reference_id: str) -> list[tuple[str, str, int]]:
    """Engine, dtype (a quantisation behind it) and number of a policy's log-probs, the most first."""
    return lake.con.execute(
        "select engine, dtype, count(*) from raw.reference_scores where reference_id = ? and logps is not null"
        " group by engine, dtype order by 3 desc, 1, 2",
        [reference_id],
    ).fetchall()


def count_responses(lake: Lake, reference_id: str) -> ResponseCounts:
    """Count the responses of the lake by what a reference policy has made of them."""
    row = lake.con.execute(
        """
        select
            count(*) filter (known.response_id is null),
            count(*) filter (known.logps is not null),
            count(*) filter (known.logps is null and known.is_truncated),
            count(*) filter (known.logps is null and not known.is_truncated)
        from raw.responses as responses
        left join (from raw.reference_scores where reference_id = $reference_id) as known
            on responses.response_id = known.response_id
        """,
        {"reference_id": reference_id},
    ).fetchone()
    assert row is not None
    return ResponseCounts(*row)


def prompts_to_score(lake: Lake, reference_id: str, *, failed_before: str | None) -> Iterator[dict[str, Any]]:
    """Prompts with responses to score in the order of their ids, read a window of ids at a time.

    Args:
        lake: holds the responses.
        reference_id: the policy that scores them.
        failed_before: None for responses that the policy has not met; a run's id for those that it could not score in
            another run.

    Yields:
        ``prompt_id``, ``messages`` (canonical JSON), ``response_ids`` and their ``texts``.
    """
    todo = _TODO.format(condition=_IS_NEW if failed_before is None else _HAS_FAILED)
    run = {} if failed_before is None else {"run_id": failed_before}
    num_prompts = int(lake.value("select count(*) from raw.prompts"))
    num_windows = -(-num_prompts // WINDOW_PROMPTS)
    for number in range(num_windows):
        low = f"{number * _ID_SPACE // num_windows:08x}"
        high = f"{(number + 1) * _ID_SPACE // num_windows:08x}" if number + 1 < num_windows else "g"
        parameters = {"reference_id": reference_id, "low": low, "high": high, **run}
        for batch in lake.arrow(todo, parameters).to_batches(max_chunksize=4096):
            yield from batch.to_pylist()


def insert_policy(con: duckdb.DuckDBPyConnection, values: Mapping[str, Any]) -> None:
    """Insert a row of ``raw.reference_policies``, with every column given, unless its ``reference_id`` is there."""
    columns = ", ".join(values)
    marks = ", ".join("?" for _ in values)
    con.execute(
        f"insert into raw.reference_policies ({columns}) select {marks}"
        " where not exists (from raw.reference_policies where reference_id = ?)",
        [*values.values(), values["reference_id"]],
    )


def quarantine_id(reference_id: str, response_id: str) -> str:
    """Id in ``raw.quarantine`` of a response that a reference policy could not score."""
    return digest(reference_id, response_id, NOT_SCORED)


def insert_shard(lake: Lake, con: duckdb.DuckDBPyConnection, scores: pl.DataFrame, failures: pl.DataFrame) -> None:
    """Insert a shard's scores and failures, inside the caller's transaction; what is there already is left.

    A row of a response that could not be scored before, and now is, is replaced, and leaves ``raw.quarantine``.

    Args:
        lake: where.
        con: its connection, in a transaction.
        scores: rows of ``raw.reference_scores``, of one reference policy.
        failures: rows of ``raw.quarantine`` with :data:`FAILURE_COLUMNS`.
    """
    with lake.registered(shard_scores=scores, shard_failures=failures):
        replaced = [row[0] for row in con.execute(_REPLACED).fetchall()]
        if replaced:
            reference_id = scores["reference_id"][0]
            con.execute(_DELETE, {"reference_id": reference_id, "response_ids": replaced})
            con.execute(_RELEASE, {"quarantine_ids": [quarantine_id(reference_id, each) for each in replaced]})
        con.execute(_INSERT)
        con.execute(_QUARANTINE)
