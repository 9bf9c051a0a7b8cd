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
        # APO-zero is KTO of a pair with a KL estimate of 0
        ("apo_zero", Objective.KTO, False, {"beta": BETA, "desirable_weight": 1.0, "undesirable_weight": 1.0}),
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


def test_rpo_of_the_dpo_trainer(trl_trainer: Any, batch: PairBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The likelihood term is the same for one pair. Of several, TRL averages over the tokens of the batch and we over
    the pairs, each of them over its tokens, so that a step does not depend on how pairs are put together."""
    monkeypatch.setattr(trl_trainer, "loss_types", ["sigmoid", "sft"])
    monkeypatch.setattr(trl_trainer, "loss_weights", [1.0, 0.7])
    loss = LossSettings(objective=Objective.DPO, length_normalized=False, sft_weight=0.7, parameters={"beta": BETA})
    ours = pair_loss(batch, loss, ObjectiveState())

    def theirs(rows: list[int]) -> float:
        inputs = trl_trainer.data_collator([trl_trainer.train_dataset[row] for row in rows])
        with torch.no_grad():
            return float(trl_trainer.compute_loss(trl_trainer.model, inputs))

    for row in range(4):
        assert float(ours[row]) == pytest.approx(theirs([row]), rel=2e-5)
    without = pair_loss(batch, loss.model_copy(update={"sft_weight": 0.0}), ObjectiveState())
    chosen = batch.policy
    by_tokens = -0.7 * float(chosen.chosen_logps.sum() / chosen.chosen_num_tokens.sum())
    assert theirs([0, 1, 2, 3]) == pytest.approx(float(without.mean()) + by_tokens, rel=2e-5)
    assert float(ours.mean()) != pytest.approx(theirs([0, 1, 2, 3]), rel=1e-3)


def padded(pairs: Any, rows: list[int]) -> dict[str, torch.Tensor]:
    """Our tokens of some pairs as TRL's contrastive and odds-ratio trainers collate them."""
    batch = {}
    for side in ("chosen", "rejected"):
        prompts = [pairs.sequence(int(pairs.prompt[row])).tolist() for row in rows]
        responses = [pairs.sequence(int(getattr(pairs, side)[row])).tolist() for row in rows]
        width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
        parts: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "attention_mask": []}
        for p, r in zip(prompts, responses, strict=True):
            rest = width - len(p) - len(r)
            parts["input_ids"].append(p + r + [0] * rest)
            parts["labels"].append([-100] * len(p) + r + [-100] * rest)
            parts["attention_mask"].append([1] * (len(p) + len(r)) + [0] * rest)
        batch |= {f"{side}_{name}": torch.tensor(values) for name, values in parts.items()}
    return batch


def bare(trainer: type, **settings: Any) -> Any:
    """One of TRL's trainers without its data and training loop: only what its loss reads."""
    from accelerate import Accelerator

    made = object.__new__(trainer)
    settings |= {
        "is_encoder_decoder": False,
        "pad_token_id": 0,
        "padding_value": 0,
        "aux_loss_enabled": False,
        "beta": BETA,
    }
    for name, value in settings.items():
        setattr(made, name, value)
    made.accelerator = Accelerator(cpu=True)
    return made


@pytest.fixture(scope="module")
def encoded(tokenizer: Any) -> Any:
    return encode_pairs(pa.Table.from_pylist(export_rows(hh_pairs(4, longest=600)), schema=SCHEMA), tokenizer)


@pytest.mark.parametrize(
    ("trl_loss", "objective", "length_normalized"),
    [
        ("sigmoid", Objective.CPO_CONTRASTIVE, False),
        ("hinge", Objective.HINGE, False),
        ("ipo", Objective.IPO, True),
    ],
)
def test_whole_loss_of_the_cpo_trainer(
    models: tuple[Any, Any],
    batch: PairBatch,
    encoded: Any,
    trl_loss: str,
    objective: Objective,
    length_normalized: bool,
) -> None:
    """With its likelihood term, one pair at a time, through its own forward pass; it has no reference, so r is 0."""
    from trl.experimental.cpo import CPOTrainer

    trainer = bare(CPOTrainer, loss_type=trl_loss, cpo_alpha=0.6, alpha=0.0, label_smoothing=0.0, simpo_gamma=0.0)
    loss = LossSettings(
        objective=objective, length_normalized=length_normalized, sft_weight=0.6, parameters={"beta": BETA}
    )
    zero = torch.zeros(4, dtype=torch.float64)
    ones = torch.ones(4, dtype=torch.float64)
    ours = pair_loss(PairBatch(batch.policy, zero, zero, ones, ones), loss, ObjectiveState())
    for row in range(4):
        with torch.no_grad():
            theirs, _ = trainer.get_batch_loss_metrics(models[0], padded(encoded, [row]))
        assert float(ours[row]) == pytest.approx(float(theirs), rel=2e-5)


def test_whole_loss_of_the_orpo_trainer(models: tuple[Any, Any], batch: PairBatch, encoded: Any) -> None:
    """TRL's likelihood term is over prompt and response, ours as in the paper over the response; the rest is equal."""
    from trl.experimental.orpo import ORPOTrainer

    trainer = bare(ORPOTrainer)
    loss = LossSettings(objective=Objective.ORPO, length_normalized=False, parameters={"beta": BETA})
    ours = pair_loss(batch, loss, ObjectiveState())
    for row in range(4):
        with torch.no_grad():
            theirs, figures = trainer.get_batch_loss_metrics(models[0], padded(encoded, [row]))
        of_response = float(-batch.policy.chosen_logps_mean[row])
        assert float(ours[row]) == pytest.approx(float(theirs - figures["nll_loss"]) + of_response, rel=2e-5)


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
