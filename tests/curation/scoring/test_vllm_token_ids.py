"""The token-id path at the level of vLLM's worker: what we ask for is what its V2 worker computes, in chunks too."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from curation.scoring.vllm_paths import MAX_IDS_PER_ROW, id_rows, served_ids
from curation.scoring.vllm_requests import Request, requests_of, settle
from schemas.tokens import EncodedGroup

pytestmark = pytest.mark.vllm

VOCABULARY, SIZE = 50, 8


@dataclass
class Batch:
    """The fields of vLLM's input batch that its prompt log-prob worker reads, for one request and one chunk."""

    req_ids: list[str]
    idx_mapping_np: np.ndarray
    num_computed_prefill_tokens_np: np.ndarray
    num_scheduled_tokens: np.ndarray
    prefill_len_np: np.ndarray
    query_start_loc_np: np.ndarray


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """An LM head; the one Triton kernel of the worker is replaced by the same sum in torch."""
    from vllm.v1.worker.gpu.sample import prompt_logprob as worker

    by_torch = lambda logits, ids: logits.float().log_softmax(-1).gather(-1, ids.long())  # noqa: E731
    monkeypatch.setattr(worker, "compute_token_logprobs", by_torch)
    monkeypatch.setattr(worker, "async_tensor_h2d", lambda ids, device, dtype: torch.as_tensor(ids, dtype=dtype))
    return torch.randn(SIZE, VOCABULARY, generator=torch.Generator().manual_seed(0))


def serve(request: Request, ids: list[int], head: torch.Tensor, *, cached: int, chunk: int) -> Any:
    """Run vLLM's worker over a request from its first uncached row on, and wrap the result as a request output."""
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker

    params = SamplingParams(
        prompt_logprob_token_ids=id_rows(request)[0], prompt_logprob_start=request.start + request.num_borrowed
    )
    worker = PromptLogprobsWorker(4, torch.device("cpu"))
    worker.add_request("r", 0, params)
    result: dict[str, Any] = {}
    for begin in range(cached, len(ids), chunk):
        end = min(begin + chunk, len(ids))
        batch = Batch(
            ["r"], np.array([0]), np.array([begin]), np.array([end - begin]), np.array([len(ids)]), np.array([0])
        )
        hidden = states(ids)[begin:end]
        result |= worker.compute_prompt_token_id_logprobs(
            lambda rows: rows @ head,
            hidden,
            batch,
            np.array([len(ids)]),  # type: ignore[arg-type]
        )
    scores = result.get("r")
    return SimpleNamespace(
        num_cached_tokens=cached, prompt_token_id_logprobs=None if scores is None else scores.numpy()
    )


def states(ids: list[int]) -> torch.Tensor:
    """Hidden states that depend on everything before, as a causal model's do."""
    table = torch.randn(VOCABULARY, SIZE, generator=torch.Generator().manual_seed(1))
    return table[torch.tensor(ids)].cumsum(0)


def expected(group: EncodedGroup, head: torch.Tensor) -> list[float]:
    start = len(group.prompt_ids) - 1
    totals = []
    for targets in group.response_ids:
        logps = (states([*group.prompt_ids, *targets]) @ head).log_softmax(-1)[start:-1]
        totals.append(float(logps.gather(-1, torch.tensor(targets)[:, None]).sum()))
    return totals


@pytest.mark.parametrize("chunk", [3, 100])
@pytest.mark.parametrize("length", [7, 8, 9])
def test_siblings_served_from_the_cache_have_their_whole_log_prob(head: torch.Tensor, length: int, chunk: int) -> None:
    group = EncodedGroup(list(range(1, length + 1)), [[20, 21, 22, 23], [20, 21, 30], [31, 32]])
    requests = requests_of([group], block_size=4)
    cached = [0, *((r.start + r.num_borrowed) // 4 * 4 if not r.is_uncached else 0 for r in requests[1:])]
    served = [
        served_ids(request, serve(request, request.token_ids([group]), head, cached=count, chunk=chunk))
        for request, count in zip(requests, cached, strict=True)
    ]
    assert settle(requests, served) == pytest.approx(expected(group, head), abs=1e-4)


def test_a_request_that_was_served_too_much_cache_has_no_result_and_is_asked_for_again(head: torch.Tensor) -> None:
    group = EncodedGroup([1, 2, 3, 4], [[20, 21, 22, 23, 24]])
    requests = requests_of([group], block_size=4)
    output = serve(requests[0], requests[0].token_ids([group]), head, cached=8, chunk=100)
    assert output.prompt_token_id_logprobs is None
    assert settle(requests, [served_ids(requests[0], output)]) == [None]


def test_points_that_find_no_room_in_their_row_are_not_lent() -> None:
    points = [(3, 100 + number) for number in range(MAX_IDS_PER_ROW + 5)]
    ids, columns = id_rows(Request(0, 0, 3, [9, 9], points=points))
    assert ids.shape == (2, MAX_IDS_PER_ROW)
    assert columns.count(None) == 6
    assert ids[1].tolist() == [9] + [-1] * (MAX_IDS_PER_ROW - 1)
