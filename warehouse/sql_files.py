"""The SQL files of the lake: one table or view a file, the folder is the schema, the header is the contract."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Literal

SCHEMAS: tuple[Literal["raw"], Literal["model"], Literal["mart"]] = ("raw", "model", "mart")

_HEADER_LINE = re.compile(r"^-- (?P<name>\w+)(?: \[(?P<unit>[^\]]+)\])?: (?P<meaning>.+)$")


@dataclass(frozen=True)
class Column:
    """A column's contract, from the header of its SQL file."""

    name: str
    unit: str | None
    meaning: str


@dataclass(frozen=True)
class SqlFile:
    """One file of ``warehouse/sql``: ``raw`` files create a table, ``model`` and ``mart`` files are a view's query."""

    schema: str
    name: str
    text: str

    @property
    def full_name(self) -> str:
        """Schema and name, as SQL writes it."""
        return f"{self.schema}.{self.name}"

    @property
    def sql_hash(self) -> str:
        """Hash of the whole file, so that a changed header replaces the view too."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def _header(self) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for line in self.text.splitlines():
            if not line.startswith("--"):
                break
            match = _HEADER_LINE.match(line)
            if match is None:
                raise AssertionError(f"{self.full_name}: header line is not '-- name [unit]: meaning': {line!r}")
            columns[match["name"]] = Column(match["name"], match["unit"], match["meaning"])
        return columns

    @property
    def grain(self) -> str:
        """What one row is."""
        return self._header["grain"].meaning

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column in the header's order."""
        return tuple(column for name, column in self._header.items() if name != "grain")

    @property
    def body(self) -> str:
        """The SQL without its header and closing semicolon."""
        lines = self.text.splitlines()
        start = next(i for i, line in enumerate(lines) if not line.startswith("--"))
        return "\n".join(lines[start:]).strip().removesuffix(";")

    def body_at(self, snapshot_id: int) -> str:
        """The SQL over the tables as they were at a snapshot; for a view that reads tables only."""
        return re.sub(r"\braw\.(\w+)", rf"(select * from raw.\1 at (version => {int(snapshot_id)}))", self.body)

    def reads(self, other: SqlFile) -> bool:
        """Whether this view's query names the other one."""
        return re.search(rf"\b{other.schema}\.{other.name}\b", self.body) is not None


def sql_files(schema: str) -> list[SqlFile]:
    """All files of one schema by name; views come after the views of the same schema that they read."""
    folder = files("warehouse") / "sql" / schema
    found = [
        SqlFile(schema, entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    ]
    ordered: list[SqlFile] = []
    while found:
        ready = [f for f in found if not any(f.reads(other) for other in found if other is not f)]
        if not ready:
            raise AssertionError(f"views of {schema} read one another in a circle: {[f.name for f in found]}")
        ordered += ready
        found = [f for f in found if f not in ready]
    return ordered
