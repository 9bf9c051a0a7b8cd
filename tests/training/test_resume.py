"""A run that was killed with SIGKILL goes on and ends with the very weights of one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.running import train_quietly
from training import checkpoints

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.running import train_quietly
steps = []
def on_step():
    steps.append(1)
    if len(steps) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
train_quietly(Path(sys.argv[1]), Path(sys.argv[2]), on_step=on_step, **eval(sys.argv[3]))
"""
SETTINGS = {
    "epochs": 2,
    "save_steps": 2,
    "lr_schedule": "linear",
    "objective": "cpo_lagrangian",
    "multiplier_step": 0.5,
}


def equal_weights(first: Path, second: Path) -> bool:
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_killed_and_resumed_is_bit_equal_and_a_broken_checkpoint_is_skipped(hh_export: Path, tmp_path: Path) -> None:
    """Eight steps in two epochs, killed behind the fifth; the checkpoint at step 4 is cut, so that it resumes at 2."""
    whole = train_quietly(hh_export, tmp_path / "whole", **SETTINGS)
    target = tmp_path / "killed"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(hh_export), str(target), repr(SETTINGS)], capture_output=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-2000:]
    assert not target.exists()
    work = tmp_path / ".killed.partial"
    assert {path.name for path in work.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    weights = work / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    warnings: list[str] = []
    steps: list[int] = []
    resumed = train_quietly(hh_export, target, on_step=lambda: steps.append(1), warnings=warnings, **SETTINGS)
    assert len(steps) == 6
    assert len(warnings) == 1
    assert "checkpoint-4 is skipped: model.safetensors has changed" in warnings[0]
    assert equal_weights(resumed.checkpoint, whole.checkpoint)
    assert resumed.before == whole.before
    assert resumed.after == whole.after
    multipliers = [[logs["multiplier"] for logs in r.log_history if "multiplier" in logs] for r in (resumed, whole)]
    assert multipliers[0] == multipliers[1]
    assert multipliers[0][-1] > 0
    assert not work.exists()


class Stopped(Exception):  # noqa: N818
    """What ends a run from outside."""


@pytest.mark.slow
def test_an_adapter_resumes_bit_equal(hh_export: Path, tmp_path: Path) -> None:
    """Stopped behind the third of four steps, resumed behind the second; dropout draws the same numbers again."""
    settings = {"lora": {"rank": 4, "dropout": 0.1}, "save_steps": 2, "max_steps": 4, "learning_rate": 1e-3}
    whole = train_quietly(hh_export, tmp_path / "whole", **settings)
    steps: list[int] = []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train_quietly(hh_export, tmp_path / "stopped", on_step=stop, **settings)
    resumed = train_quietly(hh_export, tmp_path / "stopped", on_step=lambda: steps.append(1), **settings)
    assert len(steps) == 5
    first, second = (load_file(run.checkpoint / "adapter_model.safetensors") for run in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(bool(weight.any()) for name, weight in first.items() if "lora_B" in name)


@pytest.mark.slow
def test_two_runs_are_identical(hh_export: Path, tmp_path: Path) -> None:
    first = train_quietly(hh_export, tmp_path / "a", max_steps=3)
    second = train_quietly(hh_export, tmp_path / "b", max_steps=3)
    other = train_quietly(hh_export, tmp_path / "c", max_steps=3, seed=1)
    assert equal_weights(first.checkpoint, second.checkpoint)
    assert not equal_weights(first.checkpoint, other.checkpoint)


def test_newest_skips_what_is_unsealed_or_damaged(tmp_path: Path) -> None:
    for step in (2, 10, 30):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(bytes(range(256)) * 20_000)
        if step != 30:
            checkpoints.seal(folder, {"multiplier": float(step), "kl": 0.0})
    warnings: list[str] = []
    found = checkpoints.newest(tmp_path, warn=warnings.append)
    assert found == tmp_path / "checkpoint-10"
    assert checkpoints.state_of(found)["multiplier"] == 10
    assert "checkpoint-30 is skipped: its winnow_checkpoint.json cannot be read" in warnings[0]
    damaged = bytearray((found / "weights").read_bytes())
    damaged[-1] ^= 1
    (found / "weights").write_bytes(damaged)
    assert checkpoints.newest(tmp_path, warn=warnings.append) == tmp_path / "checkpoint-2"
    assert checkpoints.newest(tmp_path / "missing", warn=warnings.append) is None
