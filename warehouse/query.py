"""SQL of users: read-only, nothing but the lake in reach, configuration locked, memory and time limited."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from schemas.errors import QueryError, WorkspaceError
from warehouse.connection import LakeLocation, connect, literal
from warehouse.lake import check_layout
from warehouse.query_settings import QuerySettings
from warehouse.read_only import check_read_only, first_lines
from warehouse.settings import LakeSettings

_BATCH_ROWS = 65_536
_RAW_TABLE = re.compile(r"\braw\.(\w+)", re.IGNORECASE)


class QuerySession:
    """A locked read-only connection to the lake, as it is now or as it was at a snapshot.

    Not for several threads at once.
    """

    def __init__(self, location: LakeLocation, settings: QuerySettings, *, snapshot_id: int | None = None) -> None:
        self._settings = settings
        self._spill = tempfile.TemporaryDirectory(prefix="winnow-sql-")
        config: dict[str, Any] = {
            "memory_limit": settings.memory_limit,
            "temp_directory": self._spill.name,
            "max_temp_directory_size": settings.temporary_limit,
            "python_enable_replacements": False,
        }
        if settings.threads is not None:
            config["threads"] = settings.threads
        try:
            self._con = connect(location, read_only=True, config=config, snapshot_id=snapshot_id)
        except BaseException:
            self._spill.cleanup()
            raise
        try:
            check_layout(self._con, location)
        except BaseException:
            self.close()
            raise
        allowed = ", ".join(literal(folder) for folder in (location.data_path, f"{self._spill.name}/"))
        self._con.execute(f"set allowed_directories = [{allowed}]")
        self._con.execute("set enable_external_access = false")
        self._con.execute("set lock_configuration = true")

    @classmethod
    def open(
        cls, root: Path, lake: LakeSettings, settings: QuerySettings, *, snapshot_id: int | None = None
    ) -> QuerySession:
        """Open a workspace's lake for queries.

        Raises:
            WorkspaceError: there is no lake, or it has no such snapshot.
        """
        location = LakeLocation.of(root, lake)
        if location.catalog_kind == "sqlite" and not Path(location.catalog.removeprefix("sqlite:")).exists():
            raise WorkspaceError(f"{root} holds no lake", mend=f"winnow init {root}")
        return cls(location, settings, snapshot_id=snapshot_id)

    def close(self) -> None:
        """Close the connection and remove what it spilled."""
        self._con.close()
        self._spill.cleanup()

    def __enter__(self) -> QuerySession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frame(self, sql: str) -> pl.DataFrame:
        """Whole result of a query.

        Raises:
            QueryError: it is not a single reading statement, names what does not exist, or takes too much.
        """
        with self.batches(sql) as reader:
            frame = pl.from_arrow(reader.read_all())
        assert isinstance(frame, pl.DataFrame)
        return frame

    @contextmanager
    def batches(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        """Result of a query as a stream, inside the block; the time limit covers the block.

        Raises:
            QueryError: as :meth:`frame`.
        """
        check_read_only(sql)
        timed_out = threading.Event()

        def stop() -> None:
            timed_out.set()
            self._con.interrupt()

        timer = threading.Timer(self._settings.timeout_seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            yield self._con.execute(sql).to_arrow_reader(_BATCH_ROWS)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._explained(error, sql, is_timed_out=timed_out.is_set()) from error
        finally:
            timer.cancel()

    def _explained(self, error: Exception, sql: str, *, is_timed_out: bool) -> Exception:
        if is_timed_out:
            limit = f"{self._settings.timeout_seconds:g} s"
            return QueryError(f"the query took longer than {limit}", mend="narrow it, or raise query.timeout_seconds")
        text = first_lines(error)
        if "Out of Memory" in str(error):
            return QueryError(f"the query needs too much memory: {text}", mend="narrow it, or raise query.memory_limit")
        if isinstance(error, duckdb.Error) or "Error:" in str(error):
            return QueryError(text, mend=_mend(text, sql))
        return error


def _mend(text: str, sql: str) -> str:
    """Where to look: ``mart.columns`` knows the marts alone, so a column of a raw table is looked up in the table."""
    tables = sorted({name.lower() for name in _RAW_TABLE.findall(sql)})
    if tables and "column" in text:
        return " and ".join(f'winnow sql "describe raw.{name}"' for name in tables) + " lists its columns"
    return 'winnow sql "select distinct mart from mart.columns" lists the views'
