"""The transformers engine with compiled decoder layers scores as it does without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
import torch._functorch.config
import torch._inductor.config
from transformers import AutoModelForCausalLM, MistralConfig

from curation.scoring.settings import ScoringSettings
from curation.scoring.transformers_engine import TransformersEngine
from schemas.errors import EngineError
from tests.curation.scoring.real_groups import encoded, fgrlhf_texts, hh_texts, oracle, tiny_policy, worst
from tests.curation.scoring.test_transformers_engine import SHAPE, other_policy

COMPILED = ScoringSettings(dtype="float32", batch_tokens=1024, compile=True)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
def test_a_prompt_with_several_responses() -> None:
    groups = [*encoded(hh_texts(), 12), *encoded(fgrlhf_texts(), 2)]
    with closing(TransformersEngine(tiny_policy(), COMPILED)) as made:
        assert made.info.path == "shared-compiled"
        assert worst(made.score(groups), oracle(groups)) < 1e-3


@pytest.mark.slow
def test_a_response_a_row(tmp_path: Path) -> None:
    policy = other_policy(tmp_path, MistralConfig(**SHAPE, sliding_window=16))
    groups = encoded(hh_texts(), 4)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with closing(TransformersEngine(policy, COMPILED)) as made:
        assert made.info.path == "plain-compiled"
        assert worst(made.score(groups), oracle(groups, model)) < 1e-3


@pytest.mark.slow
def test_a_machine_that_cannot_compile_is_told_so() -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}),
        torch._functorch.config.patch({"enable_autograd_cache": False}),
        pytest.raises(EngineError, match=r"torch.compile fails on .*tiny-en: .*C\+\+ compiler") as caught,
    ):
        TransformersEngine(tiny_policy(), COMPILED)
    assert caught.value.mend == "[scoring] compile = false"
