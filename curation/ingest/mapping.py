"""Mapping files: a short TOML that says which columns of any tabular file are which column of the long form."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping as MappingOf
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import ConfigError
from schemas.validation import first_problem


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Value(_Strict):
    """Where a column's value comes from; a bare string in TOML is a path."""

    path: str | None = Field(default=None, description='Path into the row, or into a table: "table.column"')
    constant: str | None = Field(default=None, description="The same for every row")
    template: str | None = Field(default=None, description="Text with paths in braces")
    values: dict[str, str] = Field(default_factory=dict, description="What is written in the file -> what it means")
    same_as: dict[str, str] = Field(
        default_factory=dict, description="Path whose text is repeated -> what that means; tried before values"
    )
    default: str | None = Field(default=None, description="Where the path leads to nothing")

    @model_validator(mode="after")
    def _has_one_origin(self) -> Value:
        if sum(origin is not None for origin in (self.path, self.constant, self.template)) != 1:
            raise ValueError("give exactly one of path, constant and template")
        return self


def _as_value(given: Any) -> Any:
    return {"path": given} if isinstance(given, str) else given


MaybeValue = Annotated[Value | None, BeforeValidator(_as_value)]


class Columns(_Strict):
    """Columns of the long form."""

    prompt: MaybeValue = Field(default=None, description="Text or messages; constant or default '' where there is none")
    response_a: MaybeValue = Field(default=None, description="Text or messages; shown first")
    response_b: MaybeValue = Field(default=None, description="Text or messages; shown second")
    vote: MaybeValue = Field(default=None, description="a, b, tie or both_bad, after its values are looked up")
    criterion: MaybeValue = Field(default=None, description="What was asked; 'overall' where absent")
    is_display_order_known: MaybeValue = Field(default=None, description="true or false; false where absent")
    strength: MaybeValue = Field(default=None, description="A number")
    annotator_id: MaybeValue = Field(default=None, description="Who voted")
    annotator_kind: MaybeValue = Field(default=None, description="human or model")
    annotated_at: MaybeValue = Field(default=None, description="ISO 8601, or seconds since 1970; UTC where no zone")
    batch: MaybeValue = Field(default=None, description="Batch or task")
    source_split: MaybeValue = Field(default=None, description="Split")
    model_a: MaybeValue = Field(default=None, description="What wrote response_a")
    model_b: MaybeValue = Field(default=None, description="What wrote response_b")

    def given(self) -> dict[str, Value]:
        """The columns that are given."""
        return {name: value for name in Columns.model_fields if (value := getattr(self, name)) is not None}


class Judgment(Columns):
    """One judgment of a row; its columns override those of ``[columns]``."""

    optional: bool = Field(default=False, description="A row without this vote just has no such judgment")


class Rows(Columns):
    """Files of a folder that hold judgments; its columns override those of ``[columns]``."""

    files: str = Field(description="Name or glob within the folder")
    optional: bool = Field(default=False, description="A folder without these files is of this mapping all the same")


class Table(_Strict):
    """A file of a folder that is looked up."""

    file: str = Field(description="Name or glob within the folder")
    key: str = Field(description="Its column that is looked up")
    on: str = Field(description='Path to the key in the row, or in a table above it: "table.column"')


class Detect(_Strict):
    """How a file of this format is recognised."""

    columns: tuple[str, ...] = Field(min_length=1, description="Columns that it has")
    absent: tuple[str, ...] = Field(default=(), description="Columns that it does not have")


class Mapping(_Strict):
    """A mapping file."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$", description="What --format takes")
    about: str = Field(default="", description="One line for people")
    detect: Detect | None = Field(default=None, description="How a single file is recognised")
    max_quarantined_share: float | None = Field(
        default=None, ge=0, le=1, description="Overrides ingest.max_quarantined_share, for a set known to have bad rows"
    )
    rows: tuple[Rows, ...] = Field(default=(), description="Which files of a folder hold the judgments; else all do")
    tables: dict[str, Table] = Field(default_factory=dict, description="Files that are looked up, by the name of paths")
    columns: Columns = Field(default_factory=Columns, description="Where each column of the long form comes from")
    judgment: tuple[Judgment, ...] = Field(default=(), description="Where a row has several: one entry each")


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        ConfigError: it is missing, not TOML, or has an unknown key; the message names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the mapping file {path} cannot be read: {error}", mend="check the path") from error
    return parse_mapping(text, origin=str(path))


def parse_mapping(text: str, *, origin: str) -> Mapping:
    """Parse a mapping file's text; ``origin`` names it in errors.

    Raises:
        ConfigError: as :func:`read_mapping`.
    """
    try:
        values: MappingOf[str, Any] = tomllib.loads(text)
        return Mapping.model_validate(values)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}", mend="mend that line") from error
    except ValidationError as error:
        problem = first_problem(error, Mapping)
        raise ConfigError(f"{origin}: {problem}", mend="see docs/ingest.md for every key") from error
