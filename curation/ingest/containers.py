"""Files as batches of JSON rows, whatever holds them."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from curation.ingest.arrow_rows import read_arrow, read_parquet
from curation.ingest.csv_rows import read_csv
from curation.ingest.json_rows import read_json
from curation.ingest.lines import read_lines
from curation.ingest.opening import copy_decompressed, opened
from curation.ingest.rows import RowBatches
from curation.ingest.settings import IngestSettings
from schemas.errors import EmptySourceError, SourceError

SAMPLE_ROWS = 64
_SAMPLE_BYTES = 1 << 20
_PEEK_BYTES = 1 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

COMPRESSIONS = (".gz", ".zst")
Container = Literal["lines", "json_array", "json_values", "csv", "parquet", "arrow"]

_BY_SUFFIX: dict[str, Container] = {
    ".jsonl": "lines", ".ndjson": "lines", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
SUFFIXES = (*_BY_SUFFIX, ".json")


def stem(path: Path) -> str:
    """File name without the suffixes of container and compression: ``train.jsonl.gz`` is ``train``."""
    name = _plain_name(path)
    for suffix in SUFFIXES:
        name = _without(name, suffix)
    return name or path.name


def is_data_file(path: Path) -> bool:
    """Whether a file in a folder is taken for data, by its suffix."""
    name = _plain_name(path).lower()
    return name.endswith(SUFFIXES) and not name.startswith(".")


def container_of(path: Path) -> Container:
    """What holds the rows of a file: by its suffix, and for ``.json`` and unknown suffixes by its first bytes.

    Raises:
        SourceError: the file cannot be read.
    """
    suffix = Path(_plain_name(path)).suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    with opened(path) as (stream, _):
        head = stream.read(_PEEK_BYTES)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"[") and (suffix == ".json" or not _is_json(text.split(b"\n", 1)[0])):
        return "json_array"
    if text.startswith(b"{") and b"\n" in text.strip() and not _is_json(text.split(b"\n", 1)[0]):
        return "json_values"
    return "lines"


def has_nested_json(path: Path) -> bool:
    """Whether a file's container cannot hold lists, so that messages are JSON in a text."""
    return container_of(path) == "csv"


def read_rows(path: Path, settings: IngestSettings) -> RowBatches:
    """Rows of a file in batches.

    Raises:
        SourceError: the file cannot be read.
    """
    container = container_of(path)
    if container == "json_array":
        yield from read_json(path, "array", settings)
    elif container == "json_values":
        yield from read_json(path, "unstructured", settings)
    elif container in ("parquet", "arrow"):
        read = read_parquet if container == "parquet" else read_arrow
        if path.name.lower().endswith(COMPRESSIONS):
            with tempfile.TemporaryDirectory() as folder:
                yield from read(copy_decompressed(path, Path(folder)), settings)
        else:
            yield from read(path, settings)
    else:
        yield from _read_stream(path, container, settings)


def _read_stream(path: Path, container: Container, settings: IngestSettings) -> RowBatches:
    with opened(path) as (stream, file):
        buffered = io.BufferedReader(stream, 1 << 20)  # type: ignore[type-var]
        if buffered.peek(2)[:2] in _UTF16:
            raise SourceError(f"{path} is UTF-16", mend="save it as UTF-8")
        if container == "csv":
            yield from read_csv(buffered, str(path), settings, file)
            return
        done = 0
        for batch in read_lines(
            cast(BinaryIO, buffered),
            batch_bytes=settings.batch_bytes,
            max_row_bytes=settings.max_row_bytes,
            max_payload_bytes=settings.max_payload_bytes,
        ):
            now = file.tell()
            yield batch, now - done
            done = now


def read_sample(path: Path) -> list[dict[str, Any]]:
    """The first rows that are JSON objects, at most :data:`SAMPLE_ROWS`.

    Raises:
        SourceError: the file cannot be read.
        EmptySourceError: it has no row.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise _empty(str(path))
    return sample_of(read_rows(path, IngestSettings(batch_bytes=_SAMPLE_BYTES)), str(path))


def sample_of(batches: RowBatches, name: str) -> list[dict[str, Any]]:
    """The first rows of batches that are JSON objects, at most :data:`SAMPLE_ROWS`.

    Raises:
        EmptySourceError: there is no row at all.
    """
    found: list[dict[str, Any]] = []
    is_empty = True
    for batch, _ in batches:
        for line in batch["line"].slice(0, SAMPLE_ROWS * 4).to_pylist():
            is_empty = is_empty and not line.strip()
            row = _object(line)
            if row is not None:
                found.append(row)
        if len(found) >= SAMPLE_ROWS or batch["source_row"][-1].as_py() > SAMPLE_ROWS * 4:
            break
    if is_empty:
        raise _empty(name)
    return found[:SAMPLE_ROWS]


def _empty(name: str) -> EmptySourceError:
    return EmptySourceError(f"{name} is empty", mend="give a file with rows")


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None  # a bad row of a sample says nothing of the format; reading the file quarantines it
    return row if isinstance(row, dict) else None


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _plain_name(path: Path) -> str:
    name = path.name
    for suffix in COMPRESSIONS:
        name = _without(name, suffix)
    return name


def _without(name: str, suffix: str) -> str:
    return name[: -len(suffix)] if name.lower().endswith(suffix) else name
