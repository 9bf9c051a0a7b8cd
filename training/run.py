"""One training run: an export and a model in, a model folder with a card and the figures out."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, set_seed

from schemas.errors import TrainingError
from training import checkpoints
from training.adapters import add_adapter, quantization
from training.alarm import AlignmentAlarm
from training.arguments import make_arguments
from training.attention_choice import choose_attention
from training.callbacks import CheckAtStart, Progress, StepProgress
from training.data import EncodedPairs
from training.evaluation import FILE as LOSS_FILE
from training.evaluation import describe
from training.export_pairs import encode_split
from training.head import has_kernels
from training.load import check_positions, check_tokenizer, load_policy, load_tokenizer
from training.lock import locked
from training.loggers import wandb_run
from training.logits import check_logits
from training.model_card import model_card
from training.optimizer import MasterAdamW, needs_master_weights
from training.optimizer_in_backward import OptimizerInBackward
from training.plan import TrainingPlan
from training.policy import compile_layers, set_attention
from training.processes import check_processes, rank
from training.products import use_fast_products
from training.quiet import quiet_libraries
from training.reference_check import ReferenceCheck
from training.result import TrainingResult
from training.settings import TrainSettings
from training.trainer import PairTrainer
from training.writing import writing_to


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
        TrainingError: the export does not fit the objective or the model, loss or gradient is not finite, a file
            cannot be written, or another process works on the same run.
    """
    work = output.with_name(f".{output.name}.partial")
    # under torchrun the first process holds the folder for all
    lock = locked(work, name=output.name) if rank() == 0 else nullcontext()
    with quiet_libraries(), lock:
        tokenizer = load_tokenizer(plan.folder, trust_remote_code=plan.settings.trust_remote_code)
        check_tokenizer(tokenizer, plan.export)
        train_pairs, eval_pairs = _encode(plan, tokenizer, progress)
        trainer = make_trainer(plan, tokenizer, train_pairs, eval_pairs, work, warn=warn)
        check = _add_check(trainer, plan, warn)
        resume = checkpoints.newest(work, warn=warn)
        trainer.args.eval_on_start = resume is None
        if resume is not None:
            warn(f"going on from step {checkpoints.step_of(resume):,} of {trainer.num_steps:,}")
        with wandb_run(plan.settings, work, name=plan.training_run_id):
            with progress("train", trainer.num_steps, "steps") as advance, writing_to(work):
                trainer.add_callback(StepProgress(advance))
                _train(trainer, work, resume, warn)
            result = _result(trainer, output, train_pairs, eval_pairs)
        _publish(trainer, plan, result, work, check_note=check)
    return result


def _train(trainer: PairTrainer, work: Path, resume: Path | None, warn: Callable[[str], None]) -> None:
    """Take the steps; interrupted from the keyboard, say what of them is kept."""
    try:
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    except KeyboardInterrupt:
        kept = checkpoints.newest(work, warn=warn)
        what_follows = (
            "begins anew, as no checkpoint is written yet"
            if kept is None
            else f"goes on from step {checkpoints.step_of(kept):,} of {trainer.num_steps:,}"
        )
        warn(f"interrupted at step {trainer.state.global_step:,}; the same command {what_follows}")
        raise


def _add_check(trainer: PairTrainer, plan: TrainingPlan, warn: Callable[[str], None]) -> str:
    """Let the exported log-probs be checked before the first step; returns why they are not, for the card."""
    settings = plan.settings
    if np.isnan(trainer.pairs.reference_chosen_logps + trainer.pairs.reference_rejected_logps).all():
        return "none in the export"
    if not plan.is_reference:
        return "from the export, of another policy than the one that training started from"
    if settings.check_pairs == 0:
        return "from the export, not compared with the trainer's own, as train.check_pairs is 0"
    quantized = settings.lora is not None and settings.lora.quantize != "none"

    def require(check: ReferenceCheck) -> None:
        check.require(settings.check_tolerance, model=plan.model, quantized=quantized)

    trainer.add_callback(CheckAtStart(trainer, num_pairs=settings.check_pairs, require=require))
    return ""


def make_trainer(
    plan: TrainingPlan,
    tokenizer: Any,
    pairs: EncodedPairs,
    eval_pairs: EncodedPairs,
    work: Path,
    *,
    warn: Callable[[str], None],
) -> PairTrainer:
    """The trainer of a plan, with its model loaded."""
    settings = plan.settings
    model = load_policy(
        plan.folder,
        dtype=settings.dtype,
        max_length=plan.max_length,
        trust_remote_code=settings.trust_remote_code,
        quantization=quantization(settings.lora),
    )
    check_logits(model)
    check_positions(model, max(pairs.longest, eval_pairs.longest))
    choice = choose_attention(model, settings.batching)
    if choice.reason is not None:
        warn(f"{type(model).__name__} is trained padded and not {settings.batching}: {choice.reason}")
    set_attention(model, choice.implementation)
    if choice.batching != "padded":  # whose rectangles come in too many shapes
        use_fast_products(model)
    if settings.lora is not None:
        set_seed(settings.seed)  # the adapter starts at random numbers
        model = add_adapter(model, settings.lora)
    if settings.compile:
        compile_layers(model)
    trainer = PairTrainer(
        model,
        args=make_arguments(settings, work, run_name=plan.training_run_id),
        loss=plan.loss,
        routed=plan.routed,
        slice_by=settings.slice_by,
        pairs=pairs,
        eval_pairs=eval_pairs.evenly(settings.eval_pairs),
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        batching=choice.batching,
        tokenizer=tokenizer,
        alarm=AlignmentAlarm(settings.alarm, warn),
        optimizer=_optimizer(model, settings),
        in_backward=OptimizerInBackward(warn) if settings.optimizer_in_backward else None,
    )
    trainer.remove_callback(PrinterCallback)
    if torch.cuda.is_available():
        _tell_what_is_missing(has_kernels(trainer.args.device), warn)
    return trainer


def _optimizer(model: Any, settings: TrainSettings) -> tuple[type[MasterAdamW], dict[str, Any]] | None:
    """Our AdamW where parameters in bfloat16 are trained; None for that of ``make_arguments``."""
    if settings.optimizer == "adamw" and settings.master_weights and needs_master_weights(model):
        return MasterAdamW, {"lr": settings.learning_rate}
    return None


def _tell_what_is_missing(has_triton: bool, warn: Callable[[str], None]) -> None:
    if not has_triton:
        warn("Triton is not installed: the LM head runs in plain torch, which takes more memory and time")
    if importlib.util.find_spec("pynvml") is None:
        warn("nvidia-ml-py is not installed: the GPU's busy share (gpu_busy) is not logged")


def _encode(plan: TrainingPlan, tokenizer: Any, progress: Progress) -> tuple[EncodedPairs, EncodedPairs]:
    """Pairs to train on and pairs held out.

    Raises:
        TrainingError: none are left to train on, or fewer than there are processes.
    """
    settings = plan.settings
    num_rows = sum(plan.export.table(split, ("pair_id",)).num_rows for split in ("train", "test"))
    with progress("encode", num_rows, "pairs") as advance:
        train, held = (
            encode_split(
                plan.export,
                split,
                tokenizer,
                objectives=(plan.loss, *plan.routed),
                max_length=settings.max_length,
                truncate=settings.truncate,
                advance=advance,
            )
            for split in ("train", "test")
        )
    if len(train) == 0:
        raise _nothing_left(plan, train)
    check_processes(settings, num_pairs=len(train))
    return train, held


def _nothing_left(plan: TrainingPlan, train: EncodedPairs) -> TrainingError:
    cut = f" and {train.num_cut_otherwise} cut otherwise than by the scorer" if train.num_cut_otherwise else ""
    return TrainingError(
        f"no pairs to train on: {train.num_too_long} of the export's are longer than {plan.max_length} tokens{cut}",
        mend=f"raise train.max_length, or {plan.score_again}" if cut else plan.mend_too_long(),
    )


def _result(trainer: PairTrainer, output: Path, train_pairs: EncodedPairs, eval_pairs: EncodedPairs) -> TrainingResult:
    """Score the held-out pairs for the last time and put everything together."""
    scores = trainer.score(trainer.eval_pairs)
    after = trainer.log_metrics_of(scores)
    history = list(trainer.state.log_history)
    both = (train_pairs, eval_pairs)
    return TrainingResult(
        checkpoint=output,
        before=_before(history),
        after=after,
        log_history=history,
        eval_pair_ids=trainer.eval_pairs.pair_id,
        eval_scores=scores,
        counts={
            "train": len(train_pairs),
            "seen": min(trainer.state.global_step * trainer.batch_size, len(train_pairs)),
            "eval": len(trainer.eval_pairs),
            "too_long": sum(pairs.num_too_long for pairs in both),
            "cut_otherwise": sum(pairs.num_cut_otherwise for pairs in both),
            "weightless": sum(pairs.num_weightless for pairs in both),
            "steps": trainer.state.global_step,
        },
        check=None if trainer.check is None else trainer.check.as_dict(),
        alarms=[] if trainer.alarm is None else trainer.alarm.alarms,
    )


def _before(history: list[dict[str, float]]) -> dict[str, float]:
    first = next((logs for logs in history if logs.get("step") == 0 and any(k.startswith("eval_") for k in logs)), {})
    found = {name.removeprefix("eval_"): value for name, value in first.items() if name.startswith("eval_")}
    return {name: value for name, value in found.items() if "/" not in name}


def _publish(trainer: PairTrainer, plan: TrainingPlan, result: TrainingResult, work: Path, *, check_note: str) -> None:
    """Write the model beside the checkpoints, then give it its name in one step."""
    final, output = work / "final", result.checkpoint
    with writing_to(work):
        trainer.save_model(str(final))
    if not trainer.is_world_process_zero():
        return
    with writing_to(work):
        (final / "README.md").write_text(_card(plan, result, check_note), encoding="utf-8")
        dtype = str(trainer.accelerator.unwrap_model(trainer.model).dtype).removeprefix("torch.")
        (final / LOSS_FILE).write_text(describe(plan.loss, trainer.objective_state, dtype=dtype), encoding="utf-8")
        result.save(final, training_run_id=plan.training_run_id)
    for logs in ("runs", "wandb"):
        if (work / logs).is_dir():
            shutil.move(work / logs, final / logs)
    if output.exists():
        shutil.rmtree(output)
    final.replace(output)
    shutil.rmtree(work)


def _card(plan: TrainingPlan, result: TrainingResult, check_note: str) -> str:
    return model_card(
        training_run_id=plan.training_run_id,
        model=plan.model,
        manifest=plan.export.manifest,
        loss=plan.loss.as_json(),
        settings=plan.settings.model_dump(mode="json"),
        counts=result.counts,
        before=result.before,
        after=result.after,
        library="transformers" if plan.settings.lora is None else "peft",
        check=result.check,
        check_note=check_note,
    )
