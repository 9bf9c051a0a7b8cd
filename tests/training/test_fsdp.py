"""FSDP2: a sharded model gives the log-probs and gradients of a whole one, though its head and last MLP are replaced.

accelerate shards on GPUs only, so on a CPU the test wraps the model as accelerate would; the whole path, from the
setting to the checkpoint, is the ``gpu`` test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SHARDED = """
import json, os, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM
from tests.training.test_packing import CONFIGS, SHAPES, random_pairs
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention
from training.processes import end_process

dist.init_process_group("gloo")
mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
pairs = random_pairs(1, shapes=SHAPES)
worst = {}
for name in ("llama, six heads on two", "llama, tied"):
    models = []
    for sharded in (False, True):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32)
        set_attention(model, ATTENTION["shared"])
        if sharded:
            for layer in model.model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
        total, margins = 0.0, []
        # two passes, of different pairs on each process; the whole model takes those of both
        for number in range(2):
            ranks = [dist.get_rank()] if sharded else [0, 1]
            for rank in ranks:
                for pack in pack_pairs(pairs, [number, 2 + 2 * rank, 3 + 2 * rank], token_budget=10_000):
                    found = pair_logps(model, pack)
                    loss = torch.nn.functional.softplus(-0.5 * found.policy_margin).sum()
                    (loss if sharded else loss / 2).backward()
                    if rank == dist.get_rank():
                        margins.append(found.policy_margin.detach())
        models.append((model, torch.cat(margins)))
    (whole, expected), (split, found) = models
    off = [float((found - expected).abs().max() / expected.abs().max())]
    for (parameter, p), (_, q) in zip(whole.named_parameters(), split.named_parameters()):
        assert q.to_local().numel() < q.numel(), parameter
        gradient = q.grad.full_tensor()
        off.append(float((gradient - p.grad).abs().max() / max(1.0, float(p.grad.abs().max()))))
    worst[name] = max(off)
if dist.get_rank() == 0:
    print(json.dumps(worst))
end_process(0)
"""


def torchrun(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Two processes of a script."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=env)


@pytest.mark.slow
def test_a_sharded_model_equals_a_whole_one(tmp_path: Path) -> None:
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    done = torchrun(script)
    assert done.returncode == 0, done.stderr[-6000:]
    worst = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(worst) == 2
    assert max(worst.values()) < 1e-5, worst


REFUSED = """
import sys
from pathlib import Path
from schemas.errors import EngineError
from tests.training.running import train_quietly
try:
    train_quietly(Path(sys.argv[1]), Path(sys.argv[2]), sharding="fsdp", max_steps=1)  # torchrun of one process
except EngineError as error:
    print(error.message)
"""


@pytest.mark.slow
def test_without_gpus_sharding_is_refused(hh_export: Path, tmp_path: Path) -> None:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    env |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [sys.executable, "-c", REFUSED, str(hh_export), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "train.sharding = 'fsdp' needs GPUs, and there is none"


TRAINED = """
import json, os, sys
from pathlib import Path
from tests.training.running import train_quietly
result = train_quietly(Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3]))
if os.environ["RANK"] == "0":
    print(json.dumps([logs["loss"] for logs in result.log_history if "loss" in logs]))
"""


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
def test_fsdp_through_accelerate_equals_one_gpu(hh_export: Path, tmp_path: Path) -> None:
    script = tmp_path / "trained.py"
    script.write_text(TRAINED)
    settings = {"max_steps": 3, "token_budget": 300, "batch_size": 6, "dtype": "float32", "learning_rate": 1e-4}
    losses = []
    for name, sharding in (("ddp", "none"), ("fsdp", "fsdp")):
        done = torchrun(script, str(hh_export), str(tmp_path / name), json.dumps({**settings, "sharding": sharding}))
        assert done.returncode == 0, done.stderr[-6000:]
        losses.append(json.loads(done.stdout.strip().splitlines()[-1]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
