"""A file that changed since it was ingested under the same name: what of it is new, and what it no longer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from warehouse.judgments import num_judgments_of


@dataclass(frozen=True)
class EarlierVersion:
    """A source that the lake knew already.

    Attributes:
        source: its name.
        num_known: judgments of the file that the lake had.
        num_new: judgments of the file that it had not.
        num_gone: judgments that the lake has of earlier versions and that are not in the file.
    """

    source: str
    num_known: int
    num_new: int
    num_gone: int

    @property
    def line(self) -> str:
        """One sentence for people; it says what to do where the file lost judgments."""
        said = f"{self.source} was ingested before: {self.num_known:,} of its judgments known, {self.num_new:,} new"
        if not self.num_gone:
            return said
        return (
            f"{said}; {self.num_gone:,} of before are not in this file any more and stay in the lake"
            " (to leave them out, ingest it into a new workspace; if it is another set, with --source-name)"
        )


def judgments_before(con: duckdb.DuckDBPyConnection, sources: Sequence[str]) -> dict[str, int]:
    """How many judgments the lake has of those of the sources that were ingested before."""
    found = con.execute(
        "select distinct source from raw.source_files where list_contains($sources, source)", {"sources": list(sources)}
    ).fetchall()
    known = [name for (name,) in found]
    return dict.fromkeys(known, 0) | num_judgments_of(con, known) if known else {}


def earlier_versions(
    con: duckdb.DuckDBPyConnection, before: Mapping[str, int], run_id: str, num_judgments: Mapping[str, int]
) -> list[EarlierVersion]:
    """What a run found of sources that were ingested before.

    Args:
        before: judgments of each in the lake before the run.
        run_id: the run, whose judgments are inserted.
        num_judgments: judgments of each in its file.
    """
    if not before:
        return []
    new = num_judgments_of(con, list(before), run_id=run_id)
    return [
        EarlierVersion(source, known := num_judgments[source] - new.get(source, 0), new.get(source, 0), held - known)
        for source, held in sorted(before.items())
    ]
