"""Weights, accumulation, routing, adapters and checkpointing inside the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from tests.training.export_fixture import SCHEMA, write_export
from tests.training.running import train_quietly
from training.batches import PairBatches
from training.data import encode_pairs
from training.losses import rrhf_loss
from training.objective_loss import PairBatch, pair_loss
from training.objective_state import ObjectiveState
from training.objectives import TRAITS, Objective
from training.policy import PairLogps
from training.settings import LossSettings, TrainSettings

pytestmark = pytest.mark.slow


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def close(first: Path, second: Path, tolerance: float = 1e-6) -> bool:
    a, b = weights_of(first), weights_of(second)
    return all(float((a[name] - b[name]).abs().max()) < tolerance for name in a)


def write(tmp_path: Path, name: str, rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any) -> Path:
    return write_export(tmp_path / name, rows, rows[:2], model=tiny_en, tokenizer=tokenizer)


def test_a_step_does_not_depend_on_how_it_is_cut(hh_export: Path, tmp_path: Path) -> None:
    """One row, a row a pair, padded rectangles and recomputed layers give the same weights."""
    whole = train_quietly(hh_export, tmp_path / "whole", max_steps=2, token_budget=100_000, learning_rate=1e-4)
    for name, settings in {
        "cut": {"token_budget": 64},
        "padded": {"batching": "padded", "token_budget": 700},
        "full": {"gradient_checkpointing": "full"},
        "selective": {"gradient_checkpointing": "selective"},
    }.items():
        other = train_quietly(hh_export, tmp_path / name, max_steps=2, learning_rate=1e-4, **settings)
        assert close(whole.checkpoint, other.checkpoint, 1e-5), name


def test_a_pair_of_weight_two_counts_as_two(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """The step's loss is the weighted sum over the total weight."""
    rows = hh_rows[:3]
    weighted = write(tmp_path, "w", [{**rows[0], "weight": 2.0}, *rows[1:]], tiny_en, tokenizer)
    doubled = write(tmp_path, "d", [rows[0], {**rows[0], "pair_id": "again"}, *rows[1:]], tiny_en, tokenizer)
    options = {"max_steps": 1, "batch_size": 8, "token_budget": 64, "learning_rate": 1e-4}
    first = train_quietly(weighted, tmp_path / "a", **options)
    second = train_quietly(doubled, tmp_path / "b", **options)
    assert close(first.checkpoint, second.checkpoint)


def test_routed_pairs_train_with_their_own_objective(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """All pairs routed to simpo train as simpo does; half of them routed lies between."""
    plain = write(tmp_path, "plain", hh_rows[:4], tiny_en, tokenizer)
    routed = write(tmp_path, "routed", [{**row, "objective": "simpo"} for row in hh_rows[:4]], tiny_en, tokenizer)
    half = [{**row, "objective": "simpo" if i % 2 else None} for i, row in enumerate(hh_rows[:4])]
    mixed = write(tmp_path, "mixed", half, tiny_en, tokenizer)

    def first_loss(export: Path, name: str, objective: str) -> float:
        result = train_quietly(export, tmp_path / name, max_steps=1, objective=objective)
        return next(logs["loss"] for logs in result.log_history if "loss" in logs)

    dpo, simpo = first_loss(plain, "a", "dpo"), first_loss(plain, "b", "simpo")
    assert first_loss(routed, "c", "dpo") == pytest.approx(simpo, rel=1e-6)
    between = first_loss(mixed, "d", "dpo")
    assert min(dpo, simpo) < between < max(dpo, simpo)


def test_a_constraint_counts_the_pairs_that_are_routed_to_it(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Four pairs under the constraint: alone, as a route out of dpo, and with four others routed to dpo. Behind one
    step the multiplier is that of the four."""
    own = hh_rows[:4]
    routed = [{**row, "objective": "cpo_lagrangian"} for row in own]
    others = [{**row, "objective": "dpo", "reference_chosen_logps": -1e4} for row in hh_rows[4:8]]
    exports = {
        "alone": (own, "cpo_lagrangian"),
        "routed": ([*routed, *hh_rows[4:8]], "dpo"),
        "main": ([*own, *others], "cpo_lagrangian"),
    }
    multipliers = []
    for name, (rows, objective) in exports.items():
        export = write(tmp_path, name, rows, tiny_en, tokenizer)
        result = train_quietly(
            export, tmp_path / f"{name}-out", max_steps=1, batch_size=8, objective=objective, check_pairs=0
        )
        multipliers.append(next(logs["multiplier"] for logs in result.log_history if "multiplier" in logs))
    assert multipliers[0] > 0
    assert multipliers[1:] == pytest.approx([multipliers[0]] * 2, rel=1e-5)


@pytest.mark.parametrize("objective", list(Objective))
def test_every_objective_trains(objective: Objective, hh_export: Path, tmp_path: Path) -> None:
    result = train_quietly(hh_export, tmp_path / "out", objective=objective, max_steps=1, check_pairs=0, sft_weight=0.1)
    assert np.isfinite(result.after["loss"])
    assert result.after["policy_margin"] != result.before["policy_margin"]
    assert set(TRAITS) == set(Objective)


def test_every_pair_once_an_epoch_and_each_process_its_part() -> None:
    batches = PairBatches(23, 8, seed=1)
    assert sorted(i for batch in batches for i in batch) == list(range(23))
    first = list(batches)
    batches.set_epoch(1)
    assert list(batches) != first
    parts = [list(PairBatches(23, 8, seed=1, rank=rank, world=2)) for rank in range(2)]
    for whole, *shares in zip(first, *parts, strict=True):
        assert sorted(whole) == sorted(i for share in shares for i in share)


def test_rrhf_counts_the_best_response_of_a_prompt_once(hh_rows: list[dict[str, Any]], tokenizer: Any) -> None:
    """Three responses a > b > c as three pairs: a is chosen twice, so each has half of its likelihood term."""
    base = hh_rows[0]
    texts = {"a": base["chosen"], "b": base["rejected"], "c": "No."}
    rows = [{**base, "chosen": texts[w], "rejected": texts[x]} for w, x in ("ab", "ac", "bc")]
    pairs = encode_pairs(pa.Table.from_pylist([*rows, hh_rows[1]], schema=SCHEMA), tokenizer)
    assert pairs.best_share.tolist() == [0.5, 0.5, 0, 1]
    circle = [{**base, "chosen": texts[w], "rejected": texts[x]} for w, x in ("ab", "bc", "ca")]
    assert encode_pairs(pa.Table.from_pylist(circle, schema=SCHEMA), tokenizer).best_share.tolist() == [0, 0, 0]


def test_rrhf_in_pairs_is_rrhf_of_the_ranking(hh_rows: list[dict[str, Any]], tokenizer: Any) -> None:
    """Three ranked responses a > b > c as three pairs: the losses sum to that of the prompt."""
    base = hh_rows[0]
    texts = {"a": base["chosen"], "b": base["rejected"], "c": "No."}
    rows = [{**base, "chosen": texts[w], "rejected": texts[x]} for w, x in ("ab", "ac", "bc")]
    pairs = encode_pairs(pa.Table.from_pylist(rows, schema=SCHEMA), tokenizer)
    summed, lengths = torch.tensor([-9.0, -4.0, -6.0]).double(), torch.tensor([4.0, 2.0, 6.0]).double()
    w, x = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    policy = PairLogps(summed[w], summed[x], lengths[w], lengths[x])
    ones = torch.ones(3).double()
    batch = PairBatch(policy, 0 * ones, 0 * ones, ones, torch.from_numpy(pairs.best_share))
    loss = LossSettings.resolve(TrainSettings(), Objective.RRHF, rules_beta=None)
    whole = rrhf_loss(summed / lengths, w, x, torch.tensor(0))
    # a is below b by 0.25 and below c by 1.25 nats a token, b below c by 1; its own log-prob is -2.25 a token
    assert float(whole) == 0.25 + 1.25 + 1 + 2.25
    assert float(pair_loss(batch, loss, ObjectiveState()).sum()) == pytest.approx(float(whole))


def test_slices_of_the_steps_and_of_the_held_out_pairs(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """A step over two pairs of one source and six of another gives the metrics of each, under the reference policy
    that the first step starts from."""
    train = [{**row, "source": f"s{min(i % 4, 1)}"} for i, row in enumerate(hh_rows[:8])]
    test = [{**row, "source": f"s{i % 2}"} for i, row in enumerate(hh_rows[8:12])]
    export = write_export(tmp_path / "e", train, test, model=tiny_en, tokenizer=tokenizer)
    options = {"max_steps": 1, "batch_size": 8, "token_budget": 300}
    result = train_quietly(export, tmp_path / "out", slice_by="source", **options)
    last = next(logs for logs in reversed(result.log_history) if "eval_policy_margin" in logs)
    halves = [last[f"eval_policy_margin/s{i}"] for i in range(2)]
    assert sum(halves) / 2 == pytest.approx(last["eval_policy_margin"])
    step = next(logs for logs in result.log_history if "grad_norm" in logs)
    for i, share in enumerate((0.25, 0.75)):
        margins = [r["reference_chosen_logps"] - r["reference_rejected_logps"] for r in train if r["source"] == f"s{i}"]
        assert len(margins) == share * 8
        assert step[f"reference_margin/s{i}"] == pytest.approx(np.mean(margins))
        assert step[f"policy_margin/s{i}"] == pytest.approx(np.mean(margins), abs=1e-3), "the first step's policy"
    assert step["loss"] == pytest.approx(0.25 * step["loss/s0"] + 0.75 * step["loss/s1"], abs=1e-4)
    plain = train_quietly(export, tmp_path / "plain", **options)
    assert not any("/" in name for logs in plain.log_history for name in logs)


def test_the_alarm_ends_a_run_whose_loss_falls_for_the_wrong_reason(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Soft labels of 0 teach the policy to prefer every rejected response: the loss falls, and so does accuracy."""
    export = write(tmp_path, "e", [{**row, "soft_label": 0.0} for row in hh_rows[:8]], tiny_en, tokenizer)
    lines: list[str] = []
    options = {"objective": "cdpo", "batch_size": 8, "epochs": 20, "learning_rate": 1.2e-4, "warnings": lines}
    result = train_quietly(export, tmp_path / "out", alarm={"window": 4, "stop": True}, **options)
    assert result.counts["steps"] < 20
    assert result.alarms[-1][0] == result.counts["steps"]
    assert "while absolute accuracy fell by" in result.alarms[-1][1]
    assert any("the loss fell by" in line for line in lines)
    assert result.after["loss"] < result.before["loss"]
    assert (result.checkpoint / "README.md").is_file()
