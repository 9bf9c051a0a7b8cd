"""``winnow train``: train a policy on an export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(train)


def train(
    workspace: WorkspaceOption = Path(),
    export: Annotated[Path | None, typer.Option(help="Folder of an export; the newest when not given.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id to start from; the export's reference policy when not given.")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="Loss; that of the rules when not given.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many optimizer steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the pairs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs of an optimizer step.")] = None,
) -> None:
    """Train on an export; every other setting stands in winnow.toml, under train."""
    from flows.console import say
    from flows.stages.train import train as run_stage
    from flows.workspace import Workspace

    report = run_stage(
        Workspace.open(workspace),
        export=export,
        model=model,
        objective=objective,
        max_steps=max_steps,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
    )
    say(report)
