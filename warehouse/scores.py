"""Reference scores in the lake: what is not scored yet, and a shard's scores in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import polars as pl

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

FAILURE_COLUMNS = ("quarantine_id", "source", "reason", "detail", "payload", "run_id")
"""Columns of ``raw.quarantine`` that a response which could not be scored has."""

_IS_UNSCORED = """
    not exists (
        from raw.reference_scores as known
        where known.reference_id = $reference_id and known.response_id = responses.response_id
    )
"""
_TODO = f"""
    select
        responses.prompt_id,
        any_value(prompts.messages) as messages,
        list(responses.response_id order by responses.response_id) as response_ids,
        list(responses.text order by responses.response_id) as texts
    from raw.responses as responses
    join raw.prompts as prompts on responses.prompt_id = prompts.prompt_id
    where responses.prompt_id >= $low and responses.prompt_id < $high and {_IS_UNSCORED}
    group by responses.prompt_id
    order by responses.prompt_id
"""
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


def count_responses(lake: Lake, reference_id: str) -> tuple[int, int]:
    """Responses in the lake, and those of them that a reference policy has not scored."""
    row = lake.con.execute(
        f"select count(*), count(*) filter ({_IS_UNSCORED}) from raw.responses as responses",
        {"reference_id": reference_id},
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def unscored_prompts(lake: Lake, reference_id: str) -> Iterator[dict[str, Any]]:
    """Prompts with unscored responses in the order of their ids, read a window of ids at a time.

    Yields:
        ``prompt_id``, ``messages`` (canonical JSON), ``response_ids`` and their ``texts``.
    """
    num_prompts = int(lake.value("select count(*) from raw.prompts"))
    num_windows = -(-num_prompts // WINDOW_PROMPTS)
    for number in range(num_windows):
        low = f"{number * _ID_SPACE // num_windows:08x}"
        high = f"{(number + 1) * _ID_SPACE // num_windows:08x}" if number + 1 < num_windows else "g"
        parameters = {"reference_id": reference_id, "low": low, "high": high}
        for batch in lake.arrow(_TODO, parameters).to_batches(max_chunksize=4096):
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


def insert_shard(lake: Lake, con: duckdb.DuckDBPyConnection, scores: pl.DataFrame, failures: pl.DataFrame) -> None:
    """Insert a shard's scores and failures, inside the caller's transaction; what is there already is left.

    Args:
        scores: rows of ``raw.reference_scores``.
        failures: rows of ``raw.quarantine`` with :data:`FAILURE_COLUMNS`.
    """
    with lake.registered(shard_scores=scores, shard_failures=failures):
        con.execute(_INSERT)
        con.execute(_QUARANTINE)
