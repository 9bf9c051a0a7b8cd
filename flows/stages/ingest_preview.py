"""Dry run of ingest: what would come of the sources, without writing anything."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.ingest.parser import ParsedBatch
from curation.ingest.sources import SourceFile
from curation.ingest.staging import FileTally
from flows.console import progress
from flows.stages.ingest_files import IngestOptions, num_kilobytes, read_file
from flows.workspace import Workspace

PREVIEW_ROWS = 10
_SHOWN = (
    "source_row", "messages", "response_a", "response_b", "vote", "criterion", "annotator_id", "strength",
    "is_display_order_known",
)  # fmt: skip


@dataclass(frozen=True)
class Preview:
    """What one file would become.

    Attributes:
        source: the file.
        tally: its counts and reasons.
        rows: its first judgments, at most :data:`PREVIEW_ROWS`.
        is_refused: more of it is bad than is allowed, so that ingest would stop.
    """

    source: SourceFile
    tally: FileTally
    rows: list[dict[str, Any]]
    is_refused: bool

    @property
    def lines(self) -> list[str]:
        """The preview for people."""
        verdict = "; ingest would refuse it" if self.is_refused else ""
        found = [
            f"{self.source}: {self.source.format.name} ({self.source.format.about})",
            f"{self.tally.num_judgments:,} judgments of {self.tally.num_rows:,} rows;"
            f" {self.tally.num_bad_rows:,} rows for quarantine{verdict}",
        ]
        found += [json.dumps(row, ensure_ascii=False) for row in self.rows]
        for reason, count in self.tally.reasons.most_common():
            row, detail, payload = self.tally.examples[reason]
            found.append(f"quarantine: {reason} {count:,}, as row {row}: {detail}: {_short(payload)}")
        return found


def preview(workspace: Workspace, sources: Sequence[str], options: IngestOptions) -> list[Preview]:
    """Read the sources to their end and write nothing, neither into the lake nor into the workspace.

    Annotator ids are shown as they stand in the file, even with ``hash_annotators``, whose key may not exist yet.

    Raises:
        SourceError: a file cannot be read, or its format is unknown.
    """
    settings = workspace.settings.ingest
    with tempfile.TemporaryDirectory(prefix="winnow-preview-") as folder:
        found = options.sources(sources, Path(folder))
        previews = []
        with progress("dry run", total=sum(num_kilobytes(each) for each in found), unit="kB") as advance:
            for source in found:
                rows: list[dict[str, Any]] = []

                def keep(batch: ParsedBatch, rows: list[dict[str, Any]] = rows) -> None:
                    missing = PREVIEW_ROWS - len(rows)
                    if missing > 0:
                        shown = pl.DataFrame(batch.judgments.select(_SHOWN).slice(0, missing)).to_dicts()
                        rows += [{name: _short(value) for name, value in row.items()} for row in shown]

                tally = read_file(source, settings, key=None, folder=Path(folder), advance=advance, use=keep)
                is_refused = tally.failed_share > options.allowed_share(source, settings)
                previews.append(Preview(source, tally, rows, is_refused))
        return previews


def _short(value: Any, length: int = 60) -> Any:
    return value if not isinstance(value, str) or len(value) <= length else value[: length - 1] + "…"
