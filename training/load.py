"""Loading a policy: its tokenizer and weights, with one clear line for what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from schemas.errors import ModelError, TrainingError
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
    reference = export.reference
    if reference is None:
        return
    template = None if reference.get("template") == "plain" else chat_template_hash(tokenizer)  # plain uses none
    for what, expected, found in (
        ("tokenizer", reference.get("tokenizer_hash"), tokenizer_hash(tokenizer)),
        ("chat template", reference.get("chat_template_hash"), template),
    ):
        if expected != found:
            raise TrainingError(
                f"the model's {what} is not the scorer's ({str(found)[:12]} and {str(expected)[:12]})",
                mend="score again with this model: winnow score --model MODEL, then curate and export",
            )


def parameter_dtype(name: str) -> torch.dtype:
    """``auto`` is bfloat16 on a GPU that has it and float32 elsewhere."""
    if name != "auto":
        return DTYPES[name]
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


def load_policy(folder: Path, *, dtype: str, trust_remote_code: bool = False, quantization: Any = None) -> Any:
    """A causal language model for training; weights from safetensors only.

    Raises:
        ModelError: the folder holds no causal language model that can be read.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
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
