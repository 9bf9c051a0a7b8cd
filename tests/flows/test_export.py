"""``winnow export`` on a small generated lake."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from flows.stages.curate import curate
from flows.stages.export import export
from flows.stages.versions import restore
from flows.workspace import Workspace
from schemas.errors import ExportError
from tests.generated_lake import REFERENCE_ID, fill
from training.export_folder import ExportFolder

NUM_PAIRS = 900
SETTINGS = '[export]\nshard_rows = 250\nlicence = "MIT"\n[export.source_licences]\nmade = "CC0"\n'


def curated(root: Path) -> Workspace:
    Workspace.create(root)
    (root / "winnow.toml").write_text(SETTINGS, encoding="utf-8")
    workspace = Workspace.open(root)
    with workspace.lake() as lake:
        fill(lake, num_pairs=NUM_PAIRS)
    curate(workspace, rules="dpo-safe")
    return workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return curated(tmp_path_factory.mktemp("export") / "workspace")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_the_export_holds_the_training_set(workspace: Workspace, tmp_path: Path) -> None:
    report = export(workspace, target=tmp_path / "set")
    rows = pl.read_parquet(tmp_path / "set" / "*.parquet").sort("pair_id")
    with workspace.lake(read_only=True) as lake:
        columns = ", ".join(rows.columns)
        expected = lake.frame(f"select {columns} from mart.training_set order by pair_id")
    assert rows.equals(expected)
    assert report.facts["num_pairs"] == rows.height == report.facts["num_train"] + report.facts["num_test"]


def test_the_manifest_says_where_the_set_comes_from(workspace: Workspace, tmp_path: Path) -> None:
    report = export(workspace, target=tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["curation_run_id"] == report.facts["curation_run_id"]
    assert manifest["rules"]["name"] == "dpo-safe"
    assert manifest["reference"]["reference_id"] == REFERENCE_ID
    assert manifest["reference"]["adapter"] is None  # the trainer refuses to start from one
    assert manifest["licence"] == "MIT"
    assert manifest["sources"] == [{"source": "made", "licence": "CC0", "num_pairs": report.num_changed}]
    assert len([file for file in manifest["files"] if file["split"] == "train"]) > 2


@pytest.mark.slow
def test_a_set_is_named_by_its_decisions_and_the_run_that_repeats_them_is_said(tmp_path: Path) -> None:
    made = curated(tmp_path / "repeated")
    first = curate(made, rules="minimal")
    assert not any("decides as" in line for line in export(made, target=tmp_path / "once").lines)
    curate(made, rules="dpo-safe")
    again = restore(made, str(first.run_id))
    assert again.run_id == f"{first.run_id}-2"
    report = export(made, target=tmp_path / "twice")
    assert f"{again.run_id} decides as {first.run_id} did, whose name the set has." in report.lines
    assert report.facts["curation_run_id"] == again.run_id
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")


def test_the_trainer_opens_it_and_checks_its_hashes(workspace: Workspace, tmp_path: Path) -> None:
    report = export(workspace, target=tmp_path / "set")
    assert ExportFolder.open(tmp_path / "set").export_id == report.facts["export_id"]
    shard = tmp_path / "set" / "train-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ExportError, match=r"train-00000\.parquet does not match its manifest"):
        ExportFolder.open(tmp_path / "set")


def test_no_prompt_group_is_in_both_splits(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, target=tmp_path / "set")
    train, test = (
        set(pl.read_parquet(tmp_path / "set" / f"{s}-*.parquet")["prompt_group_id"]) for s in ("train", "test")
    )
    assert train
    assert test
    assert not train & test


@pytest.mark.slow
def test_a_second_export_of_the_same_set_writes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    first = export(workspace, target=tmp_path / "set")
    with workspace.lake(read_only=True) as lake:
        before = lake.snapshot_id()
    again = export(workspace, target=tmp_path / "set")
    with workspace.lake(read_only=True) as lake:
        assert lake.snapshot_id() == before
    assert again.run_id is None
    assert again.facts == first.facts


@pytest.mark.slow
def test_another_workspace_and_another_file_layout_give_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    other = curated(tmp_path / "other")
    with other.lake() as lake:
        for table in ("responses", "pair_estimates", "reference_scores"):

            def scatter(con: object, table: str = table) -> None:
                lake.con.execute(f"create temp table old as select * from raw.{table} order by hash(run_id, rowid)")
                lake.con.execute(f"delete from raw.{table}")
                for part in range(3):
                    lake.con.execute(f"insert into raw.{table} select * from old where rowid % 3 = {part}")
                lake.con.execute("drop table old")

            lake.transact(f"scatter {table}", scatter)
    first = export(workspace, target=tmp_path / "one")
    second = export(other, target=tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert first.facts["export_id"] == second.facts["export_id"]


def test_only_an_export_may_be_replaced(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    with pytest.raises(ExportError, match="is not empty and not an export"):
        export(workspace, target=tmp_path / "notes")
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep me"


def test_nothing_to_export_before_curation(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"nothing is curated yet \(winnow curate\)"):
        export(Workspace.create(tmp_path / "new"))


@pytest.mark.slow
def test_a_set_without_held_out_pairs_is_warned_of(workspace: Workspace, tmp_path: Path) -> None:
    few = Workspace.create(tmp_path / "few")
    with few.lake() as lake:
        fill(lake, num_pairs=3)
    curate(few, rules="minimal")
    lines = export(few).lines
    assert [line for line in lines if "held out:" in line] == [
        "Warning: no pair is held out: export.test_share is 0.1, and there are few groups of prompts;"
        " raise it to hold some out."
    ]
    assert not [line for line in export(workspace, target=tmp_path / "set").lines if "Warning" in line]


def test_an_unknown_format_is_named(workspace: Workspace) -> None:
    with pytest.raises(ExportError, match=r"no export format 'winow' \(did you mean winnow\?\)"):
        export(workspace, format="winow")
