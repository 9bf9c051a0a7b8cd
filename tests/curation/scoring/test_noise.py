"""The noise of a score is what was measured: it covers the distance between two engines, and not much more."""

from __future__ import annotations

import numpy as np
import pytest

from curation.scoring.engine import EngineInfo
from curation.scoring.noise import score_noise
from curation.scoring.settings import ScoringSettings
from curation.scoring.transformers_engine import TransformersEngine
from tests.curation.scoring.real_groups import encoded, hh_texts, oracle, tiny_policy


def test_it_grows_with_the_root_of_the_tokens_and_is_not_guessed() -> None:
    info = EngineInfo("vllm", "pooling", "1", "bfloat16", None, "cpu")
    assert score_noise(info, 100) == pytest.approx(10 * 0.016)
    assert score_noise(EngineInfo("vllm-server", "prompt-logprobs", "1", "unknown", None, "cpu"), 100) is None


@pytest.mark.slow
def test_scores_in_bfloat16_lie_within_their_noise_of_float32() -> None:
    groups = encoded(hh_texts(), 30)
    engine = TransformersEngine(tiny_policy(), ScoringSettings(dtype="bfloat16"))
    found = [score for scores in engine.score(groups) for score in scores]
    exact = [value for values in oracle(groups) for value in values]
    units = [
        (score.logps - value) / (score_noise(engine.info, score.num_tokens) or 0)
        for score, value in zip(found, exact, strict=True)
    ]
    assert 0.4 < np.sqrt(np.mean(np.square(units))) < 2
