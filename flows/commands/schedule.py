"""``winnow schedule``: the main job every night."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(schedule)


def schedule(
    workspace: WorkspaceOption = Path(),
    source: Annotated[
        list[str] | None, typer.Option("--source", "-s", help="File, folder or Hub id of judgments; may be repeated.")
    ] = None,
    cron: Annotated[str, typer.Option(help="When to run, as a cron expression in UTC.")] = "0 2 * * *",
    format: Annotated[str | None, typer.Option(help="Format of the sources; detected when not given.")] = None,
    model: Annotated[str | None, typer.Option(help="Reference policy: a model folder or Hub id.")] = None,
    rules: Annotated[str | None, typer.Option(help="Curation profile or TOML file.")] = None,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train on the curated set.")] = True,
) -> None:
    """Serve a Prefect deployment that runs the main job on a schedule, until it is interrupted.

    Each run picks up new judgments, scores only what is new, and writes nothing where nothing is new.
    """
    from flows.console import err
    from flows.pipeline import prepare_prefect

    prepare_prefect()
    from flows.deployment import serve

    options = {"format": format, "model": model, "rules": rules, "objectives": [None] if train else []}
    err.print(f"Serving the schedule '{cron}' for {workspace}; stop it with Ctrl-C.")
    serve(workspace, source or [], cron=cron, options=options)
