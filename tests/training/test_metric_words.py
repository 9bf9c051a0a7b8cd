"""Every metric has its words, and its value is written in its unit."""

from __future__ import annotations

import math

import numpy as np

from tests.training.test_monitor import scores
from training.metric_words import METRICS, aligned
from training.monitor import metrics


def test_every_metric_has_words() -> None:
    """The first pair has no reference, so that its share is told too."""
    some = scores(reference_chosen_logps=[math.nan, *scores().reference_chosen_logps[1:]])
    assert set(metrics(some)) == set(METRICS)


def test_a_value_is_in_its_unit_and_a_rounded_zero_has_no_sign() -> None:
    lines = aligned({"rejected_drift": -1e-5, "chosen_drift": -1.25, "loss": np.log(2), "relative_accuracy": 0.125})
    assert [line.split() for line in lines] == [
        ["loss", "0.6931", "nats"],
        ["relative", "accuracy", "12.5", "%"],
        ["drift", "of", "the", "chosen", "-1.2500", "nats"],
        ["drift", "of", "the", "rejected", "0.0000", "nats"],
    ]
    assert len({max(line.rfind(unit) for unit in (" nats", " %")) for line in lines}) == 1
