"""The format of a file, from its first rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curation.ingest.containers import container_of, read_sample
from curation.ingest.formats.format import Format, Sample
from curation.ingest.formats.registry import detect, format_names
from curation.ingest.mapping import Mapping
from schemas.errors import EmptySourceError, SourceError

_CONTAINERS = "JSON Lines, JSON, CSV, TSV, Parquet or Arrow, plain, .gz or .zst"
_MOST_COLUMNS = 12


def detected(path: Path) -> Format | Mapping:
    """The format of a file.

    Raises:
        SourceError: the file cannot be read, or no format fits it.
        EmptySourceError: it has no row.
    """
    sample = read_sample(path)
    if not sample and container_of(path) == "csv":
        raise SourceError(
            f"{path}: none of its first rows has the columns of its header", mend="close its quotes, or write it again"
        )
    if not sample:
        raise SourceError(f"{path}: none of its first rows is a JSON object", mend=f"give a file of {_CONTAINERS}")
    found = detect(sample)
    if found is None:
        raise SourceError(
            f"{path}: no known format fits its columns {_columns(sample)}",
            mend=f"name one with --format ({', '.join(format_names())}), or write a mapping file (docs/ingest.md)",
        )
    return found


def without_empty(paths: Sequence[Path]) -> list[Path]:
    """Files that have rows: one without any, among several, is passed over.

    Raises:
        SourceError: one of them cannot be read.
        EmptySourceError: none of them has a row.
    """
    if len(paths) == 1:
        return list(paths)
    kept = [path for path in paths if not _is_empty(path)]
    if not kept:
        raise EmptySourceError(
            f"{paths[0]} and the {len(paths) - 1} other files are empty", mend="give files with rows"
        )
    return kept


def _is_empty(path: Path) -> bool:
    try:
        read_sample(path)
    except EmptySourceError:
        return True
    return False


def _columns(sample: Sample) -> str:
    names = list(dict.fromkeys(str(name) for row in sample for name in row))
    return ", ".join(names[:_MOST_COLUMNS]) + (", ..." if len(names) > _MOST_COLUMNS else "")
