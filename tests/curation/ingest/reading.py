"""Read text of a format into plain rows; what the tests of every format share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import polars as pl

from curation.ingest.reading import read_source
from curation.ingest.settings import IngestSettings
from curation.ingest.sources import find_sources


def read_file(
    path: Path, *, format: str | None = None, annotator_key: bytes | None = None, **settings: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Judgments and quarantine of all files of a source, as dictionaries, by row."""
    judgments, quarantine = [], []
    chosen = IngestSettings(**settings)
    for source in find_sources([str(path)], fetch_folder=Path(mkdtemp()), format_name=format):
        for batch, _ in read_source(source, chosen, annotator_key=annotator_key):
            judgments.append(pl.DataFrame(batch.judgments))
            quarantine.append(pl.DataFrame(batch.quarantine))
    return (
        pl.concat(judgments).sort("source", "source_row", maintain_order=True).to_dicts(),
        pl.concat(quarantine).sort("source", "source_row", maintain_order=True).to_dicts(),
    )


def write_lines(path: Path, rows: Iterable[Mapping[str, Any] | str | bytes]) -> Path:
    """Write rows as JSON Lines; text and bytes are written as they are."""
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
