"""A mistake gives one clear line that names the thing and the mend, exit code 2, and leaves the lake as it was."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.workspace import Workspace
from tests.flows.winnow_process import winnow, winnow_here
from tests.real_data import shared

PAIR = {"prompt": "What is two and two?", "chosen": "It is four.", "rejected": "It is five."}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Workspace.create(tmp_path / "workspace").root


def snapshot(root: Path) -> int:
    with Workspace.open(root).lake(read_only=True) as lake:
        return lake.snapshot_id()


def check_refused(root: Path, *arguments: str | Path, names: str, run: Any = winnow_here) -> None:
    before = snapshot(root)
    done = run(*arguments)
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert names in lines[0]
    assert ";" in lines[0], "the line does not say how to mend it"
    assert "Traceback" not in done.stderr
    assert snapshot(root) == before


def test_a_missing_file(root: Path) -> None:
    check_refused(root, "ingest", "-w", root, "nowhere.jsonl", names="nowhere.jsonl")


def test_an_unknown_format(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIR) + "\n")
    check_refused(root, "ingest", "-w", root, file, "--format", "xml", names="xml")


def test_a_corrupt_gzip(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl.gz"
    file.write_bytes(gzip.compress((json.dumps(PAIR) + "\n").encode() * 1000)[:60])
    check_refused(root, "ingest", "-w", root, file, names="pairs.jsonl.gz")


def test_a_json_line_that_is_not_an_object(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("[1, 2]\n")
    check_refused(root, "ingest", "-w", root, file, "--format", "trl", names="pairs.jsonl")


def test_a_file_without_rows(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n")
    check_refused(root, "ingest", "-w", root, file, "--format", "hh", names="pairs.jsonl is empty")


def test_a_line_that_is_nested_beyond_reason(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"chosen":' + "[" * 5000 + "]" * 5000 + "}\n")
    check_refused(root, "ingest", "-w", root, file, names="pairs.jsonl")


def test_a_pair_without_a_prompt(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"prompt": None, "chosen": "yes", "rejected": "no"}) + "\n")
    check_refused(root, "ingest", "-w", root, file, "--format", "trl", names="pairs.jsonl")


def test_a_model_folder_without_tokenizer(root: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(shared("models/tiny-en") / name, model / name)
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIR) + "\n")
    assert winnow_here("ingest", "-w", root, file).returncode == 0
    check_refused(root, "score", "-w", root, "--model", model, names="tokenizer")


@pytest.mark.slow
def test_a_model_that_is_not_there(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIR) + "\n")
    assert winnow_here("ingest", "-w", root, file).returncode == 0
    check_refused(root, "score", "-w", root, "--model", tmp_path / "none", names="none")


def test_a_workspace_of_another_version(root: Path) -> None:
    with Workspace.open(root).lake() as lake:
        lake.transact("age", lambda con: con.execute("update raw.workspace set version = 99"))
    done = winnow_here("sql", "-w", root, "select 1")
    assert done.returncode == 2
    assert "error: the workspace has layout version 99" in done.stderr


def test_a_folder_that_is_no_workspace(tmp_path: Path) -> None:
    done = winnow_here("score", "-w", tmp_path, "--model", "x")
    assert done.returncode == 2
    assert f"error: {tmp_path} is not a Winnow workspace; winnow init {tmp_path}" in done.stderr


def test_an_unknown_setting(root: Path) -> None:
    (root / "winnow.toml").write_text("[lake]\ncatalogue = 'x'\n")
    done = winnow_here("sql", "-w", root, "select 1")
    assert done.returncode == 2
    assert f"error: {root / 'winnow.toml'}: lake.catalogue: unknown key, did you mean catalog?" in done.stderr


@pytest.mark.slow
def test_the_main_job_passes_a_mistake_on_as_one_line(root: Path) -> None:
    arguments = ("run", "-w", root, "--source", "nowhere.jsonl", "--model", "x")
    check_refused(root, *arguments, names="nowhere.jsonl", run=winnow)
