"""AdamW for parameters in bfloat16: the steps are taken on float32 copies, which are then rounded."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class MasterAdamW(Optimizer):
    """AdamW (arXiv:1711.05101) with float32 copies of the parameters and float32 moments.

    A bfloat16 number keeps 8 bits: a change below 1/512 of a weight is rounded away, however often it comes, and a
    second moment in bfloat16 cannot decay by a thousandth. So the copies take the steps, and the parameters follow
    them. 12 bytes a parameter beside the 2 of the parameter and of its gradient.

    Args:
        params: parameters or groups of them.
        lr, betas, eps, weight_decay: as in ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient."""
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _take_step(parameter, self.state[parameter], group)
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state as it was saved; torch alone would round it to the parameters' dtype."""
        super().load_state_dict(state_dict)
        numbers = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                is_moved = isinstance(value, Tensor) and name != "step"
                self.state[parameter][name] = value.to(parameter.device) if is_moved else value


def _take_step(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = torch.zeros(())
        state["master"] = parameter.detach().float().clone()
        state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(state["master"]) for _ in range(2))
    state["step"] += 1
    (first, second), number = group["betas"], float(state["step"])
    gradient = parameter.grad.float()  # type: ignore[union-attr]
    state["exp_avg"].lerp_(gradient, 1 - first)
    state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    scale = (state["exp_avg_sq"] / (1 - second**number)).sqrt_().add_(group["eps"])
    state["master"].mul_(1 - group["lr"] * group["weight_decay"])
    state["master"].addcdiv_(state["exp_avg"], scale, value=-group["lr"] / (1 - first**number))
    parameter.copy_(state["master"])


def needs_master_weights(model: nn.Module) -> bool:
    """Whether something that is trained is in bfloat16."""
    return any(parameter.requires_grad and parameter.dtype == torch.bfloat16 for parameter in model.parameters())
