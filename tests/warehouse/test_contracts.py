"""The header of each SQL file, the real columns and ``mart.columns`` say the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from warehouse.lake import Lake
from warehouse.settings import LakeSettings
from warehouse.sql_files import SCHEMAS, sql_files

FILES = [file for schema in SCHEMAS for file in sql_files(schema)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with Lake.create(tmp_path_factory.mktemp("lake"), LakeSettings()) as lake:
        yield lake


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.full_name)
def test_header_names_exactly_the_real_columns_in_order(lake: Lake, file) -> None:
    real = [row[0] for row in lake.con.execute(f"describe {file.full_name}").fetchall()]
    assert [column.name for column in file.columns] == real
    assert file.grain.startswith("one row")


def test_mart_columns_lists_every_mart_column(lake: Lake) -> None:
    listed = set(lake.con.execute("select mart, column_name from mart.columns").fetchall())
    real = {
        (name, row[0])
        for (name,) in lake.con.execute(
            "select view_name from duckdb_views() where database_name = 'lake' and schema_name = 'mart'"
        ).fetchall()
        if name != "columns"
        for row in lake.con.execute(f"describe mart.{name}").fetchall()
    }
    assert listed == real
    assert real


def test_views_are_replaced_only_when_a_file_changed(tmp_path: Path) -> None:
    Lake.create(tmp_path, LakeSettings()).close()
    with Lake.open(tmp_path, LakeSettings()) as lake:
        before = lake.snapshot_id()
        lake.refresh_views()
        assert lake.snapshot_id() == before
        lake.transact("forget", lambda con: con.execute("update raw.views set sql_hash = 'old'"))
        lake.refresh_views()
        assert lake.snapshot_id() == before + 2
