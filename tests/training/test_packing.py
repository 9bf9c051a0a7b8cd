"""Prefix sharing and packing change nothing: log-probs, losses and gradients equal those of padded whole sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, MixtralConfig, Qwen2Config

from training import attention, products
from training.attention import tree_mask
from training.data import EncodedPairs, encode_pairs
from training.flex import flex_tree_attention
from training.packing import Batching, pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama, six heads on two": LlamaConfig(**SMALL),
    "llama, tied": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "mistral, window of 7": MistralConfig(**SMALL, sliding_window=7),
    "mixtral, two of four experts a token": MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2),
    "qwen2, every other layer a window of 5": Qwen2Config(
        **SMALL,
        sliding_window=5,
        use_sliding_window=True,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
}


def random_pairs(seed: int, *, shapes: list[tuple[int, int, int, int]]) -> EncodedPairs:
    """Pairs with (prompt number, prompt length, chosen length, rejected length); equal numbers share the prompt."""
    generator = np.random.default_rng(seed)
    sequences: list[np.ndarray] = []

    def add(length: int) -> int:
        sequences.append(generator.integers(3, VOCABULARY, length).astype(np.int32))
        return len(sequences) - 1

    prompts: dict[int, int] = {}
    rows = [(prompts.get(n) or prompts.setdefault(n, add(p)), add(w), add(x)) for n, p, w, x in shapes]
    count = len(rows)
    prompt, chosen, rejected = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    numbers = {name: generator.normal(size=count) for name in ("reference_chosen_logps", "reference_rejected_logps")}
    names = {name: np.array([f"{name}{i}" for i in range(count)], dtype=object) for name in ("pair_id", "source")}
    return EncodedPairs(
        tokens=np.concatenate(sequences),
        offsets=np.cumsum([0, *map(len, sequences)]),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        chosen_cut=np.zeros(count, np.int64),
        rejected_cut=np.zeros(count, np.int64),
        weight=np.ones(count),
        soft_label=np.ones(count),
        criterion=names["source"],
        objective=names["source"],
        **numbers,
        **names,
    )


SHAPES = [(0, 9, 4, 6), (1, 20, 1, 8), (2, 3, 12, 1), (1, 20, 7, 5), (3, 1, 1, 1), (4, 30, 17, 2)]


def logps_and_gradients(model: Any, pairs: EncodedPairs, batching: Batching, budget: int) -> tuple[Any, list[Any]]:
    """Margins in the pairs' order, DPO losses summed, and every parameter's gradient."""
    set_attention(model, ATTENTION[batching])
    model.zero_grad()
    margins = torch.zeros(len(pairs), dtype=torch.float64)
    for pack in pack_pairs(pairs, range(len(pairs)), token_budget=budget, batching=batching):
        found = pair_logps(model, pack)
        loss = -torch.nn.functional.logsigmoid(0.5 * found.policy_margin).sum() - 0.01 * found.chosen_logps.sum()
        loss.backward()
        margins[pack.pairs] = found.policy_margin.detach()
    return margins, [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("budget", [1, 60, 10_000])
@pytest.mark.parametrize("batching", ["shared", "packed"])
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_padded_computation(name: str, batching: Batching, budget: int) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32)
    pairs = random_pairs(1, shapes=SHAPES)
    margins, gradients = logps_and_gradients(model, pairs, batching, budget)
    expected_margins, expected = logps_and_gradients(model, pairs, "padded", budget)
    assert (margins - expected_margins).abs().max() < 1e-4
    assert (margins - expected_margins).abs().max() / expected_margins.abs().max() < 1e-5
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert (gradient - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))


def test_logit_softcap_and_its_gradient() -> None:
    """Gemma 2 caps its logits behind the head; the chunked head does it itself."""
    torch.manual_seed(0)
    config = Gemma2Config(
        **SMALL, head_dim=8, sliding_window=6, final_logit_softcapping=3.0, attn_logit_softcapping=None
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    pairs = random_pairs(1, shapes=SHAPES[:1])
    (pack,) = pack_pairs(pairs, [0], token_budget=1000, batching="padded")
    set_attention(model, "sdpa")
    found = pair_logps(model, pack)
    found.chosen_logps.sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    assert model.config.final_logit_softcapping == 3.0
    logits = model(input_ids=pack.input_ids, attention_mask=pack.attention_mask).logits
    token_logps = torch.log_softmax(logits.flatten(0, 1)[pack.rows].double(), -1).gather(1, pack.labels[:, None])
    expected = token_logps[: pack.num_tokens[0]].sum()
    expected.backward()
    assert found.chosen_logps.item() == pytest.approx(expected.item(), rel=1e-6)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 7])
def test_a_row_as_sequences_sees_the_same(window: int | None) -> None:
    """Each sequence by itself, causal from its end: what FlashAttention computes in one call on a GPU."""
    pairs = random_pairs(1, shapes=SHAPES)
    (pack,) = pack_pairs(pairs, range(len(pairs)), token_budget=10_000)
    layout, length = pack.layout, pack.input_ids.shape[1]
    assert layout is not None
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, length, 16) for heads in (6, 2, 2))
    expected = attention._masked(query, key, value, layout, scale=0.3, dropout=0.0, window=window)
    row = layout.sequences
    keys, values = (part[:, :, row.key_places].repeat_interleave(3, dim=1) for part in (key, value))
    found = []
    for number in range(len(row.query_ends) - 1):
        q, k, v = (
            part[:, :, ends[number] : ends[number + 1]]
            for part, ends in ((query, row.query_ends), (keys, row.key_ends), (values, row.key_ends))
        )
        assert q.shape[2] <= row.most_queries
        assert k.shape[2] <= row.most_keys
        distance = torch.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2] - torch.arange(k.shape[2])
        seen = (distance >= 0) & (distance < (window or length))
        found.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.3))
    assert torch.allclose(torch.cat(found, dim=2).transpose(1, 2), expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=7
    ),
    st.integers(1, 60),
    st.sampled_from(["shared", "packed", "padded"]),
)
def test_every_pair_is_packed_once_within_the_budget(
    shapes: list[tuple[int, int, int, int]], budget: int, batching: Batching
) -> None:
    pairs = random_pairs(0, shapes=shapes)
    packs = pack_pairs(pairs, range(len(pairs)), token_budget=budget, batching=batching)
    assert sorted(i for pack in packs for i in pack.pairs) == list(range(len(pairs)))
    for pack in packs:
        assert pack.input_ids.numel() <= budget or len(pack.pairs) == 1
        expected = [pairs.sequence(int(s)).tolist() for s in pairs.chosen[pack.pairs]]
        starts = torch.cumsum(pack.num_tokens, 0) - pack.num_tokens
        found = [pack.labels[starts[i] : starts[i] + pack.num_tokens[i]].tolist() for i in pack.chosen]
        assert found == expected


def test_a_shared_prompt_and_response_are_computed_once() -> None:
    """Three pairs of one prompt over three responses: one prompt, three responses, without each one's last token."""
    pairs = random_pairs(0, shapes=[(0, 10, 4, 5), (0, 10, 6, 1), (0, 10, 1, 1)])
    pairs.chosen[:] = pairs.chosen[[0, 0, 1]]
    pairs.rejected[:] = [pairs.rejected[0], pairs.chosen[2], pairs.rejected[0]]
    (pack,) = pack_pairs(pairs, [0, 1, 2], token_budget=1000)
    assert pack.layout is not None
    assert len(pack.layout.trees) == 1
    assert pack.input_ids.shape[1] == 10 + 3 + 4 + 5
    assert pack.chosen.tolist() == [0, 0, 2]
    assert pack.rejected.tolist() == [1, 2, 1]


@pytest.mark.parametrize("window", [None, 6])
def test_flex_attention_sees_the_same(window: int | None) -> None:
    """The GPU's block mask, run uncompiled, against the blocks and the masks of the CPU."""
    pairs = random_pairs(3, shapes=SHAPES)
    (pack,) = pack_pairs(pairs, range(len(pairs)), token_budget=1000)
    layout = pack.layout
    assert layout is not None
    generator = torch.Generator().manual_seed(0)
    length = pack.input_ids.shape[1]
    query = torch.randn(1, 4, length, 16, generator=generator)
    key, value = (torch.randn(1, 2, length, 16, generator=generator) for _ in range(2))
    flex = flex_tree_attention(query, key, value, layout, scale=0.25, window=window)
    ours, _ = attention.tree_attention(
        torch.nn.Module(), query, key, value, None, layout=layout, scaling=0.25, sliding_window=window
    )
    assert (flex - ours).abs().max() < 1e-5


class Reads(TorchDispatchMode):
    """Notes what makes a CPU wait for its GPU: values, or shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in {"_local_scalar_dense", "_unique2", "nonzero", "masked_select", "equal"}:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batching", ["shared", "packed"])
def test_a_pass_waits_for_no_value(batching: Batching) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS["llama, tied"], dtype=torch.float32)
    set_attention(model, ATTENTION[batching])
    (pack,) = pack_pairs(random_pairs(1, shapes=SHAPES[:1]), [0], token_budget=100, batching=batching)
    with Reads() as reads:
        pair_logps(model, pack).policy_margin.sum().backward()
    assert reads.seen == set()


def test_the_last_mlp_works_on_the_rows_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine prompt tokens of which one is read, four and six response tokens of which the last is never fed in."""
    monkeypatch.setattr(products, "is_mkl_slow", lambda: False)  # or rows are added
    model = AutoModelForCausalLM.from_config(CONFIGS["llama, tied"], dtype=torch.float32)
    set_attention(model, ATTENTION["shared"])
    seen: dict[int, int] = {}
    for number, layer in enumerate(model.model.layers):
        layer.mlp.gate_proj.register_forward_hook(lambda _, given, out, n=number: seen.update({n: given[0].shape[-2]}))
    (pack,) = pack_pairs(random_pairs(1, shapes=SHAPES[:1]), [0], token_budget=100)
    pair_logps(model, pack)
    assert seen == {0: 9 + 3 + 5, 1: 9 + 3 + 5, 2: 1 + 3 + 5}
    assert "forward" not in vars(model.model.layers[-1].mlp)


def test_mask_hides_chosen_from_rejected() -> None:
    pairs = random_pairs(0, shapes=[(0, 2, 3, 3)])
    (pack,) = pack_pairs(pairs, [0], token_budget=100)
    assert pack.layout is not None
    mask = tree_mask(pack.layout.trees[0], pack.layout)
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]
    assert pack.layout.position_ids.tolist() == [[0, 1, 2, 3, 2, 3]]


def test_real_policy_agrees_with_the_exported_log_probs(
    tiny_en: Any, tokenizer: Any, hh_rows: list[dict[str, Any]]
) -> None:
    """Summed log-probs of shared rows against those that transformers computes one response at a time."""
    from tests.training.export_fixture import SCHEMA

    pairs = encode_pairs(pa.Table.from_pylist(hh_rows, schema=SCHEMA), tokenizer, max_length=1024)
    model = AutoModelForCausalLM.from_pretrained(tiny_en, dtype=torch.float32, attn_implementation=attention.NAME)
    with torch.no_grad():
        for pack in pack_pairs(pairs, range(len(pairs)), token_budget=1500):
            found = pair_logps(model, pack)
            assert np.abs(found.chosen_logps.numpy() - pairs.reference_chosen_logps[pack.pairs]).max() < 1e-3
            assert np.abs(found.rejected_logps.numpy() - pairs.reference_rejected_logps[pack.pairs]).max() < 1e-3
