"""An export folder as the trainer sees it: its manifest, checked hashes, and its columns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ExportError

FORMAT = "winnow-export"
VERSION = 1

COLUMNS = {
    "pair_id": pa.string(),
    "prompt_id": pa.string(),
    "criterion": pa.string(),
    "prompt": pa.string(),
    "chosen": pa.string(),
    "rejected": pa.string(),
    "reference_chosen_logps": pa.float64(),
    "reference_rejected_logps": pa.float64(),
    "weight": pa.float64(),
    "soft_label": pa.float64(),
    "objective": pa.string(),
    "source": pa.string(),
}
"""The columns that training reads, with their types; the folder holds more."""


@dataclass(frozen=True)
class ExportFolder:
    """An export whose files are there and match its manifest.

    Attributes:
        path: the folder.
        manifest: ``manifest.json``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> ExportFolder:
        """Read the manifest and check every file against it.

        Raises:
            ExportError: there is no manifest, it is of another format or version, or a file is missing or changed.
        """
        manifest = _read_manifest(path)
        for entry in manifest["files"]:
            _check_file(path, entry)
        return cls(path, manifest)

    @property
    def export_id(self) -> str:
        """Content hash of the export."""
        return str(self.manifest["export_id"])

    @property
    def reference(self) -> Mapping[str, Any] | None:
        """Reference policy whose log-probs are in the files; None where there is none."""
        return self.manifest.get("reference")

    @property
    def rules(self) -> Mapping[str, Any]:
        """Curation rules: name, hash, objective and beta."""
        return self.manifest.get("rules") or {}

    def table(self, split: str, columns: Sequence[str] = tuple(COLUMNS)) -> pa.Table:
        """Columns of one split, ``train`` or ``test``, in the order of the files.

        Raises:
            ExportError: a file lacks a column.
        """
        names = [entry["path"] for entry in self.manifest["files"] if entry["split"] == split]
        schema = pa.schema([(name, COLUMNS[name]) for name in columns])
        tables = []
        for name in names:
            try:
                found = pq.read_table(self.path / name, columns=list(columns))
                tables.append(found.select(list(columns)).cast(schema))
            except (KeyError, pa.ArrowException) as error:
                raise ExportError(
                    f"{self.path / name}: {str(error).splitlines()[0]}", mend="export again with this Winnow"
                ) from error
        return pa.concat_tables(tables) if tables else schema.empty_table()


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / "manifest.json"
    if not file.is_file():
        raise ExportError(
            f"{path} is not an export: it holds no manifest.json", mend="give the folder that winnow export wrote"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{file} is not JSON: {error}", mend="export again") from error
    found = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else None
    if found != (FORMAT, VERSION):
        raise ExportError(
            f"{file}: format and version are {found}, this Winnow trains on {(FORMAT, VERSION)}",
            mend="winnow export --format winnow",
        )
    return manifest


def _check_file(folder: Path, entry: Mapping[str, Any]) -> None:
    file = folder / str(entry["path"])
    if not file.is_file():
        raise ExportError(f"{file} is named by the manifest and missing", mend="export again")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != entry["sha256"]:
        raise ExportError(f"{file} does not match its manifest (SHA-256 {found[:12]}...)", mend="export again")
