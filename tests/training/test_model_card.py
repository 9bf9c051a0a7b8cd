"""The card of a trained model says to a reader who knows nothing of Winnow what its figures are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from training.metric_words import METRICS
from training.model_card import model_card


def card(*, before: Mapping[str, float], check: Mapping[str, float] | None) -> str:
    """Of three steps of dpo; after training every metric is 0.5."""
    return model_card(
        training_run_id="dpo-1",
        model="my-org/my-model",
        manifest={"export_id": "e", "curation_run_id": "c", "rules": {"name": "cpo", "sha256": "0" * 64}},
        loss={"objective": "dpo", "parameters": {"beta": 0.1}, "length_normalized": False, "sft_weight": 0.0},
        settings={"beta": None},
        counts={"train": 8, "seen": 8, "eval": 4, "too_long": 0, "cut_otherwise": 0, "weightless": 0, "steps": 3},
        before=before,
        after=dict.fromkeys(METRICS, 0.5),
        library="transformers",
        check=check,
        check_note="none in the export",
    )


def test_its_words_are_explained() -> None:
    text = card(before={}, check=None)
    for word in ("A margin is", "Absolute accuracy:", "Relative accuracy:", "In U:", "Turned:", "Drift:", "Before:"):
        assert word in text
    assert "What is null is the objective's or the export's own." in text


@pytest.mark.parametrize(("relative", "is_said"), [(0.0, False), (0.75, True)])
def test_noise_before_training_is_called_noise(relative: float, is_said: bool) -> None:
    check = {"num_pairs": 4, "mean_difference": 1e-3, "max_difference": 2e-3}
    text = card(before={"relative_accuracy": relative}, check=check)
    assert ("Before training the model was the reference: a relative accuracy above 0" in text) == is_said
