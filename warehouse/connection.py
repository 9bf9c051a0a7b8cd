"""Connecting to the lake: where it is, the DuckDB extensions it needs, and waiting while its catalog is busy."""

from __future__ import annotations

import importlib.util
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from schemas.errors import WorkspaceError
from warehouse.settings import LakeSettings

_EXTENSIONS = {"sqlite": ("sqlite_scanner",), "postgres": ("postgres_scanner",)}
_BUSY = (
    "database is locked",
    "transaction conflict",
    "conflict on",
    "could not serialize",
    "deadlock detected",
    "references schema id",  # DuckLake read its catalog's tables after, and its schemas before, another's commit
)
_UNWRITABLE = (
    "database or disk is full",
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "disk i/o error",
    "readonly database",
    "read-only file system",
)

T = TypeVar("T")


@dataclass(frozen=True)
class LakeLocation:
    """What a DuckDB client needs to attach the lake."""

    catalog: str
    data_path: str

    @property
    def catalog_kind(self) -> str:
        """``sqlite`` or ``postgres``."""
        return self.catalog.partition(":")[0]

    @classmethod
    def of(cls, root: Path, settings: LakeSettings) -> LakeLocation:
        """Resolve a workspace's relative paths."""
        kind, _, target = settings.catalog.partition(":")
        if kind not in _EXTENSIONS or not target:
            raise WorkspaceError(
                f"lake.catalog = {settings.catalog!r} is not a catalog",
                mend="write sqlite:FILE or postgres:dbname=... host=...",
            )
        catalog = f"sqlite:{(root / target).resolve()}" if kind == "sqlite" else settings.catalog
        data_path = settings.data_path
        if "://" not in data_path:
            data_path = f"{(root / data_path).resolve()}/"
        return cls(catalog, data_path)


def extension_path(name: str) -> Path:
    """File of a DuckDB extension that came as a package."""
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        raise WorkspaceError(
            f"the DuckDB extension {name} is not installed",
            mend=f"pip install duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}",
        )
    found = sorted(Path(spec.submodule_search_locations[0]).rglob(f"v{duckdb.__version__}/*.duckdb_extension"))
    if not found:
        raise WorkspaceError(
            f"the DuckDB extension {name} is not for DuckDB {duckdb.__version__}",
            mend=f"pip install duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}",
        )
    return found[0]


def connect(
    location: LakeLocation,
    *,
    read_only: bool,
    config: dict[str, Any] | None = None,
    snapshot_id: int | None = None,
    busy_timeout_seconds: float = 120,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the lake attached as ``lake`` and in use; nothing is downloaded.

    Args:
        location: what to attach.
        read_only: whether writes are refused.
        config: DuckDB's configuration.
        snapshot_id: show the lake as it was then; views too.
        busy_timeout_seconds: how long to wait for a catalog that another process is making or writing.

    Raises:
        WorkspaceError: the catalog cannot be opened, or an extension is missing.
    """
    con = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, **(config or {})}
    )
    extensions = [*_EXTENSIONS[location.catalog_kind], "ducklake"]
    if "://" in location.data_path:
        extensions.insert(0, "httpfs")
    for name in extensions:
        con.execute(f"load {literal(str(extension_path(name)))}")
    options = [f"data_path {literal(location.data_path)}"] + (["read_only"] if read_only else [])
    if "://" not in location.data_path:
        options.append("override_data_path true")  # the workspace may have been moved or copied
    if snapshot_id is not None:
        options.append(f"snapshot_version {int(snapshot_id)}")
    attach = f"attach {literal(f'ducklake:{location.catalog}')} as lake ({', '.join(options)})"
    try:
        wait_while_busy(lambda: con.execute(attach), seconds=busy_timeout_seconds)
    except duckdb.Error as error:
        con.close()
        raise WorkspaceError(
            f"the lake's catalog {location.catalog} cannot be opened: {str(error).splitlines()[0]}",
            mend="check [lake] in winnow.toml, and that the catalog was made by Winnow",
        ) from error
    con.execute("use lake")
    return con


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where it is not there.

    Raises:
        WorkspaceError: it cannot be made, or a file stands in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"the folder {path} cannot be made: {error.strerror}", mend="give a folder that you can write to"
        ) from error


def prepare_sqlite(path: Path) -> None:
    """Make the catalog with a write-ahead log, so that a reader in the middle of a result never blocks a commit."""
    if path.exists():
        return
    with closing(sqlite3.connect(path)) as catalog:
        catalog.execute("pragma journal_mode = wal")


def literal(text: str | None) -> str:
    """A SQL string literal, or a NULL of type VARCHAR."""
    return "null::varchar" if text is None else "'" + text.replace("'", "''") + "'"


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is Ctrl-C: DuckDB turns one that comes in the middle of a query into a ``RuntimeError``."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, RuntimeError) and str(error) == "Query interrupted"
    )


def wait_while_busy(work: Callable[[], T], *, seconds: float) -> T:
    """Run ``work``, again and again while the catalog is busy with another writer.

    Raises:
        WorkspaceError: it stayed busy for ``seconds``, or the disk is full or read-only.
    """
    deadline = time.monotonic() + seconds
    wait = 0.05
    while True:
        try:
            return work()
        except duckdb.Error as error:
            if any(sign in str(error).lower() for sign in _UNWRITABLE):
                raise WorkspaceError(
                    f"the lake cannot be written: {str(error).strip().splitlines()[-1]}",
                    mend="make room or allow it to be written, then run the same command; what is committed stays",
                ) from error
            if not any(sign in str(error).lower() for sign in _BUSY):
                raise
            if time.monotonic() + wait > deadline:
                raise WorkspaceError(
                    f"the lake's catalog stayed busy for {seconds:g} s: {str(error).splitlines()[0]}",
                    mend="wait for the other writer, or use a PostgreSQL catalog for many writers",
                ) from error
        time.sleep(wait * random.uniform(0.5, 1.5))
        wait = min(wait * 2, 2.0)
