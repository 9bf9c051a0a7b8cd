"""A 4-bit AWQ copy of a small policy, quantised here by rounding to the nearest of sixteen steps a group."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of eight 4-bit numbers in an int32


def awq_copy(source: Path, target: Path, *, group: int = 64) -> Path:
    """Write ``source`` to ``target`` with the layers' weights in AWQ's layout.

    Args:
        source: model folder in safetensors; every input size divides by ``group``.
        target: folder that does not exist yet.
        group: inputs that share a scale and a zero point.
    """
    shutil.copytree(source, target)
    weights: dict[str, Tensor] = {}
    for file in target.glob("*.safetensors"):
        weights |= load_file(file)
        file.unlink()
    out: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith("proj.weight"):
            out |= _quantised(name.removesuffix("weight"), weight, group)
        else:
            out[name] = weight
    save_file(out, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group,
        "zero_point": True,
        "version": "gemm",
    }
    (target / "config.json").write_text(json.dumps(config))
    return target


def _quantised(prefix: str, weight: Tensor, group: int) -> dict[str, Tensor]:
    groups = weight.float().T.reshape(-1, group, weight.shape[0])
    low, high = groups.amin(1), groups.amax(1)
    scales = ((high - low) / 15).clamp_min(1e-6)
    zeros = (-low / scales).round().clamp(0, 15)
    steps = (groups / scales[:, None] + zeros[:, None]).round().clamp(0, 15)
    return {
        f"{prefix}qweight": _packed(steps.reshape(-1, weight.shape[0])),
        f"{prefix}qzeros": _packed(zeros),
        f"{prefix}scales": scales.half(),
    }


def _packed(values: Tensor) -> Tensor:
    """Eight 4-bit numbers of a row in an int32; shape (rows, columns) to (rows, columns / 8)."""
    eights = values.to(torch.int64).view(len(values), -1, 8)[..., list(_ORDER)]
    words = (eights << (4 * torch.arange(8))).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32).contiguous()
