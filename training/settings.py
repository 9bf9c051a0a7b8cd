"""The ``[train]`` table of ``winnow.toml``: everything that decides what a training run computes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.objectives import PARAMETERS, TRAITS, Objective


class LoraSettings(BaseModel):
    """``[train.lora]``: where given, an adapter is trained and not the model; the reference is the base without it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1, description="Rank of the adapter")
    alpha: float = Field(default=32, gt=0, description="Scale of the adapter, divided by the rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout in front of the adapter")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        default="all-linear", description="Names of the layers that get an adapter"
    )
    quantize: Literal["none", "4bit", "8bit"] = Field(
        default="none", description="Keep the base in 4 or 8 bits (QLoRA); needs bitsandbytes"
    )


class AlarmSettings(BaseModel):
    """``[train.alarm]``: the alignment alarm, for when the loss falls and the alignment does too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int = Field(default=20, ge=2, description="Optimizer steps in each of the two windows that are compared")
    min_loss_drop: float = Field(default=0.005, ge=0, description="Fall of the mean loss that counts, nats")
    min_accuracy_drop: float = Field(default=0.03, ge=0, description="Fall of absolute accuracy that counts, share")
    min_undesirable_rise: float = Field(default=0.03, ge=0, description="Rise of the share in U that counts, share")
    stop: bool = Field(default=False, description="Stop the training instead of only warning")


class TrainSettings(BaseModel):
    """How to train. Absent values are the objective's or the export's own; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Objective | None = Field(
        default=None, description="Loss; that of the export's rules when absent, dpo where they name none"
    )
    beta: float | None = Field(
        default=None,
        gt=0,
        description="Strength of the pull to the reference; when absent, the rules' beta for objectives on summed"
        " margins, else the objective's own default",
    )
    gamma: float | None = Field(default=None, description="Least target margin (cpo family), target reward (simpo)")
    tau: float | None = Field(default=None, gt=0, description="Sharpness of cpo's softplus")
    alpha: float | None = Field(default=None, gt=0, description="Softness of cpo's constraint; trade-off of ropo")
    epsilon: float | None = Field(default=None, ge=0, description="Mean violation that cpo_lagrangian allows, nats")
    multiplier_step: float | None = Field(default=None, gt=0, description="Step of cpo_lagrangian's dual ascent")
    label_noise: float | None = Field(default=None, ge=0, lt=0.5, description="Rate of flipped labels (rdpo)")
    desirable_weight: float | None = Field(default=None, gt=0, description="Weight of chosen responses (kto)")
    undesirable_weight: float | None = Field(default=None, gt=0, description="Weight of rejected responses (kto)")
    length_normalized: bool | None = Field(
        default=None, description="Margins per token instead of summed; the objective's own default when absent"
    )
    sft_weight: float | None = Field(
        default=None, ge=0, description="Weight of the negative log-prob a token of the chosen response (the RPO term)"
    )

    epochs: float = Field(default=1, gt=0, description="Passes over the pairs")
    max_steps: int | None = Field(default=None, ge=1, description="Stop after this many optimizer steps")
    batch_size: int = Field(default=8, ge=1, description="Pairs of an optimizer step, over all processes")
    token_budget: int = Field(
        default=16384, ge=64, description="Tokens of one forward pass; a batch above it takes several"
    )
    learning_rate: float = Field(default=1e-5, gt=0, description="Peak learning rate")
    lr_schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = Field(
        default="linear", description="Shape of the learning rate after the warm-up"
    )
    warmup_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps with a rising learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay of AdamW")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Clip the gradient's norm here; 0 does not clip")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(default="adamw", description="adamw_8bit needs bitsandbytes")
    master_weights: bool = Field(
        default=True,
        description="adamw steps on float32 copies of bfloat16 parameters, for 8 bytes a parameter more; without,"
        " changes below 1/512 of a weight are rounded away",
    )
    optimizer_in_backward: bool = Field(
        default=False,
        description="Step each parameter within the backward pass and free its gradient at once: less memory; one"
        " process, and max_grad_norm 0",
    )
    seed: int = Field(default=0, ge=0, description="Fixes the order of the pairs and every dropout")

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Of the parameters; auto is float32 on CPU and bfloat16 on GPU"
    )
    batching: Literal["shared", "packed", "padded"] = Field(
        default="shared",
        description="shared: a prompt once with its responses behind it; packed: every sequence whole, no padding;"
        " padded: a rectangle, for models whose attention cannot be replaced",
    )
    gradient_checkpointing: Literal["off", "selective", "full"] = Field(
        default="off", description="Recompute no layer, every second layer, or every layer in the backward pass"
    )
    sharding: Literal["none", "fsdp"] = Field(
        default="none",
        description="With several processes: each holds the whole model, or FSDP2 splits it over the GPUs",
    )
    compile: bool = Field(default=False, description="torch.compile the decoder layers")
    lora: LoraSettings | None = Field(default=None, description="Train an adapter with these settings")

    max_length: int | None = Field(
        default=None, ge=2, description="Longest prompt with response, tokens; the scorer's when absent"
    )
    truncate: Literal["drop", "left"] | None = Field(
        default=None, description="A longer pair is dropped and counted, or its prompt is cut from the left"
    )
    trust_remote_code: bool = Field(default=False, description="Let a model folder run its own Python code")

    check_pairs: int = Field(
        default=16, ge=0, description="Pairs whose exported log-probs are compared with the trainer's own at the start"
    )
    check_tolerance: float = Field(
        default=0.02, gt=0, description="Largest allowed mean difference of that check, nats a token"
    )
    eval_pairs: int = Field(default=2000, ge=0, description="Held-out pairs of an evaluation at most; 0 for all")
    eval_steps: int | None = Field(
        default=None, ge=1, description="Evaluate after this many steps as well as before and after training"
    )
    save_steps: int = Field(default=200, ge=1, description="Write a checkpoint to resume from every so many steps")
    log_steps: int = Field(default=1, ge=1, description="Log metrics every so many steps")
    slice_by: Literal["none", "criterion", "source", "objective"] = Field(
        default="none", description="Column of the export by which metrics are also given"
    )
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        default=("tensorboard",), description="Loggers; the lake always gets the metrics"
    )
    alarm: AlarmSettings = Field(default_factory=AlarmSettings)

    @model_validator(mode="after")
    def _in_backward_there_is_no_whole_gradient(self) -> TrainSettings:
        if self.optimizer_in_backward and self.max_grad_norm > 0:
            raise ValueError(
                f"optimizer_in_backward steps before the whole gradient is there, which max_grad_norm"
                f" {self.max_grad_norm:g} clips: set max_grad_norm = 0, or optimizer_in_backward = false"
            )
        if self.optimizer_in_backward and self.sharding != "none":
            raise ValueError(
                f"optimizer_in_backward steps before the processes add up their gradients, as sharding"
                f" {self.sharding!r} has it: set one of the two to its default"
            )
        return self

    @model_validator(mode="after")
    def _parameters_belong_to_objective(self) -> TrainSettings:
        if self.objective is None:
            return self
        traits = TRAITS[self.objective]
        for name in PARAMETERS:
            if getattr(self, name) is not None and name not in traits.defaults:
                raise ValueError(f"{name} has no meaning for objective {self.objective.value}")
        if self.length_normalized is not None and traits.length_normalized is None:
            raise ValueError(f"length_normalized has no meaning for objective {self.objective.value}")
        return self


class LossSettings(BaseModel):
    """An objective with every number it takes, nothing left open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Objective
    length_normalized: bool
    sft_weight: float = 0.0
    parameters: dict[str, float]

    @classmethod
    def resolve(cls, settings: TrainSettings, objective: Objective, *, rules_beta: float | None) -> LossSettings:
        """Settings first, then the rules' beta (a number for summed margins), then the objective's defaults."""
        traits = TRAITS[objective]
        normalized = settings.length_normalized
        if normalized is None or traits.length_normalized is None:
            normalized = bool(traits.length_normalized)
        values: dict[str, float] = {name: traits.defaults[name] for name in PARAMETERS if name in traits.defaults}
        if rules_beta is not None and traits.needs_reference and not normalized and "beta" in values:
            values["beta"] = rules_beta
        values.update({name: getattr(settings, name) for name in values if getattr(settings, name) is not None})
        sft = settings.sft_weight if settings.sft_weight is not None else traits.defaults.get("sft_weight", 0.0)
        return cls(objective=objective, length_normalized=normalized, sft_weight=sft, parameters=values)

    def as_json(self) -> dict[str, Any]:
        """For the model card and the lake."""
        return self.model_dump(mode="json")
