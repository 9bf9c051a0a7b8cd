"""Two processes with gloo do what one does on the same global batches, and agree on what they saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training.export_fixture import write_export
from tests.training.running import train_quietly

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from tests.training.running import train_quietly
from training.processes import end_process
export, target, settings, kill_behind = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
steps = []
def on_step():
    steps.append(1)
    if len(steps) == kill_behind:
        os.kill(os.getpid(), signal.SIGKILL)
result = train_quietly(export, target, on_step=on_step, **settings)
names = ("loss", "absolute_accuracy", "policy_margin", "share_undesirable", "chosen_drift", "grad_norm")
figures = {
    "logs": [[logs[name] for name in names] for logs in result.log_history if "loss" in logs],
    "after": result.after,
    "alarms": result.alarms,
    "check": result.check,
    "steps": len(steps),
}
Path(f"{target}-{os.environ['RANK']}.json").write_text(json.dumps(figures))
end_process(0)
"""
NAMES = ("loss", "absolute_accuracy", "policy_margin", "share_undesirable", "chosen_drift", "grad_norm")
SETTINGS = {"max_steps": 3, "token_budget": 300, "batch_size": 6, "objective": "kto", "seed": 4, "learning_rate": 1e-4}


def two_processes(
    export: Path, target: Path, settings: dict[str, Any], *, kill_behind: int = 0
) -> subprocess.CompletedProcess[str]:
    """Train with two processes, each of which is killed behind a step if asked."""
    script = target.with_suffix(".py")
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.run(
        [*command, str(export), str(target), json.dumps(settings), str(kill_behind)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )


def figures_of(target: Path) -> list[dict[str, Any]]:
    """What each of the two processes saw."""
    return [json.loads(Path(f"{target}-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_equal_one(hh_export: Path, tmp_path: Path) -> None:
    """KTO carries an estimate over all pairs of a step; batches of six over sixteen pairs end with one of four."""
    done = two_processes(hh_export, tmp_path / "two", SETTINGS)
    assert done.returncode == 0, done.stderr[:6000]
    one = train_quietly(hh_export, tmp_path / "one", **SETTINGS)
    logs = [[entry[name] for name in NAMES] for entry in one.log_history if "loss" in entry]
    assert len(logs) == 3
    for two in figures_of(tmp_path / "two"):
        for found, expected in zip(two["logs"], logs, strict=True):
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert two["after"] == pytest.approx(one.after, rel=1e-4, abs=1e-5)
        assert two["check"] == pytest.approx(one.check, abs=1e-6)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weight in first.items():
        assert (weight - second[name]).abs().max() < 1e-5, name


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_after_a_kill(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """The alarm looks at the pairs of both, so both stop behind the same step as one process does. Killed on the way,
    they go on from a checkpoint that is whole though both wrote to it, to the same alarm and the same weights."""
    rows = [{**row, "soft_label": 0.0} for row in hh_rows[:8]]
    export = write_export(tmp_path / "e", rows, rows[:2], model=tiny_en, tokenizer=tokenizer)
    settings = {"objective": "cdpo", "batch_size": 8, "epochs": 20, "learning_rate": 1.2e-4, "save_steps": 3}
    settings |= {"alarm": {"window": 4, "stop": True}}
    one = train_quietly(export, tmp_path / "one", **settings)
    assert two_processes(export, tmp_path / "two", settings).returncode == 0
    assert two_processes(export, tmp_path / "killed", settings, kill_behind=5).returncode != 0
    assert (tmp_path / ".killed.partial" / "checkpoint-3" / "rng_state_1.pth").is_file()
    assert two_processes(export, tmp_path / "killed", settings).returncode == 0
    for name in ("two", "killed"):
        found = figures_of(tmp_path / name)
        assert found[0] == found[1] | {"steps": found[0]["steps"]}
        assert [step for step, _ in found[0]["alarms"]] == [step for step, _ in one.alarms] == [one.counts["steps"]]
    assert figures_of(tmp_path / "killed")[0]["steps"] == one.counts["steps"] - 3
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "killed"))
    assert all((weight == second[name]).all() for name, weight in first.items())
