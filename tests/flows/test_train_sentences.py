"""What ``winnow train`` says of a run: how to read its figures, where the model is, what to do about the rest."""

# ruff: noqa: F811
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.stages.train_sentences import sentences
from tests.training.conftest import hh_export, hh_rows, tiny_en, tokenizer  # noqa: F401
from tests.training.export_fixture import write_export
from tests.training.running import make_plan

FIGURES = {"loss": 0.7, "absolute_accuracy": 0.5, "relative_accuracy": 0.0, "share_undesirable": 0.0}


def said(export: Path, facts: dict[str, Any], **settings: Any) -> list[str]:
    """Lines of a run with these facts beside those of 3 whole steps."""
    usual = {
        "metrics": {"before": FIGURES, "after": FIGURES},
        "checkpoint": "my models/dpo-1",
        "check": None,
        "alarms": [],
        **dict.fromkeys(("num_too_long", "num_cut_otherwise", "num_weightless"), 0),
        **{"num_steps": 3, "num_train": 12, "num_seen": 12, "num_eval": 8},
    }
    return sentences(make_plan(export, **settings), {**usual, **facts})


def test_a_plain_run(hh_export: Path) -> None:
    assert said(hh_export, {}, report_to=("tensorboard",)) == [
        "dpo, 3 steps on 12 pairs: loss 0.7000 -> 0.7000 nats, absolute accuracy 50.0 -> 50.0 %,"
        " relative accuracy 0.0 -> 0.0 %, share in U 0.0 -> 0.0 %",
        "model in my models/dpo-1",
        "every step's figures: tensorboard --logdir 'my models/dpo-1'",
    ]
    assert said(hh_export, {}, lora={})[1:] == ["adapter in my models/dpo-1"]


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({}, "or winnow score --max-length 99 --truncate left, then curate and export again"),
        ({"objective": "simpo"}, "or set train.truncate = 'left'"),
        ({"objective": "simpo", "truncate": "left"}, "as cutting the prompt is not enough"),
        ({"truncate": "left"}, "as cutting the prompt is not enough"),
    ],
)
def test_what_lets_longer_pairs_in(settings: dict[str, Any], mend: str, hh_export: Path) -> None:
    line = said(hh_export, {"num_too_long": 1}, max_length=99, **settings)[-1]
    assert line.startswith("left out: 1 pair longer than 99 tokens; raise train.max_length, ")
    assert line.endswith(mend)


def test_what_else_is_left_out(hh_export: Path) -> None:
    lines = said(hh_export, {"num_cut_otherwise": 2, "num_weightless": 1}, max_length=99, truncate="left")[-2:]
    assert lines[0].endswith("; winnow score --max-length 99 --truncate left, then curate and export again")
    assert lines[1] == "left out: 1 pair to which the rules give weight 0"


def test_without_held_out_pairs_says_how_to_have_some(
    hh_export: Path, hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    facts = {"metrics": {"before": {}, "after": {}}, "num_eval": 0}
    none = write_export(tmp_path / "none", hh_rows[:4], [], model=tiny_en, tokenizer=tokenizer)
    assert said(none, facts)[0].endswith("; raise export.test_share and winnow export again")
    assert said(hh_export, facts)[0].endswith(": no held-out pair is left to measure on")


def test_figures_that_are_not_what_they_seem(hh_export: Path) -> None:
    noisy = {"metrics": {"before": {**FIGURES, "relative_accuracy": 0.75}, "after": FIGURES}}
    assert any("before training the policy is the reference" in line for line in said(hh_export, noisy))
    assert any("compare accuracies" in line for line in said(hh_export, {}, objective="cpo_lagrangian"))
    alarms = {"alarms": [(14, "the loss fell")]}
    assert "alarm at step 14: the loss fell" in said(hh_export, alarms)
    assert "alarm at step 14 stopped the training: the loss fell" in said(hh_export, alarms, alarm={"stop": True})
