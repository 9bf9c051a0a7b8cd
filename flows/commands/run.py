"""``winnow run``: the main job, end to end, as a Prefect flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(run)


def run(
    workspace: WorkspaceOption = Path(),
    source: Annotated[
        list[str] | None, typer.Option("--source", "-s", help="File, folder or Hub id of judgments; may be repeated.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="Format of the sources; detected when not given.")] = None,
    model: Annotated[str | None, typer.Option(help="Reference policy: a model folder or Hub id.")] = None,
    engine: Annotated[str | None, typer.Option(help="Scoring engine; see winnow doctor.")] = None,
    rules: Annotated[str | None, typer.Option(help="Curation profile or TOML file.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="Loss to train with; may be repeated. Default: the rules'.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps of each training.")] = None,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train on the curated set.")] = True,
) -> None:
    """Ingest, score, diagnose, curate, export and train, as one Prefect flow."""
    from flows.pipeline import run_pipeline

    objectives: list[str | None] = list(objective) if objective else [None]
    run_pipeline(
        workspace,
        source or [],
        format=format,
        model=model,
        engine=engine,
        rules=rules,
        objectives=objectives if train else [],
        max_steps=max_steps,
    )
