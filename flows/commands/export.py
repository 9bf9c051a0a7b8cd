"""``winnow export``: the curated set as a folder that a trainer reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(export)


def export(
    target: Annotated[
        Path | None, typer.Argument(help="Folder that appears; one in the workspace's exports when not given.")
    ] = None,
    workspace: WorkspaceOption = Path(),
    format: Annotated[
        str, typer.Option(help="winnow, trl, llama-factory, openrlhf, axolotl, nemo-rl or hf-dataset.")
    ] = "winnow",
) -> None:
    """Write the training set of the latest curation run as a folder with manifest and data card."""
    from flows.console import say
    from flows.stages.export import export as run_stage
    from flows.workspace import Workspace

    say(run_stage(Workspace.open(workspace), target=target, format=format), workspace)
