"""User SQL: only reading statements, only the lake, only so much time; beside a writer in another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.workspace import Workspace
from schemas.errors import QueryError, WorkspaceError
from tests.generated_lake import fill
from warehouse.query import QuerySession
from warehouse.query_settings import QuerySettings
from warehouse.read_only import check_read_only


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace.create(tmp_path_factory.mktemp("query") / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=300)
    return made


@pytest.fixture(scope="module")
def session(workspace: Workspace) -> Iterator[QuerySession]:
    with QuerySession.open(workspace.root, workspace.settings.lake, QuerySettings(timeout_seconds=60)) as opened:
        yield opened


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from mart.pair_diagnostics",
        "with x as (select 1 as a) select * from x, unnest([1, 2]) as t(b)",
        "explain analyze select * from raw.runs",
        "describe mart.decisions",
        "show all tables",
        "summarize raw.runs",
        "from raw.runs at (version => 3)",
        "from ducklake_snapshots('lake')",
        "select * from raw.runs; -- with a comment",
    ],
)
def test_what_reads_the_lake_passes(session: QuerySession, sql: str) -> None:
    assert session.frame(sql).width > 0


@pytest.mark.parametrize(
    "sql",
    [
        "insert into raw.runs select * from raw.runs",
        "with x as (select 1) delete from raw.runs",
        "copy raw.runs to 'DATA/x.csv'",
        "explain analyze copy raw.runs to 'DATA/x.csv'",
        "from read_text('DATA/**')",
        "select (select content from read_text('DATA/**'))",
        "from 'DATA/x.parquet'",
        "describe 'DATA/x.parquet'",
        "from glob('/*')",
        "from query('select 1')",
        "from parquet_scan('DATA/**')",
        "from sqlite_scan('x', 'y')",
        "from duckdb_secrets()",
        "select current_setting('memory_limit')",
        "set threads = 1",
        "set lock_configuration = false",
        "attach 'other.db'",
        "install httpfs",
        "load httpfs",
        "create temp table t as select 1",
        "call lake.set_commit_message('a', 'b')",
        "pragma database_list",
        "prepare p as select 1",
        "begin",
        "checkpoint",
        "export database 'x'",
        "pivot raw.runs on stage using count(*)",
        "select 1; select 2",
        "selec 1",
        "",
        "-- nothing",
    ],
)
def test_what_writes_or_reaches_beyond_the_lake_is_refused(workspace: Workspace, sql: str) -> None:
    data = workspace.root / "data"
    before = sorted(data.rglob("*"))
    with pytest.raises(QueryError):
        check_read_only(sql.replace("DATA", str(data)))
    assert sorted(data.rglob("*")) == before


def test_the_connection_itself_is_locked(session: QuerySession) -> None:
    import duckdb

    with pytest.raises(duckdb.Error, match="read-only"):
        session._con.execute("delete from raw.runs")
    with pytest.raises(duckdb.Error, match="disabled"):
        session._con.execute("from read_text('/etc/hostname')")
    with pytest.raises(duckdb.Error, match="locked"):
        session._con.execute("set enable_external_access = true")


def test_variables_of_the_process_are_not_tables(session: QuerySession) -> None:
    import polars as pl

    secret = pl.DataFrame({"a": [1]})
    with pytest.raises(QueryError, match="secret does not exist"):
        session.frame("select * from secret")
    assert secret.height == 1


def test_a_typo_gets_a_suggestion(session: QuerySession) -> None:
    with pytest.raises(QueryError, match='"pair_id"'):
        session.frame("select pair_idd from mart.pair_diagnostics")
    with pytest.raises(QueryError, match='Did you mean "pair_diagnostics"'):
        session.frame("select * from mart.pair_diagnostic")


def test_a_column_that_a_raw_table_lacks_is_to_be_looked_up_there(session: QuerySession) -> None:
    for sql in ("select nonsense from raw.judgments", "select j.nonsense from raw.judgments as j"):
        with pytest.raises(QueryError) as raised:
            session.frame(sql)
        assert raised.value.mend == 'winnow sql "describe raw.judgments" lists its columns'
    assert "vote" in session.frame("describe raw.judgments")["column_name"].to_list()
    with pytest.raises(QueryError, match=r"mart\.columns"):
        session.frame("select nonsense from mart.decisions")


def test_a_query_that_takes_too_long_is_stopped(workspace: Workspace) -> None:
    settings = QuerySettings(timeout_seconds=0.3)
    with QuerySession.open(workspace.root, workspace.settings.lake, settings) as session:
        with pytest.raises(QueryError, match=r"the query took longer than 0.3 s"):
            session.frame("select count(*) from range(1000000000) as a(x), range(1000000) as b(y)")
        assert session.frame("select 1 as x").item() == 1


def test_a_query_that_needs_too_much_memory_says_so(workspace: Workspace) -> None:
    settings = QuerySettings(memory_limit="50MB", temporary_limit="1MB", threads=1)
    session = QuerySession.open(workspace.root, workspace.settings.lake, settings)
    with session, pytest.raises(QueryError, match="the query needs too much memory"):
        session.frame("select list(x) from range(30000000) as t(x)")


def test_a_workspace_without_lake_is_named(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="holds no lake"):
        QuerySession.open(tmp_path, workspace.settings.lake, QuerySettings())


WRITER = """
import sys
from pathlib import Path
from flows.workspace import Workspace
from tests.generated_lake import diagnose

workspace = Workspace.open(Path(sys.argv[1]))
with workspace.lake() as lake:
    for seed in range(1, 7):
        diagnose(lake, num_pairs=300, seed=seed)
        print(seed, flush=True)
"""


@pytest.mark.slow
def test_a_second_process_reads_while_a_first_one_writes(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=300)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(workspace.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    counts, num_while_writing = [], 0
    with QuerySession.open(workspace.root, workspace.settings.lake, QuerySettings()) as session:
        while True:
            is_writing = writer.poll() is None
            counts.append(session.frame("select count(*) from mart.pair_diagnostics").item())
            num_while_writing += is_writing and writer.poll() is None
            if not is_writing:
                break
    out, errors = writer.communicate()
    assert writer.returncode == 0, errors
    assert out.split() == ["1", "2", "3", "4", "5", "6"]
    assert set(counts) == {300}, "a reader saw a transaction half done"
    assert num_while_writing > 3
