"""One source file as parsed batches; this is what the ingest stage and the dry run call."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import duckdb

from curation.ingest.candidates import literal, text
from curation.ingest.containers import has_nested_json, read_rows
from curation.ingest.formats.format import Format
from curation.ingest.grouping import grouped
from curation.ingest.mapping import Mapping
from curation.ingest.mapping_sql import mapping_query, table_name
from curation.ingest.opening import content_hash
from curation.ingest.parser import PARSER_VERSION, ParsedBatch, Parser
from curation.ingest.paths import json_path, parse_path
from curation.ingest.rows import RowBatches
from curation.ingest.settings import IngestSettings
from curation.ingest.sources import SourceFile, renamed
from schemas.errors import SourceError
from schemas.identity import digest

MOST_WORKERS = 8
"""Batches that are parsed at once at most, however many cores there are: each takes memory."""

_MATTERS = {"identical_responses", "tie_threshold", "max_row_bytes", "max_payload_bytes"}


def read_source(
    source: SourceFile,
    settings: IngestSettings,
    *,
    annotator_key: bytes | None = None,
    temporary_directory: str | None = None,
) -> Iterator[tuple[ParsedBatch, int]]:
    """Parse a file batch by batch; memory depends on ``settings``, not on the file.

    Args:
        annotator_key: where given, annotator ids become keyed hashes.
        temporary_directory: where DuckDB may spill.

    Yields:
        What a batch became, and how many bytes of the file it took.

    Raises:
        SourceError: the file, or a table that its mapping needs, cannot be read.
    """
    group_by = source.format.group_by if isinstance(source.format, Format) else None
    parser = Parser(
        source_query(source, settings),
        source.source,
        settings,
        is_grouped=group_by is not None,
        split=source.split,
        has_nested_json=has_nested_json(source.path),
        annotator_key=annotator_key,
        temporary_directory=temporary_directory,
        prepare=lambda con: _load_tables(con, source, settings),
    )
    try:
        batches = read_rows(source.path, settings)
        if group_by is not None:
            batches = grouped(batches, group_by, settings, temporary_directory=temporary_directory)
        yield from _parsed(parser, batches)
    except SourceError as error:
        raise renamed(error, {source.path: str(source)}) from error
    finally:
        parser.close()


def _parsed(parser: Parser, batches: RowBatches) -> Iterator[tuple[ParsedBatch, int]]:
    """Batches parsed on all cores, in their order, a few at a time; DuckDB works on one batch with one thread only."""
    workers = min(os.cpu_count() or 1, MOST_WORKERS)
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[Future[ParsedBatch], int]] = deque()
        for batch, num_bytes in batches:
            pending.append((pool.submit(parser.parse, batch), num_bytes))
            if len(pending) > workers:
                future, done = pending.popleft()
                yield future.result(), done
        for future, done in pending:
            yield future.result(), done


def source_query(source: SourceFile, settings: IngestSettings) -> str:
    """The SQL that reads this file's rows."""
    if isinstance(source.format, Mapping):
        return mapping_query(source.format, source.columns)
    return source.format.query(settings)


def fingerprint(source: SourceFile, settings: IngestSettings, *, annotator_key: bytes | None = None) -> str:
    """Hash of all that decides what a file becomes: its bytes, its tables' bytes, the query and the settings.

    Raises:
        SourceError: a file cannot be read.
    """
    key = "" if annotator_key is None else hashlib.sha256(annotator_key).hexdigest()
    matters = settings.model_dump_json(include=_MATTERS)
    hashes = [content_hash(path) for path in source.files]
    return digest(
        str(PARSER_VERSION), source.source, source.split or "", source_query(source, settings), matters, key, *hashes
    )


def _load_tables(con: duckdb.DuckDBPyConnection, source: SourceFile, settings: IngestSettings) -> None:
    """Load the tables of a mapping into memory, keyed."""
    if not isinstance(source.format, Mapping):
        return
    for name, table in source.format.tables.items():
        path = source.tables[name]
        relation = table_name(name)
        con.execute(f"create table {relation} (key varchar, value varchar)")
        for batch, _ in read_rows(path, settings):
            con.register("table_rows", batch)
            key = text(json_path(parse_path(table.key)))
            con.execute(
                f"insert into {relation} select {key}, doc from"
                " (select decode(line) as doc from table_rows where reason is null) where json_valid(doc)"
            )
            con.unregister("table_rows")
        _check_keys(con, relation, path, table.key)


def _check_keys(con: duckdb.DuckDBPyConnection, relation: str, path: Path, key: str) -> None:
    twice = con.execute(
        f"select key, count(*) from {relation} where key is not null group by key having count(*) > 1 limit 1"
    ).fetchone()
    if twice is not None:
        raise SourceError(
            f"{path}: {key} {literal(twice[0])} stands in {twice[1]} rows, so it is no key",
            mend="leave one of them, or name another key in the mapping file",
        )
