"""What was scored is what is trained: the same tokens, whatever the prompt and the template mode."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path
from typing import Literal

import pytest

from curation.scoring.settings import ScoringSettings
from flows.stages.curate import curate
from flows.stages.diagnose import diagnose
from flows.stages.evaluate import evaluate
from flows.stages.export import export
from flows.stages.ingest import ingest
from flows.stages.score import score
from flows.stages.train import train
from flows.workspace import Workspace
from tests.real_data import shared

TRAIN = "[train]\nbatch_size = 4\ntoken_budget = 600\nreport_to = []\n[export]\ntest_share = 0.3\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "format", "template"),
    [
        ("blimp/pairs.jsonl.gz", "blimp", "auto"),  # no prompt, and a model with a chat template
        ("hh_rlhf/harmless-base-test.jsonl.gz", "hh", "plain"),  # its template is not used, so none is recorded
    ],
)
def test_an_untrained_policy_has_exactly_the_margins_of_the_reference(
    tmp_path: Path, data: str, format: str, template: Literal["auto", "plain"]
) -> None:
    with gzip.open(shared(f"data/{data}"), "rt", encoding="utf-8") as stream:
        (tmp_path / "pairs.jsonl").write_text("".join(islice(stream, 12)), encoding="utf-8")
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "winnow.toml").write_text(f"{TRAIN}[scoring]\ntemplate = '{template}'\n")
    workspace = Workspace.create(root)
    ingest(workspace, [str(tmp_path / "pairs.jsonl")], format=format)
    score(workspace, model=str(shared("models/tiny-en")), engine="transformers", dtype="float32")
    diagnose(workspace)
    curate(workspace, rules="minimal")
    folder = Path(export(workspace).facts["path"])
    assert train(workspace, export=folder, objective="dpo", max_steps=1).facts["num_steps"] == 1  # it compares too
    options = ScoringSettings(template=template, dtype="float32")
    again = evaluate(
        str(shared("models/tiny-en")),
        on=folder,
        split="train",
        engine="transformers",
        objective="dpo",
        settings=options,
    )
    assert again.facts["metrics"]["loss"] == pytest.approx(0.693147, abs=1e-4)
