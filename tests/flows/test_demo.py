"""The demo from beginning to end, on a world and a policy that are very small."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows.demo import DemoResult, run_demo
from flows.demo_report import show
from flows.workspace import Workspace
from schemas.errors import WorkspaceError
from training.tiny_policy import TinyPolicySettings


def run(root: Path, *, seed: int = 0, ablations: bool = True) -> DemoResult:
    return run_demo(
        root,
        seed=seed,
        num_prompts=60,
        num_annotators=12,
        engine="transformers",
        ablations=ablations,
        policy_settings=TinyPolicySettings(num_steps=6, num_layers=1, hidden_size=64),
    )


@pytest.mark.slow
@pytest.mark.server
def test_the_demo_runs_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    result = run(root)
    arms = {arm.name: arm for arm in result.arms}
    assert list(arms) == ["dpo on curated", "cpo on curated", "dpo on all pairs", "dpo on random drop"]
    assert arms["dpo on random drop"].num_train == arms["dpo on curated"].num_train < arms["dpo on all pairs"].num_train
    assert len({arm.num_pairs for arm in result.arms}) == 1
    assert len({arm.num_right_before for arm in result.arms}) == 1, "all start from one reference policy"
    assert all(path.exists() for path in result.places.values())

    screen = Console(file=StringIO(), width=80)
    show(result, screen)
    text = screen.file.getvalue()
    assert "…" not in text, "everything fits on 80 columns"
    for finding in result.findings:
        assert finding.kind.title in text
    summary = (root / "summaries" / "demo.md").read_text(encoding="utf-8")
    assert "| votes for both sides | " in summary
    assert "| dpo on random drop | " in summary

    with Workspace.open(root).lake(read_only=True) as lake:
        snapshot = lake.snapshot_id()
        current = lake.value("select name from raw.curation_runs order by run_number desc limit 1")
    assert current == "rules", "the workspace ends with the curated set, not with an ablation"
    again = run(root)
    assert [report.num_changed for report in again.reports] == [0] * len(again.reports)
    assert (again.findings, again.arms) == (result.findings, result.arms)
    with Workspace.open(root).lake(read_only=True) as lake:
        assert lake.snapshot_id() == snapshot


def test_another_world_in_the_workspace_is_refused(tmp_path: Path) -> None:
    from flows.demo import _make_world, _prepare

    _prepare(tmp_path / "demo")
    _make_world(tmp_path / "demo" / "world", 0, 60, 12)
    with pytest.raises(WorkspaceError, match="another world: seed 0, prompts 60, annotators 12"):
        run(tmp_path / "demo", seed=1)


def test_a_workspace_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "mine")
    before = (tmp_path / "mine" / "winnow.toml").read_bytes()
    with pytest.raises(WorkspaceError, match="a workspace that is no demo"):
        run(tmp_path / "mine")
    assert (tmp_path / "mine" / "winnow.toml").read_bytes() == before
    assert not (tmp_path / "mine" / "world").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(WorkspaceError, match="is a file"):
        run(tmp_path / "demo")
