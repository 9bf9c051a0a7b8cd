"""``winnow curate`` on a small generated lake."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.stages.advice import dry_run
from flows.stages.curate import curate
from flows.workspace import Workspace
from schemas.errors import RuleError
from tests.generated_lake import REFERENCE_ID, fill

NUM_PAIRS = 900


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=NUM_PAIRS)
    return made


def rules_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("profile", ["minimal", "dpo-safe", "cpo"])
def test_every_pair_gets_one_decision(workspace: Workspace, profile: str) -> None:
    report = curate(workspace, rules=profile)
    with workspace.lake(read_only=True) as lake:
        decisions = lake.frame("select * from mart.decisions")
    assert decisions.height == decisions["pair_id"].n_unique() == NUM_PAIRS == report.facts["num_pairs"]
    assert report.facts["num_dropped"] == decisions["is_dropped"].sum() > 0
    assert decisions["weight"].sum() == pytest.approx(report.facts["total_weight"])
    assert set(decisions["reference_id"]) == {REFERENCE_ID}
    assert decisions.filter(decisions["is_dropped"])["weight"].unique().to_list() == [0.0]


@pytest.mark.slow
def test_the_same_rules_on_the_same_input_write_nothing(workspace: Workspace) -> None:
    first = curate(workspace, rules="dpo-safe")
    with workspace.lake(read_only=True) as lake:
        before = lake.snapshot_id()
    again = curate(workspace, rules="dpo-safe")
    with workspace.lake(read_only=True) as lake:
        assert lake.snapshot_id() == before
    assert again.run_id is None
    assert again.num_changed == 0
    assert again.facts["curation_run_id"] == first.run_id


def test_a_run_is_one_snapshot_with_its_id_as_message(workspace: Workspace) -> None:
    with workspace.lake(read_only=True) as lake:
        before = lake.snapshot_id()
    report = curate(workspace, rules="minimal")
    with workspace.lake(read_only=True) as lake:
        rows = lake.frame("select snapshot_id, commit_message from ducklake_snapshots('lake')")
    new = rows.filter(rows["snapshot_id"] > before)
    assert new["commit_message"].to_list() == [report.run_id]


@pytest.mark.slow
def test_earlier_runs_stay_as_they_were(workspace: Workspace) -> None:
    def decisions(run_id: str | None) -> list[tuple[object, ...]]:
        with workspace.lake(read_only=True) as lake:
            sql = "select * exclude run_id from mart.decisions where run_id = ? order by pair_id"
            return lake.con.execute(sql, [run_id]).fetchall()

    first = curate(workspace, rules="dpo-safe")
    as_written = decisions(first.run_id)
    second = curate(workspace, rules="minimal")
    assert decisions(first.run_id) == as_written
    assert 0 < second.num_changed < NUM_PAIRS
    changed = sum(a != b for a, b in zip(as_written, decisions(second.run_id), strict=True))
    assert changed == second.num_changed


def test_a_failed_run_leaves_the_lake_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    text = '[[rule]]\nname = "x"\nwhen = "not is_tied"\naction = "reweight"\nweight = "reference_margin"\n'
    with workspace.lake(read_only=True) as lake:
        before = lake.snapshot_id()
    with pytest.raises(RuleError, match=r"rule 'x': the weight 'reference_margin' is -.* on pair"):
        curate(workspace, rules=rules_file(tmp_path, text))
    with workspace.lake(read_only=True) as lake:
        assert lake.snapshot_id() == before
        assert lake.value("select count(*) from raw.decisions") == 0


@pytest.mark.parametrize("look", [curate, dry_run])
@pytest.mark.parametrize(
    ("when", "weight", "reason"),
    [
        ("true", "ln(0.0)", "cannot take logarithm of zero"),
        ("true", "ln(reference_margin)", "cannot take logarithm of a negative number"),
        ("sqrt(reference_margin) > 1", "0.5", "cannot take square root of a negative number"),
        ("cast(source as int) > 1", "0.5", "Could not convert string 'made' to INT32 when casting from source column"),
    ],
)
def test_a_rule_that_fails_on_a_value_is_named_and_leaves_the_lake_as_it_was(
    workspace: Workspace, tmp_path: Path, look: Callable[..., object], when: str, weight: str, reason: str
) -> None:
    rules = [("sound", "num_votes > 1", "0.5"), ("bad", when, weight), ("worse", "ln(0.0) > 0 or true", "sqrt(-1.0)")]
    text = "\n".join(
        f"""[[rule]]\nname = "{name}"\nwhen = "{condition}"\naction = "reweight"\nweight = "{factor}"\n"""
        for name, condition, factor in rules
    )
    with workspace.lake(read_only=True) as lake:
        before = lake.snapshot_id()
    with pytest.raises(RuleError) as raised:
        look(workspace, rules=rules_file(tmp_path, text))
    assert raised.value.message.startswith(f"rule 'bad' failed while it ran: {reason}")
    assert "__" not in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.mend == "guard it with case or greatest, or use try_cast"
    with workspace.lake(read_only=True) as lake:
        assert lake.snapshot_id() == before
        assert lake.value("select count(*) from raw.decisions") == 0


@pytest.mark.slow
def test_conditions_that_are_null_are_said_once_in_a_workspace(workspace: Workspace) -> None:
    lines = curate(workspace, rules="dpo-safe").lines
    assert [line for line in lines if "NULL" in line] == [
        "The condition of likely_mislabelled is NULL on every pair, and does not match there: p_flip is not computed"
        " yet."
    ]
    assert not [line for line in curate(workspace, rules="cpo").lines if "NULL" in line]


def test_a_dry_run_without_pairs_says_so_as_the_run_does(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="there are no pairs to curate"):
        dry_run(Workspace.create(tmp_path / "empty"), rules="minimal")


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_and_the_next_one_goes_through(workspace: Workspace) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from flows.stages import curate; from flows.workspace import"
        " Workspace; write = curate.write_run\n"
        "def killed(*arguments):\n    write(*arguments)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "curate.write_run = killed; curate.curate(Workspace.open(Path(sys.argv[1])), rules='minimal')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(workspace.root)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    with workspace.lake(read_only=True) as lake:
        assert lake.value("select count(*) from raw.decisions") == 0
    assert curate(workspace, rules="minimal").facts["num_pairs"] == NUM_PAIRS


@pytest.mark.parametrize(
    ("action", "value"),
    [
        ("weight", "1.0 / num_ties - 1.0 / num_ties"),
        ("weight", "1.0 / num_ties"),
        ("weight", "'nan'::double"),
        ("weight", "-1e-300"),
        ("soft_label", "1 + 1e-9"),
        ("soft_label", "'nan'::double"),
    ],
)
def test_no_value_that_poisons_a_loss_gets_through(
    workspace: Workspace, tmp_path: Path, action: str, value: str
) -> None:
    kind = "reweight" if action == "weight" else action
    text = f"""[[rule]]\nname = "x"\nwhen = "true"\naction = "{kind}"\n{action} = "{value}"\n"""
    with pytest.raises(RuleError, match="rule 'x': the"):
        curate(workspace, rules=rules_file(tmp_path, text))
    with workspace.lake(read_only=True) as lake:
        assert lake.value("select count(*) from raw.curation_runs") == 0


@pytest.mark.parametrize(
    "condition",
    [
        "true) or 1 = 1; drop table raw.decisions; --",
        "true /* ",
        "true -- a comment",
        "'{pairs}' = '{pairs}' and chosen_id <> '}} from x; --'",
    ],
)
def test_what_looks_like_an_injection_is_refused_or_harmless(
    workspace: Workspace, tmp_path: Path, condition: str
) -> None:
    path = rules_file(
        tmp_path, f'''[[rule]]\nname = "x"\nwhen = """{condition}"""\naction = "reweight"\nweight = 0.5\n'''
    )
    try:
        report = curate(workspace, rules=path)
    except RuleError:
        report = curate(workspace, rules="minimal")
    assert report.facts["num_pairs"] == NUM_PAIRS
    with workspace.lake(read_only=True) as lake:
        assert lake.value("select count(*) from raw.decisions") == NUM_PAIRS


def test_names_of_rules_are_plain_words(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("règle", "规则", "a b", "x'; --", ""):
        text = f'''[[rule]]\nname = "{name}"\nwhen = "true"\naction = "drop"\n'''
        with pytest.raises(RuleError, match="name"):
            curate(workspace, rules=rules_file(tmp_path, text))


def test_the_training_set_holds_what_is_not_dropped_with_its_texts(workspace: Workspace) -> None:
    report = curate(workspace, rules="minimal")
    with workspace.lake(read_only=True) as lake:
        rows = lake.frame("select * from mart.training_set")
        texts = dict(lake.con.execute("select response_id, text from raw.responses").fetchall())
    assert rows.height == NUM_PAIRS - report.facts["num_dropped"]
    assert [texts[each] for each in rows["chosen_id"]] == rows["chosen"].to_list()
    assert rows["reference_chosen_logps"].null_count() == 0


@pytest.mark.slow
def test_a_flip_swaps_texts_and_log_probs(workspace: Workspace, tmp_path: Path) -> None:
    curate(workspace, rules="minimal")
    with workspace.lake(read_only=True) as lake:
        before = lake.frame("select * from mart.training_set order by pair_id")
    text = '[[rule]]\nname = "all"\nwhen = "not (is_identical or is_empty or is_tied)"\naction = "flip"\n'
    curate(workspace, rules=rules_file(tmp_path, text))
    with workspace.lake(read_only=True) as lake:
        after = lake.frame("select * from mart.training_set where is_flipped order by pair_id")
    assert after["chosen"].to_list() == before["rejected"].to_list()
    assert after["reference_chosen_logps"].to_list() == before["reference_rejected_logps"].to_list()
    assert after["rejected_num_tokens"].to_list() == before["chosen_num_tokens"].to_list()


def test_without_pairs_there_is_nothing_to_curate(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="there are no pairs to curate"):
        curate(Workspace.create(tmp_path / "empty"), rules="minimal")


def test_an_unknown_reference_policy_is_named(workspace: Workspace) -> None:
    with pytest.raises(RuleError, match=f"there is no reference policy 'other'.*{REFERENCE_ID}"):
        curate(workspace, rules="minimal", reference_id="other")
