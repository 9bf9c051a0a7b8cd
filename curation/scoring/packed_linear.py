"""Linear layers on a CPU with weights that are laid out for its matrix units once, and not at every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from curation.scoring import cpu_kernels

_ROWS = 512  # for which the layout is chosen; it is right for any number


def packed_product(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor] | None:
    """``x @ weight.T + bias`` with a packed copy of the weight, or None where packing does not pay or is not there.

    Packing is oneDNN's, as torch's own compiler uses it; it needs bfloat16 weights on a CPU that has instructions for
    them (on others oneDNN computes in float32, which packing does not make faster).

    Args:
        weight: shape (out, in).
        bias: shape (out,), or None.
    """
    if not can_pack(weight):
        return None
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)

    def product(x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return out

    return product


def can_pack(weight: Tensor) -> bool:
    """Whether :func:`packed_product` takes this weight."""
    return cpu_kernels.has_matrix_units(weight.device, weight.dtype) and hasattr(
        torch.ops.mkldnn, "_reorder_linear_weight"
    )


class PackedLinear(nn.Module):
    """A linear layer that keeps only the packed weight, so a model that reads its layers' weights cannot have it."""

    def __init__(self, product: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._product = product

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., in) to (..., out)."""
        return self._product(x)


def pack_layers(module: nn.Module) -> None:
    """Replace every plain linear layer below a module by a packed one, where packing is there; not for training."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            product = packed_product(child.weight, child.bias)
            if product is not None:
                setattr(module, name, PackedLinear(product))
        else:
            pack_layers(child)


def head_product(model: Any) -> Callable[[Tensor], Tensor] | None:
    """The LM head of a vLLM model with a packed weight, where that is all that its ``compute_logits`` does.

    None where logits are split over devices or quantised, the head has a bias, or ``compute_logits`` gives something
    else for random hidden states, small or large: it may scale or cap the logits, or norm the states.
    """
    head, logits = getattr(model, "lm_head", None), getattr(model, "logits_processor", None)
    weight = getattr(head, "weight", None)
    if head is None or logits is None or weight is None or getattr(head, "bias", None) is not None:
        return None
    is_whole = getattr(head, "tp_size", None) == 1
    method = type(getattr(head, "quant_method", None)).__name__
    if not (is_whole and method.startswith("Unquantized")):
        return None
    product = packed_product(weight[: logits.org_vocab_size])
    if product is None:
        return None
    states = torch.randn(4, weight.shape[1], generator=torch.Generator().manual_seed(0))
    for scale in (0.1, 10.0, 1000.0):
        rows = (states * scale).to(weight.dtype)
        own, packed = model.compute_logits(rows).float(), product(rows).float()
        if not own.isfinite().all():  # of a broken model: its log-probs will say so
            return None
        if own.shape != packed.shape or not torch.allclose(own, packed, rtol=2**-6, atol=2**-6 * float(own.std())):
            return None
    return product
