"""Figures of the data card agree with the decisions, also where people overruled the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.stages.adjudicate import adjudicate
from flows.stages.curate import curate
from flows.stages.export import export
from flows.workspace import Workspace
from tests.generated_lake import fill

RULES = """
objective = "cdpo"
[[rule]]
name = "short"
when = "p_chosen < 0.65"
action = "drop"
[[rule]]
name = "soft"
when = "p_chosen < 0.8"
action = "soft_label"
soft_label = "p_chosen"
"""


LABELS = ("all", "that train")


@pytest.mark.slow
def test_card_plot_and_decisions_agree_after_an_adjudication(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=300)
    rules = tmp_path / "mine.toml"
    rules.write_text(RULES, encoding="utf-8")
    overruled = "select pair_id from raw.pair_estimates where {} order by pair_id limit 1"
    with workspace.lake(read_only=True) as lake:
        kept = lake.value(overruled.format("p_chosen < 0.65"))
        dropped = lake.value(overruled.format("p_chosen between 0.7 and 0.75"))
    file = tmp_path / "decisions.csv"
    file.write_text(f"pair_id,action\n{kept},keep\n{dropped},drop\n", encoding="utf-8")
    adjudicate(workspace, file, by="ada")
    curate(workspace, rules=str(rules))
    export(workspace, target=tmp_path / "set")
    with workspace.lake(read_only=True) as lake:
        stored = lake.con.execute(
            "select effect.rule, count(*) from (select unnest(effects) as effect from mart.decisions) group by 1"
        ).fetchall()
        by_rule = {str(name): int(count) for name, count in stored}
        num_dropped = lake.value("select count(*) from mart.decisions where is_dropped")

    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\w+) \| [a-z_, ]+ \| \d+ \| (\d+) \|$", card, flags=re.MULTILINE))
    assert {name: int(count) for name, count in table.items()} == by_rule
    assert by_rule["adjudication"] == 2
    assert "| adjudication | drop, keep | 2 | 2 |" in card
    assert f"{num_dropped} were dropped" in card
    assert num_dropped == by_rule["short"] + 1
    assert f"{by_rule['soft']} given a soft label" in card
    plot = (tmp_path / "set" / "rules.svg").read_text(encoding="utf-8")
    drawn = re.findall(r'text-anchor="end">(\w+)</text>\n<rect[^>]*>\n<text[^>]*>(\d+)</text>', plot)
    assert {name: int(count) for name, count in drawn} == by_rule


@pytest.mark.slow
def test_margins_say_of_how_many_pairs_they_are(tmp_path: Path) -> None:
    """Where the dropped pairs are those without a margin, quantiles before and after agree and the counts say why."""
    workspace = Workspace.create(tmp_path / "workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=30)
        unscored = "select response_id from raw.reference_scores order by response_id limit 3"
        lake.transact(
            "score", lambda con: con.execute(f"delete from raw.reference_scores where response_id in ({unscored})")
        )
        num_with_margin = lake.value("select count(reference_margin) from mart.pair_diagnostics")
    assert 0 < num_with_margin < 30
    rules = tmp_path / "mine.toml"
    rules.write_text(
        'objective = "dpo"\n[[rule]]\nname = "unscored"\nwhen = "reference_margin is null"\naction = "drop"\n'
    )
    curate(workspace, rules=str(rules))
    export(workspace, target=tmp_path / "set")
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    every, trained = (re.search(rf"^\| {label} \| ([\d, a-z]+) \|(.*)$", card, re.MULTILINE) for label in LABELS)
    assert every is not None
    assert trained is not None
    assert every[1] == f"{num_with_margin} of 30"
    assert trained[1] == f"{num_with_margin} of {num_with_margin}"
    assert every[2] == trained[2]
    assert "A pair has no margin where a response of it has no reference log-probs" in card
