"""``winnow init``: make a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Folder of the workspace.", envvar="WINNOW_WORKSPACE")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(init)


def init(workspace: Annotated[Path, typer.Argument(help="Folder of the workspace.")]) -> None:
    """Make a workspace: a folder with winnow.toml and an empty lake."""
    import shlex

    from flows.console import out
    from flows.workspace import Workspace

    made = Workspace.create(workspace)
    line = f"{made.root} is ready; next: winnow ingest -w {shlex.quote(str(made.root))} FILE"
    out.print(line, soft_wrap=True, markup=False)
