"""``manifest.json``: what an export holds and where it comes from. No clock and no chance: equal sets, equal bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.enums import Split
from schemas.errors import ExportError

FORMAT = "winnow-export"
VERSION = 1
FILE_NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Provenance:
    """Where the pairs of an export come from.

    Attributes:
        curation_run_id: decisions that it holds, by their content: a restored run has the id of the run it repeats.
        rules: name, sha256, objective and beta of the rules.
        reference: identity of the reference policy and of the engine that scored; None where nothing is scored.
        sources: name, licence (or None) and number of pairs of every source, by name.
        licence: licence of the set as a whole.
        splits: test_share and seed.
    """

    curation_run_id: str
    rules: Mapping[str, Any]
    reference: Mapping[str, Any] | None
    sources: tuple[Mapping[str, Any], ...]
    licence: str | None
    splits: Mapping[str, Any]


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export; the data card has no rows and no split."""

    path: str
    sha256: str
    num_rows: int | None
    split: Split | None

    @classmethod
    def of(cls, folder: Path, path: str, *, num_rows: int | None = None, split: Split | None = None) -> ExportedFile:
        """Hash a file that was written."""
        return cls(path, sha256_of(folder / path), num_rows, split)


def build(provenance: Provenance, files: list[ExportedFile], *, layout: str) -> dict[str, Any]:
    """The manifest; its ``export_id`` is a hash of everything else in it.

    Args:
        provenance: where the pairs come from.
        files: every file but the manifest.
        layout: ``winnow``, ``trl``, ...: whose columns the files have.
    """
    content: dict[str, Any] = {
        "format": FORMAT if layout == "winnow" else f"{FORMAT}/{layout}",
        "version": VERSION,
        "curation_run_id": provenance.curation_run_id,
        "rules": dict(provenance.rules),
        "reference": None if provenance.reference is None else dict(provenance.reference),
        "splits": dict(provenance.splits),
        "counts": {split.value: sum(file.num_rows or 0 for file in files if file.split is split) for split in Split},
        "licence": provenance.licence,
        "sources": [dict(source) for source in provenance.sources],
        "files": [
            {"path": file.path, "sha256": file.sha256, "num_rows": file.num_rows, "split": file.split}
            for file in sorted(files, key=lambda file: file.path)
        ],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {"format": content.pop("format"), "version": content.pop("version"), "export_id": digest[:32], **content}


def write(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Write ``manifest.json``; returns its SHA-256."""
    path = folder / FILE_NAME
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return sha256_of(path)


def read(folder: Path) -> dict[str, Any]:
    """Read and check ``manifest.json``.

    Raises:
        ExportError: there is none, or it is of another format or version.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise ExportError(f"{folder} is not an export: it holds no {FILE_NAME}", mend="winnow export DIR")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not JSON: {error}", mend="export again") from error
    if not isinstance(manifest, dict) or not str(manifest.get("format")).startswith(FORMAT):
        raise ExportError(f"{path} is not the manifest of an export", mend="winnow export DIR")
    if manifest.get("version") != VERSION:
        raise ExportError(f"{path} has version {manifest.get('version')}, this Winnow reads {VERSION}")
    return manifest


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
