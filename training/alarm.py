"""The alignment alarm: the loss falls while the policy gets worse at preferring what it should."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from training.settings import AlarmSettings


class AlignmentAlarm:
    """Compares the last window of optimizer steps with the one before it.

    It goes off when the mean loss fell and absolute accuracy fell, or the share in U rose, each by at least the
    configured amount and by two standard errors of the difference. Then both windows start anew. A step whose share in
    U is not known, because its pairs have no reference log-probs, is watched by its loss and accuracy alone.

    Attributes:
        alarms: (step, message) of each time it went off.
    """

    def __init__(self, settings: AlarmSettings, warn: Callable[[str], None]) -> None:
        self.settings, self.warn = settings, warn
        self.alarms: list[tuple[int, str]] = []
        self._seen: list[tuple[float, float, float]] = []

    @property
    def stops(self) -> bool:
        """Whether it went off and is to end the training."""
        return self.settings.stop and bool(self.alarms)

    def take(self, step: int, *, loss: float, absolute_accuracy: float, share_undesirable: float) -> None:
        """Take in one optimizer step, over the pairs of all processes, and compare.

        Args:
            step: its number.
            loss: nats. absolute_accuracy, share_undesirable: shares; the latter NaN where it is not known.
        """
        self._seen = [*self._seen, (loss, absolute_accuracy, share_undesirable)][-2 * self.settings.window :]
        message = self._message()
        if message is None:
            return
        self.alarms.append((step, message))
        self._seen.clear()
        self.warn(f"alarm at step {step}: {message}{'; the training stops' if self.stops else ''}")

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"alarms": self.alarms, "seen": self._seen}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`as_dict` gave."""
        self.alarms = [(int(step), str(message)) for step, message in state["alarms"]]
        self._seen = [(loss, accuracy, undesirable) for loss, accuracy, undesirable in state["seen"]]

    def _message(self) -> str | None:
        window = self.settings.window
        if len(self._seen) < 2 * window:
            return None
        before, after = np.array(self._seen[:window]), np.array(self._seen[window:])
        change = after.mean(0) - before.mean(0)
        noise = 2 * np.sqrt((before.var(0, ddof=1) + after.var(0, ddof=1)) / window)
        loss, accuracy, undesirable = (float(value) for value in change)
        if loss > -max(self.settings.min_loss_drop, float(noise[0])) or math.isnan(loss):
            return None
        found = []
        if accuracy <= -max(self.settings.min_accuracy_drop, float(noise[1])):
            found.append(f"absolute accuracy fell by {-accuracy:.3f}")
        if undesirable >= max(self.settings.min_undesirable_rise, float(noise[2])):  # False where it is NaN
            found.append(f"the share in U rose by {undesirable:.3f}")
        return f"the loss fell by {-loss:.4f} while {' and '.join(found)}" if found else None
