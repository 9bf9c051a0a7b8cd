"""What a stage says when it is done: figures for programs, sentences for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageReport:
    """Result of one stage.

    Attributes:
        stage: its name.
        run_id: its run; None where nothing was new and nothing was written.
        num_changed: rows that it inserted, changed or removed.
        facts: figures, JSON-serialisable; stored in ``raw.runs``.
        lines: short sentences to print, each on its own.
    """

    stage: str
    run_id: str | None
    num_changed: int
    facts: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
