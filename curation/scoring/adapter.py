"""A LoRA adapter merged into its base, so that every engine scores the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from curation.scoring.policy import ReferencePolicy
from schemas.errors import ModelError


def merge_adapter(model: Any, adapter: Path) -> Any:
    """The model with the adapter's product added to its weights.

    Raises:
        ModelError: the adapter cannot be read, or is for another model.
    """
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"the adapter {adapter} cannot be merged: {str(error).splitlines()[0]}",
            mend="give the folder of a PEFT LoRA adapter for this model",
        ) from error


def merged_policy(policy: ReferencePolicy, folder: Path, *, dtype: str) -> ReferencePolicy:
    """The policy with its adapter merged and saved in ``folder``, in the dtype that it is computed in.

    Args:
        policy: a base with an adapter.
        folder: where the merged weights go.
        dtype: as ``[scoring] dtype``; ``auto`` is the one in which the base's weights are stored.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    assert policy.adapter is not None
    model = AutoModelForCausalLM.from_pretrained(
        policy.folder, dtype=dtype, use_safetensors=True, trust_remote_code=policy.trust_remote_code
    )
    merge_adapter(model, policy.adapter).save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return replace(policy, folder=folder)
