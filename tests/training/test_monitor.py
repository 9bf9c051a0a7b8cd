"""Metrics worked out by hand, and the alarm for a loss that falls while the alignment does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from schemas import formulas
from training.alarm import AlignmentAlarm
from training.monitor import PairScores, metrics
from training.objective_state import ObjectiveState, step_sums
from training.objectives import Objective
from training.settings import AlarmSettings, LossSettings, TrainSettings


def scores(**changes: list[float]) -> PairScores:
    """Four pairs: turned, in U, worse than the reference, and right from the start."""
    columns = {
        "chosen_logps": [-10.0, -12, -15, -8],
        "rejected_logps": [-12.0, -11, -11, -14],
        "reference_chosen_logps": [-11.0, -12, -13, -9],
        "reference_rejected_logps": [-10.0, -10, -10, -14],
        "chosen_num_tokens": [5.0, 4, 5, 2],
        "rejected_num_tokens": [5.0, 3, 4, 4],
        "weight": [1.0, 1, 2, 0.5],
        "loss": [0.5, 0.7, 0.9, 0.1],
    }
    return PairScores(**{name: np.array(values) for name, values in (columns | changes).items()})


def test_no_policy_is_above_itself() -> None:
    """Two float32 passes over one policy differ in the sixth digit; that is neither learning nor U."""
    same = scores()
    policy = {
        "chosen_logps": same.reference_chosen_logps + np.array([2e-6, -3e-6, 4e-6, 1e-5]),
        "rejected_logps": same.reference_rejected_logps + np.array([-2e-6, 1e-6, -5e-6, 2e-6]),
    }
    found = metrics(scores(**policy))
    assert (found["relative_accuracy"], found["share_undesirable"]) == (0, 0)
    assert found["share_reference_wrong"] == 0.75
    policy["chosen_logps"] = policy["chosen_logps"] + 1e-4
    found = metrics(scores(**policy))
    assert (found["relative_accuracy"], found["share_undesirable"]) == (1, 0.75), "but a real step is seen"


def test_every_metric_by_hand() -> None:
    """Policy margins 2, -1, -4, 6; reference margins -1, -2, -3, 5; drifts of the chosen 1, 0, -2, 1."""
    found = metrics(scores())
    assert found["absolute_accuracy"] == 0.5
    # per token -2 + 2.4, -3 + 3.67, -3 + 2.75, -4 + 3.5
    assert found["absolute_accuracy_mean"] == 0.5
    assert found["relative_accuracy"] == 0.75
    assert found["share_undesirable"] == 0.25
    assert found["share_reference_wrong"] == 0.75
    assert found["share_turned"] == pytest.approx(1 / 3)
    assert found["chosen_drift"] == 0
    assert found["rejected_drift"] == pytest.approx((-2 - 1 - 1 + 0) / 4)
    assert found["loss"] == pytest.approx((0.5 + 0.7 + 1.8 + 0.05) / 4.5)
    assert found["policy_margin"] == 0.75
    per_token = [0.2, 0.0, -0.4, 0.5]
    assert found["kl_chosen"] == pytest.approx(np.mean([math.exp(-x) - 1 + x for x in per_token]))


def test_agrees_with_the_formulas_of_one_pair() -> None:
    generator = np.random.default_rng(0)
    margins, references = generator.normal(size=(2, 200)).round(1)
    zero, one = np.zeros(200), np.ones(200)
    found = metrics(PairScores(margins, zero, references, zero, one, one, one, zero))
    pairs = list(zip(margins.tolist(), references.tolist(), strict=True))
    assert found["share_undesirable"] == np.mean([formulas.is_undesirable(d, r) for d, r in pairs])
    assert found["absolute_accuracy"] == np.mean([formulas.is_absolutely_right(d) for d, _ in pairs])
    assert found["relative_accuracy"] == np.mean([formulas.is_relatively_right(d, r) for d, r in pairs])


def test_without_a_reference_its_metrics_are_left_out() -> None:
    found = metrics(scores(reference_chosen_logps=[math.nan] * 4))
    assert "absolute_accuracy" in found
    assert "relative_accuracy" not in found
    assert metrics(scores().take(np.zeros(0, dtype=np.int64))) == {}


def test_pairs_without_a_reference_do_not_spoil_the_others() -> None:
    """The first pair has neither reference nor loss: its margin counts, and the rest is over the other three."""
    nan = [math.nan]
    some = scores(reference_chosen_logps=[*nan, *scores().reference_chosen_logps[1:]], loss=[*nan, *scores().loss[1:]])
    found, rest = metrics(some), metrics(scores().take(np.arange(1, 4)))
    assert found["absolute_accuracy"] == metrics(scores())["absolute_accuracy"]
    assert found["share_with_reference"] == 0.75
    for name in ("loss", "relative_accuracy", "share_undesirable", "chosen_drift", "kl_chosen"):
        assert found[name] == rest[name], name
    assert "share_with_reference" not in rest


def run_alarm(loss: list[float], accuracy: list[float], undesirable: list[float], **settings: Any) -> tuple[Any, bool]:
    lines: list[str] = []
    alarm = AlignmentAlarm(AlarmSettings(window=10, **settings), lines.append)
    for step, values in enumerate(zip(loss, accuracy, undesirable, strict=True), start=1):
        names = ("loss", "absolute_accuracy", "share_undesirable")
        alarm.take(step, **dict(zip(names, values, strict=True)))
    stops = "; the training stops" if alarm.stops else ""
    assert lines == [f"alarm at step {step}: {message}{stops}" for step, message in alarm.alarms]
    return alarm.alarms, alarm.stops


FALLING = list(np.linspace(0.7, 0.5, 20))


def test_alarm_when_the_loss_hides_that_accuracy_falls() -> None:
    alarms, stops = run_alarm(FALLING, list(np.linspace(0.7, 0.4, 20)), [0.1] * 20)
    assert len(alarms) == 1
    assert "the loss fell by 0.1053 while absolute accuracy fell by 0.158" in alarms[0][1]
    assert not stops


def test_alarm_when_pairs_enter_u_and_stop_if_told() -> None:
    alarms, stops = run_alarm(FALLING, [0.5] * 20, list(np.linspace(0.1, 0.4, 20)), stop=True)
    assert "the share in U rose by" in alarms[0][1]
    assert stops


def test_no_alarm_in_good_training_or_in_noise() -> None:
    assert run_alarm(FALLING, list(np.linspace(0.5, 0.8, 20)), list(np.linspace(0.2, 0.1, 20)))[0] == []
    assert run_alarm([0.6] * 20, list(np.linspace(0.7, 0.4, 20)), [0.1] * 20)[0] == []
    noise = np.random.default_rng(1).binomial(8, 0.5, 20) / 8
    assert run_alarm(FALLING, list(noise), [0.1] * 20)[0] == []


def test_state_of_an_objective_by_hand() -> None:
    """kto: drifts of the chosen 1, 0, -2, 1, of the rejected -2, -1, -1, 0; a step without its pairs changes nothing.
    The constraint: margins 2, -1, -4, 6 fall short of 1 by 0, 2, 5, 0, with weights 1, 1, 2, 0.5."""
    kto = LossSettings.resolve(TrainSettings(), Objective.KTO, rules_beta=None)
    assert step_sums(kto, scores()) == (-4.0, 8.0)
    state = ObjectiveState(kl=0.25)
    state.update(kto, *step_sums(kto, scores().take(np.zeros(0, dtype=np.int64))))
    assert state.kl == 0.25
    state.update(kto, 6.0, 8.0)
    assert state.kl == 0.75
    own = TrainSettings(gamma=1.0, multiplier_step=0.5)
    constrained = LossSettings.resolve(own, Objective.CPO_LAGRANGIAN, rules_beta=None)
    assert step_sums(constrained, scores()) == (12.0, 4.5)
    state.update(constrained, 12.0, 4.5)
    assert state.multiplier == pytest.approx(0.5 * 12 / 4.5)


def test_the_alarm_needs_no_reference() -> None:
    alarms, _ = run_alarm(FALLING, list(np.linspace(0.7, 0.4, 20)), [math.nan] * 20)
    assert "absolute accuracy fell by 0.158" in alarms[0][1]
    assert run_alarm(FALLING, [0.5] * 20, [math.nan] * 20)[0] == []
