"""Batches of rows through a format's query into judgments and quarantine, in one in-memory DuckDB."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curation.ingest.candidates import literal
from curation.ingest.settings import IngestSettings
from schemas.identity import sql_digest, sql_judgment_id, sql_pair_id
from schemas.judgments import Judgments
from schemas.quarantine import MEANING, USELESS, Reason

PARSER_VERSION = 1
"""Raise it when the same file would give other judgments: then files that are known are read again."""


@dataclass(frozen=True)
class ParsedBatch:
    """What a batch of rows became.

    Attributes:
        judgments: as :class:`schemas.judgments.Judgments`.
        quarantine: the columns of ``raw.quarantine`` but ``run_id``.
        num_rows: rows read, blank lines not counted.
        num_bad_rows: rows of which at least a part went to quarantine.
        num_failed_rows: those of them that are not merely useless (:data:`schemas.quarantine.USELESS`).
    """

    judgments: pa.Table
    quarantine: pa.Table
    num_rows: int
    num_bad_rows: int
    num_failed_rows: int


class Parser:
    """Parses the batches of one file.

    Args:
        query: the format's SQL over ``rows``.
        source: name of the source.
        has_nested_json: the container cannot hold lists, so messages in it are JSON in a text (CSV).
        is_grouped: rows are compared with other rows of the batch.
        split: split of rows that do not name one.
        annotator_key: where given, annotator ids become keyed hashes, and quarantine keeps no payload, which may name
            annotators too.
        prepare: loads tables that the query joins.
    """

    def __init__(
        self,
        query: str,
        source: str,
        settings: IngestSettings,
        *,
        has_nested_json: bool = False,
        is_grouped: bool = False,
        split: str | None = None,
        annotator_key: bytes | None = None,
        temporary_directory: str | None = None,
        prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    ) -> None:
        self._con = duckdb.connect(config={"memory_limit": settings.memory_limit})
        if temporary_directory is not None:
            self._con.execute(f"set temp_directory = {literal(temporary_directory)}")
        self._con.execute(_sql("macros.sql"))
        if prepare is not None:
            prepare(self._con)
        self._payload_bytes = settings.max_payload_bytes
        self._source = literal(source)
        self._normalise = _normalise_query(query, settings, has_nested_json)
        self._unused = (Reason.UNPAIRED if is_grouped else Reason.NO_JUDGMENT).value
        self._split = "source_split" if split is None else f"coalesce(source_split, {literal(split)})"
        self._annotator = "annotator_id" if annotator_key is None else sql_keyed_hash("annotator_id", annotator_key)
        self._kept_payload = "payload" if annotator_key is None else "null::varchar"

    def close(self) -> None:
        """Free the memory."""
        self._con.close()

    def parse(self, batch: pa.Table) -> ParsedBatch:
        """Parse rows of the schema :data:`curation.ingest.rows.ROWS`; several threads may do so at once.

        Raises:
            pandera.errors.SchemaError: a reader broke the contract of the long form, which is a bug.
        """
        with self._con.cursor() as con:
            return self._parse(con, batch)

    def _parse(self, con: duckdb.DuckDBPyConnection, batch: pa.Table) -> ParsedBatch:
        con.execute("set TimeZone = 'UTC'")
        con.register("batch", batch)
        con.execute(f"create temp table all_rows as {_sql('rows.sql')}")
        con.execute("create temp view rows as select source_row, doc from all_rows where reason is null")
        con.execute(f"create temp table judged as {self._normalise}")
        judgments = con.execute(self._judgments_query()).to_arrow_table()
        quarantine = con.execute(self._quarantine_query()).to_arrow_table()
        counts = con.execute("select count(*) from all_rows").fetchone()
        assert counts is not None
        Judgments.validate(pl.DataFrame(judgments))
        num_bad = len(quarantine["source_row"].unique())
        is_useless = pc.is_in(quarantine["reason"], pa.array(sorted(USELESS), pa.string()))
        num_failed = len(quarantine["source_row"].filter(pc.invert(is_useless)).unique())
        return ParsedBatch(judgments, quarantine, counts[0], num_bad, num_failed)

    def _judgments_query(self) -> str:
        return f"""
            with named as (
                select
                    * replace ({self._annotator} as annotator_id),
                    {sql_digest("messages")} as prompt_id,
                    {sql_digest("prompt_id", "response_a")} as response_a_id,
                    {sql_digest("prompt_id", "response_b")} as response_b_id,
                    {sql_pair_id("response_a_id", "response_b_id", "criterion")} as pair_id
                from judged where reason is null
            )
            select
                {sql_judgment_id(self._source)} as judgment_id,
                pair_id, prompt_id, response_a_id, response_b_id, messages, response_a,
                response_b, model_a, model_b, criterion, vote, is_display_order_known, strength, is_both_bad,
                annotator_id, annotator_kind, annotated_at, batch, {self._split} as source_split,
                {self._source} as source, source_row, extra
            from named
        """

    def _quarantine_query(self) -> str:
        meanings = ", ".join(f"({literal(reason)}, {literal(text)})" for reason, text in MEANING.items())
        payload = f"rtrim(left(coalesce(doc, bytes_as_text(line)), {self._payload_bytes}), e'\\r\\n')"
        identity = sql_digest("source", "reason", "coalesce(payload, '')")
        return f"""
            with bad as (
                select source_row, reason, null::varchar as detail from all_rows where reason is not null
                union all by name
                select source_row, reason, min(detail) as detail from judged where reason is not null group by all
                union all by name
                select source_row, '{self._unused}' as reason, null::varchar as detail from all_rows
                where reason is null and source_row not in (
                    select source_row from judged
                    union all select other_row from judged where other_row is not null
                )
            ),
            payloads as (
                select {self._source} as source, source_row, bad.reason, bad.detail, {payload} as payload
                from bad join all_rows using (source_row)
            )
            select {identity} as quarantine_id, source, source_row, reason,
                coalesce(detail, meaning, reason) as detail, {self._kept_payload} as payload
            from payloads left join (values {meanings}) as meanings(reason, meaning) using (reason)
            order by source_row, reason
        """


def sql_keyed_hash(column: str, key: bytes) -> str:
    """DuckDB expression of HMAC-SHA256 (RFC 2104) of a text column, as 32 hexadecimal digits; NULL stays NULL."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in block).hex() for pad in (0x36, 0x5C))
    message = f"sha256(unhex('{inner}') || encode({column}))"
    return f"sha256(unhex('{outer}') || unhex({message}))[1:32]"


@cache
def _sql(name: str) -> str:
    return (files("curation.ingest") / name).read_text(encoding="utf-8")


def _normalise_query(query: str, settings: IngestSettings, has_nested_json: bool) -> str:
    def decode(column: str) -> str:
        if not has_nested_json:
            return column
        return f"case when is_nested({column}->>'$') then ({column}->>'$')::json else {column} end"

    return _sql("normalise.sql").format(
        candidates=query,
        decode_prompt=decode("prompt"),
        decode_a=decode("response_a"),
        decode_b=decode("response_b"),
        blank="e' \\t\\n\\r\\f\\x0b'",
        identical="true" if settings.identical_responses == "quarantine" else "false",
    )
