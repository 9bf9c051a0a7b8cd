"""A run that was killed with SIGKILL goes on and ends with the very weights of one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import TrainingError
from tests.training.export_fixture import write_export
from tests.training.running import train_quietly
from training import checkpoints
from training.lock import locked

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
    assert len(warnings) == 2
    assert "checkpoint-4 is skipped: model.safetensors has changed" in warnings[0]
    assert warnings[1] == "going on from step 2 of 8"
    assert equal_weights(resumed.checkpoint, whole.checkpoint)
    assert resumed.before == whole.before
    assert resumed.after == whole.after
    multipliers = [[logs["multiplier"] for logs in r.log_history if "multiplier" in logs] for r in (resumed, whole)]
    assert multipliers[0] == multipliers[1]
    assert multipliers[0][-1] > 0
    assert not work.exists()


@pytest.mark.parametrize(
    ("last_step", "what_follows"),
    [(1, "begins anew, as no checkpoint is written yet"), (3, "goes on from step 2 of 8")],
)
@pytest.mark.slow
def test_an_interrupted_run_says_what_the_same_command_does(
    last_step: int, what_follows: str, hh_export: Path, tmp_path: Path
) -> None:
    """Ctrl-C comes within a step; the checkpoint every two steps is what is left of the run."""
    steps, warnings = [], list[str]()

    def interrupt() -> None:
        steps.append(1)
        if len(steps) == last_step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_quietly(hh_export, tmp_path / "out", on_step=interrupt, warnings=warnings, **SETTINGS)
    assert warnings == [f"interrupted at step {last_step}; the same command {what_follows}"]


class Stopped(Exception):  # noqa: N818
    """What ends a run from outside."""


@pytest.mark.slow
def test_an_adapter_resumes_bit_equal(hh_export: Path, tmp_path: Path) -> None:
    """Stopped behind the third of four steps, resumed behind the second; dropout draws the same numbers again."""
    settings = {"lora": {"rank": 4, "dropout": 0.1}, "save_steps": 2, "max_steps": 4, "learning_rate": 1e-3}
    whole = train_quietly(hh_export, tmp_path / "whole", **settings)
    steps: list[int] = []

    def fail() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train_quietly(hh_export, tmp_path / "stopped", on_step=fail, **settings)
    resumed = train_quietly(hh_export, tmp_path / "stopped", on_step=lambda: steps.append(1), **settings)
    assert len(steps) == 5
    first, second = (load_file(run.checkpoint / "adapter_model.safetensors") for run in (whole, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(bool(weight.any()) for name, weight in first.items() if "lora_B" in name)


def stop() -> None:
    raise Stopped


@pytest.mark.slow
def test_a_run_that_failed_behind_its_last_step_takes_no_more(hh_export: Path, tmp_path: Path) -> None:
    """Three of the four steps of an epoch are done and saved when it fails; run again, it only writes its model."""
    whole = train_quietly(hh_export, tmp_path / "whole", max_steps=3)
    with pytest.raises(Stopped):
        train_quietly(hh_export, tmp_path / "failed", max_steps=3, on_trained=stop)
    steps: list[int] = []
    again = train_quietly(hh_export, tmp_path / "failed", max_steps=3, on_step=lambda: steps.append(1))
    assert steps == []
    assert again.counts["steps"] == whole.counts["steps"] == 3
    assert equal_weights(again.checkpoint, whole.checkpoint)
    assert again.after == whole.after
    assert again.check == whole.check


@pytest.mark.slow
def test_the_alarm_goes_on_where_it_was(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Labels of 0 set the alarm off at a step; a run that fails the step before has forgotten nothing, and one that
    fails behind that step does not train on."""
    rows = [{**row, "soft_label": 0.0} for row in hh_rows[:8]]
    export = write_export(tmp_path / "e", rows, rows[:2], model=tiny_en, tokenizer=tokenizer)
    settings = {"objective": "cdpo", "batch_size": 8, "epochs": 20, "learning_rate": 1.2e-4, "save_steps": 1}
    settings |= {"alarm": {"window": 4, "stop": True}}
    whole = train_quietly(export, tmp_path / "whole", **settings)
    last = whole.counts["steps"]
    assert 8 <= last < 20
    steps: list[int] = []

    def fail() -> None:
        steps.append(1)
        if len(steps) == last - 1:
            raise Stopped

    with pytest.raises(Stopped):
        train_quietly(export, tmp_path / "failed", on_step=fail, **settings)
    with pytest.raises(Stopped):
        train_quietly(export, tmp_path / "failed", on_trained=stop, **settings)
    again = train_quietly(export, tmp_path / "failed", on_step=lambda: steps.append(1), **settings)
    assert len(steps) == last - 1
    assert again.alarms == whole.alarms
    assert equal_weights(again.checkpoint, whole.checkpoint)


@pytest.mark.slow
def test_one_process_at_a_time(hh_export: Path, tmp_path: Path) -> None:
    with (
        locked(tmp_path / ".out.partial", name="out"),
        pytest.raises(TrainingError, match=f"out is being trained already, by process {os.getpid()}"),
    ):
        train_quietly(hh_export, tmp_path / "out", max_steps=1)
    train_quietly(hh_export, tmp_path / "out", max_steps=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="files cannot be written to"), locked(tmp_path / "file" / "x", name="x"):
        pass
    with locked(tmp_path / "gone", name="gone"):
        shutil.rmtree(tmp_path / "gone")
        with locked(tmp_path / "gone", name="gone"):
            assert (tmp_path / "gone" / "lock").read_text() == str(os.getpid())


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
            checkpoints.seal(folder, {"objective": {"multiplier": float(step)}})
    warnings: list[str] = []
    found = checkpoints.newest(tmp_path, warn=warnings.append)
    assert found == tmp_path / "checkpoint-10"
    assert checkpoints.state_of(found) == {"objective": {"multiplier": 10}}
    assert "checkpoint-30 is skipped: its winnow_checkpoint.json cannot be read" in warnings[0]
    damaged = bytearray((found / "weights").read_bytes())
    damaged[-1] ^= 1
    (found / "weights").write_bytes(damaged)
    assert checkpoints.newest(tmp_path, warn=warnings.append) == tmp_path / "checkpoint-2"
    assert checkpoints.newest(tmp_path / "missing", warn=warnings.append) is None
