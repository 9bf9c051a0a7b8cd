"""Runs and differences on a terminal of 80 columns: nothing is cut off, and no figure is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from flows import curation_tables, version_tables
from flows.stages.advice import dry_run
from flows.stages.compare import compare
from flows.stages.curate import curate
from flows.stages.versions import restore
from flows.workspace import Workspace
from tests.generated_lake import fill

WIDTH = 80


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(width=WIDTH, record=True, highlight=False)
    monkeypatch.setattr(version_tables, "out", console)
    return console


@pytest.mark.slow
def test_runs_and_diff_fit(tmp_path: Path, shown: Console) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=300)
    first = curate(workspace, rules="dpo-safe")
    second = curate(workspace, rules="annotator-consensus")
    third = restore(workspace, str(first.run_id))
    with workspace.lake(read_only=True) as lake:
        runs = [row[0] for row in lake.con.execute("select run_id from raw.runs").fetchall()]
        version_tables.runs_table(lake, stage=None)
        text = shown.export_text()
        assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
        words = text.split()
        assert set(runs) <= set(words)
        assert "repeats" in words
        assert words.count(str(first.run_id)) == 3  # as a run, as a curation run, and as what the third one repeats
        assert f"{first.facts['num_dropped']:,}" in words

        version_tables.diff_tables(compare(lake, str(first.run_id), str(second.run_id)))
        lines = shown.export_text().splitlines()
    table = [line for line in lines if "→" in line and not line.startswith(("curate-", " "))]
    assert table
    assert max(len(line.rstrip()) for line in table) <= WIDTH
    assert any(line.startswith("split_votes ") for line in table)
    assert any("changed rules" in line for line in table)
    assert third.run_id in runs


@pytest.mark.slow
def test_a_diff_names_everything_that_changed_on_a_pair(tmp_path: Path, shown: Console) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=300)
    rules = tmp_path / "mine.toml"
    rules.write_text(
        'objective = "cdpo"\n[[rule]]\nname = "half"\nwhen = "not is_tied"\naction = "reweight"\nweight = "0.5"\n'
        '[[rule]]\nname = "soft"\nwhen = "not is_tied"\naction = "soft_label"\nsoft_label = "0.75"\n',
        encoding="utf-8",
    )
    plain = tmp_path / "plain.toml"
    plain.write_text(
        'objective = "cdpo"\n[[rule]]\nname = "tie"\nwhen = "is_tied"\naction = "drop"\n', encoding="utf-8"
    )
    curate(workspace, rules=str(plain))
    curate(workspace, rules=str(rules))
    with workspace.lake(read_only=True) as lake:
        found = compare(lake, "previous", "latest")
        version_tables.diff_tables(found)
    changes = dict(found.by_rule.select("rule", "change").iter_rows())
    assert changes["half"] == changes["soft"] == "keep → soft label + reweight"
    text = shown.export_text()
    assert "weight 1 by no rule → weight 0.5, soft label 0.75 by half, soft" in text


@pytest.mark.slow
def test_a_dry_run_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=WIDTH, record=True, highlight=False)
    monkeypatch.setattr(curation_tables, "out", console)
    workspace = Workspace.create(tmp_path / "workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=300)
    found = dry_run(workspace, rules="annotator-consensus")
    curation_tables.dry_run_tables(found)
    lines = console.export_text().splitlines()
    rows = {line.split()[0]: line.split() for line in lines[4 : 4 + len(found.previews)]}
    for each in found.previews:  # no name is broken
        count = each.count
        assert rows[count.rule] == [
            *(count.rule, count.action, f"{count.num_matched:,}", f"{count.num_alone:,}", f"{count.num_applied:,}"),
            f"{each.weight_removed:,.1f}",
        ]
    assert max(len(line.rstrip()) for line in lines[1 : 4 + len(found.previews)]) <= WIDTH
