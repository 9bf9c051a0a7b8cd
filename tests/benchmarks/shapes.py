"""Models of a given shape with random weights, how many operations a step of theirs needs, and what the machine can."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from training.packing import Pack
from training.products import product

SHAPES: dict[str, dict[str, int]] = {
    "0.2b": {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 8192,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    },
}
"""Those of Llama 3.2 1B and Llama 3.1 8B, and one of 0.22B whose weights are nearly all in its layers, for a CPU."""


def random_model(shape: str, *, dtype: torch.dtype, device: str, layers: int | None = None) -> Any:
    """The same random weights at every call; ``layers`` instead of the shape's own number, for a trial."""
    values = SHAPES[shape] | ({} if layers is None else {"num_hidden_layers": layers})
    config = LlamaConfig(
        **values,
        max_position_embeddings=4096,
        tie_word_embeddings=shape == "1b",
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def step_flops(model: Any, packs: list[Pack]) -> float:
    """Operations of the products of a forward and backward pass, attention scores left out.

    Six a weight and row (two forward, four backward), four where the weight is not trained: the layers on every token,
    but the last MLP and the head only on the rows that predict a response token.
    """
    body, head = model.get_decoder(), model.get_output_embeddings()
    of_layers, of_last_mlp, of_head = (_flops_a_row(part) for part in (body.layers, body.layers[-1].mlp, head))
    total = 0.0
    for pack in packs:
        tokens, read = pack.input_ids.numel(), len(pack.read)
        total += of_layers * tokens - of_last_mlp * (tokens - read) + of_head * len(pack.rows)
    return total


def _flops_a_row(part: Any) -> float:
    return sum((6.0 if p.requires_grad else 4.0) * p.numel() for p in part.parameters() if p.dim() == 2)


def matmul_rate(*, dtype: torch.dtype, device: str) -> float:
    """Operations a second of a large plain product, best of several, by the library that our training takes."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(20 if device == "cuda" else 5):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        product(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
