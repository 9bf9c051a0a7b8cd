"""A layout: how the pairs of an export look in its files, as SQL over the pairs and a kind of file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.enums import Split

MESSAGES = """from_json(prompt, '[{"role": "VARCHAR", "content": "VARCHAR"}]')"""
"""The prompt as a list of messages."""

CHOSEN = "{'role': 'assistant', 'content': chosen}"
REJECTED = "{'role': 'assistant', 'content': rejected}"

CARRIES = ("weight", "soft_label", "objective", "reference_logps", "criterion", "source")
"""What a layout may or may not have room for, besides prompt, chosen and rejected."""

ROW_GROUP_ROWS = 10_000
"""Rows of a Parquet row group: small enough that a reader of few rows reads little text."""


@dataclass(frozen=True)
class Layout:
    """One ``--format``.

    Attributes:
        name: as the command line calls it.
        suffix: kind of file: Parquet, one JSON object a line, or one JSON array.
        select: columns of a row, as the select list of a query over the pairs.
        loses: which of :data:`CARRIES` it has no room for.
        folder: folder of the data files inside the export; ``{split}`` in it stands for train or test.
        extra: further files (recipes, registries) by name; given the splits that have pairs.
    """

    name: str
    suffix: Literal["parquet", "jsonl", "json"]
    select: str
    loses: tuple[str, ...] = ()
    folder: str = ""
    extra: Callable[[Sequence[Split]], Mapping[str, str]] | None = None

    def pattern(self, split: Split) -> str:
        """Glob of the files of a split, inside the export."""
        return str(Path(self.folder.format(split=split)) / f"{split}-*.{self.suffix}")

    def write(self, con: duckdb.DuckDBPyConnection, pairs: pa.Table, path: Path) -> None:
        """Write the pairs of one shard into one file."""
        con.register("pairs", pairs)
        try:
            if self.suffix == "parquet":
                _write_parquet(con.execute(f"select {self.select} from pairs").to_arrow_table(), path)
            else:
                array = "true" if self.suffix == "json" else "false"
                target = str(path).replace("'", "''")
                con.execute(f"copy (select {self.select} from pairs) to '{target}' (format json, array {array})")
        finally:
            con.unregister("pairs")


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(
        table, path, row_group_size=ROW_GROUP_ROWS, compression="zstd", use_dictionary=_dictionary_columns(table)
    )


def _dictionary_columns(table: pa.Table) -> list[str]:
    """Columns with few distinct values; texts and ids only pay for the attempt."""
    few = {"criterion", "source", "objective", "weight", "soft_label", "prompt_group_id", "prompt_id", "prompt"}
    return [name for name in table.column_names if name in few]
