"""Norms and activations of a vLLM model on a CPU as one loop each; vLLM's own kernels for them are for GPUs."""

from __future__ import annotations

from torch import Tensor, nn
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm

from curation.scoring import cpu_kernels


class CpuRMSNorm(nn.Module):
    """What vLLM's ``RMSNorm`` computes, in bfloat16; its weight is the same parameter."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self._epsilon = norm.weight, norm.variance_epsilon

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """The norm of ``x``, or, in the memory of both, the norm of their sum and the sum. Shape (..., D)."""
        if residual is None:
            return cpu_kernels.rms_norm(x, self.weight, self._epsilon)
        return cpu_kernels.add_rms_norm(x, residual, self.weight, self._epsilon)

    forward_native = forward  # which some models call themselves


class CpuSiluAndMul(nn.Module):
    """What vLLM's ``SiluAndMul`` computes, in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., 2 D) to (..., D)."""
        return cpu_kernels.silu_product(x)


def replace_layers(module: nn.Module) -> None:
    """Replace the plain norms and activations below a module, before its weights are loaded."""
    for name, child in list(module.named_children()):
        if type(child) is RMSNorm and child.has_weight and child.variance_size_override is None:
            setattr(module, name, CpuRMSNorm(child))
        elif type(child) is SiluAndMul:
            setattr(module, name, CpuSiluAndMul())
        else:
            replace_layers(child)
