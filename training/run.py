"""One training run: an export and a model in, a model folder with a card and the figures out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from schemas.errors import EngineError, TrainingError
from training import checkpoints
from training.adapters import add_adapter, quantization
from training.alarm import AlignmentAlarm
from training.data import EncodedPairs, encode_pairs
from training.evaluation import FILE as LOSS_FILE
from training.evaluation import describe
from training.head import has_kernels
from training.load import check_tokenizer, load_policy, load_tokenizer
from training.model_card import model_card
from training.monitor import PairScores
from training.plan import TrainingPlan
from training.policy import ATTENTION, compile_layers, set_attention, supports_packing
from training.quiet import quiet_libraries
from training.reference_check import ReferenceCheck, sample
from training.settings import TrainSettings
from training.trainer import PairTrainer
from training.writing import writing_to

Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int, str], None]]]
"""``progress(description, total, unit)`` gives a context whose function takes (steps done, note)."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run made.

    Attributes:
        checkpoint: the model folder.
        before, after: metrics of the held-out pairs.
        log_history: what was logged at which step.
        eval_pairs, eval_scores: held-out pairs and their log-probs after training.
        counts: pairs trained on, held out and left out; steps.
        check: how well the exported log-probs fit; None where there was nothing to compare.
        alarms: (step, message) of each alignment alarm.
    """

    checkpoint: Path
    before: dict[str, float]
    after: dict[str, float]
    log_history: list[dict[str, float]]
    eval_pairs: EncodedPairs
    eval_scores: PairScores
    counts: dict[str, int]
    check: ReferenceCheck | None
    alarms: list[tuple[int, str]]


def run_training(
    plan: TrainingPlan, output: Path, *, progress: Progress, warn: Callable[[str], None]
) -> TrainingResult:
    """Train, or go on where a killed run of the same plan stopped, and leave the model in ``output``.

    Args:
        plan: what to do.
        output: the model folder to make; until it is whole, everything lies in a hidden folder beside it.
        progress: makes a progress bar.
        warn: shows a line to the user.

    Raises:
        TrainingError: the export does not fit the objective or the model, or the loss is not finite.
    """
    work = output.with_name(f".{output.name}.partial")
    with quiet_libraries():
        tokenizer = load_tokenizer(plan.folder, trust_remote_code=plan.settings.trust_remote_code)
        check_tokenizer(tokenizer, plan.export)
        train_pairs, eval_pairs = _encode(plan, tokenizer, progress)
        if len(train_pairs) == 0:
            raise TrainingError(
                f"no pairs to train on: {train_pairs.num_too_long} of the export's are longer than max_length",
                mend="raise train.max_length, or set train.truncate = 'left'",
            )
        trainer = make_trainer(plan, tokenizer, train_pairs, eval_pairs, work)
        if torch.cuda.is_available() and not has_kernels(trainer.args.device):
            warn("Triton is not installed: the LM head runs in plain torch, which takes more memory and time")
        resume = checkpoints.newest(work, warn=warn)
        trainer.args.eval_on_start = resume is None
        check = _check_reference(trainer, plan)
        alarm = AlignmentAlarm(plan.settings.alarm, warn)
        trainer.add_callback(alarm)
        with progress("train", trainer.num_steps, "steps") as advance:
            trainer.add_callback(_StepProgress(advance))
            trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        scores = trainer.score(trainer.eval_pairs)
        after = trainer.log_metrics_of(scores)
        history = list(trainer.state.log_history)
        before = _before(history)
        counts = {
            "train": len(train_pairs),
            "eval": len(trainer.eval_pairs),
            "too_long": train_pairs.num_too_long + eval_pairs.num_too_long,
            "weightless": train_pairs.num_weightless + eval_pairs.num_weightless,
            "steps": trainer.state.global_step,
        }
        card = model_card(
            training_run_id=plan.training_run_id,
            model=plan.model,
            manifest=plan.export.manifest,
            loss=plan.loss.as_json(),
            settings=plan.settings.model_dump(mode="json"),
            counts=counts,
            before=before,
            after=after,
            library="transformers" if plan.settings.lora is None else "peft",
            check=None if check is None else check.as_dict(),
        )
        loss_file = {LOSS_FILE: describe(plan.loss, trainer.objective_state)}
        _publish(trainer, work, output, {"README.md": card, "winnow_metrics.json": _json(before, after), **loss_file})
    return TrainingResult(output, before, after, history, trainer.eval_pairs, scores, counts, check, alarm.alarms)


def _check_reference(trainer: PairTrainer, plan: TrainingPlan) -> ReferenceCheck | None:
    """Compare a sample's exported log-probs with the untrained policy's own, where it is the reference."""
    part = sample(trainer.pairs, plan.settings.check_pairs)
    if not plan.is_reference or len(part) == 0:
        return None
    check = ReferenceCheck.of(trainer.score(part))
    lora = plan.settings.lora
    quantized = lora is not None and lora.quantize != "none"
    check.require(plan.settings.check_tolerance, model=plan.model, quantized=quantized)
    return check


def make_trainer(
    plan: TrainingPlan,
    tokenizer: Any,
    pairs: EncodedPairs,
    eval_pairs: EncodedPairs,
    work: Path,
) -> PairTrainer:
    """The trainer of a plan, with its model loaded."""
    settings = plan.settings
    model = load_policy(
        plan.folder,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
        quantization=quantization(settings.lora),
    )
    batching = settings.batching if supports_packing(model) else "padded"
    set_attention(model, ATTENTION[batching])
    if settings.lora is not None:
        set_seed(settings.seed)  # the adapter starts at random numbers
        model = add_adapter(model, settings.lora)
    if settings.compile:
        compile_layers(model)
    trainer = PairTrainer(
        model,
        args=make_arguments(settings, work),
        loss=plan.loss,
        routed=plan.routed,
        slice_by=settings.slice_by,
        pairs=pairs,
        eval_pairs=held_out(eval_pairs, settings.eval_pairs),
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        batching=batching,
        tokenizer=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def make_arguments(settings: TrainSettings, output: Path) -> TrainingArguments:
    """Our settings as those of ``transformers``.

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


def held_out(pairs: EncodedPairs, limit: int) -> EncodedPairs:
    """At most ``limit`` pairs (0 for all), evenly spaced, so that the choice does not depend on chance."""
    if limit == 0 or len(pairs) <= limit:
        return pairs
    return pairs.take(np.linspace(0, len(pairs) - 1, limit).astype(np.int64))


def _encode(plan: TrainingPlan, tokenizer: Any, progress: Progress) -> tuple[EncodedPairs, EncodedPairs]:
    reference = plan.export.reference or {}
    settings = plan.settings
    max_length = settings.max_length or reference.get("max_length")
    truncate = settings.truncate or ("left" if str(reference.get("truncate")) == "left" else "drop")
    tables = [plan.export.table(split) for split in ("train", "test")]
    with progress("encode", sum(table.num_rows for table in tables), "pairs") as advance:
        encoded = [
            encode_pairs(
                table,
                tokenizer,
                template=reference.get("template") or "auto",
                max_length=max_length,
                truncate=truncate,
                advance=advance,
            )
            for table in tables
        ]
    return encoded[0], encoded[1]


def _before(history: list[dict[str, float]]) -> dict[str, float]:
    first = next((logs for logs in history if logs.get("step") == 0 and any(k.startswith("eval_") for k in logs)), {})
    return {name.removeprefix("eval_"): value for name, value in first.items() if name.startswith("eval_")}


def _json(before: dict[str, float], after: dict[str, float]) -> str:
    return json.dumps({"before": before, "after": after}, indent=1)


def _publish(trainer: PairTrainer, work: Path, output: Path, texts: dict[str, str]) -> None:
    """Write the model beside the checkpoints, then give it its name in one step."""
    final = work / "final"
    with writing_to(work):
        trainer.save_model(str(final))
    if not trainer.is_world_process_zero():
        return
    with writing_to(work):
        for name, text in texts.items():
            (final / name).write_text(text, encoding="utf-8")
    if (work / "runs").is_dir():
        shutil.move(work / "runs", final / "runs")
    if output.exists():
        shutil.rmtree(output)
    final.replace(output)
    shutil.rmtree(work)


class _StepProgress(TrainerCallback):
    """Moves our progress bar."""

    def __init__(self, advance: Callable[[int, str], None]) -> None:
        self.advance = advance
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Jump over the steps that a resumed run has done."""
        if state.global_step:
            self.advance(state.global_step, "resumed")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Take up the loss and accuracy."""
        if logs and "loss" in logs and "absolute_accuracy" in logs:
            self.note = f"loss {logs['loss']:.3f}, right {100 * logs['absolute_accuracy']:.0f} %"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step on."""
        self.advance(1, self.note)
