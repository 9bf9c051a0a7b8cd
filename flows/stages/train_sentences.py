"""What ``winnow train`` says when it is done: the figures, where the model is, and what a user should know of both."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from schemas.wording import counted, seen_of
from training.objectives import Objective

if TYPE_CHECKING:
    from training.plan import TrainingPlan

_SHOWN = ("loss", "absolute_accuracy", "relative_accuracy", "share_undesirable")


def sentences(plan: TrainingPlan, facts: Mapping[str, Any]) -> list[str]:
    """The lines of a finished run.

    Args:
        plan: of the run.
        facts: of the stage's report.
    """
    head = f"{plan.loss.objective.value}, {counted(facts['num_steps'], 'step')} {_trained_on(facts)}: "
    lines = [head + (figures(facts["metrics"]) if facts["num_eval"] else _nothing_measured(plan))]
    lines += _of_the_figures(plan, facts)
    lines.append(f"{'model' if plan.settings.lora is None else 'adapter'} in {facts['checkpoint']}")
    if "tensorboard" in plan.settings.report_to:
        lines.append(f"every step's figures: tensorboard --logdir {shlex.quote(facts['checkpoint'])}")
    lines += _left_out(plan, facts)
    return lines


def figures(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A few metrics of the held-out pairs, before and after."""
    from training.metric_words import METRICS

    before, after = metrics["before"], metrics["after"]
    return ", ".join(
        f"{metric.title} {metric.text(before[name])} -> {metric.text(after[name])} {metric.unit}"
        for name, metric in METRICS.items()
        if name in _SHOWN and before.get(name) is not None and after.get(name) is not None
    )


def _nothing_measured(plan: TrainingPlan) -> str:
    if plan.export.table("test", ("pair_id",)).num_rows:
        return "no held-out pair is left to measure on"
    return "the export holds no pairs out, so nothing was measured; raise export.test_share and winnow export again"


def _of_the_figures(plan: TrainingPlan, facts: Mapping[str, Any]) -> Iterator[str]:
    """How the figures are to be read."""
    before = facts["metrics"]["before"]
    if plan.loss.objective is Objective.CPO_LAGRANGIAN and facts["num_eval"]:
        yield "the constraint's multiplier began at 0 and grows: compare accuracies, not the loss before and after"
    if facts["check"] is not None:
        yield (
            "reference log-probs are {mean_difference:.2g} nats a token from the trainer's own on average, at most"
            " {max_difference:.2g}, over ".format(**facts["check"])
            + counted(facts["check"]["num_pairs"], "pair")
        )
    if plan.is_reference and (before.get("relative_accuracy") or 0) > 0:
        yield (
            "before training the policy is the reference: that relative accuracy is above 0 even there is the"
            " difference between scorer and trainer, which relative accuracy and share in U hold after training, too"
        )
    for step, message in facts["alarms"]:
        yield f"alarm at step {step}{' stopped the training' if plan.settings.alarm.stop else ''}: {message}"


def _left_out(plan: TrainingPlan, facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["num_too_long"]:
        pairs = counted(facts["num_too_long"], "pair")
        yield f"left out: {pairs} longer than {plan.max_length} tokens; {plan.mend_too_long()}"
    if facts["num_cut_otherwise"]:
        pairs = counted(facts["num_cut_otherwise"], "pair")
        yield f"left out: {pairs} with log-probs of a prompt that the scorer cut elsewhere; {plan.score_again}"
    if facts["num_weightless"]:
        yield f"left out: {counted(facts['num_weightless'], 'pair')} to which the rules give weight 0"


def _trained_on(facts: Mapping[str, Any]) -> str:
    """How many pairs the steps took, as far as the model's folder says it."""
    if "num_seen" not in facts:
        return f"with {counted(facts['num_train'], 'pair')} to train on"
    return f"on {seen_of(facts['num_seen'], facts['num_train'])}"
