"""Compiled decoder layers give the same weights; without a compiler there is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import EngineError
from tests.real_data import shared
from tests.training.running import train_quietly
from training.policy import check_compiler

SETTINGS = {"max_steps": 2, "token_budget": 600, "learning_rate": 1e-4, "check_pairs": 0}


@pytest.mark.slow
def test_compiled_layers_train_to_the_same_weights(hh_export: Path, tmp_path: Path) -> None:
    plain = train_quietly(hh_export, tmp_path / "plain", **SETTINGS)
    compiled = train_quietly(hh_export, tmp_path / "compiled", compile=True, **SETTINGS)
    first, second = (load_file(run.checkpoint / "model.safetensors") for run in (plain, compiled))
    before = load_file(shared("models/tiny-en") / "model.safetensors")
    assert first.keys() == second.keys()
    for name, weight in first.items():  # Adam's step of a gradient near 0 is as large as any, and may point elsewhere
        step = (weight - before[name].float()).norm()
        assert (weight - second[name]).norm() < 0.01 * step, name


@pytest.mark.slow
def test_without_a_compiler_there_is_one_line() -> None:
    code = "from training.policy import check_compiler; import torch; check_compiler(torch.device('cpu'))"
    env = {**os.environ, "PATH": "/nonexistent", "CXX": "no-such-compiler"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env, cwd=root)
    assert "EngineError: train.compile needs a C++ compiler" in done.stderr.splitlines()[-1]


def test_with_a_compiler_there_is_none() -> None:
    try:
        check_compiler(torch.device("cpu"))
    except EngineError as error:
        pytest.fail(str(error))
