"""The last layer's MLP kept to the rows that are read: behind its attention, no token looks at another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_TOLERANCE = {torch.float32: 1e-4}  # relative, between tokens together and by themselves
_LOW_PRECISION_TOLERANCE = 2e-2


class MLPOnRows(nn.Module):
    """An MLP that, where it is told which rows are read, gives zero for the others."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp
        self._rows: Tensor | None = None

    @contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """Inside the block, these places of the flattened tokens are read: int64, without repeats, shape (R,)."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, L, D) to the same."""
        if self._rows is None:
            out: Tensor = self.mlp(x)
            return out
        flat = x.flatten(0, 1)
        found: Tensor = self.mlp(flat.index_select(0, self._rows)[None])
        return torch.zeros_like(flat).index_copy_(0, self._rows, found[0]).view_as(x)


@torch.inference_mode()
def keep_last_mlp_to_rows(model: Any) -> MLPOnRows | None:
    """Put an :class:`MLPOnRows` around the last layer's MLP; None, and the model as it was, where that would be wrong.

    Args:
        model: a causal language model of transformers; it is asked whether it runs that MLP once, and the MLP whether
            it takes each token by itself.
    """
    layers = getattr(model.base_model, "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if isinstance(layers, nn.ModuleList) and len(layers) else None
    if not isinstance(mlp, nn.Module) or not (_is_called_once(mlp, model) and _takes_tokens_alone(mlp, model)):
        return None
    kept = MLPOnRows(mlp)
    layers[-1].mlp = kept  # type: ignore[index]
    return kept


def _is_called_once(mlp: nn.Module, model: Any) -> bool:
    """Whether a pass runs this MLP one time, on hidden states alone; some models go through their layers repeatedly."""
    calls: list[tuple[int, int]] = []
    hook = mlp.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((len(args), len(kwargs))), with_kwargs=True
    )
    try:
        model.base_model(torch.tensor([[5, 6, 7]], device=model.device), use_cache=False)
    finally:
        hook.remove()
    return calls == [(1, 0)]


def _takes_tokens_alone(mlp: nn.Module, model: Any) -> bool:
    size = model.config.get_text_config().hidden_size
    x = torch.randn(1, 6, size, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
    try:
        together, alone = mlp(x), mlp(x[:, [1, 4]])
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    if not isinstance(together, Tensor) or together.shape != x.shape:
        return False  # a mixture of experts may give its routing too
    tolerance = _TOLERANCE.get(model.dtype, _LOW_PRECISION_TOLERANCE)
    expected = together[:, [1, 4]].float()
    return bool((alone.float() - expected).norm() <= tolerance * expected.norm())
