"""TRL really trains on our exports: two steps with the installed DPOTrainer, on our reference log-probs and weights."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from datasets import load_dataset

from flows.stages.curate import curate
from flows.stages.export import export
from flows.workspace import Workspace
from tests.generated_lake import fill
from tests.real_data import shared

pytestmark = pytest.mark.slow

BASE = {
    "per_device_train_batch_size": 4,
    "max_steps": 2,
    "logging_steps": 1,
    "report_to": [],
    "use_cpu": True,
    "save_strategy": "no",
    "gradient_checkpointing": False,
    "bf16": False,
    "seed": 1,
    "learning_rate": 0.0,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace.create(tmp_path_factory.mktemp("trl") / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=120, repeat=1)
    curate(made, rules="dpo-safe")
    return made


def recipe(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_trl", folder / "train_trl.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_the_recipe_trains_on_our_log_probs_and_weights(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, target=tmp_path / "set", format="trl")
    model = str(shared("models/tiny-en"))
    trainer = recipe(tmp_path / "set").trainer(model, output_dir=str(tmp_path / "out"), **BASE)
    seen: list[dict[str, Any]] = []
    compute = type(trainer).compute_loss

    def spy(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        seen.append({key: value.clone() for key, value in inputs.items()})
        return compute(self, model, inputs, *args, **kwargs)

    type(trainer).compute_loss = spy
    logged = losses(trainer)
    assert len(logged) == 2

    expected = [by_hand(trainer, batch, beta=0.1) for batch in seen]
    assert logged == pytest.approx(expected, rel=1e-4)
    assert {round(weight.item(), 6) for batch in seen for weight in batch["weight"]} != {1.0}


def by_hand(trainer: Any, batch: dict[str, Any], *, beta: float) -> float:
    """Weighted DPO loss of a batch with the exported log-probs, from the formula."""
    with torch.no_grad():
        logits = trainer.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
    tokens, mask = batch["input_ids"][:, 1:], batch["completion_mask"][:, 1:]
    logps = (torch.log_softmax(logits, -1).gather(-1, tokens[..., None])[..., 0] * mask).sum(-1)
    chosen, rejected = logps.chunk(2)
    margin = (chosen - rejected) - (batch["ref_chosen_logps"] - batch["ref_rejected_logps"])
    return float((-torch.nn.functional.logsigmoid(beta * margin) * batch["weight"]).mean())


def test_a_plain_trainer_reads_the_same_folder_and_ignores_our_log_probs(workspace: Workspace, tmp_path: Path) -> None:
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    for format in ("trl", "hf-dataset", "openrlhf"):
        folder = tmp_path / format
        export(workspace, target=folder, format=format)
        data = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert set(data) == {"train", "test"}
        model = str(shared("models/tiny-en"))
        trainer = DPOTrainer(
            model,
            args=DPOConfig(output_dir=str(tmp_path / "out"), **BASE),
            train_dataset=data["train"].select_columns(["prompt", "chosen", "rejected"]),
            processing_class=AutoTokenizer.from_pretrained(model),
        )
        assert losses(trainer) == pytest.approx([math.log(2)] * 2, rel=1e-4)


def test_load_dataset_reads_every_layout(workspace: Workspace, tmp_path: Path) -> None:
    for format in ("winnow", "trl", "hf-dataset", "openrlhf", "axolotl", "nemo-rl", "llama-factory"):
        folder = tmp_path / format
        facts = export(workspace, target=folder, format=format).facts
        data = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert {split: rows.num_rows for split, rows in data.items()} == {
            "train": facts["num_train"],
            "test": facts["num_test"],
        }
