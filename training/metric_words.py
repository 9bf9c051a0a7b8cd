"""The metrics' words and units, in the order in which they are told; the same wherever people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How a metric of :func:`training.monitor.metrics` is written.

    Attributes:
        title: what it is.
        unit: of its text: ``nats``, ``nats a token``, or ``%`` where the value is a share.
    """

    title: str
    unit: str

    def text(self, value: float) -> str:
        """The value in the metric's unit, which is not in the text; what rounds to zero has no sign."""
        return f"{100 * value:z.1f}" if self.unit == "%" else f"{value:z.4f}"


METRICS = {
    "loss": Metric("loss", "nats"),
    "absolute_accuracy": Metric("absolute accuracy", "%"),
    "absolute_accuracy_mean": Metric("absolute accuracy, per token", "%"),
    "relative_accuracy": Metric("relative accuracy", "%"),
    "share_undesirable": Metric("share in U", "%"),
    "share_reference_wrong": Metric("reference favors the rejected", "%"),
    "share_turned": Metric("of those, turned", "%"),
    "policy_margin": Metric("policy margin", "nats"),
    "reference_margin": Metric("reference margin", "nats"),
    "chosen_drift": Metric("drift of the chosen", "nats"),
    "rejected_drift": Metric("drift of the rejected", "nats"),
    "kl_chosen": Metric("KL estimate on the chosen", "nats a token"),
    "chosen_logps_mean": Metric("log-prob of the chosen", "nats a token"),
    "share_with_reference": Metric("pairs with reference log-probs", "%"),
}
"""By the name that logs, lake and facts have."""

_TITLE_WIDTH = max(len(metric.title) for metric in METRICS.values())


def aligned(values: Mapping[str, float]) -> list[str]:
    """A line for each metric that there is: title, value, unit, each in its column."""
    return [
        f"{metric.title:<{_TITLE_WIDTH}} {metric.text(values[name]):>10} {metric.unit}"
        for name, metric in METRICS.items()
        if name in values
    ]
