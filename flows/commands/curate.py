"""``winnow curate``, ``advise`` and ``adjudicate``: decide what trains and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption

ReferenceOption = Annotated[
    str | None, typer.Option(help="Reference policy whose margins the rules read; the newest when not given.")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (curate, advise, adjudicate):
        app.command()(command)


def curate(
    workspace: WorkspaceOption = Path(),
    rules: Annotated[str | None, typer.Option(help="Profile, or TOML file of rules.")] = None,
    reference: ReferenceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the rules would do, and do nothing.")] = False,
) -> None:
    """Decide with rules what trains and how, in one transaction."""
    from flows.console import say
    from flows.workspace import Workspace

    opened = Workspace.open(workspace)
    if dry_run:
        from flows.curation_tables import dry_run_tables
        from flows.stages.advice import dry_run as look

        dry_run_tables(look(opened, rules=rules, reference_id=reference), workspace)
        return
    from flows.stages.curate import curate as run_stage

    say(run_stage(opened, rules=rules, reference_id=reference), workspace)


def advise(workspace: WorkspaceOption = Path(), reference: ReferenceOption = None) -> None:
    """Recommend objective, beta and profile from the diagnostics, with reasons in numbers."""
    from flows.curation_tables import advice_lines
    from flows.stages.advice import advice
    from flows.workspace import Workspace

    advice_lines(advice(Workspace.open(workspace), reference_id=reference)[0], workspace)


def adjudicate(
    file: Annotated[Path, typer.Argument(help="CSV, JSON lines or Parquet: pair_id, action, chosen_id, reason.")],
    workspace: WorkspaceOption = Path(),
    by: Annotated[str | None, typer.Option(help="Who decided, where the file does not say.")] = None,
) -> None:
    """Keep human decisions on pairs; they override every rule from the next curation on."""
    from flows.console import say
    from flows.stages.adjudicate import adjudicate as run_stage
    from flows.workspace import Workspace

    say(run_stage(Workspace.open(workspace), file, by=by), workspace)
