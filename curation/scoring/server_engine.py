"""The vllm-server engine: prompt log-probs from an OpenAI-compatible vLLM that is already running."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from curation.scoring.engine import EngineInfo, ResponseScore, TokenCounts
from curation.scoring.policy import ReferencePolicy
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError
from schemas.long_rope import takes_long_factors
from schemas.tokens import EncodedGroup

KEY_VARIABLE = "VLLM_API_KEY"
"""Environment variable that holds the server's API key, where it wants one; `vllm serve` reads the same."""

_TRANSIENT = (408, 429, 500, 502, 503, 504)
_ASK_FOR_KEY = f"put the server's API key into {KEY_VARIABLE}"
_REFUSALS = {401: _ASK_FOR_KEY, 403: _ASK_FOR_KEY, 404: "give the URL of a vLLM server that serves this model"}


class ServerEngine:
    """A vLLM server that serves the policy's weights.

    One request holds all of a prompt's responses. The server reads no prefix cache for prompt log-probs, so nothing
    of its state changes a number. It must serve the model that the tokenizer in ``policy.folder`` belongs to: its name
    is compared, its weights cannot be.

    Attributes:
        info: ``path`` is ``prompt-logprobs``; ``dtype`` is ``server``, since a server does not tell.
        max_length: longest prompt and response, in tokens.
        batch_tokens: the most tokens of one request.
        counts: tokens since the engine was made.
    """

    def __init__(self, policy: ReferencePolicy, settings: ScoringSettings) -> None:
        if not settings.server:
            raise EngineError("no server was given", mend="--server http://127.0.0.1:8000")
        if policy.adapter is not None:
            raise EngineError("a server's adapters cannot be checked", mend="score adapters with another engine")
        if settings.embeddings:
            raise EngineError("a server gives no hidden states", mend="leave out --embeddings, or use another engine")
        self._url = _server_url(settings.server)
        self._settings = settings
        self._model, limit = self._served_model(policy)
        if limit is not None and limit <= policy.max_length:
            raise EngineError(
                f"the server takes {limit} tokens, of which one is for its own answer; the policy takes"
                f" {policy.max_length}",
                mend=f"--max-length {limit - 1}",
            )
        if limit is not None:
            check_factors(policy, limit)
        self.max_length = policy.max_length
        self.batch_tokens = settings.batch_tokens or policy.max_length
        self.counts = TokenCounts()
        version = str(self._ask("/version").get("version", "unknown"))
        self.info = EngineInfo("vllm-server", "prompt-logprobs", version, "server", policy.quantization, "server")
        self._pool = ThreadPoolExecutor(settings.server_concurrency)

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[ResponseScore]]:
        """Score every response of every group; see :class:`curation.scoring.engine.Engine`."""
        scores = list(self._pool.map(self._score_group, groups))
        num_computed = sum(len(group.prompt_ids) + len(ids) for group in groups for ids in group.response_ids)
        self.counts.add_groups(groups, num_computed=num_computed)
        return scores

    def close(self) -> None:
        """End the threads; the server goes on."""
        self._pool.shutdown(cancel_futures=True)

    def _score_group(self, group: EncodedGroup) -> list[ResponseScore]:
        answer = self._ask(
            "/v1/completions",
            {
                "model": self._model,
                "prompt": [[*group.prompt_ids, *ids] for ids in group.response_ids],
                "max_tokens": 1,
                "temperature": 0,
                "prompt_logprobs": 0,
                "add_special_tokens": False,
            },
        )
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return [
            ResponseScore(_response_logps(choice["prompt_logprobs"], len(group.prompt_ids), ids), len(ids))
            for choice, ids in zip(choices, group.response_ids, strict=True)
        ]

    def _served_model(self, policy: ReferencePolicy) -> tuple[str, int | None]:
        """Name of the served model that has the policy's name, and its longest sequence where the server says it."""
        served = self._ask("/v1/models").get("data") or []
        wanted = {policy.model.rstrip("/").rsplit("/", 1)[-1], policy.folder.name}
        for model in served:
            names = {str(model.get(key, "")).rstrip("/").rsplit("/", 1)[-1] for key in ("id", "root")}
            if names & wanted:
                return str(model["id"]), model.get("max_model_len")
        found = ", ".join(str(model.get("id")) for model in served) or "no model"
        raise EngineError(
            f"the server at {self._url} serves {found}, not {policy.model}",
            mend="start `vllm serve` with this model",
        )

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request's JSON answer; what may pass is tried again with growing pauses.

        Raises:
            EngineError: the server cannot be reached, lets nobody in, or does not know the path or the model.
            RuntimeError: it refuses this request.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        pause = 0.25
        for attempt in range(self._settings.server_retries + 1):
            request = urllib.request.Request(f"{self._url}{path}", data, headers)
            try:
                with urllib.request.urlopen(request, timeout=self._settings.server_timeout_seconds) as answer:
                    found: dict[str, Any] = json.load(answer)
                    return found
            except urllib.error.HTTPError as error:
                problem = f"answers {error.code}: {error.read().decode(errors='replace')[:300]}"
                if error.code in _REFUSALS:
                    raise EngineError(
                        f"the server at {self._url} {problem} ({path})", mend=_REFUSALS[error.code]
                    ) from error
                if error.code not in _TRANSIENT:
                    raise RuntimeError(f"the server {problem}") from error
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                problem = f"cannot be reached: {getattr(error, 'reason', None) or error}"
            except (http.client.HTTPException, ValueError) as error:
                problem = f"gives an answer that is cut short or no JSON: {type(error).__name__}: {error}"
            if attempt < self._settings.server_retries:
                time.sleep(pause)
                pause *= 2
        raise EngineError(f"the vLLM server at {self._url} {problem}", mend="check --server and that it is running")


def check_factors(policy: ReferencePolicy, limit: int) -> None:
    """Refuse a server that computes a LongRoPE model with other factors than this policy is scored with elsewhere."""
    original = policy.original_length
    if original is not None and (limit > original) != takes_long_factors(policy.max_length, original):
        needed = original if policy.max_length < original else original + 1
        raise EngineError(
            f"the server takes {limit:,} tokens and the policy {policy.max_length:,}: of its two sets of rotary factors"
            f" (LongRoPE, {original:,} tokens) they would use different ones",
            mend=f"vllm serve --max-model-len {needed}, or another --max-length",
        )


def _server_url(given: str) -> str:
    """The URL without a slash or the API's version at its end.

    Raises:
        EngineError: it is none.
    """
    parts = urllib.parse.urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EngineError(f"--server {given} is no http or https URL", mend="--server http://127.0.0.1:8000")
    return given.rstrip("/").removesuffix("/v1")


def _response_logps(prompt_logprobs: list[dict[str, Any] | None], start: int, ids: Sequence[int]) -> float:
    """Sum of the response tokens' log-probs out of what the server gives for each prompt token."""
    total = 0.0
    for position, token in enumerate(ids, start=start):
        total += (prompt_logprobs[position] or {})[str(token)]["logprob"]
    return total
