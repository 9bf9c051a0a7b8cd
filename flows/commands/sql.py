"""``winnow sql``: ask the lake anything, while flows write to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(sql)


def sql(
    query: Annotated[str | None, typer.Argument(help="One reading statement; a prompt opens without one.")] = None,
    workspace: WorkspaceOption = Path(),
    format: Annotated[str, typer.Option("--format", "-f", help="table, csv, json, parquet or polars.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write to.")] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Show the lake as this run left it: its id, the beginning of one, 'latest' or 'previous'."),
    ] = None,
    snapshot: Annotated[int | None, typer.Option(help="Show the lake as of this snapshot.")] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows of a table.")] = 50,
    open_: Annotated[
        bool, typer.Option("--open", help="Print the lines that attach the lake in your own DuckDB, Python or R.")
    ] = False,
) -> None:
    """Query the lake with SQL, read-only."""
    from flows.query_output import write_result
    from flows.workspace import Workspace
    from schemas.errors import QueryError
    from warehouse.diff import curation_run
    from warehouse.query import QuerySession
    from warehouse.versions import check_snapshot, snapshot_of_run

    opened = Workspace.open(workspace)
    if open_:
        _print_attach_lines(opened.root)
        return
    if run is not None and snapshot is not None:
        raise QueryError("--run and --snapshot exclude each other", mend="give one of them")
    if run is not None or snapshot is not None:
        with opened.lake(read_only=True) as lake:
            if run in ("latest", "previous"):
                run = str(curation_run(lake, run)["run_id"])
            snapshot = snapshot_of_run(lake, run) if run is not None else check_snapshot(lake, snapshot or 0)
    settings = opened.settings
    with QuerySession.open(opened.root, settings.lake, settings.query, snapshot_id=snapshot) as session:
        if query is None:
            from flows.sql_prompt import run_prompt

            run_prompt(
                session,
                lambda reader: write_result(reader, format="table", output=None, max_rows=max_rows),
                workspace=workspace,
                history=opened.root / ".sql_history",
            )
            return
        with session.batches(query) as reader:
            write_result(reader, format=format, output=output, max_rows=max_rows)


def _print_attach_lines(root: Path) -> None:
    from flows.workspace import Workspace
    from warehouse.attach_lines import attach_lines
    from warehouse.connection import LakeLocation

    location = LakeLocation.of(root, Workspace.open(root).settings.lake)
    for client, lines in attach_lines(location).items():
        typer.echo(f"# {client}")
        for line in lines:
            typer.echo(line)
        typer.echo("")
