"""What a CPU has to do in a training step on a GPU beside waiting; the last line is one JSON object.

    python -m tests.benchmarks.launches --compile

The steps of our trainer on a model of many layers that are so small that computing takes next to nothing, attention as
on a GPU with its kernels replaced by ones that do nothing. Where a GPU needs less than this for a real model of as many
layers, the CPU is the limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import varlen as torch_varlen
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback

from tests.benchmarks.train_systems import StepTimes, ours
from tests.training.test_packing import random_pairs
from training import varlen

BATCH, SKIPPED = 16, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--compile", action="store_true", help="compile the decoder layers")
    options = parser.parse_args()
    options.batch_size, options.max_grad_norm = BATCH, 1.0
    options.lora = options.gradient_checkpointing = False
    torch.set_num_threads(1)
    _replace_kernels()
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=512,
    )
    model = LlamaForCausalLM(config).bfloat16()
    count = (SKIPPED + options.steps) * BATCH
    pairs = random_pairs(1, shapes=[(i, 4 + i % 4, 3 + i % 3, 3 + i % 2) for i in range(count)])
    times = StepTimes()
    trainer = ours(model, pairs, options, times, "shared", in_backward=False)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    milliseconds = [1000 * seconds for seconds in times.seconds[SKIPPED:]]
    result = {"layers": options.layers, "compile": options.compile, "median_ms": statistics.median(milliseconds)}
    print(json.dumps(result | {"best_ms": min(milliseconds)}))


def _replace_kernels() -> None:
    def forward(query: Tensor, key: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
        norms = query.new_zeros(query.shape[1], len(query), dtype=torch.float32)
        return torch.zeros_like(query), norms, torch.zeros(2, dtype=torch.uint64)

    def backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> tuple[Tensor, ...]:
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)

    torch_varlen._varlen_attn.register_kernel("cpu")(forward)
    torch_varlen._varlen_attn_backward.register_kernel("cpu")(backward)
    varlen.has_kernels = torch.compiler.assume_constant_result(lambda device: True)


if __name__ == "__main__":
    main()
