"""The documentation names every command, and the pages that are made from code are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from flows.cli import app
from flows.documentation import DOCS, PAGES

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_made_from_code_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run: python -m flows.documentation"


def test_the_readme_names_every_command_and_no_other() -> None:
    commands = set(typer.main.get_command(app).commands)
    named = set(re.findall(r"^\| `winnow ([a-z-]+)` \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert named == commands
