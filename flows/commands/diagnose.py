"""``winnow diagnose``, ``winnow annotators`` and ``winnow pair``: who disagrees with whom, on what, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

    say(run_stage(Workspace.open(workspace), beta=beta), workspace)


def annotators(
    workspace: WorkspaceOption = Path(),
    limit: Annotated[int, typer.Option(min=1, help="How many, the least reliable first.")] = 20,
    min_votes: Annotated[int, typer.Option(min=1, help="Leave out annotators with fewer votes.")] = 1,
) -> None:
    """Show annotators with reliability, biases and flags, the least reliable first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from flows.console import out
    from flows.hints import hint
    from flows.workspace import Workspace

    with Workspace.open(workspace).lake(read_only=True) as lake:
        rows = lake.frame(
            "select report.*, orders.is_known from mart.annotator_report as report"
            f" join ({_ORDERS}) as orders using (annotator_id, criterion) where num_votes >= ?"
            " order by reliability_high, annotator_id, criterion limit ?",
            [min_votes, limit],
        )
        has_criteria = lake.value("select count(distinct criterion) from raw.annotator_estimates") > 1
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("annotator", max_width=18, no_wrap=True)
    if has_criteria:
        table.add_column("on", max_width=12, no_wrap=True)
    for name in ("votes", "reliability", "first", "length"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("flags")
    for row in rows.iter_rows(named=True):
        flags = [name.removeprefix("is_") for name in _FLAGS if row[name]]
        criterion = [row["criterion"]] if has_criteria else []
        table.add_row(
            Text(row["annotator_id"]),
            *map(Text, criterion),
            f"{row['num_votes']:,}",
            f"{row['reliability']:.2f} {row['reliability_low']:.2f}-{row['reliability_high']:.2f}",
            _signed(row["position_bias"]) if row["is_known"] else "-",
            _signed(row["length_bias"]),
            ", ".join(flags).replace("_", " "),
        )
    out.print(table)
    if not all(rows["is_known"]):
        out.print("first: - where no source says which response was shown first.")
    for line in _LEGEND:
        out.print(hint(line, workspace), markup=False, highlight=False, soft_wrap=True)


_FLAGS = ("is_adversarial", "is_careless", "is_position_biased")

_LEGEND = (
    "reliability: chance of voting for the better response, with its 95 % interval.",
    "first, length: log-odds for what is shown first, and for twice the length.",
    'More: winnow sql "select annotator_id, tie_rate from mart.annotator_report"',
    "(every column, as all intervals and speed: docs/columns.md)",
)

_ORDERS = """
    select
        coalesce(annotator_id, 'unnamed:' || source) as annotator_id,
        criterion,
        bool_or(is_display_order_known) as is_known
    from raw.judgments
    group by all
"""


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def pair(
    pair_id: Annotated[str, typer.Argument(help="Identifier of the pair, or its beginning.")],
    workspace: WorkspaceOption = Path(),
) -> None:
    """Show one pair with all evidence: texts, votes with their annotators, consensus, contradictions, decision."""
    from flows.console import out
    from flows.pair_evidence import pair_evidence
    from flows.workspace import Workspace

    with Workspace.open(workspace).lake(read_only=True) as lake:
        for part in pair_evidence(lake, pair_id):
            out.print(part, soft_wrap=isinstance(part, str), markup=False)
