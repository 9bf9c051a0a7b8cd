"""Steps within the backward pass give what steps behind it give, bit for bit, with one gradient at a time."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from schemas.errors import TrainingError
from tests.training.running import make_plan, train_quietly
from tests.training.test_resume import KILLED
from training import checkpoints
from training.optimizer import MasterAdamW
from training.optimizer_in_backward import OptimizerInBackward
from training.settings import TrainSettings

SETTINGS: dict[str, Any] = {"max_steps": 3, "max_grad_norm": 0, "lr_schedule": "linear", "weight_decay": 0.1}


class Stopped(Exception):  # noqa: N818
    """What ends a run from outside."""


def last_checkpoint(export: Path, output: Path, *, warnings: list[str] | None = None, **settings: Any) -> Path:
    """That of a run's last step, weights and optimizer in it."""

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train_quietly(export, output, on_trained=stop, warnings=warnings, **{**SETTINGS, **settings})
    return output.with_name(f".{output.name}.partial") / "checkpoint-3"


def weights_of(checkpoint: Path) -> dict[str, Any]:
    return load_file(next(iter(checkpoint.glob("*model.safetensors"))))


def logs_of(checkpoint: Path) -> list[dict[str, float]]:
    """Every metric but the speed."""
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [{name: value for name, value in logs.items() if not name.endswith("_per_s")} for logs in history]


def assert_equal(first: Any, second: Any) -> None:
    """Tensors bit for bit, in anything that nests."""
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_equal(first[name], second[name])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dtype": "bfloat16", "check_tolerance": 1.0},
        {"dtype": "bfloat16", "check_tolerance": 1.0, "master_weights": False},
        {"optimizer": "adamw_8bit"},
        {"lora": {"rank": 4, "dropout": 0.1}},
        {"objective": "cpo_lagrangian", "multiplier_step": 0.5},
        {"gradient_checkpointing": "full"},
        {"gradient_checkpointing": "selective", "batching": "padded"},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()) or "adamw",
)
def test_equals_steps_behind_the_backward_pass(settings: dict[str, Any], hh_export: Path, tmp_path: Path) -> None:
    """Weights, optimizer, schedule and every metric, the gradient's norm among them; tiny-en ties its embeddings."""
    warnings: list[str] = []
    behind = last_checkpoint(hh_export, tmp_path / "behind", **settings)
    within = last_checkpoint(hh_export, tmp_path / "within", optimizer_in_backward=True, warnings=warnings, **settings)
    assert warnings == []
    assert_equal(weights_of(behind), weights_of(within))
    for name in ("optimizer.pt", "scheduler.pt"):
        assert_equal(*(torch.load(checkpoint / name, weights_only=True) for checkpoint in (behind, within)))
    assert logs_of(behind) == logs_of(within)
    assert all(logs["grad_norm"] > 0 for logs in logs_of(within) if "loss" in logs)
    states = [checkpoints.state_of(checkpoint) for checkpoint in (behind, within)]
    assert states[0] == states[1]
    if "multiplier_step" in settings:
        assert states[1]["objective"]["multiplier"] > 0


@pytest.mark.slow
def test_gradients_of_several_forward_passes_add_up_first(hh_export: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    behind = last_checkpoint(hh_export, tmp_path / "behind", token_budget=300)
    within = last_checkpoint(
        hh_export, tmp_path / "within", token_budget=300, optimizer_in_backward=True, warnings=warnings
    )
    assert_equal(weights_of(behind), weights_of(within))
    assert logs_of(behind) == logs_of(within)
    assert len(warnings) == 1
    assert re.match(r"a step takes \d forward passes .* saves no memory there; raise train\.token_budget", warnings[0])


@pytest.mark.slow
@pytest.mark.parametrize("within_at_first", [True, False])
def test_killed_and_resumed_the_other_way_is_bit_equal(within_at_first: bool, hh_export: Path, tmp_path: Path) -> None:
    """Eight steps, killed behind the fifth, go on behind the fourth; it is the same run with the setting or without."""
    settings = {**SETTINGS, "max_steps": None, "epochs": 2, "save_steps": 2}
    plans = [make_plan(hh_export, **settings, optimizer_in_backward=within) for within in (True, False)]
    assert plans[0].training_run_id == plans[1].training_run_id
    whole = train_quietly(hh_export, tmp_path / "whole", **settings)
    target, first = tmp_path / "killed", {**settings, "optimizer_in_backward": within_at_first}
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(hh_export), str(target), repr(first)], capture_output=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-2000:]
    warnings: list[str] = []
    second = {**settings, "optimizer_in_backward": not within_at_first}
    resumed = train_quietly(hh_export, target, warnings=warnings, **second)
    assert warnings == ["going on from step 4 of 8"]
    assert_equal(weights_of(whole.checkpoint), weights_of(resumed.checkpoint))
    assert resumed.after == whole.after


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_stops_and_is_not_saved(hh_export: Path, tmp_path: Path) -> None:
    """The weights in memory are spoilt by then; a run stops with the pairs, and leaves no checkpoint of that step."""
    options = {"beta": 1e42, "max_steps": 1, "save_steps": 1, "batch_size": 16, "max_grad_norm": 0}
    with pytest.raises(TrainingError, match=r"the gradient is not finite at step 1 for pairs .* and 8 more"):
        train_quietly(hh_export, tmp_path / "out", optimizer_in_backward=True, **options)
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / ".out.partial").glob("**/*.safetensors")) == []


@pytest.mark.parametrize("kind", [torch.optim.AdamW, MasterAdamW])
def test_one_gradient_at_a_time(kind: type[torch.optim.Optimizer]) -> None:
    """Of ten layers, the first used twice at first, and fewer at every step; the learning rate changes with them."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8, bias=False) for _ in range(10)]
    models = [nn.Sequential(*layers, layers[0])]
    models.append(nn.Sequential(*(copied := [nn.Linear(8, 8, bias=False) for _ in range(10)]), copied[0]))
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [kind(model.parameters(), lr=1e-2) for model in models]  # type: ignore[call-arg]
    in_backward = OptimizerInBackward(pytest.fail)
    alive: list[int] = []
    for parameter in models[1].parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _: alive.append(sum(p.grad is not None for p in models[1].parameters()))
        )
    in_backward.attach(optimizers[1])
    for step in range(3):
        in_backward.begin_step(num_passes=1)
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = 1e-2 / (1 + step)
            model[: 11 - 2 * step](torch.ones(2, 8)).square().sum().backward()
        expected = nn.utils.get_total_norm([p.grad for p in models[0].parameters() if p.grad is not None])
        assert in_backward.grad_norm(models[1]) == expected
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert alive == [1] * (10 + 9 + 7)
    assert_equal(models[0].state_dict(), models[1].state_dict())
    assert_equal(optimizers[0].state_dict(), optimizers[1].state_dict())


def test_what_it_cannot_hold_with_is_refused(hh_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match=r"max_grad_norm 1 clips: set max_grad_norm = 0, or optimizer_in_back"):
        TrainSettings(optimizer_in_backward=True)
    with pytest.raises(ValidationError, match=r"as sharding 'fsdp' has it: set one of the two to its default"):
        TrainSettings(optimizer_in_backward=True, max_grad_norm=0, sharding="fsdp")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(TrainingError, match="steps before torchrun's processes add up their gradients"):
        make_plan(hh_export, optimizer_in_backward=True, max_grad_norm=0)
