"""The most memory that a training step takes on a GPU, counted without one; the last line is one JSON object.

    python -m tests.benchmarks.step_memory --shape 8b --optimizer-in-backward --gradient-checkpointing full

Two steps of forward and backward pass and AdamW on tensors that have shapes and no content, attention and head as on a
GPU in bfloat16: every storage counts from when it is made until nothing refers to it. What kernels need within a call,
and what an allocator loses, is not in it.
"""

from __future__ import annotations

import argparse
import json
import weakref
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoTokenizer

from tests.benchmarks.shapes import SHAPES, random_model
from tests.benchmarks.train import hh_data
from tests.real_data import shared
from training import head, varlen
from training.batches import PairBatches
from training.optimizer_in_backward import OptimizerInBackward
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="8b")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="whose pairs are looked at; the largest batch is taken")
    parser.add_argument("--optimizer-in-backward", action="store_true")
    parser.add_argument("--gradient-checkpointing", choices=["off", "selective", "full"], default="off")
    options = parser.parse_args()
    pack = _largest_pack(options)
    _replace_kernels()
    with FakeTensorMode(allow_non_fake_inputs=True), Live() as live:
        model = random_model(options.shape, dtype=torch.bfloat16, device="cpu")
        set_attention(model, ATTENTION["shared"])
        if options.gradient_checkpointing != "off":
            every = 2 if options.gradient_checkpointing == "selective" else 1
            model.gradient_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)
        model.train()
        weights = live.now
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        in_backward = OptimizerInBackward(print) if options.optimizer_in_backward else None
        if in_backward is not None:
            in_backward.attach(optimizer)
        for _ in range(2):
            if in_backward is not None:
                in_backward.begin_step(num_passes=1)
            margins = pair_logps(model, pack).policy_margin
            live.mark("forward")
            margins.sum().backward()
            live.mark("backward")
            if in_backward is None:
                optimizer.step()
                optimizer.zero_grad()
            live.mark("step")
    gib = {
        name: round(value / 2**30, 4) for name, value in {"weights": weights, "peak": live.peak, **live.marks}.items()
    }
    print(json.dumps({**vars(options), "tokens": pack.input_ids.numel(), "rows": len(pack.rows), "gib": gib}))


def _largest_pack(options: argparse.Namespace) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(shared("models/tiny-en"))
    count = (1 + options.steps) * options.batch_size
    _, pairs = hh_data(tokenizer, count)
    batches = list(PairBatches(count, options.batch_size, seed=0))[1:]
    packs = [pack_pairs(pairs, batch, token_budget=1 << 30)[0] for batch in batches]
    return max(packs, key=lambda pack: pack.input_ids.numel())


class Live(TorchDispatchMode):
    """Bytes of all storages that something refers to, and the most there ever were, since the last mark as well."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._since_mark = 0
        self.marks: dict[str, int] = {}
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._take(each.untyped_storage())
        return out

    def _take(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak, self._since_mark = max(self.peak, self.now), max(self._since_mark, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size

    def mark(self, name: str) -> None:
        """Keep the most that there was since the last mark."""
        self.marks[name], self._since_mark = self._since_mark, self.now


def _replace_kernels() -> None:
    """Let this be a GPU for attention and head, and their kernels make what they make, without content."""

    def rows_forward(logits: Tensor, labels: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        return tuple(torch.empty(len(logits), dtype=torch.float32) for _ in range(2))  # type: ignore[return-value]

    def rows_backward(logits: Tensor, *_: Any, **__: Any) -> Tensor:
        return logits

    head._kernels = lambda: SimpleNamespace(rows_forward=rows_forward, rows_backward_=rows_backward)
    head.has_kernels = lambda device: True
    head.CHUNK_ELEMENTS = head.CHUNK_ELEMENTS_GPU
    varlen.has_kernels = lambda device: True


if __name__ == "__main__":
    main()
