"""A LongRoPE model is trained with one set of factors, whatever lies beside a pair in its row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.curation.scoring.test_long_rope import ORIGINAL, save_model
from tests.training.test_packing import VOCABULARY, random_pairs
from training.load import load_policy
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention

LONG = ORIGINAL + 40


def margins(folder: Path, max_length: int | None, *, together: bool) -> torch.Tensor:
    """Of a long pair and a short one, in one row or each in its own."""
    model = load_policy(folder, dtype="float32", max_length=max_length)
    set_attention(model, ATTENTION["shared"])
    pairs = random_pairs(1, shapes=[(0, LONG, 9, 7), (1, 20, 8, 5)])
    rows = [[0, 1]] if together else [[0], [1]]
    with torch.inference_mode():
        packs = [pack for row in rows for pack in pack_pairs(pairs, row, token_budget=10_000)]
        return torch.cat([pair_logps(model, pack).policy_margin for pack in packs])


def test_a_neighbour_changes_nothing(tmp_path: Path) -> None:
    save_model(tmp_path, VOCABULARY)
    free = (margins(tmp_path, None, together=together) for together in (True, False))
    assert (next(free) - next(free)).abs().max() > 0.05, "left to transformers, it does"
    assert margins(tmp_path, LONG + 9, together=True).tolist() == pytest.approx(
        margins(tmp_path, LONG + 9, together=False).tolist(), abs=1e-4
    )
