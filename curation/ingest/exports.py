"""Exports among the files of a folder: their shards are data; manifest, data card and recipes are not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from curation.export import manifest
from schemas.errors import SourceError

_HEAD = re.compile(rb'\s*\{\s*"format"\s*:\s*"' + manifest.FORMAT.encode() + rb'["/]')
_HEAD_BYTES = 1024


def with_splits(files: Sequence[Path]) -> dict[Path, str | None]:
    """Files that hold data, and the split that an export's manifest gives them; None for files of no export.

    Args:
        files: every file of a folder that could be data, the manifests among them.

    Raises:
        SourceError: an export lacks a file that its manifest names, or has no pairs.
        ExportError: a manifest is broken, or of a version that this Winnow does not know.
    """
    kept: dict[Path, str | None] = dict.fromkeys(files)
    for path in files:
        if path.name == manifest.FILE_NAME and _is_of_export(path):
            shards = _shards(path.parent)
            missing = [shard for shard in shards if shard not in kept]
            if missing:
                raise SourceError(f"{missing[0]} is missing, which {path} names", mend="export again")
            for each in files:
                if each.is_relative_to(path.parent) and each not in shards:
                    del kept[each]
            kept |= shards
    return kept


def _is_of_export(path: Path) -> bool:
    """Whether a ``manifest.json`` is one of ours; other programs write files of this name too, some of them data."""
    with path.open("rb") as stream:
        return _HEAD.match(stream.read(_HEAD_BYTES)) is not None


def _shards(folder: Path) -> dict[Path, str | None]:
    shards = {folder / file["path"]: file["split"] for file in manifest.read(folder)["files"] if file["split"]}
    if not shards:
        raise SourceError(f"the export {folder} has no pairs", mend="export a set that has some")
    return shards
