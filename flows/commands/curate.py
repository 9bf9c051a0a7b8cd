"""``winnow curate``: decide what trains and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(curate)


def curate(
    workspace: WorkspaceOption = Path(),
    rules: Annotated[str | None, typer.Option(help="Profile, or TOML file of rules.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Reference policy whose margins the rules read; the newest when not given.")
    ] = None,
) -> None:
    """Decide with rules what trains and how, in one transaction."""
    from flows.console import say
    from flows.stages.curate import curate as run_stage
    from flows.workspace import Workspace

    say(run_stage(Workspace.open(workspace), rules=rules, reference_id=reference))
