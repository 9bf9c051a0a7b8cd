"""Which reference policy decides, and how much of the set it has scored, stands wherever its figures do."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.policies import scored_line
from flows.reading import reading
from flows.stages.advice import advice, dry_run
from flows.stages.curate import curate
from flows.stages.export import export
from flows.workspace import Workspace
from schemas.policy_names import policy_name
from tests.flows.winnow_process import winnow_here
from tests.generated_lake import REFERENCE_ID, fill

NAME = "made/policy, max_length 1024 (referenc)"
NOT_ALL = f"scored by {NAME}: 42 of 300 responses, scoring is not complete; run: winnow score"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=300)
        lake.con.execute(
            "delete from raw.reference_scores where response_id not in"
            " (select response_id from raw.responses order by response_id limit 42)"
        )
    return made


def test_a_policy_is_named_by_what_tells_it_apart() -> None:
    policy = {"reference_id": "404504cc99", "model": "/models/tiny-en", "adapter": "/a/polite", "max_length": 256}
    assert policy_name(policy) == "tiny-en, adapter polite, max_length 256 (404504cc)"
    other = {"reference_id": "17", "model": "org/model", "truncate": "left", "quantization": "awq"}
    assert policy_name(other) == "org/model, awq, prompts cut (17)"


@pytest.mark.slow
def test_what_decides_says_how_much_it_has_scored(workspace: Workspace, tmp_path: Path) -> None:
    assert dry_run(workspace, rules="minimal").scored == NOT_ALL
    assert NOT_ALL in curate(workspace, rules="minimal").lines
    assert NOT_ALL in curate(workspace, rules="minimal").lines  # also where nothing is new
    assert advice(workspace)[0].reasons[0] == NOT_ALL
    assert NOT_ALL in export(workspace, target=tmp_path / "set").lines
    with workspace.lake(read_only=True) as lake:
        assert NOT_ALL in reading(lake)
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert f"scored by {NAME}, 42 of 300 responses." in card
    assert "Scoring was not complete: 258 responses" in card


@pytest.mark.slow
def test_what_is_printed_can_be_typed(workspace: Workspace) -> None:
    for command in (["advise"], ["curate", "--rules", "minimal", "--dry-run"], ["curate", "--rules", "minimal"]):
        printed = winnow_here(*command, "-w", workspace.root).stdout
        assert NOT_ALL.replace("winnow score", f"winnow score -w {workspace.root}") in printed


def test_a_policy_that_is_not_the_newest_goes_on_by_its_name(workspace: Workspace) -> None:
    with workspace.lake() as lake:
        lake.con.execute(
            "insert into raw.reference_policies select * replace"
            " ('newer' as reference_id, created_at + interval 1 day as created_at) from raw.reference_policies"
        )
        assert scored_line(lake, REFERENCE_ID).endswith("run: winnow score --model made/policy --max-length 1024")
        newest = scored_line(lake, "newer")
    assert dry_run(workspace, rules="minimal").scored == f"{newest}; --reference names the other one"
    assert newest.startswith("scored by made/policy, max_length 1024 (newer): 0 of 300 responses")


@pytest.mark.slow
def test_a_set_that_is_scored_is_not_warned_of(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path / "w")
    with made.lake() as lake:
        fill(lake, num_pairs=300)
    export_lines = (curate(made, rules="minimal"), export(made, target=tmp_path / "set"))[1].lines
    assert f"scored by {NAME}: 300 of 300 responses" in export_lines
    assert "Scoring was not complete" not in (tmp_path / "set" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_pair_shows_its_own_evidence_once_and_its_policies_in_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    made = Workspace.create(tmp_path / "w")
    with made.lake() as lake:
        fill(lake, num_pairs=300)
        for number in (1, 2):
            lake.con.execute(
                "insert into raw.reference_policies select * replace (? as reference_id, ? as model,"
                " created_at + to_days(?) as created_at) from raw.reference_policies limit 1",
                [f"policy-{number}", f"/models/tiny-{number}", number],
            )
        lake.con.execute(
            "insert into raw.reference_scores select * replace ('policy-1' as reference_id, logps - 1 as logps)"
            f" from raw.reference_scores where reference_id = '{REFERENCE_ID}'"
        )
        pair = lake.value("select min(pair_id) from raw.pair_estimates")
        margin = lake.value(f"select reference_margin from mart.pair_diagnostics where pair_id = '{pair}' limit 1")
    printed = winnow_here("pair", pair, "-w", made.root).stdout
    for name in ("p_chosen", "num_votes", "chosen_num_chars"):
        assert printed.count(f"  {name}: ") == 1
    table = printed[printed.index("reference policies:") :].splitlines()
    assert max(len(line.rstrip()) for line in table[:10]) <= 80
    (newest,), (older,), (oldest,) = (
        [line for line in table if line.startswith(name)] for name in ("tiny-2", "tiny-1", "made/policy")
    )
    assert table.index(newest) < table.index(older) < table.index(oldest)
    assert f"{margin:.4g}" in oldest.split()
    assert f"{margin:.4g}" in older.split()
    assert "- -" in newest


@pytest.mark.slow
def test_what_was_ingested_has_to_be_diagnosed_and_no_bar_stands_before_the_error(tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    file.write_text('{"prompt": "p", "response_a": "x", "response_b": "y", "vote": "a", "annotator_id": "n"}\n')
    root = Workspace.create(tmp_path / "w").root
    for command in ("advise", "curate"):
        done = winnow_here(command, "-w", root)
        assert done.stderr.splitlines()[-1].endswith(f"; winnow ingest -w {root}, then winnow diagnose -w {root}")
    assert done.stderr.count("\n") == 1
    assert winnow_here("ingest", "-w", root, file).returncode == 0
    for command in ("advise", "curate"):
        done = winnow_here(command, "-w", root)
        assert done.stderr.strip().endswith(f"; winnow diagnose -w {root}")
        assert "winnow ingest" not in done.stderr
