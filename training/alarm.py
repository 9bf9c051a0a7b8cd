"""The alignment alarm: the loss falls while the policy gets worse at preferring what it should."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import TrainerCallback

from training.settings import AlarmSettings

_WATCHED = ("loss", "absolute_accuracy", "share_undesirable")


class AlignmentAlarm(TrainerCallback):
    """Compares the last window of logged steps with the one before it.

    It goes off when the mean loss fell and absolute accuracy fell, or the share in U rose, each by at least the
    configured amount and by two standard errors of the difference. Then both windows start anew.

    Attributes:
        alarms: (step, message) of each time it went off.
    """

    def __init__(self, settings: AlarmSettings, warn: Callable[[str], None]) -> None:
        self.settings, self.warn = settings, warn
        self.alarms: list[tuple[int, str]] = []
        self._seen: list[tuple[float, ...]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Take in a step and compare."""
        if not logs or any(name not in logs for name in _WATCHED):
            return
        self._seen.append(tuple(logs[name] for name in _WATCHED))
        message = self._message()
        if message is None:
            return
        self.alarms.append((state.global_step, message))
        self._seen.clear()
        self.warn(f"step {state.global_step}: {message}")
        if self.settings.stop:
            control.should_training_stop = True

    def _message(self) -> str | None:
        window = self.settings.window
        if len(self._seen) < 2 * window:
            return None
        before, after = np.array(self._seen[-2 * window : -window]), np.array(self._seen[-window:])
        change = after.mean(0) - before.mean(0)
        noise = 2 * np.sqrt((before.var(0, ddof=1) + after.var(0, ddof=1)) / window)
        loss, accuracy, undesirable = (float(value) for value in change)
        if loss > -max(self.settings.min_loss_drop, float(noise[0])) or math.isnan(loss):
            return None
        found = []
        if accuracy <= -max(self.settings.min_accuracy_drop, float(noise[1])):
            found.append(f"absolute accuracy fell by {-accuracy:.3f}")
        if undesirable >= max(self.settings.min_undesirable_rise, float(noise[2])):
            found.append(f"the share in U rose by {undesirable:.3f}")
        return f"the loss fell by {-loss:.4f} while {' and '.join(found)}" if found else None
