"""Training in bfloat16 moves the weights as float32 does, step by step and over a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.running import train_quietly
from tests.training.test_fsdp import torchrun
from training.optimizer import MasterAdamW


def test_equals_adamw_of_torch_on_float32() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(50), torch.randn(30, 50)
    found = []
    for kind in (MasterAdamW, torch.optim.AdamW):
        weight = torch.nn.Parameter(start.clone())
        optimizer = kind([weight], lr=1e-2, weight_decay=0.1)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        found.append(weight.detach())
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("resume", [False, True])
def test_small_steps_add_up_in_bfloat16(resume: bool) -> None:
    """A hundred steps of 1e-4 from 1.0, whose next number below is 0.996: alone, each would be rounded away."""
    ones = torch.ones(8, dtype=torch.bfloat16)

    def steps(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            weight.grad = ones.clone()
            optimizer.step()

    lost = torch.nn.Parameter(ones.clone())
    steps(lost, torch.optim.AdamW([lost], lr=1e-4, weight_decay=0), 100)
    assert torch.equal(lost.detach(), ones)

    kept = torch.nn.Parameter(ones.clone())
    optimizer = MasterAdamW([kept], lr=1e-4)
    steps(kept, optimizer, 50)
    if resume:
        saved, kept = optimizer.state_dict(), torch.nn.Parameter(kept.detach().clone())
        optimizer = MasterAdamW([kept], lr=1e-4)
        optimizer.load_state_dict(saved)
    steps(kept, optimizer, 50)
    assert optimizer.state[kept]["master"].tolist() == pytest.approx([0.99] * 8, abs=1e-5)
    assert torch.equal(kept.detach(), torch.full((8,), 0.99).bfloat16())


@pytest.mark.slow
def test_a_run_in_bfloat16_follows_one_in_float32(hh_export: Path, tiny_en: Path, tmp_path: Path) -> None:
    """The saved weights are the float32 copies, rounded: far more of them differ from the start than without."""
    options: dict[str, Any] = {"learning_rate": 1e-5, "epochs": 3, "check_tolerance": 1.0}
    runs = {
        "float32": {"dtype": "float32"},
        "copies": {"dtype": "bfloat16"},
        "none": {"dtype": "bfloat16", "master_weights": False},
    }
    start = load_file(tiny_en / "model.safetensors")
    weights = {
        name: load_file(train_quietly(hh_export, tmp_path / name, **options, **own).checkpoint / "model.safetensors")
        for name, own in runs.items()
    }
    moved = {
        name: sum(int((found[key] != start[key].to(found[key].dtype)).sum()) for key in found)
        for name, found in weights.items()
    }
    assert moved["copies"] > 2 * moved["none"]


SHARDED = """
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from training.optimizer import MasterAdamW
from training.processes import end_process

dist.init_process_group("gloo")
mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
found = []
for sharded in (False, True):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)).bfloat16()
    if sharded:
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = MasterAdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(5):
        torch.manual_seed(step)
        model(torch.randn(6, 8).bfloat16()).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    again = MasterAdamW(model.parameters(), lr=1e-2)
    again.load_state_dict(optimizer.state_dict())
    masters = [again.state[parameter]["master"] for parameter in model.parameters()]
    found.append([master.full_tensor() if sharded else master for master in masters])
off = max(float((whole - split).abs().max()) for whole, split in zip(*found))
if dist.get_rank() == 0:
    print(off)
end_process(0)
"""


@pytest.mark.slow
def test_sharded_parameters_take_the_same_steps(tmp_path: Path) -> None:
    """Under FSDP2 over two gloo processes, copies and moments are sharded with the parameters."""
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    done = torchrun(script)
    assert done.returncode == 0, done.stderr[-6000:]
    assert float(done.stdout.strip().splitlines()[-1]) == 0
