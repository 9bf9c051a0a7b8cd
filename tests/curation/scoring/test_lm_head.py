"""Log-probs in chunks are the log-softmax of all logits, packed weights or not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from curation.scoring.lm_head import token_logps
from curation.scoring.packed_linear import PackedLinear, can_pack, pack_layers, packed_product


@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 11), (700, 11), (300, 20_000), (0, 11)])
def test_chunks_give_the_whole_log_softmax(rows: int, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 8, generator=generator)
    head = torch.randn(vocabulary, 8, generator=generator)
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    expected = (hidden @ head.T).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    found = token_logps(hidden, targets, lambda x: x @ head.T, vocab_size=vocabulary)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("shift", [-300.0, 0.0, 300.0])
def test_logits_of_any_size_are_summed_exactly(shift: float) -> None:
    logits = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)).double() * 20 + shift
    targets = torch.arange(40)
    found = token_logps(torch.zeros(40, 1), targets, lambda _: logits.float(), vocab_size=50)
    expected = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)


def test_a_logit_that_is_no_number_is_not_hidden() -> None:
    logits = torch.zeros(3, 5)
    logits[1, 2] = float("nan")
    found = token_logps(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), lambda _: logits, vocab_size=5)
    assert found.isnan().tolist() == [False, True, False]


def test_the_head_never_sees_more_rows_than_fit() -> None:
    seen: list[int] = []

    def head(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x.new_zeros(len(x), 50_000)

    token_logps(torch.zeros(1000, 4), torch.zeros(1000, dtype=torch.int64), head, vocab_size=50_000)
    assert max(seen) * 50_000 < 1 << 24
    assert sum(seen) == 1000


def test_a_packed_layer_is_the_same_product() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8, bias=False)).bfloat16()
    x = torch.randn(5, 16).bfloat16()
    with torch.inference_mode():
        before = module(x)
        pack_layers(module)
        assert isinstance(module[0], PackedLinear) == can_pack(torch.zeros(1, dtype=torch.bfloat16))
        torch.testing.assert_close(module(x), before, atol=2e-2, rtol=2e-2)


def test_float32_weights_are_left_as_they_are() -> None:
    assert packed_product(torch.zeros(4, 4)) is None
