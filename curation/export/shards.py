"""A stream of pairs, already in order, cut into shards of a fixed number of rows for each split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.enums import Split


@dataclass(frozen=True)
class Shard:
    """Pairs of one split that go into one file."""

    split: Split
    number: int
    pairs: pa.Table

    def path(self, suffix: str) -> str:
        """File name, such as ``train-00000.parquet``."""
        return f"{self.split}-{self.number:05d}.{suffix}"


def cut(batches: Iterable[pa.RecordBatch], *, shard_rows: int) -> Iterator[Shard]:
    """Shards of exactly ``shard_rows`` rows, the last of a split shorter; how the input is batched does not matter.

    Args:
        batches: pairs in their final order, with a ``split`` column, which the shards no longer have.
        shard_rows: rows of a shard.
    """
    waiting: dict[Split, list[pa.Table]] = {split: [] for split in Split}
    numbers = dict.fromkeys(Split, 0)
    for batch in batches:
        table = pa.Table.from_batches([batch])
        for split in Split:
            part = table.filter(pc.equal(table["split"], split.value)).drop_columns(["split"])
            if part.num_rows:
                waiting[split].append(part)
            while sum(each.num_rows for each in waiting[split]) >= shard_rows:
                whole = pa.concat_tables(waiting[split])
                yield Shard(split, numbers[split], whole.slice(0, shard_rows).combine_chunks())
                numbers[split] += 1
                waiting[split] = [whole.slice(shard_rows)]
    for split in Split:
        rest = [each for each in waiting[split] if each.num_rows]
        if rest:
            yield Shard(split, numbers[split], pa.concat_tables(rest).combine_chunks())
