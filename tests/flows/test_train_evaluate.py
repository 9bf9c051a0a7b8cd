"""``winnow evaluate`` gives, through the scoring engines, the metrics that training ends with."""

# ruff: noqa: F811
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from curation.scoring.settings import ScoringSettings
from flows.stages.evaluate import evaluate
from schemas.errors import ConfigError, ExportError, TrainingError
from tests.training.conftest import hh_export, hh_rows, tiny_en, tokenizer  # noqa: F401
from tests.training.running import train_quietly
from training.metric_words import aligned


@pytest.mark.slow
def test_agrees_with_the_trainer(hh_export: Path, tmp_path: Path) -> None:
    trained = train_quietly(hh_export, tmp_path / "model", max_steps=3)
    report = evaluate(str(trained.checkpoint), on=hh_export, engine="transformers", slice_by="source")
    found = report.facts["metrics"]
    assert report.facts["num_pairs"] == 8
    assert report.lines[0].startswith(f"{trained.checkpoint} on 8 test pairs of ")
    assert found == pytest.approx(trained.after, abs=1e-4)
    assert report.facts["objective"] == "dpo"
    assert report.facts["slices"]["hh"] == pytest.approx(found)
    begin = report.lines.index(aligned(found)[0])
    assert report.lines[begin:] == (*aligned(found), "source hh:", *aligned(found))


@pytest.mark.slow
def test_the_loss_is_that_of_the_training_or_the_one_asked_for(hh_export: Path, tmp_path: Path) -> None:
    """A lagrangian's loss needs the multiplier that training ended with; another objective can be asked for."""
    settings = {"objective": "cpo_lagrangian", "multiplier_step": 0.5, "gamma": 3.0, "max_steps": 3}
    trained = train_quietly(hh_export, tmp_path / "model", **settings)
    own = evaluate(str(trained.checkpoint), on=hh_export, engine="transformers")
    assert own.facts["metrics"]["loss"] == pytest.approx(trained.after["loss"], rel=1e-4)
    dpo = evaluate(str(trained.checkpoint), on=hh_export, engine="transformers", objective="dpo")
    assert dpo.facts["metrics"]["loss"] < own.facts["metrics"]["loss"] - 1
    with pytest.raises(TrainingError, match="there is no objective 'dop'"):
        evaluate(str(trained.checkpoint), on=hh_export, objective="dop")


def test_the_reference_itself_has_not_moved(hh_export: Path, tiny_en: Path) -> None:
    report = evaluate(
        str(tiny_en),
        on=hh_export,
        engine="transformers",
        split="train",
        settings=ScoringSettings(dtype="float32"),
    )
    found = report.facts["metrics"]
    assert abs(found["chosen_drift"]) < 1e-3
    assert found["share_undesirable"] <= found["share_reference_wrong"]
    assert found["kl_chosen"] < 1e-6


def test_the_reference_is_scored_as_the_export_says_and_another_dtype_is_said(hh_export: Path, tiny_en: Path) -> None:
    """The weights are stored in bfloat16, and the export's log-probs are of transformers in float32."""
    same = evaluate(str(tiny_en), on=hh_export)
    assert same.facts["engine"].startswith("transformers ")
    assert same.facts["engine"].endswith(", float32")
    assert same.facts["reference_engine"] is None
    other = evaluate(str(tiny_en), on=hh_export, dtype="bfloat16")
    assert other.facts["engine"].endswith(", bfloat16")
    assert "the reference log-probs come from transformers (float32)" in other.lines[1]
    with pytest.raises(ConfigError, match=r"scoring\.dtype"):
        evaluate(str(tiny_en), on=hh_export, dtype="int3")


@pytest.mark.slow
def test_the_pairs_are_those_of_the_training(hh_export: Path, tmp_path: Path) -> None:
    """Three of the eight held-out pairs, evenly spaced, and no log-prob of a prompt that the scorer saw whole."""
    trained = train_quietly(hh_export, tmp_path / "model", max_steps=2, eval_pairs=3)
    wide = ScoringSettings(dtype="float32")
    model = str(trained.checkpoint)
    report = evaluate(model, on=hh_export, engine="transformers", num_pairs=3, settings=wide)
    assert report.facts["num_pairs"] == 3
    assert report.facts["metrics"] == pytest.approx(trained.after, abs=1e-4)
    assert evaluate(model, on=hh_export, engine="transformers", num_pairs=0).facts["num_pairs"] == 8
    short = wide.model_copy(update={"max_length": 60, "truncate": "left"})
    cut = evaluate(model, on=hh_export, engine="transformers", settings=short)
    assert cut.facts["num_cut_otherwise"] > 0
    assert "cut otherwise than by the scorer" in cut.lines[0]
    assert "relative_accuracy" in cut.facts["metrics"]


def test_another_tokenizer_has_no_use_for_the_log_probs(hh_export: Path, tiny_en: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_en, tmp_path / "model"))
    template = model / "chat_template.jinja"
    template.chmod(0o644)
    template.write_text(template.read_text().replace("<|user|>", "<|assistant|>"))
    report = evaluate(str(model), on=hh_export, engine="transformers")
    found = report.facts["metrics"]
    assert report.facts["other_tokens"] == "chat template"
    assert any("what needs reference log-probs is left out" in line for line in report.lines)
    assert "absolute_accuracy" in found
    assert not {"relative_accuracy", "chosen_drift", "loss"} & set(found)
    assert "loss" in evaluate(str(model), on=hh_export, engine="transformers", objective="simpo").facts["metrics"]


@pytest.mark.slow
def test_an_adapter_is_scored_with_its_base_as_in_training(hh_export: Path, tmp_path: Path) -> None:
    """The base is stored in bfloat16 and was trained on in float32."""
    trained = train_quietly(hh_export, tmp_path / "adapter", max_steps=3, learning_rate=5e-3, lora={"rank": 4})
    assert (trained.checkpoint / "adapter_config.json").is_file()
    report = evaluate(str(trained.checkpoint), on=hh_export, engine="transformers")
    assert report.facts["engine"].endswith(", float32")
    assert abs(trained.after["chosen_drift"]) > 0.1
    assert report.facts["metrics"] == pytest.approx(trained.after, abs=1e-3)


def test_what_is_not_there(hh_export: Path, tiny_en: Path) -> None:
    with pytest.raises(ExportError, match="no pairs in split 'other'"):
        evaluate(str(tiny_en), on=hh_export, engine="transformers", split="other")
    with pytest.raises(ConfigError, match="no slice 'weight'"):
        evaluate(str(tiny_en), on=hh_export, slice_by="weight")
