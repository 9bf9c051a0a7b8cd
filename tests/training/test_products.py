"""Products by oneDNN are those of torch, in value and gradient, and are taken where MKL leaves vectors unused."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, GPT2Config

from tests.benchmarks.shapes import random_model
from tests.training.test_packing import random_pairs
from training import products
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention
from training.products import FastLinear, linear, product, use_fast_products

ROWS, INPUTS, OUTPUTS = 100, 200, 300
PAIRS = [(0, 150, 60, 50), (1, 60, 20, 30)]  # group, tokens of the prompt and of both responses


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor on which MKL is slow, whichever this one is."""
    monkeypatch.setattr(products, "is_mkl_slow", lambda: True)


def matrix(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("capability", "maker", "is_slow"),
    [
        ("AVX512", "AuthenticAMD", True),
        ("AVX512", "GenuineIntel", False),
        ("AVX512", None, False),
        ("AVX2", "AuthenticAMD", False),
    ],
)
def test_mkl_is_slow_on_wide_processors_of_other_makers(
    monkeypatch: pytest.MonkeyPatch, capability: str, maker: str | None, is_slow: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "processor_maker", lambda: maker)
    assert products.is_mkl_slow() == is_slow


@pytest.mark.usefixtures("by_onednn")
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(ROWS, INPUTS), (4, ROWS // 4, INPUTS), (2, INPUTS)])
def test_a_linear_layer_and_its_gradients(shape: tuple[int, ...], has_bias: bool) -> None:
    parts = [matrix(*shape, seed=0), matrix(OUTPUTS, INPUTS, seed=1), matrix(OUTPUTS, seed=2)]
    exact = [part.double().requires_grad_() for part in parts[: 3 if has_bias else 2]]
    ours = [part.requires_grad_() for part in parts[: 3 if has_bias else 2]]
    upstream = matrix(*shape[:-1], OUTPUTS, seed=3)
    found, expected = linear(*ours), nn.functional.linear(*exact)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    (found * upstream).sum().backward()
    (expected * upstream.double()).sum().backward()
    for mine, right in zip(ours, exact, strict=True):
        assert mine.grad is not None
        assert right.grad is not None
        assert mine.grad.is_contiguous()
        torch.testing.assert_close(mine.grad.double(), right.grad, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("by_onednn")
def test_a_bias_that_does_not_lie_in_one_piece() -> None:
    """oneDNN reads what lies behind its first number."""
    a, b = matrix(ROWS, INPUTS, seed=0), matrix(INPUTS, OUTPUTS, seed=1)
    for bias in (matrix(2 * OUTPUTS, seed=2)[::2], matrix(1, seed=3).expand(OUTPUTS)):
        expected = torch.addmm(bias.double(), a.double(), b.double())
        torch.testing.assert_close(product(a, b, bias=bias).double(), expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("by_onednn")
def test_a_frozen_weight_gets_no_gradient() -> None:
    inputs = matrix(ROWS, INPUTS, seed=0).requires_grad_()
    weight = matrix(OUTPUTS, INPUTS, seed=1)
    linear(inputs, weight).sum().backward()
    assert inputs.grad is not None
    assert weight.grad is None
    inputs, weight = inputs.detach(), weight.requires_grad_()
    linear(inputs, weight).sum().backward()
    assert inputs.grad is None
    assert weight.grad is not None


@pytest.mark.usefixtures("by_onednn")
def test_a_part_of_a_matrix_is_no_slower_than_a_whole_one() -> None:
    wide = matrix(INPUTS, 4 * OUTPUTS, seed=1)
    part, a = wide[:, :OUTPUTS], matrix(ROWS, INPUTS, seed=0)
    whole = part.contiguous()
    torch.testing.assert_close(product(a, part), product(a, whole), rtol=0, atol=1e-4)
    assert fastest(lambda: product(a, part)) < 20 * fastest(lambda: product(a, whole))  # a thousand, left to oneDNN


def fastest(call: Callable[[], Tensor]) -> float:
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


@pytest.mark.slow
def test_a_model_keeps_its_margins_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("0.2b", dtype=torch.float32, device="cpu", layers=2)
    set_attention(model, ATTENTION["shared"])
    (pack,) = pack_pairs(random_pairs(1, shapes=PAIRS), range(len(PAIRS)), token_budget=1 << 30)
    found = []
    for is_slow in (False, True):
        monkeypatch.setattr(products, "is_mkl_slow", lambda slow=is_slow: slow)
        use_fast_products(model)
        model.zero_grad()
        margin = pair_logps(model, pack).policy_margin
        margin.sum().backward()
        found.append([margin.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert type(model.model.layers[0].mlp.up_proj) is FastLinear
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.usefixtures("by_onednn")
def test_rows_are_filled_up_to_few_numbers() -> None:
    like = matrix(1, 1, seed=0)
    filled = {rows: rows + products.filler(rows, like) for rows in range(1, 4097)}
    assert all(rows <= found <= rows + rows // 8 for rows, found in filled.items())
    assert len(set(filled.values())) < 100
    assert products.filler(1001, like.bfloat16()) == 0


def test_elsewhere_nothing_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "is_mkl_slow", lambda: False)
    assert products.filler(1001, matrix(1, 1, seed=0)) == 0


class Shapes(TorchDispatchMode):
    """Notes the shapes that oneDNN is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[torch.Size, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.winnow.product.default:
            self.seen.add((args[0].shape, args[1].shape))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("by_onednn")
@pytest.mark.slow
def test_rows_of_all_lengths_make_few_shapes() -> None:
    model = random_model("0.2b", dtype=torch.float32, device="cpu", layers=2)
    set_attention(model, ATTENTION["shared"])
    use_fast_products(model)
    with Shapes() as shapes:
        for prompt in range(129, 142):
            pairs = random_pairs(1, shapes=[(0, prompt, 60, 50)])
            (pack,) = pack_pairs(pairs, [0], token_budget=1 << 30)
            pair_logps(model, pack).policy_margin.sum().backward()
    rows = {shape[0] for shape, other in shapes.seen if other == (1024, 2816)}
    assert rows == {112, 240, 256}  # the responses', and the whole row's of 237 to 249 tokens


@pytest.mark.parametrize("count", [1, 2, 17])
@pytest.mark.slow
def test_a_filled_pack_gives_the_same(count: int) -> None:
    model = random_model("0.2b", dtype=torch.float32, device="cpu", layers=2)
    set_attention(model, ATTENTION["shared"])
    (pack,) = pack_pairs(random_pairs(1, shapes=PAIRS), range(len(PAIRS)), token_budget=1 << 30)
    found = []
    for each in (pack, pack.filled(count)):
        model.zero_grad()
        margin = pair_logps(model, each).policy_margin
        margin.sum().backward()
        found.append([margin.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert pack.filled(count).input_ids.shape[1] == pack.input_ids.shape[1] + count
    for plain, filled in zip(*found, strict=True):
        torch.testing.assert_close(filled, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.usefixtures("by_onednn")
def test_no_position_is_filled_that_the_row_would_not_have() -> None:
    """A row of 80 pairs is filled up by more tokens than GPT-2's table here has positions."""
    config = GPT2Config(vocab_size=97, n_embd=48, n_layer=1, n_head=6, n_positions=40)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    set_attention(model, ATTENTION["shared"])
    pairs = random_pairs(1, shapes=[(number, 10, 12, 9) for number in range(82)])
    (pack,) = pack_pairs(pairs, range(len(pairs)), token_budget=10_000)
    count = products.filler(pack.input_ids.shape[1], model.lm_head.weight)
    assert count > 40
    filled = pack.filled(count)
    assert filled.layout is not None
    assert pack.layout is not None
    assert filled.layout.sequences.most_keys == pack.layout.sequences.most_keys
    assert int(filled.layout.position_ids.max()) == int(pack.layout.position_ids.max())
    assert filled.layout.trees[-1].end == filled.input_ids.shape[1]
    with torch.no_grad():
        assert pair_logps(model, pack).policy_margin.isfinite().all()


@pytest.mark.usefixtures("by_onednn")
def test_only_plain_float32_layers_change() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2, dtype=torch.bfloat16), nn.Bilinear(2, 2, 2))
    before = list(model.state_dict())
    use_fast_products(model)
    assert [type(module) for module in model] == [FastLinear, nn.Linear, nn.Bilinear]
    assert list(model.state_dict()) == before


@pytest.mark.usefixtures("by_onednn")
@pytest.mark.slow
def test_a_compiled_layer_holds_the_product_as_one_operation() -> None:
    layer = nn.Linear(INPUTS, OUTPUTS)
    inputs = matrix(ROWS, INPUTS, seed=0)
    expected = layer(inputs)
    use_fast_products(layer)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    for rows in (ROWS, ROWS - 10):
        torch.testing.assert_close(compiled(inputs[:rows]), expected[:rows], rtol=0, atol=1e-5)
    compiled(inputs).sum().backward()
    torch.testing.assert_close(layer.weight.grad, inputs.sum(0).expand(OUTPUTS, -1), rtol=0, atol=1e-4)
