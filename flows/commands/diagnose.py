"""``winnow diagnose``, ``winnow annotators`` and ``winnow pair``: who disagrees with whom, on what, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(diagnose)
    app.command()(annotators)
    app.command()(pair)


def diagnose(
    workspace: WorkspaceOption = Path(),
    beta: Annotated[float | None, typer.Option(help="beta of the trainer; [diagnose] beta when not given.")] = None,
) -> None:
    """Audit annotators, contradictions, cycles and near-duplicates."""
    from flows.console import say
    from flows.stages.diagnose import diagnose as run_stage
    from flows.workspace import Workspace

    say(run_stage(Workspace.open(workspace), beta=beta))


def annotators(
    workspace: WorkspaceOption = Path(),
    limit: Annotated[int, typer.Option(min=1, help="How many, the least reliable first.")] = 20,
    min_votes: Annotated[int, typer.Option(min=1, help="Leave out annotators with fewer votes.")] = 1,
) -> None:
    """Show annotators with reliability, biases and flags, the least reliable first."""
    from rich.table import Table

    from flows.console import out
    from flows.workspace import Workspace

    with Workspace.open(workspace).lake(read_only=True) as lake:
        rows = lake.frame(
            "select * from mart.annotator_report where num_votes >= ?"
            " order by reliability_high, annotator_id, criterion limit ?",
            [min_votes, limit],
        )
    table = Table("annotator", "on", "votes", "reliability", "first shown", "length", "flags", padding=(0, 0))
    for column in table.columns[:6]:
        column.no_wrap = True
    for row in rows.iter_rows(named=True):
        flags = [name.removeprefix("is_") for name in _FLAGS if row[name]]
        table.add_row(
            row["annotator_id"],
            row["criterion"],
            f"{row['num_votes']:,}",
            _interval(row, "reliability"),
            _interval(row, "position_bias"),
            "" if row["length_bias"] is None else f"{row['length_bias']:+.2f}",
            ", ".join(flags).replace("_", " "),
        )
    out.print(table)


_FLAGS = ("is_adversarial", "is_careless", "is_position_biased")


def _interval(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return ""
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f}..{row[f'{name}_high']:.2f})"


def pair(
    pair_id: Annotated[str, typer.Argument(help="Identifier of the pair, or its beginning.")],
    workspace: WorkspaceOption = Path(),
) -> None:
    """Show one pair with all evidence: texts, votes with their annotators, consensus, contradictions, decision."""
    from flows.console import out
    from flows.pair_evidence import pair_evidence
    from flows.workspace import Workspace

    with Workspace.open(workspace).lake(read_only=True) as lake:
        for line in pair_evidence(lake, pair_id):
            out.print(line, soft_wrap=True, markup=False)
