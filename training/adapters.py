"""LoRA and QLoRA: train an adapter beside a frozen base, which stays the reference."""

from __future__ import annotations

from typing import Any

from schemas.errors import ModelError
from training.settings import LoraSettings


def quantization(settings: LoraSettings | None) -> Any:
    """How to load the base for QLoRA; None for an ordinary base. That bitsandbytes is there was checked before."""
    if settings is None or settings.quantize == "none":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    if settings.quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def add_adapter(model: Any, settings: LoraSettings) -> Any:
    """The model with a fresh adapter, whose output is that of the base until the first step.

    Raises:
        ModelError: the model has no such layers, or some of its layers take no such adapter.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if settings.quantize != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    targets: Any = settings.target_modules
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(
            f"{type(model).__name__} takes no such adapter: {str(error).strip().splitlines()[0].rstrip('.')}",
            mend="name other layers in train.lora.target_modules; experts take no train.lora.dropout",
        ) from error
