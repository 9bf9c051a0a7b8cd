"""The train stage: a checkpoint that loads, its run in the lake, and nothing written twice."""

# ruff: noqa: F811
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from flows.stages.train import _bar, _warn, train
from flows.workspace import Workspace
from schemas.errors import ConfigError, ExportError
from tests.training.conftest import hh_export, hh_rows, tiny_en, tokenizer  # noqa: F401
from tests.training.export_fixture import write_export


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "winnow.toml").write_text(
        "[train]\nlearning_rate = 5e-4\nbatch_size = 4\ntoken_budget = 600\nreport_to = []\nlr_schedule = 'constant'\n"
    )
    return Workspace.create(tmp_path / "w")


@pytest.mark.slow
def test_trains_writes_the_lake_and_a_model_that_loads(
    workspace: Workspace,
    hh_export: Path,
    tiny_en: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    report = train(workspace, export=hh_export, objective="dpo", max_steps=3)
    assert "Loading weights" not in capfd.readouterr().err.rpartition("encode")[2]
    before, after = report.facts["metrics"]["before"], report.facts["metrics"]["after"]
    assert before["relative_accuracy"] < 1
    assert before["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert after["loss"] != before["loss"]
    assert report.facts["num_steps"] == 3
    assert (report.facts["num_seen"], report.facts["num_train"]) == (12, 16)
    assert report.lines[0].startswith("dpo, 3 steps on 12 of 16 pairs: loss ")
    shares = [100 * metrics["absolute_accuracy"] for metrics in (before, after)]
    assert ", absolute accuracy {:.1f} -> {:.1f} %, ".format(*shares) in report.lines[0]
    with workspace.lake(read_only=True) as lake:
        assert lake.frame("select objective, export_id from raw.training_runs").rows() == [
            ("dpo", json.loads((hh_export / "manifest.json").read_text())["export_id"])
        ]
        margins = lake.frame("select * from raw.training_margins")
        assert len(margins) == 8
        share = lake.value("select avg((policy_margin > 0)::int) from raw.training_margins")
        assert share == pytest.approx(after["absolute_accuracy"])
        steps = lake.frame("select distinct step, phase from raw.training_metrics order by all").rows()
        assert steps == [(0, "eval"), (0, "train"), (1, "train"), (2, "train"), (3, "eval"), (3, "train")]
        assert lake.frame("select facts ->> 'num_seen' from raw.runs where stage = 'train'").rows() == [("12",)]
        message = lake.value("select commit_message from ducklake_snapshots('lake') order by snapshot_id desc limit 1")
        assert message == report.run_id
    model = AutoModelForCausalLM.from_pretrained(report.facts["checkpoint"], dtype=torch.float32)
    start = AutoModelForCausalLM.from_pretrained(tiny_en, dtype=torch.float32)
    assert not torch.equal(model.lm_head.weight, start.lm_head.weight)
    card = (Path(report.facts["checkpoint"]) / "README.md").read_text()
    assert "dpo" in card
    assert "- trained on 12 of 16 pairs, 8 held out;" in card
    assert report.facts["export_id"] in card
    assert "| absolute accuracy | {:.1f} | {:.1f} | % |".format(*shares) in card


@pytest.mark.slow
def test_a_second_call_writes_nothing(workspace: Workspace, hh_export: Path) -> None:
    first = train(workspace, export=hh_export, objective="cpo", max_steps=1)
    with workspace.lake(read_only=True) as lake:
        snapshot = lake.snapshot_id()
    second = train(workspace, export=hh_export, objective="cpo", max_steps=1)
    assert second.run_id is None
    assert second.facts["metrics"] == first.facts["metrics"]
    assert "nothing new" in second.lines[0]
    assert first.lines[0].endswith(f": {second.lines[1]}")  # the figures
    with workspace.lake(read_only=True) as lake:
        assert lake.snapshot_id() == snapshot
    other = train(workspace, export=hh_export, objective="cpo_clip", max_steps=1)
    assert other.run_id is not None


def rows_of(workspace: Workspace, table: str) -> list[tuple[Any, ...]]:
    columns = "* exclude (run_id, started_at, ended_at)" if table == "training_runs" else "*"
    with workspace.lake(read_only=True) as lake:
        return lake.frame(f"select {columns} from raw.{table} order by all").rows()


@pytest.mark.slow
def test_a_model_whose_figures_did_not_reach_the_lake_is_not_trained_again(
    workspace: Workspace, hh_export: Path
) -> None:
    """As if the process had been killed between the two: its rows are gone, its folder is whole."""
    tables = ("training_runs", "training_metrics", "training_margins")
    first = train(workspace, export=hh_export, objective="dpo", max_steps=1)
    weights = Path(first.facts["checkpoint"]) / "model.safetensors"
    written, before = weights.stat().st_mtime_ns, [rows_of(workspace, table) for table in tables]
    with workspace.lake() as lake:
        for table in tables:
            lake.con.execute(f"delete from raw.{table}")
    again = train(workspace, export=hh_export, objective="dpo", max_steps=1)
    assert weights.stat().st_mtime_ns == written
    assert [rows_of(workspace, table) for table in tables] == before
    assert again.facts == first.facts
    assert "the model was whole already" in again.lines[-1]


@pytest.mark.slow
def test_a_model_that_an_older_winnow_made_lacks_what_that_one_did_not_count(
    workspace: Workspace, hh_export: Path
) -> None:
    """Its folder is whole and not in the lake; that it does not say how many pairs were seen stops nothing."""
    first = train(workspace, export=hh_export, objective="dpo", max_steps=1)
    file = Path(first.facts["checkpoint"]) / "winnow_metrics.json"
    figures = json.loads(file.read_text())
    del figures["counts"]["seen"]
    file.write_text(json.dumps(figures))
    with workspace.lake() as lake:
        lake.con.execute("delete from raw.training_runs")
    again = train(workspace, export=hh_export, objective="dpo", max_steps=1)
    assert again.facts == {name: value for name, value in first.facts.items() if name != "num_seen"}
    assert "dpo, 1 step on 4 of 16 pairs: " in first.lines[0]
    assert "dpo, 1 step with 16 pairs to train on: " in again.lines[0]
    assert "the model was whole already" in again.lines[-1]


@pytest.mark.slow
def test_a_slice_without_a_name_is_not_the_whole(
    workspace: Workspace, hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Held-out pairs without source, and of one that is called all, stand beside the whole and not in its place."""
    held = [
        {**row, "source": source} for row, source in zip(hh_rows[4:10], [None, None, "all", "s", "s", "s"], strict=True)
    ]
    export = write_export(tmp_path / "sliced", hh_rows[:4], held, model=tiny_en, tokenizer=tokenizer)
    report = train(workspace, export=export, objective="dpo", max_steps=1, slice_by="source")
    query = (
        "select slice, value from raw.training_metrics where metric = 'policy_margin' and phase = 'eval' and step = 1"
    )
    with workspace.lake(read_only=True) as lake:
        found = dict(lake.frame(query).rows())
        trained = lake.frame(
            "select distinct slice from raw.training_metrics where phase = 'train' and metric = 'loss'"
        )
    assert set(found) == {"all", "(all)", "(none)", "s"}
    assert set(trained["slice"]) == {"all", "hh"}
    assert found["all"] == pytest.approx(report.facts["metrics"]["after"]["policy_margin"])
    assert 2 * found["(none)"] + found["(all)"] + 3 * found["s"] == pytest.approx(6 * found["all"])


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Under torchrun: the bars, lines and reports of one."""
    for rank, speaks in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        with _bar("encode", 2, "pairs") as advance:
            advance(2, "done")
        _warn("a line")
        captured = capfd.readouterr()
        assert ("encode" in captured.err, "a line" in captured.err) == (speaks, speaks)


def test_without_an_export_says_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(ExportError, match="winnow export"):
        train(workspace)


def test_a_parameter_of_another_objective_is_refused(workspace: Workspace, hh_export: Path) -> None:
    with pytest.raises(ConfigError, match="label_noise has no meaning for objective dpo"):
        train(workspace, export=hh_export, objective="dpo", label_noise=0.1)
