"""Parsed batches on disk until a whole file is known to be good, so that the lake is written once, or not at all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl

from curation.ingest.parser import ParsedBatch

_JUDGMENT_COLUMNS = (
    "judgment_id", "pair_id", "prompt_id", "response_a_id", "response_b_id", "criterion", "vote",
    "is_display_order_known", "strength", "is_both_bad", "annotator_id", "annotator_kind", "annotated_at", "batch",
    "source_split", "source", "source_row", "extra",
)  # fmt: skip


class Staging:
    """A folder of Parquet files: ``judgments-*``, ``prompts-*``, ``responses-*`` and ``quarantine-*``.

    ``position`` numbers the rows of prompts and responses over all batches, so that the first of several equal ones
    can be found by numbers alone.

    Attributes:
        num_rows: rows read of all files so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_rows = 0
        self._num_batches = 0
        self._position = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, batch: ParsedBatch) -> None:
        """Write a batch's rows."""
        self.num_rows += batch.num_rows
        self._num_batches += 1
        frame = pl.DataFrame(batch.judgments)
        if frame.height:
            self._write("judgments", frame.select(_JUDGMENT_COLUMNS))
            self._write("prompts", self._numbered(_prompts(frame)))
            self._write("responses", self._numbered(_responses(frame)))
        if batch.quarantine.num_rows:
            self._write("quarantine", pl.DataFrame(batch.quarantine))

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        frame = frame.with_row_index("position", offset=self._position).cast({"position": pl.Int64})
        self._position += frame.height
        return frame

    def _write(self, kind: str, frame: pl.DataFrame) -> None:
        frame.write_parquet(self.folder / f"{kind}-{self._num_batches:06}.parquet", compression="lz4")

    def files(self, kind: str) -> list[str]:
        """Files of one kind, in order; empty where there is no row."""
        return [str(path) for path in sorted(self.folder.glob(f"{kind}-*.parquet"))]


class FileTally:
    """Counts of one file, and its commonest reasons with an example each."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.num_judgments = 0
        self.num_bad_rows = 0
        self.num_failed_rows = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, tuple[int, str, str]] = {}

    def add(self, batch: ParsedBatch) -> None:
        """Count a batch."""
        self.num_rows += batch.num_rows
        self.num_judgments += batch.judgments.num_rows
        self.num_bad_rows += batch.num_bad_rows
        self.num_failed_rows += batch.num_failed_rows
        quarantine = pl.DataFrame(batch.quarantine)
        for reason, count in quarantine.group_by("reason").len().rows():
            self.reasons[reason] += count
        for reason, row, detail, payload in (
            quarantine.unique("reason", keep="first").select("reason", "source_row", "detail", "payload").rows()
        ):
            self.examples.setdefault(reason, (row, detail, payload or ""))

    @property
    def failed_share(self) -> float:
        """Share of the rows of which at least a part is bad, and not merely useless."""
        return self.num_failed_rows / self.num_rows if self.num_rows else 0.0

    def commonest(self, number: int = 3) -> str:
        """The commonest reasons, each with its count and an example."""
        parts = []
        for reason, count in sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))[:number]:
            row, detail, payload = self.examples[reason]
            parts.append(f"{reason} ({count:,}; row {row}: {detail}: {json.dumps(payload[:80], ensure_ascii=False)})")
        return "; ".join(parts)


def _prompts(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("prompt_id", "messages", "source").unique("prompt_id", keep="first", maintain_order=True)


def _responses(frame: pl.DataFrame) -> pl.DataFrame:
    sides = [
        frame.select(
            pl.col(f"response_{side}_id").alias("response_id"),
            "prompt_id",
            pl.col(f"response_{side}").alias("text"),
            pl.col(f"model_{side}").alias("model"),
            "source",
        )
        for side in "ab"
    ]
    return pl.concat(sides).unique("response_id", keep="first", maintain_order=True)
