"""Human decisions from a file, dry runs and advice on a small generated lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.stages.adjudicate import adjudicate
from flows.stages.advice import advice, dry_run
from flows.stages.curate import curate
from flows.workspace import Workspace
from schemas.errors import SourceError
from tests.generated_lake import diagnose, fill

pytestmark = pytest.mark.slow

NUM_PAIRS = 300


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace.create(tmp_path_factory.mktemp("adjudicate") / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=NUM_PAIRS)
    return made


def pairs(workspace: Workspace, condition: str = "true") -> list[dict[str, Any]]:
    with workspace.lake(read_only=True) as lake:
        return lake.frame(f"select * from raw.pair_estimates where {condition} order by pair_id").to_dicts()


def snapshot(workspace: Workspace) -> int:
    with workspace.lake(read_only=True) as lake:
        return lake.snapshot_id()


def test_a_dry_run_finds_what_the_run_then_does_and_writes_nothing(workspace: Workspace) -> None:
    before = snapshot(workspace)
    found = dry_run(workspace, rules="dpo-safe")
    assert snapshot(workspace) == before
    report = curate(workspace, rules="dpo-safe")
    counts = {each.count.rule: each.count.num_applied for each in found.previews}
    assert counts == {each["rule"]: each["num_applied"] for each in report.facts["rules"]}
    removed = sum(each.weight_removed for each in found.previews)
    assert NUM_PAIRS - removed == pytest.approx(report.facts["total_weight"])
    assert all(found.texts[pair]["chosen"] for each in found.previews for pair in each.examples)


def test_people_override_rules_for_good_whatever_later_votes_say(workspace: Workspace, tmp_path: Path) -> None:
    tied = pairs(workspace, "is_tied")[0]
    plain = pairs(workspace, "not is_tied")
    kept, flipped, dropped = tied, plain[0], plain[1]
    file = tmp_path / "decisions.csv"
    file.write_text(
        "pair_id,action,chosen_id,reason\n"
        f"{kept['pair_id']},keep,{kept['rejected_id']},second one is right\n"
        f"{flipped['pair_id']},flip,,\n"
        f"{dropped['pair_id']},drop,,off topic\n"
    )
    assert adjudicate(workspace, file, by="ada").num_changed == 3
    right = {kept["pair_id"]: kept["rejected_id"], flipped["pair_id"]: flipped["rejected_id"]}
    for seed in (0, 7):
        with workspace.lake() as lake:
            diagnose(lake, num_pairs=NUM_PAIRS, seed=seed)
        report = curate(workspace, rules="dpo-safe")
        assert report.facts["num_adjudicated"] == 3
        with workspace.lake(read_only=True) as lake:
            chosen = dict(
                lake.con.execute(
                    "select pair_id, chosen_id from mart.training_set where pair_id in (select pair_id from"
                    " mart.decisions where is_adjudicated)"
                ).fetchall()
            )
        assert chosen == right


def test_the_same_file_again_writes_nothing_and_a_changed_mind_does(workspace: Workspace, tmp_path: Path) -> None:
    pair = pairs(workspace)[5]["pair_id"]
    file = tmp_path / "one.jsonl"
    file.write_text(f'{{"pair_id": "{pair}", "action": "drop", "adjudicated_by": "ada"}}\n')
    assert adjudicate(workspace, file).num_changed == 1
    before = snapshot(workspace)
    assert adjudicate(workspace, file).run_id is None
    assert snapshot(workspace) == before
    file.write_text(f'{{"pair_id": "{pair}", "action": "keep", "adjudicated_by": "ada"}}\n')
    assert adjudicate(workspace, file).num_changed == 1
    curate(workspace, rules="minimal")
    with workspace.lake(read_only=True) as lake:
        latest = "select is_dropped from model.standing_decisions where pair_id = ?"
        assert lake.value(latest, [pair]) is False
        assert lake.value("select count(*) from raw.adjudications where pair_id = ?", [pair]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair_id,action\nnope,drop\n", "row 1: there is no pair 'nope'"),
        ("pair_id,action\nPAIR,dropp\n", "row 1: action is 'dropp'"),
        ("pair_id,action,chosen_id\nPAIR,keep,other\n", "row 1: 'other' is not a response of pair"),
        ("pair_id,action\nPAIR,drop\nPAIR,keep\n", "is decided twice"),
        ("pair_id\nPAIR\n", "has no column 'action'"),
        ("pair_id,action,why\nPAIR,drop,x\n", "has a column 'why'"),
    ],
)
def test_a_bad_file_is_refused_whole(workspace: Workspace, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text.replace("PAIR", pairs(workspace)[0]["pair_id"]))
    before = snapshot(workspace)
    with pytest.raises(SourceError, match=message):
        adjudicate(workspace, file)
    assert snapshot(workspace) == before


def test_a_missing_file_is_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        adjudicate(workspace, tmp_path / "none.csv")


def test_advice_rests_on_the_figures_of_the_marts(workspace: Workspace) -> None:
    found = advice(workspace)[1]
    with workspace.lake(read_only=True) as lake:
        shares = dict(lake.con.execute("select beta, share_failing from mart.beta_sensitivity").fetchall())
    assert found.num_pairs == NUM_PAIRS
    for beta, share in found.share_failing.items():
        assert share == pytest.approx(shares[beta])
