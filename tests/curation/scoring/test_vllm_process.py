"""vLLM runs inside this process and leaves it as it was."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numba
import numpy as np
import psutil
import pytest
import torch

from curation.scoring.settings import ScoringSettings
from curation.scoring.vllm_engine import VllmEngine
from schemas.errors import EngineError
from tests.curation.scoring.real_groups import encoded, hh_texts, oracle, tiny_policy, worst

pytestmark = pytest.mark.vllm


def test_it_is_quiet_and_leaves_nothing_behind(capfd: pytest.CaptureFixture[str]) -> None:
    names = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LOCAL_WORLD_SIZE")
    of_children = {name: os.environ.get(name) for name in names}
    children = psutil.Process().children(recursive=True)
    engine = VllmEngine(tiny_policy(), ScoringSettings())
    with pytest.raises(EngineError, match="runs in this process already"):
        VllmEngine(tiny_policy(), ScoringSettings())
    first = engine.score(encoded(hh_texts(), 2))
    engine.close()
    assert capfd.readouterr() == ("", "")
    assert "skip_set_num_threads" not in torch.set_num_threads.__qualname__
    assert {name: os.environ.get(name) for name in names} == of_children
    assert not torch.distributed.is_initialized()
    assert not [c for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN]
    assert psutil.Process().children(recursive=True) == children
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


def test_a_path_without_hidden_states_refuses_embeddings() -> None:
    with pytest.raises(EngineError, match=r"only vLLM's pooling path gives embeddings, not flat"):
        VllmEngine(tiny_policy(), ScoringSettings(vllm_path="flat", embeddings=True))


def test_vllms_measure_of_a_steps_memory_takes_every_row_through_the_head() -> None:
    """As the runners of vLLM 0.32 make it: the parameters say nothing of what to score."""
    from vllm import PoolingParams
    from vllm.v1.pool.metadata import PoolingMetadata, PoolingStates

    from curation.scoring.vllm_pooler import _chunks

    sizes = np.array([3, 3, 4])
    lengths = torch.from_numpy(sizes)
    metadata = PoolingMetadata(
        prompt_lens=lengths,
        prompt_token_ids=None,
        prompt_token_ids_cpu=None,
        pooling_params=[PoolingParams(task="classify")] * 3,
        pooling_states=[PoolingStates() for _ in range(3)],
    )
    metadata.build_pooling_cursor(sizes, seq_lens_cpu=lengths, device=torch.device("cpu"))
    chunks = _chunks(metadata, metadata.get_pooling_cursor())
    assert np.concatenate([chunk.rows for chunk in chunks]).tolist() == list(range(10))


def test_a_preempted_request_begins_again() -> None:
    from curation.scoring.vllm_pooler import _begin_or_go_on

    state = SimpleNamespace(hidden_states_cache=[])
    _begin_or_go_on(state, 32, 64)
    state.hidden_states_cache.append("first")
    _begin_or_go_on(state, 64, 90)
    assert state.hidden_states_cache == [32, "first"]
    _begin_or_go_on(state, 32, 90)  # preempted, and its beginning found in the cache
    assert state.hidden_states_cache == [32]


def test_a_path_that_this_vllm_has_not_is_an_error_with_a_mend() -> None:
    with pytest.raises(EngineError, match="no token-id log-probs"):
        VllmEngine(tiny_policy(), ScoringSettings(vllm_path="token-ids"))
    assert not torch.distributed.is_initialized()
