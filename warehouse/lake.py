"""The lake: the one place where DuckDB and DuckLake are opened, and where a write is retried."""

from __future__ import annotations

import importlib.util
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl
import pyarrow as pa

from schemas.errors import WorkspaceError
from warehouse.settings import LakeSettings
from warehouse.sql_files import SCHEMAS, SqlFile, sql_files

LAYOUT_VERSION = 1
"""Version of the tables in ``sql/raw``; a lake of another version is refused."""

_EXTENSIONS = {"sqlite": ("sqlite_scanner",), "postgres": ("postgres_scanner",)}
_BUSY = ("database is locked", "transaction conflict", "conflict on", "could not serialize", "deadlock detected")

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


class Lake:
    """An open lake. Not for use by several threads at once: each takes its own :meth:`cursor`.

    Attributes:
        con: the DuckDB connection, with the lake attached as ``lake`` and in use.
        location: what another client needs to attach it.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, location: LakeLocation, settings: LakeSettings) -> None:
        self.con = con
        self.location = location
        self.settings = settings

    @classmethod
    def create(cls, root: Path, settings: LakeSettings) -> Lake:
        """Make a new lake with empty tables, or open the one that is there."""
        location = LakeLocation.of(root, settings)
        if "://" not in location.data_path:
            Path(location.data_path).mkdir(parents=True, exist_ok=True)
        if location.catalog_kind == "sqlite":
            _prepare_sqlite(Path(location.catalog.removeprefix("sqlite:")))
        lake = cls(_attach(location, settings, read_only=False), location, settings)
        if not lake._has_layout():
            lake.transact("winnow: create the lake", lambda _: lake._create_tables())
        lake._check_version()
        lake.refresh_views()
        return lake

    @classmethod
    def open(cls, root: Path, settings: LakeSettings, *, read_only: bool = False) -> Lake:
        """Open an existing lake.

        Raises:
            WorkspaceError: there is none, it is of another version, or its catalog cannot be read.
        """
        location = LakeLocation.of(root, settings)
        if location.catalog_kind == "sqlite" and not Path(location.catalog.removeprefix("sqlite:")).exists():
            raise WorkspaceError(f"{root} holds no lake", mend=f"winnow init {root}")
        lake = cls(_attach(location, settings, read_only=read_only), location, settings)
        lake._check_version()
        if not read_only:
            lake.refresh_views()
        return lake

    def close(self) -> None:
        """Close the connection."""
        self.con.close()

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading

    def frame(self, sql: str, parameters: Any = None) -> pl.DataFrame:
        """Result of a query as a polars frame."""
        return self.con.execute(sql, parameters).pl()

    def arrow(self, sql: str, parameters: Any = None) -> pa.Table:
        """Result of a query as an Arrow table."""
        return self.con.execute(sql, parameters).to_arrow_table()

    def value(self, sql: str, parameters: Any = None) -> Any:
        """First column of the first row, or None."""
        row = self.con.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def snapshot_id(self) -> int:
        """Latest snapshot of the lake."""
        return int(self.value("select max(snapshot_id) from ducklake_snapshots('lake')"))

    # Writing

    def transact(self, message: str, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run ``work`` in one transaction that commits as one snapshot; retry it while the catalog is busy.

        Args:
            message: commit message of the snapshot; a run's id stands in it.
            work: does its writes through the connection it is given. It may run several times, so it must not change
                anything but the lake. If it changes no row, no snapshot is made.
        """
        deadline = time.monotonic() + self.settings.busy_timeout_seconds
        wait = 0.05
        while True:
            try:
                return self._attempt(message, work)
            except duckdb.Error as error:
                busy = any(sign in str(error).lower() for sign in _BUSY)
                if not busy:
                    raise
                if time.monotonic() + wait > deadline:
                    raise WorkspaceError(
                        f"the lake's catalog stayed busy for {self.settings.busy_timeout_seconds:g} s: {error}",
                        mend="wait for the other writer, or use a PostgreSQL catalog for many writers",
                    ) from error
            time.sleep(wait * random.uniform(0.5, 1.5))
            wait = min(wait * 2, 2.0)

    def _attempt(self, message: str, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        self.con.execute("begin")
        try:
            # before the work, so that work which learns its run's id on the way can set a better one
            self.con.execute("call lake.set_commit_message('winnow', ?)", [message])
            result = work(self.con)
            self.con.execute("commit")
        except BaseException:
            # a failed commit may have ended the transaction already; then there is nothing to roll back
            with suppress(duckdb.TransactionException):
                self.con.execute("rollback")
            raise
        return result

    @contextmanager
    def registered(self, **frames: pa.Table | pa.RecordBatchReader | pl.DataFrame) -> Iterator[None]:
        """Make frames readable as views of these names inside the block."""
        for name, frame in frames.items():
            self.con.register(name, frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame)
        try:
            yield
        finally:
            for name in frames:
                self.con.unregister(name)

    # Layout

    def _has_layout(self) -> bool:
        sql = "select count(*) from duckdb_tables() where database_name = 'lake' and schema_name = 'raw'"
        return bool(self.value(sql))

    def _create_tables(self) -> None:
        for schema in SCHEMAS:
            self.con.execute(f"create schema if not exists lake.{schema}")
        for file in sql_files("raw"):
            self.con.execute(file.body)
        now = datetime.now(UTC).replace(tzinfo=None)
        self.con.execute("insert into raw.workspace values (?, ?)", [LAYOUT_VERSION, now])

    def _check_version(self) -> None:
        if not self._has_layout():
            raise WorkspaceError(f"{self.location.catalog} holds no Winnow lake", mend="winnow init WORKSPACE")
        version = self.value("select version from raw.workspace")
        if version != LAYOUT_VERSION:
            raise WorkspaceError(
                f"the workspace has layout version {version}, this Winnow reads version {LAYOUT_VERSION}",
                mend="use the Winnow that made it, or make a new workspace and ingest again",
            )

    def refresh_views(self) -> None:
        """Replace the views whose SQL file changed since the lake last saw it, and drop those without a file."""
        wanted = [file for schema in ("model", "mart") for file in sql_files(schema)]
        known = dict(self.con.execute("select name, sql_hash from raw.views").fetchall())
        columns_sql = _columns_view([file for file in wanted if file.schema == "mart"])
        hashes = {file.full_name: file.sql_hash for file in wanted}
        if known == hashes:
            return

        def replace(con: duckdb.DuckDBPyConnection) -> None:
            for name in known.keys() - hashes.keys():
                con.execute(f"drop view if exists lake.{name}")
            for file in wanted:
                con.execute(f"create or replace view lake.{file.full_name} as {file.body}")
            con.execute(f"create or replace view lake.mart.columns as {columns_sql}")
            con.execute("delete from raw.views")
            con.executemany("insert into raw.views values (?, ?)", list(hashes.items()))

        self.transact("winnow: replace views", replace)


def _columns_view(marts: list[SqlFile]) -> str:
    """Query of ``mart.columns``: every mart column with its unit and meaning, from the headers."""
    rows = [
        f"({', '.join(_literal(text) for text in (mart.name, c.name, c.unit, c.meaning, mart.grain))})"
        for mart in marts
        for c in mart.columns
    ]
    names = "(mart, column_name, unit, meaning, grain)"
    if not rows:
        return "select * from (values (null::varchar, null::varchar, null::varchar, null::varchar, null::varchar))"
    return f"select * from (values {', '.join(rows)}) as columns{names}"


def _literal(text: str | None) -> str:
    return "null::varchar" if text is None else "'" + text.replace("'", "''") + "'"


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
) -> Any:
    """A DuckDB connection with the lake attached as ``lake`` and in use; nothing is downloaded.

    Args:
        location: what to attach.
        read_only: whether writes are refused.
        config: DuckDB's configuration.
        snapshot_id: show the lake as it was then; views too.
    """
    con = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, **(config or {})}
    )
    extensions = [*_EXTENSIONS[location.catalog_kind], "ducklake"]
    if "://" in location.data_path:
        extensions.insert(0, "httpfs")
    for name in extensions:
        con.execute(f"load '{extension_path(name)}'")
    options = [f"data_path '{location.data_path}'"] + (["read_only"] if read_only else [])
    if snapshot_id is not None:
        options.append(f"snapshot_version {int(snapshot_id)}")
    try:
        con.execute(f"attach 'ducklake:{location.catalog}' as lake ({', '.join(options)})")
    except duckdb.Error as error:
        con.close()
        raise WorkspaceError(
            f"the lake's catalog {location.catalog} cannot be opened: {str(error).splitlines()[0]}",
            mend="check [lake] in winnow.toml, and that the catalog was made by Winnow",
        ) from error
    con.execute("use lake")
    return con


def _prepare_sqlite(path: Path) -> None:
    """Make the catalog with a write-ahead log, so that a reader in the middle of a result never blocks a commit."""
    if path.exists():
        return
    with closing(sqlite3.connect(path)) as catalog:
        catalog.execute("pragma journal_mode = wal")


def _attach(location: LakeLocation, settings: LakeSettings, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    config: dict[str, Any] = {"memory_limit": settings.memory_limit}
    if settings.threads is not None:
        config["threads"] = settings.threads
    return connect(location, read_only=read_only, config=config)
