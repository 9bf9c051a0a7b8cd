"""Optimizer steps within the backward pass, so that no two parameters' gradients exist at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class OptimizerInBackward:
    """Lets an optimizer step each parameter as soon as its gradient is complete, and frees that gradient.

    The optimizer stays what it is, with its own ``step``, state and groups: a step within the backward pass finds one
    gradient, and that behind it none. A parameter that a forward pass uses several times, as tied embeddings are, gets
    its gradient once, as the sum.

    Where a step takes several forward passes, gradients add up over them, and the optimizer steps behind the last one.

    Args:
        warn: shows a line to the user, at the first step of several forward passes.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._has_warned, self._is_on = False, False
        self._norms: dict[Tensor, Tensor] = {}

    def attach(self, optimizer: Optimizer) -> None:
        """Step the parameters of this optimizer."""

        def take_step(parameter: Tensor) -> None:
            if self._is_on:
                assert parameter.grad is not None
                self._norms[parameter] = torch.linalg.vector_norm(parameter.grad)
                optimizer.step()  # no other parameter has a gradient
                parameter.grad = None

        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.register_post_accumulate_grad_hook(take_step)

    def begin_step(self, *, num_passes: int) -> None:
        """To be called before the first of a step's forward passes."""
        self._norms.clear()
        self._is_on = num_passes == 1
        if not self._is_on and not self._has_warned:
            self._has_warned = True
            self._warn(
                f"a step takes {num_passes} forward passes and its gradients add up over them, so"
                " train.optimizer_in_backward saves no memory there; raise train.token_budget or lower train.batch_size"
            )

    def grad_norm(self, model: nn.Module) -> Tensor | None:
        """Norm of the gradient of the step, of which nothing is left; None where it is still there. Shape ()."""
        if not self._is_on:
            return None
        return nn.utils.get_total_norm([self._norms[p] for p in model.parameters() if p in self._norms])
