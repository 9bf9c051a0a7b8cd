"""Every loss that TRL implements gives TRL's number: its trainer on its own tokens, ours on ours, same models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.training.export_fixture import SCHEMA, export_rows, hh_pairs
from training import losses
from training.data import encode_pairs
from training.objective_loss import PairBatch, pair_loss
from training.objective_state import ObjectiveState
from training.objectives import Objective
from training.packing import pack_pairs
from training.policy import ATTENTION, pair_logps, set_attention
from training.settings import LossSettings

BETA = 0.3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    """A policy and a reference that differ, small and random."""
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    return tuple(AutoModelForCausalLM.from_config(config, dtype=torch.float32) for _ in range(2))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def trl_trainer(models: tuple[Any, Any], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [
        {
            "prompt": messages,
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for messages, chosen, rejected in hh_pairs(4, longest=600)
    ]
    args = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        beta=BETA,
        per_device_train_batch_size=4,
        train_sampling_strategy="sequential",
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    policy, reference = models
    return DPOTrainer(
        policy, ref_model=reference, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )


@pytest.fixture(scope="module")
def batch(models: tuple[Any, Any], tokenizer: Any) -> PairBatch:
    """The same pairs through our rows."""
    table = pa.Table.from_pylist(export_rows(hh_pairs(4, longest=600)), schema=SCHEMA)
    pairs = encode_pairs(table, tokenizer)
    (pack,) = pack_pairs(pairs, range(4), token_budget=10_000)
    found = []
    for model in models:
        before = model.config._attn_implementation
        set_attention(model, ATTENTION["shared"])
        with torch.no_grad():
            found.append(pair_logps(model, pack))
        set_attention(model, before)
    ones = torch.ones(4, dtype=torch.float64)
    return PairBatch(found[0], found[1].chosen_logps, found[1].rejected_logps, ones, ones)


@pytest.mark.parametrize(
    ("trl_loss", "objective", "length_normalized", "parameters"),
    [
        ("sigmoid", Objective.DPO, False, {"beta": BETA}),
        ("sigmoid_norm", Objective.DPO, True, {"beta": BETA}),
        ("hinge", Objective.HINGE, False, {"beta": BETA}),
        ("ipo", Objective.IPO, True, {"beta": BETA}),
        ("robust", Objective.RDPO, False, {"beta": BETA, "label_noise": 0.2}),
    ],
)
def test_dpo_trainer(
    trl_trainer: Any,
    batch: PairBatch,
    trl_loss: str,
    objective: Objective,
    length_normalized: bool,
    parameters: dict[str, float],
) -> None:
    trl_trainer.loss_types = [trl_loss]
    trl_trainer.label_smoothing = parameters.get("label_noise", 0.0)
    inputs = next(iter(trl_trainer.get_train_dataloader()))
    with torch.no_grad():
        expected = trl_trainer.compute_loss(trl_trainer.model, inputs)
    loss = LossSettings(objective=objective, length_normalized=length_normalized, parameters=parameters)
    ours = pair_loss(batch, loss, ObjectiveState()).mean()
    assert ours.item() == pytest.approx(expected.item(), rel=2e-5)


def test_simpo_and_contrastive_of_the_cpo_trainer() -> None:
    from trl.experimental.cpo import CPOTrainer

    chosen, rejected = torch.tensor([-1.2, -0.4, -3.0]), torch.tensor([-1.0, -2.0, -3.0])
    own = SimpleNamespace(
        alpha=0.0,
        beta=2.0,
        simpo_gamma=0.7,
        label_smoothing=0.0,
        loss_type="simpo",
        accelerator=SimpleNamespace(device="cpu"),
    )
    expected, _, _ = CPOTrainer.cpo_loss(own, chosen, rejected)
    assert torch.allclose(losses.simpo_loss(chosen, rejected, beta=2.0, gamma=0.7), expected)
    own.loss_type = "sigmoid"
    expected, _, _ = CPOTrainer.cpo_loss(own, chosen, rejected)
    assert torch.allclose(losses.cpo_contrastive_loss(chosen - rejected, chosen, beta=2.0, sft_weight=0), expected)
    own.label_smoothing = 0.3
    expected, _, _ = CPOTrainer.cpo_loss(own, chosen, rejected)
    margin = chosen - rejected
    assert torch.allclose(losses.cdpo_loss(margin, 0 * margin, torch.full((3,), 0.7), beta=2.0), expected)


def test_odds_ratio_of_the_orpo_trainer() -> None:
    from trl.experimental.orpo import ORPOTrainer

    chosen, rejected = torch.tensor([-1.2, -0.4, -3.0]), torch.tensor([-1.0, -2.0, -3.0])
    own = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    expected, *_ = ORPOTrainer.odds_ratio_loss(own, chosen, rejected)
    ours = losses.orpo_loss(chosen, rejected, beta=0.3) + chosen
    assert torch.allclose(ours, -expected, atol=1e-6)


def test_kto_of_the_kto_trainer(
    models: tuple[Any, Any], batch: PairBatch, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """TRL judges 2N responses and takes their mean, with its own KL estimate, which is handed to ours."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    rows = [
        {"prompt": messages, "completion": [{"role": "assistant", "content": text}], "label": label}
        for messages, chosen, rejected in hh_pairs(4, longest=600)
        for text, label in ((chosen, True), (rejected, False))
    ]
    args = KTOConfig(
        output_dir=str(tmp_path_factory.mktemp("kto")),
        beta=BETA,
        desirable_weight=1.5,
        undesirable_weight=0.5,
        per_device_train_batch_size=8,
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    policy, reference = models
    trainer = KTOTrainer(
        policy, ref_model=reference, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    kl = trainer._metrics["eval"]["kl"][-1]
    parameters = {"beta": BETA, "desirable_weight": 1.5, "undesirable_weight": 0.5}
    loss = LossSettings(objective=Objective.KTO, length_normalized=False, parameters=parameters)
    ours = pair_loss(batch, loss, ObjectiveState(kl=kl)).sum() / 8
    assert ours.item() == pytest.approx(expected.item(), rel=2e-5)
