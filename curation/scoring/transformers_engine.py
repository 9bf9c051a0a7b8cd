"""The transformers engine: each prompt once, its responses behind it, the LM head on response rows only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.scoring import cpu_kernels
from curation.scoring.adapter import merge_adapter
from curation.scoring.engine import EngineInfo, Projection, ResponseScore, TokenCounts
from curation.scoring.fused_decoder import fuse_decoder
from curation.scoring.fused_layers import fuse_layers
from curation.scoring.last_mlp import MLPOnRows, keep_last_mlp_to_rows
from curation.scoring.lm_head import token_logps
from curation.scoring.packed_linear import pack_layers, packed_product
from curation.scoring.packing import PackedBatch, Row, batches_of, pack, rows_of
from curation.scoring.plain_head import require_plain_head
from curation.scoring.policy import ReferencePolicy
from curation.scoring.settings import ScoringSettings
from curation.scoring.tree_attention import NAME as TREE_ATTENTION
from curation.scoring.tree_attention import tree_order
from schemas.errors import EngineError, ModelError
from schemas.long_rope import takes_long_factors
from schemas.tokens import EncodedGroup

BATCH_TOKENS = {"cpu": 8192, "cuda": 32768}
_ROW_TOKENS = 4096  # siblings share a row up to here; beyond, the mask costs more than the prompt saves
_PROBE_TOKENS = 24  # of a prompt and of each response on which paths are compared
_PROBE_TOLERANCE = 0.02  # nats a token, between the shared and the plain pass of one dtype


class TransformersEngine:
    """A reference policy in transformers.

    Attributes:
        info: ``path`` is ``shared`` where responses share their prompt's row and nothing that is hidden is computed,
            ``masked`` where they share it under a mask, and ``plain`` where the model cannot share; ``-compiled``
            stands behind it where layers are compiled.
        max_length: longest prompt and response, in tokens.
        batch_tokens: tokens in one forward pass.
        counts: tokens since the engine was made.
    """

    def __init__(self, policy: ReferencePolicy, settings: ScoringSettings) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = _load(policy, settings, self._device)
        require_plain_head(self._model, policy.model)
        head = self._model.get_output_embeddings()
        self._vocab_size = head.weight.shape[0]
        self._logits_of = packed_product(head.weight, head.bias) or head
        self.batch_tokens = settings.batch_tokens or BATCH_TOKENS[self._device.type]
        self._projection = _projection(self._model, self._device) if settings.embeddings else None
        self.max_length = policy.max_length
        self._last_mlp: MLPOnRows | None = None
        has_matrix_units = cpu_kernels.has_matrix_units(self._device, self._model.dtype)
        if has_matrix_units and not self._made_faster():
            self._model = _load(policy, settings, self._device)
            has_matrix_units = False
        if not has_matrix_units:
            self._last_mlp = keep_last_mlp_to_rows(self._model)
            self._path = self._find_path()
        is_compiled = bool(settings.compile) and not has_matrix_units
        if is_compiled:
            self._compile(policy.model)
        self.counts = TokenCounts()
        self.info = EngineInfo(
            engine="transformers",
            path=f"{self._path}-compiled" if is_compiled else self._path,
            version=version("transformers"),
            dtype=str(self._model.dtype).removeprefix("torch."),
            quantization=policy.quantization,
            device=self._device.type,
        )

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[ResponseScore]]:
        """Score every response of every group; see :class:`curation.scoring.engine.Engine`."""
        scores: list[list[Any]] = [[None] * len(group.response_ids) for group in groups]
        rows = rows_of(groups, max_row_tokens=min(_ROW_TOKENS, self.batch_tokens), is_shared=self._path != "plain")
        for batch in batches_of(rows, batch_tokens=self.batch_tokens):
            results = iter(self._forward(groups, batch))
            for row in batch:
                for index in row.responses:
                    scores[row.group][index] = next(results)
        self.counts.add_groups(groups, num_computed=sum(row.length for row in rows))
        return scores

    def close(self) -> None:
        """Free the model."""
        self._model = self._logits_of = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _forward(self, groups: Sequence[EncodedGroup], rows: Sequence[Row]) -> list[ResponseScore]:
        batch = pack(groups, rows)
        read = batch.predicting if self._projection is None else torch.cat([batch.predicting, batch.last])
        only = nullcontext() if self._last_mlp is None else self._last_mlp.only(read.unique().to(self._device))
        with only:
            hidden = self._hidden(batch)
        predicting = batch.predicting.to(self._device)
        logps = token_logps(
            hidden[predicting],
            batch.targets.to(self._device),
            self._logits_of,
            vocab_size=self._vocab_size,
        )
        count = len(batch.last)
        sums = torch.zeros(count, dtype=torch.float64).index_add_(0, batch.owners, logps.double().cpu())
        sizes = torch.bincount(batch.owners, minlength=count)
        kept = [None] * count if self._projection is None else self._embed(hidden[batch.last.to(self._device)])
        return [
            ResponseScore(total, size, embedding)
            for total, size, embedding in zip(sums.tolist(), sizes.tolist(), kept, strict=True)
        ]

    def _hidden(self, batch: PackedBatch) -> Tensor:
        """Last hidden states, shape (B * L, D)."""
        if self._path == "shared":
            order = tree_order(batch.trees, self._device, self._model.dtype)
        else:
            mask = batch.trees.mask()
            order = {"attention_mask": None if mask is None else mask.to(self._device)}
        out = self._model.base_model(
            input_ids=batch.input_ids.to(self._device),
            position_ids=batch.position_ids.to(self._device),
            use_cache=False,
            **order,
        )
        hidden: Tensor = out.last_hidden_state
        return hidden.flatten(0, 1)

    def _embed(self, states: Tensor) -> list[Any]:
        assert self._projection is not None
        projected: np.ndarray = (states.float() @ self._projection).half().cpu().numpy()
        return list(projected)

    def _made_faster(self) -> bool:
        """Give the model this CPU's layers; False where it cannot run with them, or scores otherwise."""
        try:
            fuse_layers(self._model.base_model)
            self._last_mlp = keep_last_mlp_to_rows(self._model)
            self._path = self._find_path()
            before = self._try()
            if self._path == "shared":
                fuse_decoder(self._model)
            pack_layers(self._model.base_model)
            return _agree(self._try(), before)
        except (AttributeError, TypeError):  # it reads weights of its layers
            return False

    def _compile(self, model: str) -> None:
        """Compile every decoder layer in place, for any length; whether that can be done here is found out at once."""
        before = self._try()
        for stack in self._model.base_model.children():
            if isinstance(stack, torch.nn.ModuleList):
                for layer in stack:
                    layer.compile(dynamic=True)
        try:
            is_same = _agree(self._try(), before)
        except (RuntimeError, OSError) as error:  # of torch's compiler, or of the one that it calls
            reason = next(iter(str(getattr(error, "inner_exception", error)).splitlines()), type(error).__name__)
            raise EngineError(f"torch.compile fails on {model}: {reason}", mend="[scoring] compile = false") from error
        if not is_same:
            raise EngineError(f"{model} scores otherwise when compiled", mend="[scoring] compile = false")

    def _try(self) -> list[ResponseScore]:
        """Scores of random tokens, on the path that was found."""
        together = [Row(0, (0, 1, 2), 4 * _PROBE_TOKENS)]
        alone = [Row(0, (index,), 2 * _PROBE_TOKENS) for index in range(3)]
        return self._forward([self._probe], alone if self._path == "plain" else together)

    def _find_path(self) -> str:
        """The best path that is exact on this model: by its configuration, and tried on random tokens."""
        config = self._model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        layers = set(getattr(config, "layer_types", None) or ["full_attention"])
        self._path = "plain"
        if (window is not None and window < self.max_length) or layers - {"full_attention", "sliding_attention"}:
            return "plain"
        if config._attn_implementation != "sdpa":  # transformers has no attention for it but its own
            return "plain"
        alone = self._try()
        for path in ("shared", "masked"):
            self._path = path
            self._model.set_attn_implementation(TREE_ATTENTION if path == "shared" else "sdpa")
            try:
                together = self._try()
            except (EngineError, TypeError):  # its layers take no such rows, or no mask of this shape
                continue
            if _agree(together, alone):
                return path
        self._model.set_attn_implementation("sdpa")
        return "plain"

    @property
    def _probe(self) -> EncodedGroup:
        """A prompt with three responses, of random tokens."""
        generator = np.random.default_rng(0)
        size = self._model.config.get_text_config().vocab_size
        prompt, *responses = (generator.integers(5, size, _PROBE_TOKENS).tolist() for _ in range(4))
        return EncodedGroup(prompt, responses)


def _agree(some: Sequence[ResponseScore], others: Sequence[ResponseScore]) -> bool:
    tolerance = _PROBE_TOLERANCE * _PROBE_TOKENS
    return all(abs(one.logps - other.logps) <= tolerance for one, other in zip(some, others, strict=True))


def _load(policy: ReferencePolicy, settings: ScoringSettings, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if policy.quantize_on_load is not None:
        raise EngineError(f"transformers does not quantise to {policy.quantize_on_load} on load", mend="--engine vllm")
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            policy.folder,
            dtype=settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype),
            trust_remote_code=policy.trust_remote_code,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"transformers cannot load {policy.folder}: {str(error).splitlines()[0]}",
            mend="check that the folder holds a causal language model in safetensors",
        ) from error
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        raise EngineError(
            f"{policy.model} caps its attention scores (attn_logit_softcapping)", mend="score it with --engine vllm"
        )
    if policy.adapter is not None:
        model = merge_adapter(model, policy.adapter)
    if takes_long_factors(policy.max_length, policy.original_length):
        _keep_long_factors(model, int(policy.original_length or 0))
    return model.eval().to(device)


def _keep_long_factors(model: Any, original: int) -> None:
    """Let LongRoPE modules use their long factors for every sequence."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "longrope":
            module(torch.zeros(1), torch.tensor([[original]]))  # a far place, for which they make them
            module.original_inv_freq = module.long_inv_freq


def _projection(model: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(Projection.of(model.config.get_text_config().hidden_size).matrix).to(device)
