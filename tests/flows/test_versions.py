"""Runs, differences, restoring and pruning on a small generated lake."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.stages.compare import compare
from flows.stages.curate import curate
from flows.stages.export import export
from flows.stages.train import train
from flows.stages.versions import prune, restore
from flows.workspace import Workspace
from schemas.errors import QueryError
from tests.generated_lake import REFERENCE_ID, diagnose, fill
from tests.real_data import shared
from warehouse.diff import RunDiff
from warehouse.query import QuerySession
from warehouse.query_settings import QuerySettings
from warehouse.versions import commits_of_runs, snapshot_of_run

pytestmark = pytest.mark.slow

NUM_PAIRS = 600


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=NUM_PAIRS)
    return made


def decisions(workspace: Workspace, run_id: str) -> list[tuple[object, ...]]:
    with workspace.lake(read_only=True) as lake:
        sql = "select * exclude run_id from mart.decisions where run_id = ? order by pair_id"
        return lake.con.execute(sql, [run_id]).fetchall()


def diff(workspace: Workspace, a: str = "previous", b: str = "latest") -> RunDiff:
    with workspace.lake(read_only=True) as lake:
        return compare(lake, a, b)


def causes(found: RunDiff) -> dict[str, int]:
    return dict(found.by_cause.select("cause", "num_pairs").iter_rows())


def test_a_changed_threshold_is_named_as_cause_and_its_rule_as_the_reason(workspace: Workspace) -> None:
    first = curate(workspace, rules="dpo-safe")
    second = curate(workspace, rules="minimal")
    found = diff(workspace)
    expected = sum(
        a != b
        for a, b in zip(decisions(workspace, str(first.run_id)), decisions(workspace, str(second.run_id)), strict=True)
    )
    assert found.num_changed == second.num_changed
    assert found.num_changed <= expected  # the set's own objective and effects are shown in mart.decisions too
    assert causes(found) == {"changed rules": found.num_changed}
    assert set(found.by_rule["rule"]) == {"assumption_fails"}
    assert set(found.by_rule["change"]) == {"reweight → keep"}
    gained = second.facts["total_weight"] - first.facts["total_weight"]
    assert found.by_rule["weight_change"].sum() == pytest.approx(gained)


def test_new_votes_under_the_same_rules_are_the_cause(workspace: Workspace) -> None:
    curate(workspace, rules="dpo-safe")
    with workspace.lake() as lake:
        diagnose(lake, num_pairs=NUM_PAIRS, seed=5)
    curate(workspace, rules="dpo-safe")
    found = diff(workspace)
    assert found.num_changed > 0
    assert causes(found) == {"new votes": found.num_changed}


def test_new_scores_are_the_cause_only_where_a_response_was_scored_anew(workspace: Workspace) -> None:
    curate(workspace, rules="dpo-safe")
    with workspace.lake() as lake:
        from flows.lineage import Run

        def rescore(con: object) -> None:
            lake.con.execute("update raw.reference_scores set logps = logps - 40 where response_id[1:1] = 'a'")
            Run.start("score", input_hash="again", settings={}).record(lake.con, num_changed=1)

        lake.transact("rescore", rescore)
        touched = lake.value(
            "select count(*) from raw.pair_estimates where chosen_id[1:1] = 'a' or rejected_id[1:1] = 'a'"
        )
    curate(workspace, rules="dpo-safe")
    found = diff(workspace)
    assert 0 < found.num_changed <= touched
    assert causes(found) == {"new scores": found.num_changed}


def test_a_pair_that_changed_and_changed_back_is_not_a_difference(workspace: Workspace) -> None:
    first = curate(workspace, rules="dpo-safe")
    curate(workspace, rules="minimal")
    restored = restore(workspace, str(first.run_id))
    assert diff(workspace, str(first.run_id), str(restored.run_id)).num_changed == 0


def test_decision_changes_lists_what_differs_from_the_run_before(workspace: Workspace) -> None:
    curate(workspace, rules="dpo-safe")
    second = curate(workspace, rules="minimal")
    third = curate(workspace, rules="cpo")
    with workspace.lake(read_only=True) as lake:
        counts = dict(lake.con.execute("select run_id, count(*) from mart.decision_changes group by 1").fetchall())
    assert counts == {second.run_id: second.num_changed, third.run_id: third.num_changed}


def test_a_restored_run_equals_the_old_one_and_exports_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    first = curate(workspace, rules="dpo-safe")
    export(workspace, target=tmp_path / "before")
    curate(workspace, rules="minimal")
    restored = restore(workspace, str(first.run_id))
    export(workspace, target=tmp_path / "after")
    assert restored.run_id == f"{first.run_id}-2"
    assert decisions(workspace, str(restored.run_id)) == decisions(workspace, str(first.run_id))
    names = sorted(path.name for path in (tmp_path / "before").iterdir())
    assert [(tmp_path / "after" / name).read_bytes() for name in names] == [
        (tmp_path / "before" / name).read_bytes() for name in names
    ]


def test_sql_sees_the_lake_as_a_run_left_it(workspace: Workspace) -> None:
    first = curate(workspace, rules="dpo-safe")
    kept = decisions(workspace, str(first.run_id))
    with workspace.lake() as lake:
        diagnose(lake, num_pairs=NUM_PAIRS, seed=5)
        snapshot = snapshot_of_run(lake, str(first.run_id))
    curate(workspace, rules="minimal")
    lake_settings = workspace.settings.lake
    with QuerySession.open(workspace.root, lake_settings, QuerySettings(), snapshot_id=snapshot) as session:
        assert session.frame("select count(*) from raw.curation_runs").item() == 1
        assert session.frame("select distinct curation_run_id from mart.training_set").item() == first.run_id
        old = session.frame("select * exclude run_id from mart.decisions order by pair_id")
    assert old.height == len(kept)


@pytest.fixture
def pruned(workspace: Workspace, tmp_path: Path) -> tuple[Workspace, list[str]]:
    runs = [str(curate(workspace, rules="dpo-safe").run_id)]
    runs.append(str(curate(workspace, rules="minimal").run_id))
    export(workspace, target=tmp_path / "kept")
    for seed, rules in ((3, "dpo-safe"), (4, "cpo"), (5, "minimal")):
        with workspace.lake() as lake:
            diagnose(lake, num_pairs=NUM_PAIRS, seed=seed)
        runs.append(str(curate(workspace, rules=rules).run_id))
    return workspace, runs


def test_prune_keeps_the_newest_runs_and_what_an_export_refers_to(pruned: tuple[Workspace, list[str]]) -> None:
    workspace, runs = pruned
    before = {run: decisions(workspace, run) for run in runs}
    files_before = len(list((workspace.root / "data").rglob("*.parquet")))
    report = prune(workspace, keep_last=2, grace_hours=0)
    assert report.facts["kept_runs"] == [runs[1], runs[3], runs[4]]
    assert report.facts["removed_runs"] == [runs[0], runs[2]]
    assert report.facts["num_snapshots_expired"] > 0
    for run in (runs[1], runs[3], runs[4]):
        assert decisions(workspace, run) == before[run]
    assert decisions(workspace, runs[0]) == []
    assert len(list((workspace.root / "data").rglob("*.parquet"))) < files_before
    with pytest.raises(QueryError, match="no curation run"):
        diff(workspace, runs[0], runs[4])
    with workspace.lake(read_only=True) as lake:
        assert runs[1] in commits_of_runs(lake)
        assert runs[2] not in commits_of_runs(lake)
        with pytest.raises(QueryError, match="was pruned"):
            snapshot_of_run(lake, runs[2])


@pytest.mark.parametrize("keep_last", [5, 6, 9, 100])
def test_fewer_runs_than_are_kept_all_stay(pruned: tuple[Workspace, list[str]], keep_last: int) -> None:
    workspace, runs = pruned
    before = {run: decisions(workspace, run) for run in runs}
    report = prune(workspace, keep_last=keep_last, grace_hours=0)
    assert report.facts["kept_runs"] == runs
    assert report.facts["removed_runs"] == []
    assert {run: decisions(workspace, run) for run in runs} == before


def test_after_a_prune_the_kept_runs_can_be_compared_and_the_next_run_goes_on(
    pruned: tuple[Workspace, list[str]],
) -> None:
    workspace, runs = pruned
    expected = diff(workspace, runs[1], runs[4]).num_changed
    prune(workspace, keep_last=2, grace_hours=0)
    assert diff(workspace, runs[1], runs[4]).num_changed == expected
    again = curate(workspace, rules="minimal")
    assert again.run_id is None
    after = curate(workspace, rules="dpo-safe")
    assert len(decisions(workspace, str(after.run_id))) == NUM_PAIRS


def test_prune_keeps_what_a_real_training_run_refers_to(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.lake() as lake:  # the generated policy has no tokenizer that a trainer could check
        lake.con.execute("delete from raw.reference_policies; delete from raw.reference_scores")
    first = str(curate(workspace, rules="minimal").run_id)
    exported = export(workspace, target=tmp_path / "set").facts
    trained = train(
        workspace, export=tmp_path / "set", model=str(shared("models/tiny-en")), objective="simpo", max_steps=1
    )
    for seed in (3, 4, 5):
        with workspace.lake() as lake:
            diagnose(lake, num_pairs=NUM_PAIRS, seed=seed)
        curate(workspace, rules="minimal")
    before = decisions(workspace, first)
    assert prune(workspace, keep_last=1, grace_hours=0).facts["kept_runs"][0] == first
    with workspace.lake(read_only=True) as lake:
        row = lake.con.execute(
            """
            select exports.curation_run_id, exports.snapshot_id
            from raw.training_runs join raw.exports using (export_id)
            where training_run_id = ?
            """,
            [trained.facts["training_run_id"]],
        ).fetchone()
        assert row is not None
        then = snapshot_of_run(lake, first)
    assert row[0] == first
    assert decisions(workspace, first) == before
    for snapshot in (then, row[1]):
        with QuerySession.open(
            workspace.root, workspace.settings.lake, QuerySettings(), snapshot_id=snapshot
        ) as session:
            found = session.frame("select count(*), count(chosen), any_value(curation_run_id) from mart.training_set")
        assert found.row(0) == (exported["num_pairs"], exported["num_pairs"], first)


def test_pruning_twice_removes_nothing_more(pruned: tuple[Workspace, list[str]]) -> None:
    workspace, _ = pruned
    prune(workspace, keep_last=2, grace_hours=0)
    again = prune(workspace, keep_last=2, grace_hours=0)
    assert again.facts["removed_runs"] == []
    assert again.facts["num_decisions_removed"] == 0


def test_an_unknown_run_is_named(workspace: Workspace) -> None:
    curate(workspace, rules="minimal")
    with pytest.raises(QueryError, match=r"there is no curation run 'curate-x'.*latest: curate-"):
        diff(workspace, "curate-x", "latest")
    with workspace.lake(read_only=True) as lake:
        assert lake.value("select reference_id from raw.curation_runs") == REFERENCE_ID
        with pytest.raises(QueryError, match="there is no run 'nothing'"):
            snapshot_of_run(lake, "nothing")
