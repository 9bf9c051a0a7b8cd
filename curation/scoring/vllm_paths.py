"""The ways through vLLM: our pooling model, the token-id log-probs of its V2 runner, and flat prompt log-probs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from curation.scoring import vllm_process
from curation.scoring.engine import EMBEDDING_SIZE
from curation.scoring.policy import ReferencePolicy, read_config
from curation.scoring.settings import ScoringSettings
from curation.scoring.vllm_requests import Request, Served
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup

MAX_IDS_PER_ROW = 64
"""Token ids that a row may be asked for on the token-id path; a sibling that finds no room is asked for again."""


class Path(Protocol):
    """One way through vLLM."""

    name: str

    def serve(self, requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Served]:
        """Compute requests; the answer has their order."""
        ...


def open_path(policy: ReferencePolicy, settings: ScoringSettings) -> tuple[Any, Path]:
    """A started ``vllm.LLM`` and the way through it that the settings ask for.

    ``auto`` is the pooling model where vLLM knows the architecture, else token ids on the V2 runner, else flat.

    Raises:
        EngineError: vLLM cannot load the model, or has not the path that was asked for, or that gives no embeddings.
    """
    architecture = (read_config(policy.folder).get("architectures") or [""])[0]
    if settings.vllm_path == "pooling" or (settings.vllm_path == "auto" and _can_pool(architecture)):
        return _open_pooling(policy, settings, architecture)
    if settings.embeddings:
        raise EngineError(
            f"only vLLM's pooling path gives embeddings, not {settings.vllm_path} with {architecture}",
            mend="leave out --embeddings, or use --engine transformers",
        )
    is_token_ids = settings.vllm_path == "token-ids"
    llm = vllm_process.start(policy, settings, max_logprobs=MAX_IDS_PER_ROW)
    if settings.vllm_path != "flat" and has_token_ids(llm):
        return llm, TokenIdsPath(llm)
    if is_token_ids:
        vllm_process.shut_down(llm)
        raise EngineError("this vLLM has no token-id log-probs", mend="use its V2 runner (GPU, vLLM 0.32 or newer)")
    return llm, FlatPath(llm)


def has_token_ids(llm: Any) -> bool:
    """Whether an engine takes ``prompt_logprob_token_ids``: the V2 runner of a vLLM that knows them."""
    from vllm import SamplingParams

    has_field = "prompt_logprob_token_ids" in SamplingParams.__struct_fields__
    return has_field and bool(getattr(llm.llm_engine.vllm_config, "use_v2_model_runner", False))


def _can_pool(architecture: str) -> bool:
    with vllm_process.quiet():
        from vllm import ModelRegistry

        return architecture in ModelRegistry.models and architecture.endswith("ForCausalLM")


def _open_pooling(policy: ReferencePolicy, settings: ScoringSettings, architecture: str) -> tuple[Any, Path]:
    with vllm_process.quiet():
        from curation.scoring import vllm_pooler

        os.environ[vllm_pooler.ARCHITECTURE_VARIABLE] = architecture
        os.environ[vllm_pooler.EMBEDDINGS_VARIABLE] = "1" if settings.embeddings else "0"
        vllm_pooler.register()
    overrides = {"architectures": [vllm_pooler.scored_architecture(architecture)]}
    llm = vllm_process.start(policy, settings, runner="pooling", hf_overrides=overrides)
    return llm, PoolingPath(llm)


class PoolingPath:
    """Winnow's pooling model: a few numbers a request leave the device."""

    name = "pooling"

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def serve(self, requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Served]:
        """Compute requests; see :class:`Path`."""
        params = [score_params(request) for request in requests]
        prompts = _prompts(requests, groups)
        outputs = self._llm.encode(prompts, pooling_params=params, pooling_task="classify", use_tqdm=False)
        return [pooled(request, output) for request, output in zip(requests, outputs, strict=True)]


def score_params(request: Request) -> Any:
    """What our pooler is asked for: a ``vllm.PoolingParams``."""
    from curation.scoring.vllm_pooler import ScoreParams

    return ScoreParams(
        task="classify",
        use_activation=False,
        skip_reading_prefix_cache=request.is_uncached,
        extra_kwargs={
            "start": request.start,
            "targets": np.asarray(request.targets, dtype=np.int32).tobytes(),
            "points": np.asarray(request.points, dtype=np.int32).tobytes(),
        },
    )


def pooled(request: Request, output: Any) -> Served:
    """What our pooler gave for a request, of a ``vllm.PoolingRequestOutput``."""
    values = output.outputs.data.tolist()
    end = 2 + len(request.points)
    embedding = values[end:] if len(values) == end + EMBEDDING_SIZE else None
    return Served(int(values[0]), values[1], values[2:end], output.num_cached_tokens or 0, embedding)


class TokenIdsPath:
    """``prompt_logprob_token_ids`` of the V2 runner: only response rows reach the LM head, and no ranks are made."""

    name = "token-ids"

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def serve(self, requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Served]:
        """Compute requests; see :class:`Path`.

        The V2 runner drops the result of a request of which more is cached than its first row, so rows start behind
        what is foreseen to be lost, and a request without a result has to be asked for again.
        """
        from vllm import SamplingParams

        params = [
            SamplingParams(
                max_tokens=1,
                temperature=0,
                detokenize=False,
                prompt_logprob_token_ids=id_rows(request)[0],
                prompt_logprob_start=request.start + request.num_borrowed,
                skip_reading_prefix_cache=request.is_uncached,
            )
            for request in requests
        ]
        outputs = self._llm.generate(_prompts(requests, groups), params, use_tqdm=False)
        return [served_ids(request, output) for request, output in zip(requests, outputs, strict=True)]


def id_rows(request: Request) -> tuple[NDArray[np.int32], list[int | None]]:
    """Token ids for each row from the first one that will be served: the target, then the points of that row.

    Returns:
        Ids of shape (rows, width), -1 where there is none, and the column of each point, None where it found no room.
    """
    first = request.start + request.num_borrowed
    targets = request.targets[request.num_borrowed :]
    columns: list[int | None] = []
    used = [1] * len(targets)
    for row, _ in request.points:
        free = used[row - first] if 0 <= row - first < len(targets) else MAX_IDS_PER_ROW
        columns.append(free if free < MAX_IDS_PER_ROW else None)
        if columns[-1] is not None:
            used[row - first] += 1
    ids = np.full((len(targets), max(used, default=1)), -1, dtype=np.int32)
    ids[:, 0] = targets
    for (row, token), column in zip(request.points, columns, strict=True):
        if column is not None:
            ids[row - first, column] = token
    return ids, columns


def served_ids(request: Request, output: Any) -> Served:
    """What the token-id path gave for a request; the rows before its first one count as lost."""
    first = request.start + request.num_borrowed
    num_cached = output.num_cached_tokens or 0
    values = output.prompt_token_id_logprobs
    nothing = [float("nan")] * len(request.points)
    if values is None or num_cached > first:
        return Served(request.start + len(request.targets), 0.0, nothing, num_cached)
    _, columns = id_rows(request)
    points = [
        float("nan") if column is None else float(values[row - first, column])
        for (row, _), column in zip(request.points, columns, strict=True)
    ]
    return Served(first, float(np.sum(values[:, 0], dtype=np.float64)), points, num_cached)


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
        outputs = self._llm.generate(_prompts(requests, groups), params, use_tqdm=False)
        return [_flat(request, output) for request, output in zip(requests, outputs, strict=True)]


def _flat(request: Request, output: Any) -> Served:
    """vLLM gives a log-prob for each token that it computed a row for; the last ones are the response's."""
    num_cached = output.num_cached_tokens or 0
    count = min(len(request.targets), request.start + len(request.targets) - num_cached)
    logps = output.prompt_logprobs.logprobs[-count:] if count > 0 else []
    return Served(num_cached, float(np.sum(logps)), [float("nan")] * len(request.points), num_cached)


def _prompts(requests: Sequence[Request], groups: Sequence[EncodedGroup]) -> list[Any]:
    return [{"prompt_token_ids": request.token_ids(groups)} for request in requests]
