"""Our pooler under vLLM's V2 runner, at the level of its worker: chunks, the prefix cache, several requests a step."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from curation.scoring.vllm_paths import pooled, score_params
from curation.scoring.vllm_requests import Request, requests_of, settle
from schemas.tokens import EncodedGroup
from tests.curation.scoring.test_vllm_token_ids import SIZE, VOCABULARY, expected, states

pytestmark = pytest.mark.vllm


class Model(nn.Module):
    """What the runner and the pooler ask of a model: an LM head, and to have what is never called here."""

    is_pooling_model = True

    def __init__(self, *, vllm_config: torch.Tensor, prefix: str = "") -> None:
        from curation.scoring.vllm_pooler import LogpsPooler

        super().__init__()
        self.head = vllm_config
        self.num_rows = 0
        self.pooler = LogpsPooler(self, vocab_size=VOCABULARY, hidden_size=SIZE, has_embedding=True)

    def compute_logits(self, rows: torch.Tensor) -> torch.Tensor:
        self.num_rows += len(rows)
        return rows @ self.head

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


@pytest.fixture
def head() -> torch.Tensor:
    return torch.randn(SIZE, VOCABULARY, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def runner(head: torch.Tensor) -> Any:
    from vllm.v1.worker.gpu.pool.pooling_runner import PoolingRunner

    config = SimpleNamespace(
        model_config=SimpleNamespace(get_pooling_task=lambda tasks: tasks[0], pooler_config=None),
        scheduler_config=SimpleNamespace(max_num_seqs=8),
    )
    return PoolingRunner(Model(vllm_config=head), config)  # type: ignore[arg-type]


def serve(
    runner: Any, requests: Sequence[Request], groups: Sequence[EncodedGroup], *, cached: Sequence[int], chunk: int
) -> list[Any]:
    """Run all requests side by side, each from its first uncached token on, a chunk of each in every step."""
    ids = [request.token_ids(groups) for request in requests]
    for number, request in enumerate(requests):
        runner.add_request(str(number), number, score_params(request), ids[number])
    lengths = np.array([len(each) for each in ids])
    done, begin = {}, np.array(cached)
    while len(done) < len(requests):
        rows = np.flatnonzero(begin < lengths)[::-1]  # a step has its requests in an order of its own
        end = np.minimum(begin[rows] + chunk, lengths[rows])
        sizes = end - begin[rows]
        hidden = torch.cat([states(ids[row])[begin[row] : stop] for row, stop in zip(rows, end, strict=True)])
        batch = SimpleNamespace(
            num_tokens=len(hidden),
            num_reqs=len(rows),
            req_ids=[str(row) for row in rows],
            idx_mapping_np=rows,
            num_scheduled_tokens=sizes,
            seq_lens_cpu_upper_bound=torch.from_numpy(end),
            query_start_loc=torch.tensor([0, *sizes.cumsum()]),
        )
        padded = torch.cat([hidden, torch.full((3, SIZE), torch.nan)])
        out, finished = runner.pool(padded, batch, SimpleNamespace(prompt_len=SimpleNamespace(np=lengths)))
        done |= {row: vector for row, vector, is_done in zip(rows, out, finished, strict=True) if is_done}
        begin[rows] = end
    for number in done:
        runner.remove_request(number)
    return [
        SimpleNamespace(num_cached_tokens=count, outputs=SimpleNamespace(data=done[number]))
        for number, count in enumerate(cached)
    ]


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("length", [7, 8, 9])
def test_siblings_have_their_whole_log_prob(runner: Any, head: torch.Tensor, length: int, chunk: int) -> None:
    groups = [
        EncodedGroup(list(range(1, length + 1)), [[20, 21, 22, 23], [20, 21, 30], [31, 32]]),
        EncodedGroup([5], [[6], [7, 8]]),
    ]
    requests = requests_of(groups, block_size=4)
    cached = [
        0 if request.is_uncached or request.index == 0 else (request.start + request.num_borrowed) // 4 * 4
        for request in requests
    ]
    outputs = serve(runner, requests, groups, cached=cached, chunk=chunk)
    served = [pooled(request, output) for request, output in zip(requests, outputs, strict=True)]
    values = [value for group in groups for value in expected(group, head)]
    assert settle(requests, served) == pytest.approx(values, abs=1e-4)
    assert all(each.embedding is not None and len(each.embedding) == 256 for each in served)


def test_vllm_measures_its_memory_with_every_row(runner: Any) -> None:
    runner.dummy_pooler_run(torch.randn(20, SIZE))
    assert runner.model.num_rows == 20
