"""Opening, writing and sharing the lake."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest

from schemas.errors import WorkspaceError
from warehouse.lake import LAYOUT_VERSION, Lake
from warehouse.settings import LakeSettings

SETTINGS = LakeSettings()


def test_a_transaction_that_changes_nothing_makes_no_snapshot(tmp_path: Path) -> None:
    with Lake.create(tmp_path, SETTINGS) as lake:
        before = lake.snapshot_id()
        lake.transact("nothing", lambda con: con.execute("delete from raw.parameters where name = 'none'"))
        assert lake.snapshot_id() == before


def test_the_commit_message_is_kept_with_the_snapshot(tmp_path: Path) -> None:
    with Lake.create(tmp_path, SETTINGS) as lake:
        lake.transact("run-1: parameters", lambda con: con.execute("insert into raw.parameters values ('beta', 0.2)"))
        sql = "select commit_message from ducklake_snapshots('lake') order by snapshot_id desc limit 1"
        assert lake.value(sql) == "run-1: parameters"


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_one_clear_error_and_the_lake_stays(tmp_path: Path) -> None:
    """The process may write no file beyond a megabyte, which files meet as they would a full disk."""
    Lake.create(tmp_path, SETTINGS).close()
    code = """
        import resource, sys
        from pathlib import Path
        from schemas.errors import WorkspaceError
        from warehouse.lake import Lake
        from warehouse.settings import LakeSettings
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        rows = "insert into raw.prompts select md5(i::varchar), uuid()::varchar, 's', 'r' from range(100000) t(i)"
        with Lake.open(Path(sys.argv[1]), LakeSettings()) as lake:
            try:
                lake.transact("too much", lambda con: con.execute(rows))
            except WorkspaceError as error:
                print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the lake cannot be written: " in done.stdout
    assert "(make room or allow it to be written" in done.stdout
    with Lake.open(tmp_path, SETTINGS) as lake:
        assert lake.value("select count(*) from raw.prompts") == 0


def test_a_failed_transaction_leaves_the_lake_as_it_was(tmp_path: Path) -> None:
    with Lake.create(tmp_path, SETTINGS) as lake:
        before = lake.snapshot_id()

        def half(con: duckdb.DuckDBPyConnection) -> None:
            con.execute("insert into raw.parameters values ('beta', 0.2)")
            con.execute("insert into raw.parameters values ('too', 'many', 'columns')")

        with pytest.raises(duckdb.Error):
            lake.transact("half", half)
        assert lake.snapshot_id() == before
        assert lake.value("select count(*) from raw.parameters") == 0
        lake.transact("whole", lambda con: con.execute("insert into raw.parameters values ('beta', 0.3)"))
        assert lake.value("select value from raw.parameters") == 0.3


def test_a_lake_of_another_version_is_refused(tmp_path: Path) -> None:
    with Lake.create(tmp_path, SETTINGS) as lake:
        lake.transact("age", lambda con: con.execute("update raw.workspace set version = 99"))
    with pytest.raises(WorkspaceError, match=rf"layout version 99, this Winnow reads version {LAYOUT_VERSION}"):
        Lake.open(tmp_path, SETTINGS)


def test_a_folder_without_lake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="holds no lake"):
        Lake.open(tmp_path, SETTINGS)


def test_a_catalog_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"this is not a database, but long enough to look at" * 10)
    with pytest.raises(WorkspaceError, match="cannot be opened"):
        Lake.open(tmp_path, SETTINGS)


def test_an_unknown_catalog_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"lake\.catalog = 'mysql:x'"):
        Lake.open(tmp_path, LakeSettings(catalog="mysql:x"))


@pytest.mark.slow
def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """A SQLite catalog is busy while another process commits; the write waits and goes through."""
    Lake.create(tmp_path, SETTINGS).close()
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from warehouse.lake import Lake
        from warehouse.settings import LakeSettings
        with Lake.open(Path(sys.argv[1]), LakeSettings()) as lake:
            for i in range(10):
                row = (f"{sys.argv[2]}-{i}", i)
                lake.transact("write", lambda con: con.execute("insert into raw.parameters values (?, ?)", row))
    """)
    writers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)]) for n in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    with Lake.open(tmp_path, SETTINGS, read_only=True) as lake:
        assert lake.value("select count(distinct name) from raw.parameters") == 30
        assert lake.value("select count(*) from raw.parameters") == 30


def test_a_reader_in_the_middle_of_a_result_does_not_block_a_commit(tmp_path: Path) -> None:
    with Lake.create(tmp_path, SETTINGS) as writer, Lake.open(tmp_path, SETTINGS, read_only=True) as reader:
        writer.transact(
            "many", lambda con: con.execute("insert into raw.parameters select i, i from range(100000) t(i)")
        )
        open_result = reader.con.execute("select * from raw.parameters")
        assert len(open_result.fetchmany(10)) == 10
        writer.transact("more", lambda con: con.execute("insert into raw.parameters values ('beta', 0.5)"))
        assert len(open_result.fetchall()) == 99_990


def test_a_reader_sees_whole_commits_while_another_connection_writes(tmp_path: Path) -> None:
    with Lake.create(tmp_path, SETTINGS) as writer, Lake.open(tmp_path, SETTINGS, read_only=True) as reader:
        writer.con.execute("begin")
        writer.con.execute("insert into raw.parameters values ('beta', 0.5)")
        assert reader.value("select count(*) from raw.parameters") == 0
        writer.con.execute("commit")
        assert reader.value("select count(*) from raw.parameters") == 1


@pytest.mark.slow
def test_two_processes_make_the_same_lake_at_once(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from warehouse.lake import Lake
        from warehouse.settings import LakeSettings
        Lake.create(Path(sys.argv[1]), LakeSettings()).close()
    """)
    makers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)]
    assert [maker.wait(timeout=120) for maker in makers] == [0, 0, 0]
    with Lake.open(tmp_path, SETTINGS, read_only=True) as lake:
        assert lake.value("select count(*) from raw.workspace") == 1


def test_a_folder_with_quotes_and_spaces(tmp_path: Path) -> None:
    root = tmp_path / 'it\'s a "set"'
    root.mkdir()
    Lake.create(root, SETTINGS).close()
    with Lake.open(root, SETTINGS) as lake:
        lake.transact("many", lambda con: con.execute("insert into raw.parameters select i, i from range(100) t(i)"))
        assert lake.value("select count(*) from raw.parameters") == 100


def test_a_workspace_may_be_moved(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with Lake.create(tmp_path / "old", SETTINGS) as lake:
        lake.transact("many", lambda con: con.execute("insert into raw.parameters select i, i from range(100) t(i)"))
    (tmp_path / "old").rename(tmp_path / "new")
    with Lake.open(tmp_path / "new", SETTINGS, read_only=True) as lake:
        assert lake.value("select count(*) from raw.parameters") == 100
    with Lake.open(tmp_path / "new", SETTINGS) as lake:
        lake.transact("more", lambda con: con.execute("insert into raw.parameters select i, i from range(50) t(i)"))
        assert lake.value("select count(*) from raw.parameters") == 150
    assert not (tmp_path / "old").exists()


def test_a_file_in_the_place_of_the_data_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(WorkspaceError, match="data cannot be made"):
        Lake.create(tmp_path, SETTINGS)
