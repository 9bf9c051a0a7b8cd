"""Files as batches of JSON rows, whatever holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.ingest.lines import read_lines
from curation.ingest.opening import opened
from curation.ingest.settings import IngestSettings
from schemas.errors import SourceError

SAMPLE_ROWS = 64
_SAMPLE_BYTES = 1 << 20

COMPRESSIONS = (".gz", ".zst")
SUFFIXES = (".jsonl", ".ndjson", ".json")


def stem(path: Path) -> str:
    """File name without the suffixes of container and compression: ``train.jsonl.gz`` is ``train``."""
    name = path.name
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name or path.name


def is_data_file(path: Path) -> bool:
    """Whether a file in a folder is taken for data, by its suffix."""
    name = path.name
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    return name.endswith(SUFFIXES) and not name.startswith(".")


def read_rows(path: Path, settings: IngestSettings) -> Iterator[tuple[pa.Table, int]]:
    """Rows of a file in batches.

    Yields:
        A table of the schema :data:`curation.ingest.lines.ROWS`, and how many bytes of the file were read since the
        last one.

    Raises:
        SourceError: the file cannot be read.
    """
    with opened(path) as (stream, file):
        done = 0
        batches = read_lines(
            stream,
            batch_bytes=settings.batch_bytes,
            max_row_bytes=settings.max_row_bytes,
            max_payload_bytes=settings.max_payload_bytes,
        )
        for batch in batches:
            now = file.tell()
            yield batch, now - done
            done = now


def read_sample(path: Path) -> list[dict[str, Any]]:
    """The first rows that are JSON objects, at most :data:`SAMPLE_ROWS`.

    Raises:
        SourceError: the file cannot be read, or is empty.
    """
    settings = IngestSettings(batch_bytes=_SAMPLE_BYTES)
    found: list[dict[str, Any]] = []
    is_empty = True
    for batch, _ in read_rows(path, settings):
        for line in batch["line"].slice(0, SAMPLE_ROWS * 4).to_pylist():
            is_empty = is_empty and not line.strip()
            row = _object(line)
            if row is not None:
                found.append(row)
        if len(found) >= SAMPLE_ROWS or batch["source_row"][-1].as_py() > SAMPLE_ROWS * 4:
            break
    if is_empty:
        raise SourceError(f"{path} is empty", mend="give a file with rows")
    return found[:SAMPLE_ROWS]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None  # a bad row of a sample says nothing of the format; reading the file quarantines it
    return row if isinstance(row, dict) else None
