"""What the demo shows: two aligned tables and the places, on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from flows.demo import DemoResult
from flows.demo_arms import ArmResult
from flows.planted import Finding, interval
from flows.workspace import Workspace

FILE_NAME = "demo.md"

_FOUND_COLUMNS = ("kind", "planted", "found", "precision, %", "recall, %")
_ARM_COLUMNS = ("policy", "pairs", "right, %", "moved, %", "in U, %", "turned, %")
_NOTE = (
    "Brackets are 95 % Wilson intervals. A line that starts with .. is a part of the one above it, planted on purpose;"
    " the rest of that comes from annotators' honest mistakes."
)
_ARM_NOTE = (
    "On the {num_pairs:,} held-out pairs that all share. Right: prefers the response that is truly better. Moved:"
    " prefers it more than the reference policy does. In U: moved, and still not right. Turned: right now, of those"
    " that the reference policy gets wrong."
)


def show(result: DemoResult, console: Console) -> None:
    """Print the result."""
    console.print()
    console.print(_table("Planted against found", _FOUND_COLUMNS, _found_rows(result.findings)))
    console.print(f"[dim]{_NOTE}[/]")
    console.print()
    console.print(_table("What training made of it", _ARM_COLUMNS, _arm_rows(result.arms)))
    console.print(f"[dim]{_arm_note(result.arms)}[/]")
    console.print()
    width = max(map(len, result.places))
    for what, path in {**result.places, "summary": write_summary(result)}.items():
        console.print(f"[bold]{what:<{max(width, 7)}}[/]  {_short(path)}", soft_wrap=True)
    console.print()
    console.print(
        f'Ask it anything:  winnow sql -w {result.root} "select * from mart.annotator_report order by reliability"',
        soft_wrap=True,
    )


def write_summary(result: DemoResult) -> Path:
    """Write ``summaries/demo.md`` and return its path."""
    folder = Workspace.open(result.root).summaries
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    lines = [
        "# The demo",
        "",
        "A generated world whose truth is known, and what Winnow made of it. `latest.md` beside this file is the",
        "summary of the main job, as `winnow run` writes it for any set.",
        "",
        "## Planted against found",
        "",
        *_markdown(_FOUND_COLUMNS, _found_rows(result.findings)),
        "",
        _NOTE,
        "",
        "## What training made of it",
        "",
        *_markdown(_ARM_COLUMNS, _arm_rows(result.arms)),
        "",
        _arm_note(result.arms),
        "",
        "## Where it lies",
        "",
        *(f"- {what}: `{_short(place)}`" for what, place in result.places.items()),
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _found_rows(findings: Sequence[Finding]) -> Iterator[tuple[str, ...]]:
    for found in findings:
        yield (
            f".. {found.kind.title}" if found.kind.is_part else found.kind.title,
            f"{found.num_planted:,}",
            "" if found.kind.is_part else f"{found.num_found:,}",
            "" if found.kind.is_part else _share(found.precision),
            _share(found.recall),
        )


def _arm_rows(arms: Sequence[ArmResult]) -> Iterator[tuple[str, ...]]:
    first = arms[0]
    yield "reference", "", _share(interval(first.num_right_before, first.num_pairs)), "", "", ""
    for arm in arms:
        yield (
            arm.name,
            f"{arm.num_train:,}",
            _share(interval(arm.num_right, arm.num_pairs)),
            _percent(arm.num_relative, arm.num_pairs),
            _percent(arm.num_undesirable, arm.num_pairs),
            _percent(arm.num_turned, arm.num_wrong_before),
        )


def _arm_note(arms: Sequence[ArmResult]) -> str:
    return _ARM_NOTE.format(num_pairs=arms[0].num_pairs)


def _share(share: tuple[float, float, float] | None) -> str:
    if share is None:
        return "none"
    return f"{100 * share[0]:.0f} ({100 * share[1]:.0f}-{100 * share[2]:.0f})"


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.0f}" if total else "none"


def _table(title: str, columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row, style="dim" if row[0].startswith("..") else None)
    return table


def _markdown(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> list[str]:
    rule = ["---:" if number else "---" for number in range(len(columns))]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *(map(str.strip, row) for row in rows))]


def _short(path: Path) -> Path:
    """Relative to the working directory, where it lies in it."""
    absolute = path.resolve()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
