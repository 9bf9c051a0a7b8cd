"""Every path through vLLM gives what transformers gives one sequence at a time, to 1e-3 nats a response."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from curation.scoring.settings import ScoringSettings
from curation.scoring.transformers_engine import TransformersEngine
from curation.scoring.vllm_engine import VllmEngine
from schemas.tokens import EncodedGroup
from tests.curation.scoring.real_groups import (
    encoded,
    every_response_alone,
    exact_logps,
    exactness_groups,
    hh_texts,
    oracle,
    tiny_policy,
    worst,
)

pytestmark = pytest.mark.vllm

PATHS = {
    "pooling": ScoringSettings(dtype="float32", vllm_path="pooling", embeddings=True),
    "pooling in tiny chunks": ScoringSettings(dtype="float32", vllm_path="pooling", batch_tokens=64),
    "pooling, split over two processes": ScoringSettings(
        dtype="float32", vllm_path="pooling", embeddings=True, tensor_parallel_size=2
    ),
    "flat": ScoringSettings(dtype="float32", vllm_path="flat"),
}


@pytest.fixture(scope="module", params=list(PATHS))
def engine(request: pytest.FixtureRequest) -> Iterator[VllmEngine]:
    settings = PATHS[request.param]
    before = psutil.Process().children(recursive=True)
    made = VllmEngine(tiny_policy(), settings)
    yield made
    children = set(psutil.Process().children(recursive=True)).difference(before)
    workers = [each for each in children if "resource_tracker" not in " ".join(each.cmdline())]  # Python's own stays
    assert len(workers) >= settings.tensor_parallel_size - 1
    made.close()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_it_agrees_with_transformers_over_real_responses(engine: VllmEngine) -> None:
    before = engine.counts.num_computed
    assert worst(engine.score(exactness_groups()), exact_logps()) < 1e-3
    if engine.info.path == "pooling":  # the flat path has to ask again for first tokens, so it saves less
        total = sum(len(g.prompt_ids) * len(g.response_ids) + sum(map(len, g.response_ids)) for g in exactness_groups())
        assert engine.counts.num_computed - before < 0.75 * total


def test_order_and_grouping_do_not_matter(engine: VllmEngine) -> None:
    groups, values = every_response_alone(exactness_groups()[-200:], exact_logps()[-200:], seed=1)
    assert worst(engine.score(groups), values) < 1e-3


def test_a_prompt_that_another_one_begins_with_is_not_trusted_to_the_cache(engine: VllmEngine) -> None:
    """The second prompt is the first one with its answer: the cache reaches into the answer, unforeseen."""
    (group,) = encoded(hh_texts(), 1)
    prompt = (group.prompt_ids * 8)[:96]
    response = (group.response_ids[0] * 8)[:70]
    longer = EncodedGroup(prompt, [response, [*response[:40], 7]])
    shorter = EncodedGroup(prompt + response[:20], [response[20:], response[20:30]])
    groups = [longer, EncodedGroup(prompt, [response]), shorter]
    assert worst(engine.score(groups), oracle(groups)) < 1e-3


def test_a_sequence_of_the_longest_length_is_scored(engine: VllmEngine) -> None:
    ids = [id_ for group in exactness_groups() for id_ in group.response_ids[0]]
    groups = [EncodedGroup(ids[:1000], [ids[1000:1024]]), EncodedGroup(ids[:1], [ids[1:1024]])]
    assert worst(engine.score(groups), oracle(groups)) < 1e-3


def test_nothing_listens_beyond_this_machine(engine: VllmEngine) -> None:
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    opened = [connection for process in processes for connection in process.net_connections()]
    assert {c.laddr.ip for c in opened if c.status == psutil.CONN_LISTEN} <= {"127.0.0.1", "::1"}


def test_embeddings_are_those_of_transformers(engine: VllmEngine) -> None:
    groups = exactness_groups()[:4]
    found = [score.embedding for scores in engine.score(groups) for score in scores]
    if engine.info.path != "pooling" or engine.batch_tokens == 64:
        assert found == [None] * 8
        return
    other = TransformersEngine(tiny_policy(), ScoringSettings(dtype="float32", embeddings=True))
    expected = [score.embedding for scores in other.score(groups) for score in scores]
    assert np.abs(np.array(found, dtype=np.float32) - np.array(expected, dtype=np.float32)).max() < 1e-2
