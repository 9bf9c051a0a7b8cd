"""Hints can be typed as they stand: they name the workspace that the user named."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app, main
from flows.hints import given_workspace, hint
from flows.workspace import Workspace


def test_every_command_in_a_hint_gets_the_workspace() -> None:
    said = hint("winnow ingest, then winnow diagnose", Path("my set"))
    assert said == "winnow ingest -w 'my set', then winnow diagnose -w 'my set'"


def test_hints_that_need_none_stay() -> None:
    for text in ("winnow init x", "winnow ingest -w other FILE", "Winnow curates"):
        assert hint(text, Path("w")) == text
    assert hint("winnow curate", Path()) == "winnow curate"


@pytest.mark.parametrize("arguments", [["-w", "w"], ["--workspace", "w"], ["--workspace=w"]])
def test_the_workspace_is_read_off_the_command_line(arguments: list[str]) -> None:
    assert given_workspace(["curate", *arguments, "--dry-run"]) == Path("w")
    assert given_workspace(["curate"]) == Path()
    assert given_workspace(["curate", "-w"]) == Path()


def test_an_error_carries_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Workspace.create(tmp_path / "w").root
    for command in (["export"], ["diff"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "-w", str(root)])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.strip() == f"error: nothing is curated yet; winnow curate -w {root}"


def test_what_commands_print_can_be_typed(tmp_path: Path) -> None:
    root = tmp_path / "my set"
    made = CliRunner().invoke(app, ["init", str(root)])
    assert made.stdout.strip() == f"{root} is ready; next: winnow ingest -w {shlex.quote(str(root))} FILE"
    listed = CliRunner().invoke(app, ["annotators", "-w", str(root)])
    assert f'winnow sql -w {shlex.quote(str(root))} "select annotator_id, tie_rate' in listed.stdout
    (line,) = [line for line in listed.stdout.splitlines() if "winnow sql" in line]
    typed = shlex.split(line.partition("winnow ")[2])
    assert CliRunner().invoke(app, typed).exit_code == 0
