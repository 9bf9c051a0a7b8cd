"""Hub ids and ``save_to_disk`` folders through ``datasets``.

Each is streamed to local files first, in bounded memory, so that everything after it is the same for all sources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.ingest.containers import SUFFIXES
from schemas.errors import SourceError

_HUB_ID = re.compile(
    r"^(?:hf://datasets/)?(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?$"
)
_BATCH_ROWS = 1000


@dataclass(frozen=True)
class Fetched:
    """A source as local files.

    Attributes:
        files: path and split (None where it has none) of each.
        name: default name of the source.
    """

    files: tuple[tuple[Path, str | None], ...]
    name: str


def is_hub_id(source: str) -> bool:
    """Whether a source that is no local path may be a data set of the Hub: ``owner/name[@revision][:config]``."""
    return _HUB_ID.match(source) is not None and not source.endswith(SUFFIXES)


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by ``datasets.save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def fetch_dataset(source: str, folder: Path) -> Fetched:
    """Stream a data set of the Hub, all its splits, into one Parquet file a split.

    Raises:
        SourceError: it is not there, cannot be reached, or needs code of its own.
    """
    import datasets

    match = _HUB_ID.match(source)
    assert match is not None
    try:
        loaded = datasets.load_dataset(match["id"], match["config"], revision=match["revision"], streaming=True)
        return Fetched(_write_splits(loaded, folder), match["id"].rpartition("/")[2])
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceError(
            f"{source} is no file here and cannot be loaded from the Hub: {first_line(error)}",
            mend="check the path, or the Hub id (owner/name[@revision][:config]) and the network",
        ) from error


def fetch_saved(path: Path, folder: Path) -> Fetched:
    """Stream a ``save_to_disk`` folder, all its splits, into one Parquet file a split.

    Raises:
        SourceError: ``datasets`` cannot read it.
    """
    import datasets

    try:
        return Fetched(_write_splits(datasets.load_from_disk(str(path)), folder), path.resolve().name)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read by datasets: {first_line(error)}", mend="save it again") from error


def _write_splits(loaded: Any, folder: Path) -> tuple[tuple[Path, str | None], ...]:
    splits: dict[str | None, Any] = dict(loaded) if isinstance(loaded, dict) else {None: loaded}
    return tuple((_write(dataset, folder / f"{split or 'data'}.parquet"), split) for split, dataset in splits.items())


def _write(dataset: Any, target: Path) -> Path:
    writer = None
    try:
        for table in dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS):
            writer = writer or pq.ParquetWriter(target, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        pq.write_table(pa.table({}), target)
    return target


def first_line(error: BaseException) -> str:
    """What an error of another library says, as one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
