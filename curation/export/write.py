"""Write an export: shards in a layout, a data card, a manifest; all of it in one folder that appears at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from curation.export import manifest
from curation.export.folder import appearing
from curation.export.formats.layout import Layout
from curation.export.shards import cut
from schemas.enums import Split


@dataclass(frozen=True)
class Written:
    """An export that was written."""

    export_id: str
    manifest_hash: str
    counts: dict[str, int]


def write_export(
    target: Path,
    pairs: Iterable[pa.RecordBatch],
    *,
    layout: Layout,
    provenance: manifest.Provenance,
    shard_rows: int,
    card: Callable[[Path, dict[str, int]], Sequence[str]],
    advance: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write pairs as an export.

    Args:
        target: folder that appears; an earlier export there is replaced.
        pairs: batches with :data:`curation.export.formats.winnow.COLUMNS` and ``split``, in their final order.
        layout: columns and kind of the files.
        provenance: for the manifest.
        shard_rows: rows of a file.
        card: writes the data card and its plots into the folder, given the rows of each split; returns their paths.
        advance: called with the number of pairs after each shard.

    Raises:
        ExportError: ``target`` holds something other than an export.
    """
    with appearing(target) as folder, duckdb.connect() as con:
        files: list[manifest.ExportedFile] = []
        for shard in cut(pairs, shard_rows=shard_rows):
            path = str(Path(layout.folder.format(split=shard.split)) / shard.path(layout.suffix))
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            layout.write(con, shard.pairs, folder / path)
            files.append(manifest.ExportedFile.of(folder, path, num_rows=shard.pairs.num_rows, split=shard.split))
            advance(shard.pairs.num_rows)
        counts = {split.value: sum(f.num_rows or 0 for f in files if f.split is split) for split in Split}
        extra = layout.extra([split for split in Split if counts[split]]) if layout.extra else {}
        for name, text in extra.items():
            (folder / name).write_text(text, encoding="utf-8")
        files += [manifest.ExportedFile.of(folder, path) for path in [*extra, *card(folder, counts)]]
        content: dict[str, Any] = manifest.build(provenance, files, layout=layout.name)
        manifest_hash = manifest.write(folder, content)
    return Written(content["export_id"], manifest_hash, counts)
