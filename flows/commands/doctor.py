"""``winnow doctor``: what is installed, which engine will be used, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(doctor)


def doctor(
    bench: Annotated[
        str | None,
        typer.Option(
            "--bench",
            metavar="MODEL",
            help="Time every engine on this policy (folder or Hub id) for auto.",
        ),
    ] = None,
) -> None:
    """Say what is installed, which engine will score, and what is missing with the mend.

    Exits with 1 where something that the main job needs is missing.
    """
    if bench is not None:
        _bench(bench)
        return
    from rich.table import Table

    from flows.console import err, out

    with err.status("Looking around"):
        from flows.doctor import examine

        findings = examine()
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = "[green]ok[/]" if finding.is_fine else "[red]missing[/]" if finding.is_required else "[yellow]note[/]"
        table.add_row(mark, finding.what, finding.state)
    out.print(table)
    for finding in findings:
        if not finding.is_fine and finding.mend:
            out.print(f"To mend {finding.what}: [bold]{finding.mend}[/]", soft_wrap=True)
    if any(not finding.is_fine and finding.is_required for finding in findings):
        raise typer.Exit(1)


def _bench(model: str) -> None:
    """Time the engines, show their rates, and say what ``auto`` takes from now on."""
    from rich.table import Table

    from curation.scoring.engine_rates import rates_file
    from curation.scoring.engines import bench_engines, explain_choice
    from flows.console import err, out

    with err.status(f"Timing engines on {model}"):
        rates = bench_engines(model)
    table = Table("engine", box=None, pad_edge=False)
    table.add_column("unique tokens/s", justify="right")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{rate:,.0f}")
    out.print(table)
    name, reason = explain_choice()
    out.print(f"auto takes [bold]{name}[/]: {reason}", soft_wrap=True)
    err.print(f"kept in {rates_file()}", soft_wrap=True)
