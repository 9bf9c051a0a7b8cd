"""The small real policy and an export of real pairs, made once a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.real_data import shared
from tests.training.export_fixture import add_reference, export_rows, hh_pairs, write_export


@pytest.fixture(scope="session")
def tiny_en() -> Path:
    return shared("models/tiny-en")


@pytest.fixture(scope="session")
def tokenizer(tiny_en: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_en)


@pytest.fixture(scope="session")
def hh_rows(tiny_en: Path, tokenizer: Any) -> list[dict[str, Any]]:
    """24 short HH pairs with reference log-probs."""
    model = AutoModelForCausalLM.from_pretrained(tiny_en, dtype=torch.float32)
    rows = export_rows(hh_pairs(24, longest=600))
    add_reference(rows, model, tokenizer)
    return rows


@pytest.fixture(scope="session")
def hh_export(
    tmp_path_factory: pytest.TempPathFactory, hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any
) -> Path:
    """16 pairs to train on and 8 held out."""
    folder = tmp_path_factory.mktemp("export") / "hh"
    return write_export(folder, hh_rows[:16], hh_rows[16:], model=tiny_en, tokenizer=tokenizer)
