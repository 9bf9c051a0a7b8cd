"""Pages that are made from the code, so that they cannot disagree with it: ``python -m flows.documentation``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flows.settings import Settings
from warehouse.sql_files import sql_files

DOCS = Path(__file__).resolve().parents[1] / "docs"


def settings_page() -> str:
    """Every key of ``winnow.toml`` with its type, default and meaning, as Markdown."""
    lines = [
        "# Settings",
        "",
        "`winnow.toml` in the workspace. Every key has a default, unknown keys are refused, and what ran is saved in",
        "full with the run. This page is made from the code by `python -m flows.documentation`.",
    ]
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is None:
            raise AssertionError(f"{name} is not a section")
        lines += _section_page(name, section)
    return "\n".join([*lines, ""])


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a nested table, which may be absent; None for a single value."""
    kinds = get_args(field.annotation) or (field.annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _section_page(name: str, section: type[BaseModel]) -> list[str]:
    nested = {key: inner for key, field in section.model_fields.items() if (inner := _section(field)) is not None}
    lines = ["", f"## [{name}]", "", (section.__doc__ or "").strip().splitlines()[0], ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [_row(key, field) for key, field in section.model_fields.items() if key not in nested]
    for key, inner in nested.items():
        lines += _section_page(f"{name}.{key}", inner)
    return lines


def _row(key: str, field: FieldInfo) -> str:
    if not field.description:
        raise AssertionError(f"the setting {key} has no description")
    kind = str(field.annotation) if not isinstance(field.annotation, type) else field.annotation.__name__
    kind = kind.replace("typing.", "").replace("pathlib.", "").replace("|", "or")
    return f"| `{key}` | {kind} | {_default(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    return "none" if value is None else f"`{value!r}`"


def columns_page() -> str:
    """Every column of every mart with its unit and meaning, from the headers of the SQL files, as Markdown."""
    lines = [
        "# Columns of the marts",
        "",
        "The public contract of the warehouse: what `winnow sql` and rules can name, and `mart.columns` in SQL.",
        "This page is made from the headers in `warehouse/sql/mart` by `python -m flows.documentation`.",
    ]
    for file in sorted(sql_files("mart"), key=lambda file: file.name):
        lines += ["", f"## mart.{file.name}", "", f"{file.grain[0].upper()}{file.grain[1:]}.", ""]
        lines += ["| column | unit | meaning |", "|---|---|---|"]
        lines += [
            f"| `{column.name}` | {column.unit or ''} | {column.meaning.replace('|', chr(92) + '|')} |"
            for column in file.columns
        ]
    return "\n".join([*lines, ""])


PAGES = {"settings.md": settings_page, "columns.md": columns_page}
"""File name under ``docs/`` and the function that makes it."""


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
