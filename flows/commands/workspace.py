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
    from flows.console import out
    from flows.workspace import Workspace

    made = Workspace.create(workspace)
    out.print(f"{made.root} is ready; next: winnow ingest -w {made.root} FILE", soft_wrap=True)
