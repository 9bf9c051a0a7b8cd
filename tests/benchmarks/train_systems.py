"""The trainers that are compared: ours and TRL's, with the same optimizer, and how long their steps take."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from training.adapters import add_adapter
from training.arguments import make_arguments
from training.data import EncodedPairs
from training.objectives import Objective
from training.optimizer_in_backward import OptimizerInBackward
from training.packing import Batching
from training.policy import ATTENTION, compile_layers, set_attention
from training.products import use_fast_products
from training.settings import LoraSettings, LossSettings, TrainSettings
from training.trainer import PairTrainer

BETA = 0.1


class StepTimes(TrainerCallback):
    """Seconds and losses of the steps of a training."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        synchronize()
        self.start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        synchronize()
        self.seconds.append(time.perf_counter() - self.start)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def with_adapter(model: Any, options: argparse.Namespace) -> Any:
    """The model, or where an adapter is to be trained, the model with it."""
    return add_adapter(model, LoraSettings()) if options.lora else model


def ours(
    model: Any,
    pairs: EncodedPairs,
    options: argparse.Namespace,
    times: StepTimes,
    batching: Batching,
    *,
    in_backward: bool,
) -> PairTrainer:
    """Our trainer, with a model as it is loaded."""
    settings = TrainSettings(
        objective=Objective.DPO,
        batch_size=options.batch_size,
        learning_rate=1e-5,
        lr_schedule="constant",
        max_grad_norm=options.max_grad_norm,
        optimizer_in_backward=in_backward,
        gradient_checkpointing="full" if options.gradient_checkpointing else "off",
        batching=batching,
        report_to=(),
    )
    set_attention(model, ATTENTION[batching])
    if batching != "padded":
        use_fast_products(model)
    model = with_adapter(model, options)
    if options.compile:
        compile_layers(model)
    loss = LossSettings.resolve(settings, Objective.DPO, rules_beta=BETA)
    args = make_arguments(settings, Path(tempfile.mkdtemp()))
    args.save_strategy = "no"
    return PairTrainer(
        model,
        args=args,
        loss=loss,
        pairs=pairs,
        eval_pairs=pairs.take(np.arange(0)),
        batch_size=options.batch_size,
        token_budget=settings.token_budget,
        batching=batching,
        in_backward=OptimizerInBackward(partial(print, file=sys.stderr)) if in_backward else None,
        callbacks=[times],
    )


def trl(
    model: Any,
    reference: Any,
    tokenizer: Any,
    raw: list[Any],
    order: list[int],
    options: argparse.Namespace,
    times: StepTimes,
    *,
    precompute: bool,
) -> Any:
    """TRL's trainer; it loads the reference from the model's folder where none is given and no adapter is trained."""
    from datasets import Dataset
    from datasets.utils import disable_progress_bars
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    rows = [
        {
            "prompt": raw[i][0],
            "chosen": [{"role": "assistant", "content": raw[i][1]}],
            "rejected": [{"role": "assistant", "content": raw[i][2]}],
        }
        for i in order
    ]
    args = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=options.batch_size,
        num_train_epochs=1,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=0.0,
        max_grad_norm=options.max_grad_norm,
        beta=BETA,
        max_length=1024,
        precompute_ref_log_probs=precompute,
        gradient_checkpointing=options.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=False,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        use_cpu=not torch.cuda.is_available(),
    )
    lora = LoraSettings()
    adapter = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM")  # type: ignore[arg-type]
    return DPOTrainer(
        model,
        reference,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter if options.lora else None,
        callbacks=[times],
    )
