"""``winnow doctor``: what is installed, which engine will be used, and what is missing."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(doctor)


def doctor() -> None:
    """Say what is installed, which engine will score, and what is missing with the mend.

    Exits with 1 where something that the main job needs is missing.
    """
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
