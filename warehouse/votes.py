"""The judgments on one criterion in the order of their pairs, as Arrow batches: what a diagnosis reads.

DuckDB sorts them, and spills what ``memory_limit`` does not hold, so that nobody needs all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

_BATCH_ROWS = 500_000

_VOTES = """
    select
        pair_id, judgment_id, vote, response_a_id < response_b_id as is_forward, is_display_order_known,
        strength_ordinal, annotator_id, annotated_at, batch, source
    from {judgments}
    where criterion = ?
    order by pair_id
"""

_PAIRS = """
    select
        pair_id, any_value(prompt_id) as prompt_id, any_value(least(response_a_id, response_b_id)) as low_id,
        any_value(greatest(response_a_id, response_b_id)) as high_id
    from {judgments}
    where criterion = ?
    group by pair_id
    order by pair_id
"""


def votes_by_pair(con: duckdb.DuckDBPyConnection, judgments: str, criterion: str) -> Iterator[pa.RecordBatch]:
    """Every judgment, sorted by ``pair_id``; asked for with the first batch.

    Args:
        con: nothing else may be asked of it before the last batch.
        judgments: a relation of SQL with columns of ``raw.judgments``, of one version of it for both functions.
        criterion: whose.
    """
    yield from con.execute(_VOTES.format(judgments=judgments), [criterion]).to_arrow_reader(_BATCH_ROWS)


def pairs_in_order(con: duckdb.DuckDBPyConnection, judgments: str, criterion: str) -> Iterator[pa.RecordBatch]:
    """Every pair with its prompt and responses, sorted by ``pair_id``; arguments as :func:`votes_by_pair`."""
    yield from con.execute(_PAIRS.format(judgments=judgments), [criterion]).to_arrow_reader(_BATCH_ROWS)
