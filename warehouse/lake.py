"""The lake: the one place where DuckDB and DuckLake are opened, and where a write is retried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl
import pyarrow as pa

from schemas.errors import WorkspaceError
from warehouse.connection import LakeLocation, connect, literal, make_folder, prepare_sqlite, wait_while_busy
from warehouse.settings import LakeSettings
from warehouse.sql_files import SCHEMAS, SqlFile, sql_files

LAYOUT_VERSION = 3
"""Version of the tables in ``sql/raw``; a lake of another version is refused."""

T = TypeVar("T")


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
            make_folder(Path(location.data_path))
        if location.catalog_kind == "sqlite":
            prepare_sqlite(Path(location.catalog.removeprefix("sqlite:")))
        lake = cls(_attach(location, settings, read_only=False), location, settings)
        if not _has_layout(lake.con):
            lake.transact("winnow: create the lake", _create_tables)
            lake.write_decisions_on_all_cores()
        check_layout(lake.con, location)
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
        check_layout(lake.con, location)
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
        return wait_while_busy(lambda: self._attempt(message, work), seconds=self.settings.busy_timeout_seconds)

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

    def write_decisions_on_all_cores(self) -> None:
        """Let each thread write its own file of a run's decisions: one core compresses too slowly for a whole set."""
        option = "call lake.set_option('per_thread_output', true, schema => 'raw', table_name => 'decisions')"
        wait_while_busy(lambda: self.con.execute(option), seconds=self.settings.busy_timeout_seconds)

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


def _has_layout(con: duckdb.DuckDBPyConnection) -> bool:
    sql = "select count(*) from duckdb_tables() where database_name = 'lake' and schema_name = 'raw'"
    row = con.execute(sql).fetchone()
    return row is not None and row[0] > 0


def _create_tables(con: duckdb.DuckDBPyConnection) -> None:
    if _has_layout(con):
        return  # another process made them while this one waited
    for schema in SCHEMAS:
        con.execute(f"create schema if not exists lake.{schema}")
    for file in sql_files("raw"):
        con.execute(file.body)
    now = datetime.now(UTC).replace(tzinfo=None)
    con.execute("insert into raw.workspace values (?, ?)", [LAYOUT_VERSION, now])


def check_layout(con: duckdb.DuckDBPyConnection, location: LakeLocation) -> None:
    """Refuse a lake that Winnow did not make, or that a Winnow of another layout made.

    Raises:
        WorkspaceError: it is either.
    """
    if not _has_layout(con):
        raise WorkspaceError(f"{location.catalog} holds no Winnow lake", mend="winnow init WORKSPACE")
    row = con.execute("select max(version) from raw.workspace").fetchone()
    version = None if row is None else row[0]
    if version != LAYOUT_VERSION:
        raise WorkspaceError(
            f"the workspace has layout version {version}, this Winnow reads version {LAYOUT_VERSION}",
            mend="use the Winnow that made it, or make a new workspace and ingest again",
        )


def claim_write(con: duckdb.DuckDBPyConnection) -> None:
    """Let no other claiming transaction commit at the same time; the later one is retried from its start.

    Two transactions that only append do not conflict in DuckLake, so what one of them looked up may be stale when it
    commits; two that write the same row do. Call it in a transaction that inserts what it did not find.
    """
    con.execute("update raw.workspace set version = version")


def _columns_view(marts: list[SqlFile]) -> str:
    """Query of ``mart.columns``: every mart column with its unit and meaning, from the headers."""
    rows = [
        f"({', '.join(literal(text) for text in (mart.name, c.name, c.unit, c.meaning, mart.grain))})"
        for mart in marts
        for c in mart.columns
    ]
    names = "(mart, column_name, unit, meaning, grain)"
    if not rows:
        return "select * from (values (null::varchar, null::varchar, null::varchar, null::varchar, null::varchar))"
    return f"select * from (values {', '.join(rows)}) as columns{names}"


def _attach(location: LakeLocation, settings: LakeSettings, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    config: dict[str, Any] = {"memory_limit": settings.memory_limit}
    if settings.threads is not None:
        config["threads"] = settings.threads
    return connect(location, read_only=read_only, config=config, busy_timeout_seconds=settings.busy_timeout_seconds)
