"""The benchmark runs, prints one JSON object at the end, and every system trains to the same loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMS = ("ours_shared", "ours_packed", "ours_padded", "trl_precomputed", "trl_in_loop")
FIGURES = ("ratio_trl_in_loop", "ratio_trl_precomputed", "limit_ratio", "peak_memory_ratio", "flops_use")


@pytest.mark.slow
def test_one_small_round() -> None:
    options = ["--json", "--steps", "1", "--rounds", "1", "--batch-size", "2", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.train", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    losses = [found["systems"][name]["loss"] for name in SYSTEMS]
    assert losses == pytest.approx([losses[0]] * len(SYSTEMS), abs=1e-5)
    assert found["max_loss_difference"] < 1e-5
    assert found["num_pairs"] == 2
    assert all(found[name] > 0 for name in FIGURES)
