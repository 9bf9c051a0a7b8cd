"""From what the user names to files with a source name and a format."""

from __future__ import annotations

import glob
from collections.abc import Mapping as Mapping_
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from curation.ingest.containers import SUFFIXES, is_data_file, stem
from curation.ingest.detection import detected, without_empty
from curation.ingest.exports import with_splits
from curation.ingest.fetching import (
    Fetched,
    fetch_dataset,
    fetch_saved,
    is_hub_id,
    is_saved_dataset,
)
from curation.ingest.formats.format import Format
from curation.ingest.formats.registry import format_of, mappings
from curation.ingest.mapping import Columns, Mapping, Value
from curation.ingest.misspelled import check_paths
from curation.ingest.remote import Copied, fetch_url, is_url
from schemas.errors import SourceError


@dataclass(frozen=True)
class SourceFile:
    """One file to ingest.

    Attributes:
        path: where it lies.
        source: its name in the lake.
        origin: what the user named, or the file below it; for messages.
        format: what it holds.
        columns: what a mapping says of this file in particular.
        split: split of a data set of the Hub or of an export, for rows that do not name one.
        tables: files that the mapping looks things up in, by the table's name.
    """

    path: Path
    source: str
    format: Format | Mapping
    columns: Columns | None = None
    tables: dict[str, Path] = field(default_factory=dict)
    split: str | None = None
    origin: str = ""

    def __str__(self) -> str:
        return self.origin or str(self.path)

    @property
    def files(self) -> list[Path]:
        """Every file that its judgments depend on."""
        return [self.path, *self.tables.values()]


def find_sources(
    sources: Sequence[str],
    *,
    fetch_folder: Path,
    format_name: str | None = None,
    source_name: str | None = None,
    columns: Mapping_[str, str] | None = None,
    copied: Copied = lambda num_bytes: None,
) -> list[SourceFile]:
    """All files of the sources, each with its format, before anything is read in full.

    Args:
        sources: files, folders, globs, URLs and Hub ids.
        fetch_folder: where what is not local is copied to; it must stay until the files are read.
        format_name: for all files; detected where absent.
        source_name: name in the lake.
        columns: column of the long form -> path in the row; overrides a mapping's columns.
        copied: told of bytes of URLs.

    Raises:
        SourceError: a file is missing or cannot be read, its format is unknown, or two files have one name. That one
            file is named twice is no mistake.
        ConfigError: a path of the user's own mapping file, or of ``columns``, leads to nothing.
    """
    given = None if format_name is None else format_of(format_name)
    if columns:
        given = with_columns(given, columns)
    if source_name is not None and len(sources) > 1:
        raise SourceError("--source-name names one source, but several are given", mend="ingest them one by one")
    found = [
        each
        for number, source in enumerate(sources)
        for each in _files_of(source, given, source_name, fetch_folder / f"source-{number}", copied)
    ]
    is_own = format_name is not None and format_name.endswith(".toml")
    if isinstance(given, Mapping) and (is_own or columns):
        check_paths(found, given, options=frozenset(columns or ()), is_own=is_own)
    names: dict[str, SourceFile] = {}
    for each in found:
        other = names.setdefault(each.source, each)
        if other.path.resolve() != each.path.resolve():
            raise SourceError(
                f"{other} and {each} would both be the source {each.source!r}",
                mend="give the folder that holds both, or ingest one of them with --source-name",
            )
    return list(names.values())


def with_columns(given: Format | Mapping | None, columns: Mapping_[str, str]) -> Mapping:
    """A mapping with other paths for some of its columns; the long form's where no format is given.

    Raises:
        SourceError: the format is not a mapping, or there is no such column.
    """
    base = given if given is not None else format_of("long")
    if not isinstance(base, Mapping):
        raise SourceError(
            f"the format {base.name} has no columns to rename", mend="leave --column out, or use --format trl"
        )
    unknown = sorted(columns.keys() - Columns.model_fields.keys())
    if unknown:
        raise SourceError(f"{unknown[0]!r} is not a column", mend=f"use one of {', '.join(Columns.model_fields)}")
    changed = {name: Value(path=path) for name, path in columns.items()}
    return base.model_copy(update={"columns": base.columns.model_copy(update=changed)})


def _fetched(
    fetched: Fetched, source: str, given: Format | Mapping | None, source_name: str | None
) -> list[SourceFile]:
    name = source_name or fetched.name
    found = []
    for path, split in fetched.files:
        parts = [name] if name and (split is not None or len(fetched.files) == 1) else [name, stem(path)]
        if split is not None and len(fetched.files) > 1:
            parts.append(split)
        label = "/".join(part for part in parts if part)
        try:
            format = given or detected(path)
        except SourceError as error:
            raise renamed(error, {path: source}) from error
        found.append(SourceFile(path, label, format, split=split, origin=source))
    return found


def _remote(
    url: str, given: Format | Mapping | None, source_name: str | None, folder: Path, copied: Copied
) -> list[SourceFile]:
    """Files of a URL; those of a folder are taken as those of a local one."""
    remote = fetch_url(url, folder, copied)
    try:
        if remote.folder is not None:
            found = _folder(remote.folder, given, source_name or remote.folder.name)
        else:
            is_one = len(remote.urls) == 1
            prefix = "" if source_name is None or is_one else f"{source_name}/"
            found = [
                SourceFile(
                    path, source_name if source_name and is_one else prefix + stem(path), given or detected(path)
                )
                for path in without_empty(list(remote.urls))
            ]
    except SourceError as error:
        raise renamed(error, remote.urls) from error
    return [replace(each, origin=remote.urls[each.path]) for each in found]


def renamed(error: SourceError, origins: Mapping_[Path, str]) -> SourceError:
    """The error with local copies called by what the user named."""
    message = error.message
    for path, origin in origins.items():
        message = message.replace(str(path), origin)
    return SourceError(message, mend=error.mend)


def _files_of(
    source: str, given: Format | Mapping | None, source_name: str | None, fetch_folder: Path, copied: Copied
) -> list[SourceFile]:
    path = Path(source)
    if not source.strip():
        raise SourceError("the name of a source is empty", mend="give a file, a folder, a glob, a URL or a Hub id")
    if is_url(source):
        return _remote(source, given, source_name, fetch_folder, copied)
    if path.is_dir() and is_saved_dataset(path):
        fetch_folder.mkdir(parents=True, exist_ok=True)
        return _fetched(fetch_saved(path, fetch_folder), source, given, source_name)
    if path.is_dir():
        return _folder(path, given, source_name or path.resolve().name)
    if not path.exists() and glob.has_magic(source):
        paths = sorted(Path(match) for match in glob.glob(source, recursive=True) if Path(match).is_file())  # noqa: PTH207
        if not paths:
            raise SourceError(f"no file matches {source}", mend="check the pattern")
        prefix = "" if source_name is None else f"{source_name}/"
        return [SourceFile(each, prefix + stem(each), given or detected(each)) for each in without_empty(paths)]
    if not path.exists() and is_hub_id(source):
        fetch_folder.mkdir(parents=True, exist_ok=True)
        return _fetched(fetch_dataset(source, fetch_folder), source, given, source_name)
    if not path.exists():
        raise SourceError(f"{source} does not exist", mend="check the path")
    return [SourceFile(path, source_name or stem(path), given or detected(path))]


def _folder(folder: Path, given: Format | Mapping | None, name: str) -> list[SourceFile]:
    for mapping in (given,) if given is not None else mappings():
        if isinstance(mapping, Mapping) and (mapping.rows or mapping.tables):
            found = _mapped_folder(folder, mapping, name, must_fit=given is not None)
            if found:
                return found
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and is_data_file(path) and not _is_hidden(path, folder)
    )
    if not files:
        raise SourceError(f"{folder} holds no data file", mend=f"give a folder with {', '.join(SUFFIXES)} files")
    splits = with_splits(files)
    return [
        SourceFile(
            each,
            f"{name}/{(each.relative_to(folder).parent / stem(each)).as_posix()}",
            given or detected(each),
            split=splits[each],
        )
        for each in without_empty(list(splits))
    ]


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder that programs keep for themselves, as ``.git`` and ``.ipynb_checkpoints``."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _mapped_folder(folder: Path, mapping: Mapping, name: str, *, must_fit: bool) -> list[SourceFile]:
    """Files of a folder as a mapping names them; none where a file is missing."""
    wanted = [rows.files for rows in mapping.rows if not rows.optional] + [
        table.file for table in mapping.tables.values()
    ]
    missing = [pattern for pattern in wanted if not any(folder.glob(pattern))]
    if missing and must_fit:
        raise SourceError(
            f"{folder} has no {missing[0]}, which the format {mapping.name} needs",
            mend="give the folder that holds it, or another format",
        )
    if missing:
        return []
    tables = {key: min(folder.glob(table.file)) for key, table in mapping.tables.items()}
    files = {path: rows for rows in mapping.rows for path in sorted(folder.glob(rows.files))}
    is_single = len(files) == 1 and len(mapping.rows) == 1  # its name must not change when optional files come in
    return [
        SourceFile(path, name if is_single else f"{name}/{stem(path)}", mapping, files[path], tables)
        for path in without_empty(list(files))
    ]
