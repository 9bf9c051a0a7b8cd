"""A vLLM pooling model that returns log-probs of given tokens: the LM head runs once a step, over all requests' rows.

It is any causal language model of vLLM with another pooler, registered through vLLM's public plug point; only a handful
of numbers leave the device for each request. What to score comes with the request, in ``PoolingParams.extra_kwargs``:
``start`` (row that predicts the first target), ``targets`` (int32 bytes) and ``points`` (int32 bytes of row, token).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm import ModelRegistry, PoolingParams
from vllm.model_executor.layers.pooler.abstract import Pooler
from vllm.model_executor.models.interfaces_base import VllmModelForPooling

from curation.scoring import cpu_kernels, vllm_cpu_layers
from curation.scoring.engine import Projection
from curation.scoring.lm_head import token_logps
from curation.scoring.packed_linear import head_product
from curation.scoring.vllm_process import let_llvmlite_be_looked_at

ARCHITECTURE_VARIABLE = "WINNOW_VLLM_ARCHITECTURE"
"""Environment variable that names the architecture to register, for vLLM's own worker processes."""

EMBEDDINGS_VARIABLE = "WINNOW_VLLM_EMBEDDINGS"
"""Environment variable that is 1 where the projected hidden state is asked for."""

HEAD_SIZE = 2
"""Numbers before a request's points: the first row that was served, and the sum of log-probs."""

_PREFIX = "WinnowScored"


class ScoreParams(PoolingParams):
    """Parameters that only their one request holds, so that vLLM's copy of them can be the same object."""

    def clone(self) -> ScoreParams:
        """These parameters."""
        return self


class LogpsPooler(Pooler):
    """Sum of the targets' log-probs, the points' log-probs and, if asked for, the last token's projected state."""

    def __init__(self, model: Any, *, vocab_size: int, hidden_size: int, has_embedding: bool) -> None:
        super().__init__()
        self._compute_logits: Any = model.compute_logits  # a bound method: the model is no submodule of its pooler
        self._logits_of: Any = None
        self._vocab_size = vocab_size
        self._projection = torch.from_numpy(Projection.of(hidden_size).matrix) if has_embedding else None

    def get_supported_tasks(self) -> set[Any]:
        """The task under which vLLM runs it."""
        return {"classify"}

    def forward(self, hidden_states: Tensor, pooling_metadata: Any) -> list[Tensor | None]:
        """One vector for each request that is done: first row, sum, points, embedding. float64 on the device."""
        cursor = pooling_metadata.get_pooling_cursor()
        chunks = _chunks(pooling_metadata, cursor)
        are_done = (cursor.prompt_lens_cpu == cursor.seq_lens_cpu).tolist()
        out: list[Tensor | None] = []
        for chunk, sums, is_done in zip(chunks, self._sums(hidden_states, chunks), are_done, strict=True):
            chunk.state.hidden_states_cache.append(sums)
            out.append(self._finish(chunk, hidden_states) if is_done else None)
        return out

    def _sums(self, hidden_states: Tensor, chunks: list[_Chunk]) -> Sequence[Tensor]:
        """For each chunk a zero, the sum of its targets' log-probs, and its points' log-probs, zero where not in it."""
        if not chunks:
            return []
        lengths = np.concatenate([chunk.lengths for chunk in chunks])
        values = self._logps(hidden_states, chunks)
        on_device = torch.from_numpy(lengths).to(values.device, non_blocking=True)
        sums = torch.segment_reduce(values, "sum", lengths=on_device, initial=0.0, unsafe=True)
        return sums.split([len(chunk.lengths) for chunk in chunks])

    def _logps(self, hidden_states: Tensor, chunks: list[_Chunk]) -> Tensor:
        rows = np.concatenate([chunk.rows for chunk in chunks])
        targets = np.concatenate([chunk.tokens for chunk in chunks])
        if self._logits_of is None:  # the weights are loaded after this pooler is made
            self._logits_of = head_product(self._compute_logits.__self__) or self._compute_logits
        device = hidden_states.device
        index = torch.from_numpy(rows).to(device, non_blocking=True)
        token_ids = torch.from_numpy(targets).to(device, non_blocking=True)
        return token_logps(hidden_states[index], token_ids, self._logits_of, vocab_size=self._vocab_size).double()

    def _finish(self, chunk: _Chunk, hidden_states: Tensor) -> Tensor:
        first_row, *parts = chunk.state.hidden_states_cache
        total: Tensor = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        chunk.state.clean()
        total[0] = first_row
        lost = chunk.lost_points(first_row)
        if len(lost):
            total[HEAD_SIZE:][lost] = float("nan")
        if self._projection is None:
            return total
        self._projection = self._projection.to(hidden_states.device)
        return torch.cat([total, (hidden_states[chunk.last].float() @ self._projection).double()])


class _Chunk:
    """The part of one request that is computed in this step.

    ``state.hidden_states_cache`` holds the first row that was computed, then a vector for each chunk so far.

    Attributes:
        rows: rows of the step's hidden states that predict ``tokens``: targets in this chunk, then points in it.
        lengths: how many of these rows each number of the request's vector sums: none, the targets, each point.
        last: row of the chunk's last token.
    """

    def __init__(self, what: dict[str, Any], state: Any, *, offset: int, begin: int, end: int) -> None:
        start = int(what.get("start", 0))
        targets = np.frombuffer(what.get("targets", b""), dtype=np.int32)
        points = np.frombuffer(what.get("points", b""), dtype=np.int32).reshape(-1, 2)
        low, high = max(start, begin), min(end, start + len(targets))
        num_targets = max(high - low, 0)
        mine = (points[:, 0] >= begin) & (points[:, 0] < end)
        self.state = state
        self.tokens = np.concatenate(
            [targets[low - start : low - start + num_targets], points[mine, 1]], dtype=np.int64
        )
        rows = np.concatenate([np.arange(low, low + num_targets), points[mine, 0]], dtype=np.int64)
        self.rows = rows + (offset - begin)
        self.lengths = np.concatenate([[0, num_targets], mine], dtype=np.int64)
        self.last = offset + end - begin - 1
        self._point_rows = points[:, 0]

    def lost_points(self, first_row: int) -> np.ndarray:
        """Which points lie in rows that came from the cache."""
        return np.flatnonzero(self._point_rows < first_row)


def _chunks(metadata: Any, cursor: Any) -> list[_Chunk]:
    scheduled = cursor.num_scheduled_tokens_cpu.tolist()
    ends = cursor.seq_lens_cpu.tolist()
    chunks = []
    offset = 0
    for params, state, size, end in zip(metadata.pooling_params, metadata.pooling_states, scheduled, ends, strict=True):
        begin = end - size
        _begin_or_go_on(state, begin, end)
        what = params.extra_kwargs or _every_row(size)
        chunks.append(_Chunk(what, state, offset=offset, begin=begin, end=end))
        offset += size
    return chunks


def _every_row(size: int) -> dict[str, Any]:
    """What to score of a request that does not say: one of vLLM's own, by which it measures the memory of a step.

    It sees the most that a step can take only if every row goes through the LM head.
    """
    return {"start": 0, "targets": np.zeros(size, dtype=np.int32).tobytes()}


def _begin_or_go_on(state: Any, begin: int, end: int) -> None:
    """Forget what a preempted request had computed before it was started again."""
    if getattr(state, "winnow_end", None) != begin:
        state.hidden_states_cache.clear()
        state.hidden_states_cache.append(begin)
    state.winnow_end = end


def scored_architecture(architecture: str) -> str:
    """Name under which an architecture with this pooler is registered."""
    return f"{_PREFIX}{architecture}"


def register() -> None:
    """vLLM plug point: register the architecture that the environment names, if it names one.

    vLLM calls it in every process of every engine and server of this environment, ours or not, and this module has
    loaded numba.
    """
    let_llvmlite_be_looked_at()
    architecture = os.environ.get(ARCHITECTURE_VARIABLE)
    if architecture:
        base = ModelRegistry.models[architecture].load_model_cls()
        ModelRegistry.register_model(scored_architecture(architecture), _scored_class(base))


def _scored_class(base: type) -> type:
    """The given vLLM model class as a pooling model."""

    def __init__(self: Any, *, vllm_config: Any, prefix: str = "") -> None:  # noqa: N807
        base.__init__(self, vllm_config=vllm_config, prefix=prefix)  # type: ignore[misc]
        config = vllm_config.model_config
        if cpu_kernels.has_matrix_units(torch.device(vllm_config.device_config.device), config.dtype):
            vllm_cpu_layers.replace_layers(self)
        self.pooler = LogpsPooler(
            self,
            vocab_size=config.get_vocab_size(),
            hidden_size=config.get_hidden_size(),
            has_embedding=os.environ.get(EMBEDDINGS_VARIABLE) == "1",
        )

    return type(
        f"{_PREFIX}{base.__name__}", (base, VllmModelForPooling), {"__init__": __init__, "is_pooling_model": True}
    )
