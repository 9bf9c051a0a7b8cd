"""What is wrong with settings is said in one sentence, with the key that was meant."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from flows.settings import Settings
from schemas.validation import first_problem


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train": {"epoch": 1}}, "train.epoch: unknown key, did you mean epochs?"),
        ({"train": {"lora": {"rnak": 1}}}, "train.lora.rnak: unknown key, did you mean rank?"),
        ({"train": {"zzzzz": 1}}, "train.zzzzz: unknown key"),
        ({"trian": {}}, "trian: unknown key, did you mean train?"),
        ({"train": {"epochs": 0}}, "train.epochs: Input should be greater than 0"),
        ({"train": {"optimizer_in_backward": True}}, "train: optimizer_in_backward steps before the whole gradient"),
    ],
)
def test_the_first_problem(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    assert first_problem(caught.value, Settings).startswith(said)
