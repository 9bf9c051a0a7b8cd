"""Our settings as the arguments of a ``transformers.Trainer``."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments

from schemas.errors import EngineError
from training.settings import TrainSettings


def make_arguments(settings: TrainSettings, output: Path, *, run_name: str | None = None) -> TrainingArguments:
    """Our settings as those of ``transformers``.

    Args:
        settings: ours.
        output: where checkpoints and logs go.
        run_name: name of the run in W&B.

    Raises:
        EngineError: the settings need a GPU, and there is none.
    """
    sharded = settings.sharding == "fsdp"
    if sharded and not torch.cuda.is_available():
        raise EngineError(
            "train.sharding = 'fsdp' needs GPUs, and there is none", mend="set it to 'none', which also takes torchrun"
        )
    return TrainingArguments(
        output_dir=str(output),
        run_name=run_name,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_schedule,
        warmup_steps=settings.warmup_share,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused" if settings.optimizer == "adamw" else "adamw_bnb_8bit",
        seed=settings.seed,
        logging_steps=settings.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        eval_strategy="no" if settings.eval_steps is None else "steps",
        eval_steps=settings.eval_steps,
        report_to=list(settings.report_to),
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        fsdp=True if sharded else None,  # type: ignore[arg-type]
        fsdp_config={"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"} if sharded else None,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=settings.gradient_checkpointing != "off",
        gradient_checkpointing_kwargs={
            "use_reentrant": False,
            "every_n_layers": 2 if settings.gradient_checkpointing == "selective" else 1,
        },
    )
