"""``winnow sql``: output forms, earlier states, the prompt, and the lines for other clients."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from typer.testing import CliRunner

from flows.cli import app
from flows.sql_prompt import LakeCompleter, lake_columns, run_prompt
from flows.stages.curate import curate
from flows.workspace import Workspace
from schemas.errors import QueryError
from tests.generated_lake import diagnose, fill
from warehouse.attach_lines import attach_lines
from warehouse.connection import LakeLocation
from warehouse.query import QuerySession

pytestmark = pytest.mark.slow

NUM_PAIRS = 300
QUERY = "select pair_id, rules, effects, weight, soft_label from mart.decisions order by pair_id"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace with a space and a quote in its path, and the run before its votes changed."""
    workspace = Workspace.create(tmp_path_factory.mktemp("sql") / "it's a workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=NUM_PAIRS)
    run = str(curate(workspace, rules="dpo-safe").run_id)
    with workspace.lake() as lake:
        diagnose(lake, num_pairs=NUM_PAIRS - 30, seed=2)
    return workspace, run


def sql(workspace: Workspace, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["sql", "--workspace", str(workspace.root), *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def expected(workspace: Workspace) -> list[dict[str, object]]:
    with workspace.lake(read_only=True) as lake:
        return lake.frame(QUERY).to_dicts()


def test_json_is_one_array_of_objects(made: tuple[Workspace, str]) -> None:
    assert json.loads(sql(made[0], QUERY, "--format", "json")) == expected(made[0])
    assert json.loads(sql(made[0], "select 1 as x where false", "--format", "json")) == []


def test_csv_has_a_header_and_nested_values_as_json(made: tuple[Workspace, str]) -> None:
    rows = list(csv.DictReader(io.StringIO(sql(made[0], QUERY, "--format", "csv"))))
    wanted = expected(made[0])
    assert [row["pair_id"] for row in rows] == [row["pair_id"] for row in wanted]
    assert [json.loads(row["effects"]) for row in rows] == [row["effects"] for row in wanted]
    assert sql(made[0], "select 1 as x where false", "--format", "csv") == "x\n"


def test_parquet_goes_to_a_file(made: tuple[Workspace, str], tmp_path: Path) -> None:
    sql(made[0], QUERY, "--format", "parquet", "--output", str(tmp_path / "x.parquet"))
    assert pl.read_parquet(tmp_path / "x.parquet").to_dicts() == expected(made[0])
    with pytest.raises(QueryError, match="Parquet needs a file"):
        sql(made[0], QUERY, "--format", "parquet")


def test_a_table_shows_the_first_rows_and_says_that_there_are_more(made: tuple[Workspace, str]) -> None:
    shown = sql(made[0], QUERY, "--max-rows", "2")
    ids = [str(row["pair_id"]) for row in expected(made[0])]
    assert [pair in shown for pair in ids[:3]] == [True, True, False]
    assert "The first 2 rows" in shown
    assert "The first" not in sql(made[0], "select 1 as x")


def test_polars_prints_the_frame(made: tuple[Workspace, str]) -> None:
    assert "shape: (1, 1)" in sql(made[0], "select 1 as x", "--format", "polars")


def test_a_run_is_shown_as_it_was(made: tuple[Workspace, str]) -> None:
    workspace, run = made
    count = "select count(*) as n from mart.pair_diagnostics"
    assert json.loads(sql(workspace, count, "--format", "json")) == [{"n": NUM_PAIRS - 30}]
    assert json.loads(sql(workspace, count, "--format", "json", "--run", run)) == [{"n": NUM_PAIRS}]
    assert json.loads(sql(workspace, count, "--format", "json", "--run", "latest")) == [{"n": NUM_PAIRS}]
    with pytest.raises(QueryError, match="only one curation run"):
        sql(workspace, count, "--run", "previous")
    with pytest.raises(QueryError, match="there is no snapshot 9999"):
        sql(workspace, count, "--snapshot", "9999")
    with pytest.raises(QueryError, match="exclude each other"):
        sql(workspace, count, "--snapshot", "3", "--run", run)


def test_the_python_lines_work_in_a_process_of_their_own(made: tuple[Workspace, str]) -> None:
    workspace = made[0]
    lines = attach_lines(LakeLocation.of(workspace.root, workspace.settings.lake))
    assert [len(each) for each in lines.values()] == [3, 3, 3]
    shown = sql(workspace, "--open")
    assert all(line in shown for each in lines.values() for line in each)
    code = "\n".join([*lines["Python"], "con.execute('delete from raw.runs')"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pair_id" in done.stdout, done.stderr
    assert "read-only" in done.stderr


def test_the_shell_lines_are_the_sql_that_python_runs(made: tuple[Workspace, str]) -> None:
    import duckdb

    workspace = made[0]
    con = duckdb.connect()
    for line in attach_lines(LakeLocation.of(workspace.root, workspace.settings.lake))["DuckDB shell"]:
        con.execute(line)
    assert len(con.fetchall()) == 10


def test_the_r_lines_open_a_connection_and_give_it_the_sql_that_python_runs(made: tuple[Workspace, str]) -> None:
    import duckdb

    workspace = made[0]
    lines = attach_lines(LakeLocation.of(workspace.root, workspace.settings.lake))["R"]
    assert lines[0] == "library(duckdb); con <- dbConnect(duckdb())"
    calls = re.findall(r'db(Execute|GetQuery)\(con, "([^"]*)"\)', "; ".join(lines[1:]))
    assert "; ".join(f'db{name}(con, "{text}")' for name, text in calls) == "; ".join(lines[1:])
    assert [name for name, _ in calls] == ["Execute", "Execute", "GetQuery"]
    con = duckdb.connect()
    for _, text in calls:
        con.execute(text)
    assert len(con.fetchall()) == 10


def completions(completer: LakeCompleter, text: str) -> list[str]:
    return [each.text for each in completer.get_completions(Document(text), CompleteEvent())]


def test_the_prompt_completes_views_and_the_columns_of_those_that_are_named(made: tuple[Workspace, str]) -> None:
    workspace = made[0]
    with QuerySession.open(workspace.root, workspace.settings.lake, workspace.settings.query) as session:
        completer = LakeCompleter(lake_columns(session))
    assert "mart.pair_diagnostics" in completions(completer, "select * from mart.pair")
    assert "rlhf_margin" in completions(completer, "select * from mart.pair_diagnostics where rlhf")
    assert "rlhf_margin" not in completions(completer, "select * from raw.runs where rlhf")
    assert "select" in completions(completer, "sel")


def test_the_prompt_runs_statements_says_errors_and_goes_on(
    made: tuple[Workspace, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = made[0]
    results: list[list[dict[str, int]]] = []

    def show(reader: pa.RecordBatchReader) -> None:
        results.append(reader.read_all().to_pylist())

    typed = "select 1\n + 1 as x;\n" + "select nope;\n" + "delete from raw.runs;\n" + "select 3 as x;\n" + "exit\n"
    settings = workspace.settings
    with (
        QuerySession.open(workspace.root, settings.lake, settings.query) as session,
        create_pipe_input() as keyboard,
    ):
        keyboard.send_text(typed.replace("\n", "\r"))
        run_prompt(
            session, show, workspace=workspace.root, history=tmp_path / "history", input=keyboard, output=DummyOutput()
        )
    assert results == [[{"x": 2}], [{"x": 3}]]
    said = capsys.readouterr().err
    assert "nope" in said
    assert "DELETE is not allowed" in said
    assert f"winnow sql -w {shlex.quote(str(workspace.root))} " in said
    assert "select 3 as x;" in (tmp_path / "history").read_text()
