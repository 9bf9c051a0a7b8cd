"""Why a decision changed: votes, scores, rules or people, also where two of them coincide."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.lineage import Run
from flows.stages.adjudicate import adjudicate
from flows.stages.compare import compare
from flows.stages.curate import curate
from flows.stages.versions import restore
from flows.workspace import Workspace
from schemas.errors import QueryError
from tests.generated_lake import diagnose, fill

pytestmark = pytest.mark.slow

NUM_PAIRS = 600


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=NUM_PAIRS, with_text=False)
    return made


def rules(tmp_path: Path, name: str, when: str, action: str = "drop", **more: str) -> str:
    path = tmp_path / f"{name}.toml"
    extra = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    path.write_text(f'[[rule]]\nname = "x"\nwhen = "{when}"\naction = "{action}"\n{extra}', encoding="utf-8")
    return str(path)


def estimates(workspace: Workspace) -> dict[str, dict[str, Any]]:
    with workspace.lake(read_only=True) as lake:
        return {row["pair_id"]: row for row in lake.frame("from mart.pair_diagnostics").to_dicts()}


def by_cause(workspace: Workspace, a: str = "previous", b: str = "latest") -> dict[str, int]:
    with workspace.lake(read_only=True) as lake:
        return dict(compare(lake, a, b).by_cause.iter_rows())


def new_votes(workspace: Workspace) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    before = estimates(workspace)
    with workspace.lake() as lake:
        diagnose(lake, num_pairs=NUM_PAIRS, seed=5)
    return before, estimates(workspace)


def test_of_votes_and_rules_that_both_changed_each_pair_names_what_did_it(workspace: Workspace, tmp_path: Path) -> None:
    curate(workspace, rules=rules(tmp_path, "low", "p_chosen < 0.6"))
    before, after = new_votes(workspace)
    curate(workspace, rules=rules(tmp_path, "high", "p_chosen < 0.8"))
    expected: Counter[str] = Counter()
    for pair, old in before.items():
        new = after[pair]
        # a decision is what trains, so it also changes where another response is chosen
        was, would, now = (
            (row["p_chosen"] < limit, row["chosen_id"]) for row, limit in ((old, 0.6), (new, 0.6), (new, 0.8))
        )
        if was != now:
            words = ["new votes"] * (would != was) + ["changed rules"] * (would != now)
            expected[" and ".join(words)] += 1
    assert by_cause(workspace) == expected
    assert set(expected) == {"new votes", "changed rules", "new votes and changed rules"}
    assert min(expected.values()) > 10


def test_new_scores_beside_rules_that_changed_elsewhere_stay_the_only_cause(
    workspace: Workspace, tmp_path: Path
) -> None:
    curate(workspace, rules=rules(tmp_path, "one", "reference_margin < -20"))

    with workspace.lake() as lake:

        def rescore(con: object) -> None:
            lake.con.execute("update raw.reference_scores set logps = logps - 40 where response_id[1:1] = 'a'")
            Run.start("score", input_hash="again", settings={}).record(lake.con, num_changed=1)

        lake.transact("rescore", rescore)
    curate(workspace, rules=rules(tmp_path, "two", "reference_margin < -20 or false"))
    with workspace.lake(read_only=True) as lake:
        expected = lake.value("select count(*) from mart.pair_diagnostics where reference_margin < -20")
    assert by_cause(workspace) == {"new scores": expected}
    assert expected > 5


def test_people_are_the_whole_cause_whatever_else_changed(workspace: Workspace, tmp_path: Path) -> None:
    curate(workspace, rules=rules(tmp_path, "none", "false"))
    before, after = new_votes(workspace)
    turned = sorted(pair for pair, old in before.items() if old["chosen_id"] != after[pair]["chosen_id"])[:3]
    file = tmp_path / "people.csv"
    file.write_text("pair_id,action\n" + "".join(f"{pair},drop\n" for pair in turned))
    adjudicate(workspace, file)
    curate(workspace, rules=rules(tmp_path, "all", "true", "reweight", weight="0.5"))
    found = by_cause(workspace)
    assert found["adjudication"] == 3
    assert sum(found.values()) == NUM_PAIRS


def test_votes_that_turn_a_consensus_under_a_human_decision_are_not_its_fault(
    workspace: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_text("pair_id,action\n" + "".join(f"{pair},keep\n" for pair in estimates(workspace)))
    adjudicate(workspace, file)
    curate(workspace, rules=rules(tmp_path, "none", "false"))
    before, after = new_votes(workspace)
    curate(workspace, rules=rules(tmp_path, "all", "true"))
    turned = sum(old["chosen_id"] != after[pair]["chosen_id"] for pair, old in before.items())
    assert by_cause(workspace) == {"new votes": turned}  # the same response is right, but is now called flipped
    assert turned > 10


def test_other_diagnostics_are_a_cause_of_their_own(workspace: Workspace, tmp_path: Path) -> None:
    curate(workspace, rules=rules(tmp_path, "same", "is_identical"))
    with workspace.lake() as lake:

        def more(con: object) -> None:
            lake.con.execute("update raw.pair_features set is_identical = true where pair_id[1:1] = 'b'")
            Run.start("diagnose", input_hash="again", settings={}).record(lake.con, num_changed=1)

        lake.transact("diagnose", more)
    second = curate(workspace, rules=rules(tmp_path, "same", "is_identical"))
    assert by_cause(workspace) == {"other diagnostics": second.num_changed}


def test_a_restored_run_rests_on_the_votes_of_the_run_that_it_repeats(workspace: Workspace, tmp_path: Path) -> None:
    first = curate(workspace, rules=rules(tmp_path, "low", "p_chosen < 0.6"))
    second = curate(workspace, rules=rules(tmp_path, "high", "p_chosen < 0.8"))
    new_votes(workspace)
    restored = restore(workspace, str(first.run_id))
    assert by_cause(workspace, str(second.run_id), str(restored.run_id)) == {"changed rules": second.num_changed}


def test_what_people_decided_since_then_outlives_a_restore(workspace: Workspace, tmp_path: Path) -> None:
    first = curate(workspace, rules=rules(tmp_path, "low", "p_chosen < 0.6"))
    with workspace.lake(read_only=True) as lake:
        dropped, kept = (
            [row[0] for row in lake.con.execute(f"select pair_id from mart.decisions where {sql} limit 2").fetchall()]
            for sql in ("is_dropped", "not is_dropped")
        )
    file = tmp_path / "people.csv"
    lines = [f"{dropped[0]},keep", f"{dropped[1]},drop", f"{kept[0]},flip"]
    file.write_text("pair_id,action\n" + "".join(f"{line}\n" for line in lines))
    adjudicate(workspace, file)
    curate(workspace, rules="minimal")
    report = restore(workspace, str(first.run_id))
    assert report.facts["num_overruled"] == 3
    assert report.lines[1] == "People decided otherwise on 3 pairs since then, and that stays."
    with workspace.lake(read_only=True) as lake:
        sql = "select pair_id, action, rules from mart.decisions where run_id = ? and is_adjudicated"
        found = {pair: (action, names) for pair, action, names in lake.con.execute(sql, [report.run_id]).fetchall()}
        run = lake.frame("select * from raw.curation_runs where run_id = ?", [report.run_id]).row(0, named=True)
    assert found == {
        dropped[0]: ("keep", ["adjudication"]),
        dropped[1]: ("drop", ["adjudication"]),
        kept[0]: ("flip", ["adjudication"]),
    }
    assert run["num_adjudicated"] == 3
    assert run["num_flipped"] == 1
    assert run["num_dropped"] == first.facts["num_dropped"] - 1
    assert run["content_id"] != first.run_id
    assert by_cause(workspace, str(first.run_id)) == {"adjudication": 3}


def test_one_run_alone_cannot_be_compared(workspace: Workspace) -> None:
    with workspace.lake(read_only=True) as lake, pytest.raises(QueryError, match="nothing is curated yet"):
        compare(lake, "previous", "latest")
    run = curate(workspace, rules="minimal").run_id
    with workspace.lake(read_only=True) as lake:
        with pytest.raises(QueryError, match=f"there is only one curation run, {run}, and nothing to compare"):
            compare(lake, "previous", "latest")
        assert compare(lake, str(run)[:10], "latest").num_changed == 0
