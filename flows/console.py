"""The terminal: one rich console for results, one for progress and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from flows.hints import hint
from flows.report import StageReport

out = Console(highlight=False)
"""Standard output: results only."""

err = Console(stderr=True, highlight=False)
"""Standard error: progress, notes and errors."""


@contextmanager
def progress(description: str, total: int | None = None, unit: str = "") -> Iterator[Callable[[int, str], None]]:
    """A progress bar on standard error; the block calls the yielded function with (steps done, note)."""
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description:<9}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=False) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(steps: int, note: str = "") -> None:
            bar.update(task, advance=steps, note=note)

        yield advance
        done = bar.tasks[task].completed
        bar.update(task, total=done if total is None else total)


def say(report: StageReport, workspace: Path = Path()) -> None:
    """Print a stage's sentences as they stand: brackets in them are names, not markup.

    Args:
        report: of the stage.
        workspace: what the user named, for the commands in the sentences.
    """
    for number, sentence in enumerate(report.lines):
        line = hint(sentence, workspace)
        head = (f"{report.stage:<9}", "bold green") if number == 0 else " " * 9
        out.print(Text.assemble(head, " ", line), soft_wrap=True)
