"""Log-probs of a pack's responses under a causal language model of ``transformers``, as it stands or wrapped."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from schemas.errors import EngineError, ModelError
from training import attention
from training.head import response_head
from training.logits import lm_head, plain_logits, without_adapter
from training.packing import Pack
from training.products import filler


@dataclass(frozen=True)
class PairLogps:
    """Log-probs of a pack's pairs, float64, in nats; every field has Shape (pairs,)."""

    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_num_tokens: Tensor
    rejected_num_tokens: Tensor

    @property
    def policy_margin(self) -> Tensor:
        """Summed margin."""
        return self.chosen_logps - self.rejected_logps

    @property
    def chosen_logps_mean(self) -> Tensor:
        """Nats a token."""
        return self.chosen_logps / self.chosen_num_tokens

    @property
    def rejected_logps_mean(self) -> Tensor:
        """Nats a token."""
        return self.rejected_logps / self.rejected_num_tokens


def pair_logps(model: nn.Module, pack: Pack, *, unwrapped: nn.Module | None = None) -> PairLogps:
    """Forward pass of one pack.

    Args:
        model: a causal language model, or its DDP or FSDP wrapper.
        pack: on the model's device.
        unwrapped: the model inside the wrapper; ``model`` when None.
    """
    inner = model if unwrapped is None else unwrapped
    head = lm_head(inner)
    if pack.layout is not None:
        pack = pack.filled(filler(pack.input_ids.shape[1], head.weight))
    with (
        plain_logits(inner) as transform,
        response_head(head, pack.rows, pack.labels, transform),
        _last_mlp_on(inner, pack.read),
    ):
        if pack.layout is None:
            out = model(input_ids=pack.input_ids, attention_mask=pack.attention_mask, use_cache=False)
        else:
            out = model(
                input_ids=pack.input_ids,
                position_ids=pack.layout.position_ids,
                layout=pack.layout,
                use_cache=False,
            )
    token_logps = out.logits[0, :, 0].double()
    # unsafe: without looking whether the lengths add up, for which a GPU would be waited for
    summed = torch.segment_reduce(token_logps, "sum", lengths=pack.num_tokens, axis=0, unsafe=True)
    num_tokens = pack.num_tokens.double()
    return PairLogps(summed[pack.chosen], summed[pack.rejected], num_tokens[pack.chosen], num_tokens[pack.rejected])


def set_attention(model: Any, implementation: str) -> None:
    """Let a model use an attention implementation by name."""
    model.set_attn_implementation(implementation)


def check_compiler(device: torch.device) -> None:
    """Refuse ``train.compile`` where nothing can compile.

    Raises:
        EngineError: a CPU without a C++ compiler, or a GPU without Triton.
    """
    if device.type != "cpu":
        if importlib.util.find_spec("triton") is None:
            raise EngineError("train.compile needs Triton on a GPU", mend="pip install triton, or set it to false")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise EngineError(
            "train.compile needs a C++ compiler on a CPU", mend="install g++ or clang++, or set it to false"
        ) from error


def compile_layers(model: Any) -> None:
    """Compile every decoder layer in place, for any length; the head and the embeddings stay as they are.

    The first steps take long; it pays from some hundred steps on.

    Raises:
        EngineError: nothing here can compile.
    """
    check_compiler(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for layer in decoder_layers(model):
        layer.compile(dynamic=True)


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder's layers, whatever the model calls them (``layers``, ``h``).

    Raises:
        ModelError: it has no list of as many modules as its configuration names layers.
    """
    base = without_adapter(model)
    number = base.config.get_text_config().num_hidden_layers
    for decoder in (base.get_decoder(), getattr(base, "model", None)):  # some take their head or themselves for it
        for child in decoder.children() if isinstance(decoder, nn.Module) else ():
            if isinstance(child, nn.ModuleList) and len(child) == number:
                return child
    raise ModelError(
        f"{type(base).__name__} has no list of {number} decoder layers", mend="train a decoder-only language model"
    )


@contextmanager
def _last_mlp_on(model: Any, places: Tensor) -> Iterator[None]:
    """Inside the block, the last layer's MLP works on the places that the head will read and gives 0 for the others.

    Behind its attention, the last layer looks at every token on its own, so what it makes of a prompt's tokens is read
    by nobody. A layer whose MLP has another name or takes more than hidden states (Bloom's adds the residual itself),
    or that is compiled or recomputed later, works on every row.
    """
    layer: Any = decoder_layers(model)[-1]
    mlp = getattr(layer, "mlp", None)
    recomputed = layer.training and getattr(layer, "gradient_checkpointing", False)
    if not isinstance(mlp, nn.Module) or recomputed or getattr(layer, "_compiled_call_impl", None) is not None:
        yield
        return
    plain = mlp.forward

    def forward(hidden: Tensor, *others: Any, **options: Any) -> Any:
        if others or options:
            return plain(hidden, *others, **options)
        flat = hidden.reshape(-1, hidden.shape[-1])
        more = places.new_zeros(filler(len(places), hidden))
        found = plain(flat.index_select(0, torch.cat([places, more]))[None])
        if not isinstance(found, Tensor):  # a mixture of experts that also gives its routing
            return plain(hidden)
        return torch.zeros_like(flat).index_copy(0, places, found[0, : len(places)]).view_as(hidden)

    mlp.forward = forward
    try:
        yield
    finally:
        del mlp.forward


ATTENTION = {"shared": attention.NAME, "packed": attention.NAME, "padded": "sdpa"}
"""Attention implementation of each way of batching."""
