"""``winnow runs``, ``diff``, ``restore`` and ``prune``: earlier states of the set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (runs, diff, restore, prune):
        app.command()(command)


def runs(
    workspace: WorkspaceOption = Path(),
    stage: Annotated[str | None, typer.Option(help="Only runs of this stage.")] = None,
) -> None:
    """List the runs of every stage, and the decisions of each curation run."""
    from flows.version_tables import runs_table
    from flows.workspace import Workspace

    with Workspace.open(workspace).lake(read_only=True) as lake:
        runs_table(lake, stage=stage)


def diff(
    run_a: Annotated[str, typer.Argument(help="Curation run, its beginning, 'latest' or 'previous'.")] = "previous",
    run_b: Annotated[str, typer.Argument(help="Curation run to compare it with.")] = "latest",
    workspace: WorkspaceOption = Path(),
) -> None:
    """Pairs whose decision differs between two curation runs, by rule and by cause."""
    from flows.stages.compare import compare
    from flows.version_tables import diff_tables
    from flows.workspace import Workspace

    with Workspace.open(workspace).lake(read_only=True) as lake:
        diff_tables(compare(lake, run_a, run_b))


def restore(
    run: Annotated[str, typer.Argument(help="Curation run to repeat, its beginning, 'latest' or 'previous'.")],
    workspace: WorkspaceOption = Path(),
) -> None:
    """Make an old curation run's decisions the standing ones again, as a new run."""
    from flows.console import say
    from flows.stages.versions import restore as run_stage
    from flows.workspace import Workspace

    say(run_stage(Workspace.open(workspace), run))


def prune(
    workspace: WorkspaceOption = Path(),
    keep_last: Annotated[int, typer.Option("--keep-last", min=1, help="Newest curation runs to keep.")] = 10,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="Delete files that became unreachable longer ago than this.")
    ] = 1.0,
) -> None:
    """Forget old runs and their snapshots; what exports and training runs refer to is kept."""
    from flows.console import say
    from flows.stages.versions import prune as run_stage
    from flows.workspace import Workspace

    say(run_stage(Workspace.open(workspace), keep_last=keep_last, grace_hours=grace_hours))
