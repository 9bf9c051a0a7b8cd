"""vLLM runs inside this process and leaves it as it was."""

from __future__ import annotations

import numba
import psutil
import pytest
import torch

from curation.scoring.settings import ScoringSettings
from curation.scoring.vllm_engine import VllmEngine
from schemas.errors import EngineError
from tests.curation.scoring.real_groups import encoded, hh_texts, oracle, tiny_policy, worst

pytestmark = pytest.mark.vllm


def test_it_is_quiet_and_leaves_nothing_behind(capfd: pytest.CaptureFixture[str]) -> None:
    engine = VllmEngine(tiny_policy(), ScoringSettings())
    with pytest.raises(EngineError, match="runs in this process already"):
        VllmEngine(tiny_policy(), ScoringSettings())
    first = engine.score(encoded(hh_texts(), 2))
    engine.close()
    assert capfd.readouterr() == ("", "")
    assert "skip_set_num_threads" not in torch.set_num_threads.__qualname__
    assert not torch.distributed.is_initialized()
    assert not [c for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN]
    assert not psutil.Process().children(recursive=True)
    again = VllmEngine(tiny_policy(), ScoringSettings())
    assert worst(again.score(encoded(hh_texts(), 2)), [[score.logps for score in scores] for scores in first]) == 0
    again.close()


def test_it_starts_beside_numba() -> None:
    """vLLM looks at everything that is loaded, and numba's library object is not made to be looked at."""
    assert numba.njit(lambda x: x + 1)(1) == 2
    groups = encoded(hh_texts(), 1)
    engine = VllmEngine(tiny_policy(), ScoringSettings(dtype="float32"))
    try:
        assert worst(engine.score(groups), oracle(groups)) < 1e-3
    finally:
        engine.close()


def test_a_path_that_this_vllm_has_not_is_an_error_with_a_mend() -> None:
    with pytest.raises(EngineError, match="no token-id log-probs"):
        VllmEngine(tiny_policy(), ScoringSettings(vllm_path="token-ids"))
    assert not torch.distributed.is_initialized()
