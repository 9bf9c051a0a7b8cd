"""A dry run of ingest on the terminal: format, ten parsed rows as a table, and the quarantine by reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.stages.ingest_preview import Preview
from schemas.wording import counted

_MOST_CHARACTERS = 200
_EXAMPLE_CHARACTERS = 100


def preview_tables(found: Preview) -> Iterator[RenderableType]:
    """What to print of one file; every line fits into the terminal's width."""
    tally, format = found.tally, found.source.format
    yield Text(str(found.source))
    yield _line(f"read as {format.name}: {format.about}")
    yield _line(
        f"{counted(tally.num_judgments, 'judgment')} of {counted(tally.num_rows, 'row')};"
        f" {counted(tally.num_bad_rows, 'row')} for quarantine"
    )
    if found.is_refused:
        why = "it has no rows" if not tally.num_rows else (
            f"{counted(tally.num_failed_rows, 'bad row')} ({tally.failed_share:.1%}),"
            f" allowed are {found.allowed_share:.1%}"
        )  # fmt: skip
        yield _line(f"ingest would refuse it: {why}", "bold red")
    if found.has_passing_key:
        yield _line("annotators are hashed with a key for this view; the first ingest makes the workspace's own")
    if found.rows:
        yield _rows_table(found.rows)
    if tally.reasons:
        yield _quarantine_table(found)


def _line(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style), (0, 0, 0, 2))


def _rows_table(rows: list[dict[str, Any]]) -> Table:
    """The first judgments; columns that say nothing in all of them are left out."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "row": lambda row: str(row["source_row"]),
        "prompt": _prompt,
        "a": lambda row: _plain(row["response_a"]),
        "b": lambda row: _plain(row["response_b"]),
        "vote": lambda row: "both bad" if row["is_both_bad"] else row["vote"],
        "criterion": lambda row: "" if row["criterion"] == "overall" else _plain(row["criterion"]),
        "annotator": lambda row: _plain(row["annotator_id"] or "")[:8],
        "strength": lambda row: "" if row["strength"] is None else f"{row['strength']:g}",
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    cells = {name: [show(row) for row in rows] for name, show in columns.items()}
    cells = {name: column for name, column in cells.items() if any(column) or name in ("prompt", "a", "b")}
    for name in cells:
        is_text = name in ("prompt", "a", "b")
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if is_text else None,
                         justify="right" if name in ("row", "strength") else "left")  # fmt: skip
    for line in zip(*cells.values(), strict=True):
        table.add_row(*(Text(cell) for cell in line))
    known = {row["is_display_order_known"] for row in rows}
    order = "as shown" if known == {True} else "not known" if known == {False} else "known of some"
    table.caption = f"display order {order}"
    table.caption_justify = "left"
    return table


def _quarantine_table(found: Preview) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("quarantine")
    table.add_column("parts", justify="right", no_wrap=True)
    table.add_column("for example", ratio=1)
    for reason, count in found.tally.reasons.most_common():
        row, detail, payload = found.tally.examples[reason]
        example = f"row {row}: {detail}"
        if payload:
            example += f"\n{_plain(payload)[:_EXAMPLE_CHARACTERS]}"
        table.add_row(Text(reason), Text(f"{count:,}"), Text(example))
    return table


def _prompt(row: dict[str, Any]) -> str:
    """The prompt's last turn, after the number of those before it."""
    messages = json.loads(row["messages"])
    if not messages:
        return "(none)"
    before = f"({len(messages) - 1} before) " if len(messages) > 1 else ""
    return before + _plain(messages[-1]["content"])


def _plain(text: str) -> str:
    """One line of printable characters: a file may hold what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text[:_MOST_CHARACTERS].split()))
