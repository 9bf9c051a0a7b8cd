"""Imports go one way: flows -> {curation, warehouse, training} -> schemas."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"schemas", "curation", "warehouse", "training", "flows"}
MAY_IMPORT = {
    "schemas": set(),
    "curation": {"schemas"},
    "warehouse": {"schemas"},
    "training": {"schemas"},
    "flows": {"schemas", "curation", "warehouse", "training"},
}
SCHEMAS_THIRD_PARTY = {"pydantic", "pandera", "polars"}  # pandera's contracts are written with polars dtypes


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: relative import")
    return found


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {other}"
        for path in files
        for other in imported_packages(path) & (ROOMS | {"tests"})
        if other != room and other not in MAY_IMPORT[room]
    }
    assert wrong == set()


def test_contracts_need_only_the_standard_library_and_their_validators() -> None:
    allowed = set(sys.stdlib_module_names) | SCHEMAS_THIRD_PARTY | {"schemas", "__future__"}
    for path in sorted((ROOT / "schemas").rglob("*.py")):
        assert imported_packages(path) <= allowed, path
