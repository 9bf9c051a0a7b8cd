"""Loading a policy: its tokenizer and weights, with one clear line for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from schemas.errors import ModelError, TrainingError
from schemas.long_rope import original_length, takes_long_factors
from schemas.model_identity import chat_template_hash, tokenizer_hash
from training.export_folder import ExportFolder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder.

    Raises:
        ModelError: it has none that can be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder} holds no tokenizer that can be read: {str(error).strip().splitlines()[0]}",
            mend="copy tokenizer.json and tokenizer_config.json of the base model into it",
        ) from error


def check_tokenizer(tokenizer: Any, export: ExportFolder) -> None:
    """Refuse another tokenizer or chat template than the scorer's: the log-probs of the export would not fit.

    Raises:
        TrainingError: they differ.
    """
    if export.reference is not None and (different := differing_part(tokenizer, export.reference)) is not None:
        raise TrainingError(
            f"the model's {different} is not the scorer's",
            mend="score again with this model: winnow score --model MODEL, then curate and export",
        )


def differing_part(tokenizer: Any, reference: Mapping[str, Any]) -> str | None:
    """What makes other tokens than the scorer's of the same conversation, or None.

    Args:
        tokenizer: of the policy.
        reference: of an export's manifest. One that scored plain text did without its chat template.
    """
    if tokenizer_hash(tokenizer) != reference.get("tokenizer_hash"):
        return "tokenizer"
    if reference.get("template") != "plain" and chat_template_hash(tokenizer) != reference.get("chat_template_hash"):
        return "chat template"
    return None


def parameter_dtype(name: str) -> torch.dtype:
    """``auto`` is bfloat16 on a GPU that has it and float32 elsewhere."""
    if name != "auto":
        return DTYPES[name]
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


def load_policy(
    folder: Path,
    *,
    dtype: str,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    quantization: Any = None,
) -> Any:
    """A causal language model for training; weights from safetensors only.

    Args:
        folder: of the model.
        dtype: of the parameters, or ``auto``.
        max_length: tokens of the longest sequence, None where any may come; see :mod:`schemas.long_rope`.
        trust_remote_code: let the folder run its own Python code.
        quantization: for ``transformers``, or None.

    Raises:
        ModelError: the folder holds no causal language model that can be read.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=parameter_dtype(dtype),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            quantization_config=quantization,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder} cannot be loaded as a causal language model: {str(error).strip().splitlines()[0]}",
            mend="check config.json and the safetensors files",
        ) from error
    original = original_length(model.config.to_dict())
    if max_length is not None and takes_long_factors(max_length, original):
        _keep_long_factors(model, int(original or 0))
    return model


def check_positions(model: Any, longest: int) -> None:
    """Refuse sequences beyond the positions that the model knows, as the scorer does.

    Behind them a table of positions ends, and a rotation that stretches itself goes by the longest sequence of a pass.

    Args:
        model: of ``transformers``.
        longest: tokens of the longest sequence.

    Raises:
        TrainingError: it is longer than that.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(limit, int) and longest > limit:
        raise TrainingError(
            f"the longest prompt and response have {longest + 1:,} tokens, and the model takes {limit:,}",
            mend=f"set train.max_length = {limit}",
        )


def _keep_long_factors(model: Any, original: int) -> None:
    """Let LongRoPE modules use their long factors for every sequence."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "longrope":
            module(torch.zeros(1), torch.tensor([[original]]))  # a far place, for which they make them
            module.original_inv_freq = module.long_inv_freq
