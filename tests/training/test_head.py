"""The chunked LM head against the plain one: values, gradients, and how much of it ever exists."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from training import head as head_of_training
from training.head import LogitTransform, response_logps

T, H, V, R = 50, 12, 101, 70


def example(*, bias: bool = False, dtype: torch.dtype = torch.float32) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    """Hidden states, head, rows (some of them twice) and labels."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(H, V, bias=bias)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(generator=generator)
    hidden = torch.randn(T, H, generator=generator).to(dtype).requires_grad_()
    rows, labels = torch.randint(0, T, (R,), generator=generator), torch.randint(0, V, (R,), generator=generator)
    return hidden, head.to(dtype), rows, labels


def plain(hidden: Tensor, head: nn.Linear, rows: Tensor, labels: Tensor, transform: LogitTransform) -> Tensor:
    logits = head(hidden[rows]).float() * transform.scale
    if transform.softcap is not None:
        logits = torch.tanh(logits / transform.softcap) * transform.softcap
    return torch.log_softmax(logits, -1).gather(1, labels[:, None])[:, 0]


def outcome(logps: Tensor, hidden: Tensor, head: nn.Linear) -> list[Tensor]:
    """Log-probs and every gradient of an uneven sum of them."""
    inputs = [hidden, *head.parameters()]
    upstream = torch.linspace(-1, 2, len(logps))
    return [logps.detach(), *torch.autograd.grad(logps, inputs, upstream)]


@pytest.mark.parametrize("kept", [0, 30, R, None])
@pytest.mark.parametrize("transform", [LogitTransform(), LogitTransform(scale=0.5, softcap=3.0)])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_plain_head(kept: int | None, transform: LogitTransform, bias: bool) -> None:
    """Whether log-probs are kept for the backward pass, computed again, or some of both."""
    hidden, head, rows, labels = example(bias=bias)
    ours = response_logps(hidden, head, rows, labels, transform=transform, chunk=16, kept=kept)
    wanted = outcome(plain(hidden, head, rows, labels, transform), hidden, head)
    for found, expected in zip(outcome(ours, hidden, head), wanted, strict=True):
        assert (found - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("kept", [0, R])
def test_bfloat16_accumulates_the_weight_gradient_in_float32(kept: int) -> None:
    hidden, head, rows, labels = example(dtype=torch.bfloat16)
    ours = outcome(response_logps(hidden, head, rows, labels, chunk=8, kept=kept), hidden, head)
    exact = [t.detach().float() for t in (hidden, head.weight)]
    wide = nn.Linear(H, V, bias=False)
    wide.weight.data.copy_(exact[1])
    wanted = outcome(plain(exact[0].requires_grad_(), wide, rows, labels, LogitTransform()), exact[0], wide)
    assert ours[2].dtype == torch.bfloat16
    for found, expected in zip(ours, wanted, strict=True):
        assert (found.float() - expected).abs().max() < 0.02 * float(expected.abs().max())


class Kinds(TorchDispatchMode):
    """Notes shape and dtype of every new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[tuple[int, ...], torch.dtype]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, Tensor):
                self.seen.add((tuple(each.shape), each.dtype))
        return out


@pytest.mark.parametrize(("chunk", "needs_sum"), [(R, False), (R // 2, True)])
def test_one_chunk_makes_no_float32_copy_of_the_weights_gradient(chunk: int, needs_sum: bool) -> None:
    """Several need it, as rounding every part would lose more."""
    hidden, head, rows, labels = example(dtype=torch.bfloat16)
    with Kinds() as kinds:
        outcome(response_logps(hidden, head, rows, labels, chunk=chunk, kept=0), hidden, head)
    assert (((V, H), torch.float32) in kinds.seen) == needs_sum
    assert ((V, H), torch.bfloat16) in kinds.seen


def test_two_forward_passes_before_the_backward_ones_do_not_share_memory() -> None:
    hidden, head, rows, labels = example()
    wanted = outcome(plain(hidden, head, rows, labels, LogitTransform()), hidden, head)
    first = response_logps(hidden, head, rows, labels)
    second = response_logps(hidden, head, rows.flip(0), labels)
    third = outcome(second, hidden, head)
    for found, expected in zip(outcome(first, hidden, head), wanted, strict=True):
        assert (found - expected).abs().max() < 1e-4
    again = outcome(response_logps(hidden, head, rows.flip(0), labels), hidden, head)
    assert all(torch.equal(a, b) for a, b in zip(third, again, strict=True))


def test_a_second_backward_pass_is_refused() -> None:
    hidden, head, rows, labels = example()
    logps = response_logps(hidden, head, rows, labels).sum()
    logps.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used up by an earlier backward pass"):
        logps.backward()


class Largest(TorchDispatchMode):
    """Notes the most elements that any new tensor has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out


def test_no_tensor_of_tokens_by_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 rows over a vocabulary of 5,000 in chunks of 10: nothing is larger than the rows kept or a chunk."""
    monkeypatch.setattr(head_of_training, "_spare", [])  # of another test's pass, of whatever size
    head, hidden = nn.Linear(4, 5_000, bias=False), torch.randn(400, 4, requires_grad=True)
    rows, labels = torch.arange(400), torch.zeros(400, dtype=torch.int64)
    with Largest() as plainly:
        plain(hidden, head, rows, labels, LogitTransform()).sum().backward()
    assert plainly.elements == 400 * 5_000
    for kept, most in ((0, 10 * 5_000), (20, 20 * 5_000)):
        with Largest() as ours:
            response_logps(hidden, head, rows, labels, chunk=10, kept=kept).sum().backward()
        assert ours.elements == most
