"""Dry run of ingest: what would come of the sources, without writing anything."""

from __future__ import annotations

import secrets
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
from flows.stages.ingest_files import IngestOptions, existing_key, num_kilobytes, read_file
from flows.workspace import Workspace

PREVIEW_ROWS = 10
_SHOWN = (
    "source_row", "messages", "response_a", "response_b", "vote", "is_both_bad", "criterion", "annotator_id",
    "strength", "is_display_order_known",
)  # fmt: skip


@dataclass(frozen=True)
class Preview:
    """What one file would become.

    Attributes:
        source: the file.
        tally: its counts and reasons.
        rows: its first judgments, at most :data:`PREVIEW_ROWS`.
        allowed_share: share of its rows that may be bad.
        has_passing_key: annotator ids are hashed with a key of this dry run, as the workspace has none yet.
    """

    source: SourceFile
    tally: FileTally
    rows: list[dict[str, Any]]
    allowed_share: float
    has_passing_key: bool

    @property
    def is_refused(self) -> bool:
        """Whether ingest would stop: there is no row, or more of them are bad than is allowed."""
        return self.tally.num_rows == 0 or self.tally.failed_share > self.allowed_share


def preview(workspace: Workspace, sources: Sequence[str], options: IngestOptions) -> list[Preview]:
    """Read the sources to their end and write nothing, neither into the lake nor into the workspace.

    Raises:
        SourceError: a file cannot be read, or its format is unknown.
    """
    settings = workspace.settings.ingest
    has_key = (workspace.root / "annotator.key").exists()
    key = None
    if options.hash_annotators:
        key = existing_key(workspace) if has_key else secrets.token_bytes(32)
    with tempfile.TemporaryDirectory(prefix="winnow-preview-") as folder:
        found = options.sources(sources, Path(folder))
        previews = []
        with progress("dry run", total=sum(num_kilobytes(each) for each in found), unit="kB") as advance:
            for source in found:
                rows: list[dict[str, Any]] = []

                def keep(batch: ParsedBatch, rows: list[dict[str, Any]] = rows) -> None:
                    missing = PREVIEW_ROWS - len(rows)
                    if missing > 0:
                        frame = pl.DataFrame(batch.judgments.select(_SHOWN))
                        rows += frame.sort("source_row", maintain_order=True).head(missing).to_dicts()

                tally = read_file(source, settings, key=key, folder=Path(folder), advance=advance, use=keep)
                allowed = options.allowed_share(source, settings)
                previews.append(Preview(source, tally, rows, allowed, options.hash_annotators and not has_key))
        return previews
