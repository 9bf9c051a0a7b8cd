"""Norms and gated activations of a loaded model as one loop over their values, on a CPU that computes in bfloat16.

A layer is replaced only if its own answers to random input, small and large, are what the loop gives, so a norm or an
activation that is written otherwise (Gemma's norm, a clamped SwiGLU) is left as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from curation.scoring import cpu_kernels

_TOLERANCE = 2**-6  # some roundings of bfloat16, relative
_SCALES = (1e-2, 1.0, 30.0, 1e3)  # of the input


class FusedRMSNorm(nn.Module):
    """RMS norm, not for training."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.variance_epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., D) to the same."""
        return cpu_kernels.rms_norm(x, self.weight, self.variance_epsilon)


class FusedGatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))`` with one product for gate and up, not for training."""

    def __init__(self, gate: nn.Linear, up: nn.Linear, down: nn.Module) -> None:
        super().__init__()
        self.both = nn.Linear(gate.in_features, 2 * gate.out_features, bias=gate.bias is not None, device="meta")
        self.both.weight = joined(gate.weight, up.weight)
        if gate.bias is not None:
            self.both.bias = joined(gate.bias, up.bias)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., D) to the same."""
        out: Tensor = self.down(cpu_kernels.silu_product(self.both(x)))
        return out


def joined(*weights: Tensor) -> nn.Parameter:
    """Weights of several layers as those of one, whose outputs lie behind one another."""
    return nn.Parameter(torch.cat([weight.detach() for weight in weights]), requires_grad=False)


@torch.inference_mode()
def fuse_layers(module: nn.Module) -> None:
    """Replace the norms and gated MLPs below a module that one loop computes; not for training."""
    for name, child in list(module.named_children()):
        fused = _fused(child)
        if fused is not None and all(_is_same(child, fused, scale) for scale in _SCALES):
            setattr(module, name, fused)
        else:
            fuse_layers(child)


def _fused(layer: Any) -> FusedRMSNorm | FusedGatedMLP | None:
    """What might stand in for a layer."""
    weight = getattr(layer, "weight", None)
    epsilon = getattr(layer, "variance_epsilon", getattr(layer, "eps", None))
    if type(layer).__name__.endswith("RMSNorm") and isinstance(weight, Tensor) and isinstance(epsilon, float):
        return FusedRMSNorm(weight, epsilon) if weight.dtype == torch.bfloat16 else None
    gate, up, down = (getattr(layer, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    if type(gate) is type(up) is type(down) is nn.Linear and gate.weight.dtype == torch.bfloat16:
        has_silu = type(getattr(layer, "act_fn", None)).__name__ in ("SiLU", "SiLUActivation")
        is_alike = (gate.bias is None) == (up.bias is None) and gate.weight.shape == up.weight.shape
        return FusedGatedMLP(gate, up, down) if has_silu and is_alike else None
    return None


def _is_same(layer: nn.Module, fused: FusedRMSNorm | FusedGatedMLP, scale: float) -> bool:
    """Whether both give the same for random input of this size; a layer that takes no such input is another one."""
    size = len(fused.weight) if isinstance(fused, FusedRMSNorm) else fused.both.in_features
    x = (torch.randn(1, 4, size, generator=torch.Generator().manual_seed(0)) * scale).bfloat16()
    try:
        expected = layer(x).float()
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    found = fused(x).float()
    return found.shape == expected.shape and torch.allclose(
        found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * float(expected.abs().mean())
    )
