"""From what the user names to files with a source name and a format."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.ingest.containers import is_data_file, read_sample, stem
from curation.ingest.formats.format import Format
from curation.ingest.formats.registry import detect, format_names, format_of, mappings
from curation.ingest.mapping import Columns, Mapping
from schemas.errors import SourceError


@dataclass(frozen=True)
class SourceFile:
    """One file to ingest.

    Attributes:
        path: where it lies.
        source: its name in the lake.
        format: what it holds.
        columns: what a mapping says of this file in particular.
        tables: files that the mapping looks things up in, by the table's name.
    """

    path: Path
    source: str
    format: Format | Mapping
    columns: Columns | None = None
    tables: dict[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """Every file that its judgments depend on."""
        return [self.path, *self.tables.values()]


def find_sources(
    sources: Sequence[str], *, format_name: str | None = None, source_name: str | None = None
) -> list[SourceFile]:
    """All files of the sources, each with its format, before anything is read in full.

    Raises:
        SourceError: a file is missing or cannot be read, its format is unknown, or two files have one name.
    """
    given = None if format_name is None else format_of(format_name)
    if source_name is not None and len(sources) > 1:
        raise SourceError("--source-name names one source, but several are given", mend="ingest them one by one")
    found = [each for source in sources for each in _files_of(source, given, source_name)]
    names: dict[str, Path] = {}
    for each in found:
        other = names.setdefault(each.source, each.path)
        if other != each.path:
            raise SourceError(
                f"{other} and {each.path} would both be the source {each.source!r}",
                mend="give the folder that holds both, or ingest one of them with --source-name",
            )
    return found


def _files_of(source: str, given: Format | Mapping | None, source_name: str | None) -> list[SourceFile]:
    path = Path(source)
    if path.is_dir():
        return _folder(path, given, source_name or path.resolve().name)
    if not path.exists() and glob.has_magic(source):
        paths = sorted(Path(match) for match in glob.glob(source, recursive=True) if Path(match).is_file())  # noqa: PTH207
        if not paths:
            raise SourceError(f"no file matches {source}", mend="check the pattern")
        prefix = "" if source_name is None else f"{source_name}/"
        return [SourceFile(each, prefix + stem(each), given or _detected(each)) for each in paths]
    if not path.exists():
        raise SourceError(f"{source} does not exist", mend="check the path")
    return [SourceFile(path, source_name or stem(path), given or _detected(path))]


def _folder(folder: Path, given: Format | Mapping | None, name: str) -> list[SourceFile]:
    for mapping in (given,) if given is not None else mappings():
        if isinstance(mapping, Mapping) and (mapping.rows or mapping.tables):
            found = _mapped_folder(folder, mapping, name, must_fit=given is not None)
            if found:
                return found
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_data_file(path))
    if not files:
        raise SourceError(f"{folder} holds no data file", mend="give a folder with JSON Lines files")
    return [
        SourceFile(
            each, f"{name}/{(each.relative_to(folder).parent / stem(each)).as_posix()}", given or _detected(each)
        )
        for each in files
    ]


def _mapped_folder(folder: Path, mapping: Mapping, name: str, *, must_fit: bool) -> list[SourceFile]:
    """Files of a folder as a mapping names them; none where a file is missing."""
    wanted = [rows.files for rows in mapping.rows] + [table.file for table in mapping.tables.values()]
    missing = [pattern for pattern in wanted if not any(folder.glob(pattern))]
    if missing and must_fit:
        raise SourceError(f"{folder} has no {missing[0]}, which the format {mapping.name} needs")
    if missing:
        return []
    tables = {key: min(folder.glob(table.file)) for key, table in mapping.tables.items()}
    files = [(path, rows) for rows in mapping.rows for path in sorted(folder.glob(rows.files))]
    is_single = len(files) == 1
    return [
        SourceFile(path, name if is_single else f"{name}/{stem(path)}", mapping, rows, tables) for path, rows in files
    ]


def _detected(path: Path) -> Format | Mapping:
    sample = read_sample(path)
    if not sample:
        raise SourceError(f"{path}: none of its first rows is a JSON object", mend="give a file with one object a line")
    found = detect(sample)
    if found is None:
        raise SourceError(
            f"{path}: no known format fits its first rows",
            mend=f"name one with --format ({', '.join(format_names())}, or a mapping file)",
        )
    return found
