"""What the machine does while it trains."""

from __future__ import annotations

import importlib.util

import torch


def hardware_use() -> dict[str, float]:
    """Use of the GPU, where there is one: peak memory and the busy share that the driver reports."""
    if not torch.cuda.is_available():
        return {}
    use = {"gpu_memory_gb": torch.cuda.max_memory_allocated() / 2**30}
    if importlib.util.find_spec("pynvml") is not None:
        use["gpu_busy"] = torch.cuda.utilization() / 100
    return use
