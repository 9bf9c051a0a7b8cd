"""``winnow train`` and ``winnow evaluate``: train a policy on an export, and measure any policy on one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(train)
    app.command()(evaluate)


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
    say(report, workspace)


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder of a model or adapter, or Hub id.")],
    on: Annotated[Path, typer.Option("--on", help="Folder of the export.")],
    split: Annotated[str, typer.Option(help="Pairs to score: test or train.")] = "test",
    engine: Annotated[
        str | None, typer.Option(help="Scoring engine; when not given, the one that scored the export's reference.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="auto, float32, bfloat16 or float16; the scorer's for its own policy when not given."),
    ] = None,
    slice_by: Annotated[
        str | None, typer.Option(help="Give the metrics also by criterion, source or objective.")
    ] = None,
    num_pairs: Annotated[
        int, typer.Option("--pairs", min=0, help="Score at most so many pairs, evenly spaced; 0 for all.")
    ] = 2000,
    objective: Annotated[
        str | None,
        typer.Option(help="Whose loss to give; when not given, the model's own, or that of the export's rules."),
    ] = None,
) -> None:
    """Score an export's pairs under any model and print the trainer's metrics."""
    from flows.console import say
    from flows.stages.evaluate import evaluate as run_stage

    say(
        run_stage(
            model,
            on=on,
            split=split,
            engine=engine,
            dtype=dtype,
            slice_by=slice_by,
            objective=objective,
            num_pairs=num_pairs,
        )
    )
