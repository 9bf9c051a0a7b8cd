"""Diagnose marks pairs that the cut at the trainer's length makes one, once a policy is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.stages.diagnose import diagnose
from flows.stages.ingest import ingest
from flows.workspace import Workspace
from tests.real_data import shared

LONG = "It lies to the west of the old town, behind the market and the church. " * 6


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    turn = "\n\nHuman: Where is the harbour?\n\nAssistant:"
    pairs = [(f" {LONG}Go left.", f" {LONG}Go right."), (" To the west.", " To the east.")]
    lines = [json.dumps({"chosen": turn + chosen, "rejected": turn + rejected}) for chosen, rejected in pairs]
    (tmp_path / "hh.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = Workspace.create(tmp_path / "workspace")
    ingest(made, [str(tmp_path / "hh.jsonl")], format="hh")
    return made


def add_policy(workspace: Workspace, max_length: int) -> None:
    values = f"'m{max_length}', '{shared('models/tiny-en')}', null, 'w', 't', null, 'chat', null, null, {max_length}"
    with workspace.lake() as lake:
        lake.transact(
            "test: a policy",
            lambda con: con.execute(
                f"insert into raw.reference_policies values ({values}, 'never', now()::timestamp, 'r')"
            ),
        )


def found(workspace: Workspace) -> list[bool | None]:
    """Of the long pair and the short one."""
    with workspace.lake(read_only=True) as lake:
        sql = (
            "select is_token_identical from raw.pair_features join raw.pair_estimates using (pair_id)"
            " join raw.responses on chosen_id = response_id order by length(text) desc"
        )
        return [row[0] for row in lake.con.execute(sql).fetchall()]


@pytest.mark.slow
def test_the_latest_policy_decides(workspace: Workspace) -> None:
    diagnose(workspace)
    assert found(workspace) == [None, None]
    add_policy(workspace, 48)
    assert diagnose(workspace).num_changed > 0
    assert found(workspace) == [True, False]
    assert diagnose(workspace).run_id is None
    add_policy(workspace, 512)
    assert diagnose(workspace).num_changed > 0
    assert found(workspace) == [False, False]
