"""Two processes with gloo give the losses and weights of one on the same global batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.running import train_quietly

SCRIPT = """
import json, os, sys
from pathlib import Path
from tests.training.running import train_quietly
result = train_quietly(Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3]))
if os.environ["RANK"] == "0":
    losses = [logs["loss"] for logs in result.log_history if "loss" in logs]
    print(json.dumps({"losses": losses, "after": result.after}))
"""
SETTINGS = {"max_steps": 3, "token_budget": 300, "batch_size": 6, "objective": "kto", "seed": 4, "learning_rate": 1e-4}


@pytest.mark.slow
def test_two_processes_equal_one(hh_export: Path, tmp_path: Path) -> None:
    """KTO carries an estimate over all pairs of a step; batches of six over sixteen pairs end with one of four."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*command, str(hh_export), str(tmp_path / "two"), json.dumps(SETTINGS)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[:6000]
    two = json.loads(done.stdout.strip().splitlines()[-1])
    one = train_quietly(hh_export, tmp_path / "one", **SETTINGS)
    losses = [logs["loss"] for logs in one.log_history if "loss" in logs]
    assert len(losses) == 3
    assert two["losses"] == pytest.approx(losses, rel=1e-5)
    assert two["after"] == pytest.approx(one.after, rel=1e-4, abs=1e-5)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weight in first.items():
        assert (weight - second[name]).abs().max() < 1e-5, name
