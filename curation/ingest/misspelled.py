"""Paths of a given mapping file, or of ``--column``, that lead to nothing: most are misspelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from curation.ingest.containers import read_sample
from curation.ingest.mapping import Mapping, Value
from curation.ingest.mapping_sql import paths_of
from curation.ingest.paths import parse_path
from schemas.errors import ConfigError, EmptySourceError

if TYPE_CHECKING:
    from curation.ingest.sources import SourceFile

_MOST_COLUMNS = 12


def check_paths(files: Sequence[SourceFile], mapping: Mapping, *, options: frozenset[str], is_own: bool) -> None:
    """Refuse a mapping of which a path begins with a key that none of the files' first rows has.

    Values with a default, and votes of an optional judgment, may lead to nothing.

    Args:
        files: files that are read by the mapping.
        options: columns that ``--column`` gave.
        is_own: whether the user wrote the mapping; of a built-in one only ``options`` are looked at.

    Raises:
        ConfigError: there is such a path; the closest key is named.
    """
    wanted: dict[tuple[str, str], bool] = {}
    known: dict[str, None] = {}
    for file in files:
        keys = _keys(file.path)
        if not keys:
            continue
        known |= keys
        for column, key in _first_keys(mapping, file):
            if is_own or column in options:
                wanted[column, key] = wanted.get((column, key), False) or key in keys
    for (column, key), is_there in wanted.items():
        if not is_there:
            says = f"--column {column}" if column in options else f"mapping {mapping.name}: {column}"
            raise ConfigError(f"{says} reads {key!r}, which none of the first rows has", mend=_mend(key, list(known)))


def _keys(path: Path) -> dict[str, None]:
    try:
        return {str(key): None for row in read_sample(path) for key in row}
    except EmptySourceError:
        return {}  # what has no row says nothing about a path


def _first_keys(mapping: Mapping, file: SourceFile) -> Iterator[tuple[str, str]]:
    """Column of the long form and key of the row that it begins with; keys of looked-up tables are not the row's."""
    base = mapping.columns.given() | ({} if file.columns is None else file.columns.given())
    for judgment in mapping.judgment or (None,):
        given: dict[str, Value] = base if judgment is None else base | judgment.given()
        for column, value in given.items():
            may_lack = value.default is not None or (column == "vote" and judgment is not None and judgment.optional)
            for path in () if may_lack else paths_of(value):
                parts = parse_path(path)
                if not (parts[0] in mapping.tables and len(parts) > 1):
                    yield column, str(parts[0])


def _mend(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]!r}? A column that few rows have wants a default in a mapping file"
    more = ", ..." if len(known) > _MOST_COLUMNS else ""
    return (
        f"use one of {', '.join(known[:_MOST_COLUMNS])}{more}; a column that few rows have wants a default in a"
        " mapping file"
    )
