"""On a GPU every path through vLLM, the V2 runner's too, scores as transformers does."""

from __future__ import annotations

from contextlib import closing

import pytest

from curation.scoring.settings import ScoringSettings, VllmPath
from curation.scoring.vllm_engine import VllmEngine
from tests.curation.scoring.real_groups import (
    every_response_alone,
    exact_logps,
    exactness_groups,
    tiny_policy,
    worst,
)

pytestmark = [pytest.mark.vllm, pytest.mark.gpu]


@pytest.mark.parametrize("path", ["pooling", "token-ids", "flat"])
def test_a_path_agrees_with_transformers_in_any_order(path: VllmPath) -> None:
    settings = ScoringSettings(dtype="float32", vllm_path=path, gpu_memory_utilization=0.5)
    with closing(VllmEngine(tiny_policy(), settings)) as engine:
        assert (engine.info.path, engine.info.device) == (path, "cuda")
        assert worst(engine.score(exactness_groups()), exact_logps()) < 1e-3
        groups, values = every_response_alone(exactness_groups()[-200:], exact_logps()[-200:], seed=1)
        assert worst(engine.score(groups), values) < 1e-3
