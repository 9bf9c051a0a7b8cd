"""What a decoder layer keeps for the way back, eager and compiled; the last line is one JSON object.

    python -m tests.benchmarks.activations --shape 8b

Two layers of the shape in bfloat16 on a CPU, a row of two pairs, attention as on a GPU with its kernels replaced by the
same sums: tensors that autograd saves, without parameters, each storage once, in bytes a token and layer.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch

from tests.benchmarks.shapes import SHAPES, random_model
from tests.training import varlen_on_cpu
from tests.training.test_packing import random_pairs
from training import varlen
from training.packing import Pack, pack_pairs
from training.policy import ATTENTION, compile_layers, set_attention

LAYERS = 2
PAIRS = [(0, 150, 60, 50), (1, 60, 20, 30)]  # group, tokens of the prompt and of both responses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="8b")
    shape = parser.parse_args().shape
    varlen_on_cpu.register()
    varlen.has_kernels = torch.compiler.assume_constant_result(lambda device: True)
    (pack,) = pack_pairs(random_pairs(1, shapes=PAIRS), range(len(PAIRS)), token_budget=1 << 30)
    result: dict[str, Any] = {"shape": shape, "tokens": pack.input_ids.shape[1]}
    for name in ("eager", "compiled"):
        model = random_model(shape, dtype=torch.bfloat16, device="cpu", layers=LAYERS)
        set_attention(model, ATTENTION["shared"])
        if name == "compiled":
            compile_layers(model)
            _saved(model, pack)  # its first call compiles
        result[name] = round(_saved(model, pack) / result["tokens"] / LAYERS)
    print(json.dumps(result))


def _saved(model: Any, pack: Pack) -> int:
    """Bytes saved by a forward pass, which is then gone back."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    assert pack.layout is not None
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        states = model.model(
            input_ids=pack.input_ids, position_ids=pack.layout.position_ids, layout=pack.layout, use_cache=False
        ).last_hidden_state
    states.float().sum().backward()
    return sum(sizes.values())


if __name__ == "__main__":
    main()
