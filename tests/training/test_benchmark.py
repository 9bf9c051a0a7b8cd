"""The benchmark runs, prints one JSON object at the end, and every system trains to the same loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SYSTEMS = ("ours_shared", "ours_packed", "ours_padded", "trl_precomputed", "trl_in_loop")
FIGURES = ("ratio_trl_in_loop", "ratio_trl_precomputed", "limit_ratio", "peak_memory_ratio", "flops_use")


def measure(*options: str) -> dict[str, Any]:
    """The comparison's JSON."""
    return result_of("train", "--json", "--steps", "1", "--rounds", "1", *options)


def result_of(benchmark: str, *options: str) -> dict[str, Any]:
    """A benchmark's JSON. Every tensor above 64 KiB is given back to the system when it is freed."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{benchmark}", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.mark.slow
def test_one_small_round() -> None:
    found = measure("--batch-size", "2", "--device", "cpu")
    losses = [found["systems"][name]["loss"] for name in SYSTEMS]
    assert losses == pytest.approx([losses[0]] * len(SYSTEMS), abs=1e-5)
    assert found["max_loss_difference"] < 1e-5
    assert (found["num_pairs"], found["max_grad_norm"]) == (2, 1)
    assert all(found[name] > 0 for name in FIGURES)


@pytest.mark.slow
def test_steps_within_the_backward_pass_save_the_gradients() -> None:
    """43 million weights of which few tokens make few activations: two moments each, and no gradient beside them."""
    shape = ("--shape", "0.2b", "--layers", "2", "--batch-size", "1", "--device", "cpu")
    found = measure(
        *shape, "--optimizer-in-backward", "--gradient-checkpointing", "--systems", "ours_shared", "trl_in_loop"
    )
    losses = [system["loss"] for system in found["systems"].values()]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    assert (found["max_grad_norm"], found["gradient_checkpointing"]) == (0, True)
    assert found["in_backward_memory_ratio"] < 0.85
    assert found["peak_memory_ratio_in_backward"] < 0.85 * found["peak_memory_ratio"]


@pytest.mark.slow
def test_memory_is_counted_without_a_gpu() -> None:
    """222 million weights in bfloat16: gradient and two moments beside them, and activations."""
    shape = ("--shape", "0.2b", "--batch-size", "2")
    plain = result_of("step_memory", *shape)["gib"]
    assert plain["weights"] == pytest.approx(0.4141, abs=0.0001)
    assert plain["step"] == pytest.approx(4 * plain["weights"], rel=0.01)
    assert plain["peak"] > plain["step"]
    spared = result_of("step_memory", *shape, "--optimizer-in-backward", "--gradient-checkpointing", "full")["gib"]
    assert 3 * plain["weights"] < spared["peak"] < 3.5 * plain["weights"]


@pytest.mark.slow
def test_launches_are_measured_without_a_gpu() -> None:
    found = result_of("launches", "--layers", "2", "--steps", "2")
    assert 0 < found["best_ms"] <= found["median_ms"]
