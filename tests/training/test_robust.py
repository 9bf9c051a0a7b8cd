"""What can go wrong before and while training: one clear line each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from schemas.errors import ConfigError, EngineError, ExportError, ModelError, TrainingError
from tests.training.export_fixture import SCHEMA, write_export
from tests.training.running import make_plan, train_quietly
from training.data import encode_pairs
from training.export_folder import ExportFolder
from training.export_pairs import encode_split
from training.objectives import Objective
from training.settings import LossSettings, TrainSettings


@pytest.fixture
def copied(hh_export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(hh_export, tmp_path / "copy"))


def test_changed_file_does_not_match_its_manifest(copied: Path) -> None:
    file = copied / "train-00000.parquet"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(ExportError, match=r"train-00000\.parquet does not match its manifest"):
        ExportFolder.open(copied)
    file.unlink()
    with pytest.raises(ExportError, match=r"train-00000\.parquet is named by the manifest and missing"):
        ExportFolder.open(copied)


def test_not_an_export(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(ExportError, match=r"holds no manifest\.json"):
        ExportFolder.open(tmp_path / "nothing")
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "version": 9}))
    with pytest.raises(ExportError, match="this Winnow trains on"):
        ExportFolder.open(copied)


def test_another_tokenizer_than_the_scorers(hh_export: Path, tiny_en: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_en, tmp_path / "model"))
    template = model / "chat_template.jinja"
    template.chmod(0o644)
    model.chmod(0o755)
    template.write_text(template.read_text().replace("<|user|>", "<|assistant|>"))
    with pytest.raises(TrainingError, match="chat template is not the scorer's"):
        train_quietly(hh_export, tmp_path / "out", model=str(model))
    tokenizer_file = model / "tokenizer.json"
    tokenizer_file.chmod(0o644)
    content = json.loads(tokenizer_file.read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    tokenizer_file.write_text(json.dumps(content))
    with pytest.raises(TrainingError, match="tokenizer is not the scorer's"):
        train_quietly(hh_export, tmp_path / "out", model=str(model))
    tokenizer_file.unlink()
    (model / "tokenizer_config.json").chmod(0o644)
    (model / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="holds no tokenizer"):
        train_quietly(hh_export, tmp_path / "out", model=str(model))
    with pytest.raises(ModelError, match="there is no model"):
        make_plan(hh_export, model=str(tmp_path / "no_such_folder"))


def test_stale_reference_log_probs_stop_the_run(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{**row, "reference_chosen_logps": row["reference_chosen_logps"] * 1.1} for row in hh_rows]
    export = write_export(tmp_path / "e", rows[:8], rows[8:10], model=tiny_en, tokenizer=tokenizer)
    with pytest.raises(TrainingError, match=r"off by 0\.\d+ nats a token on average.*winnow score"):
        train_quietly(export, tmp_path / "out", max_steps=1)


@pytest.mark.slow
def test_good_log_probs_pass_the_check(hh_export: Path, tmp_path: Path) -> None:
    result = train_quietly(hh_export, tmp_path / "out", max_steps=1)
    assert result.check is not None
    assert result.check["num_pairs"] == 16
    assert result.check["max_difference"] < 1e-4
    assert "on 16 pairs" in (result.checkpoint / "README.md").read_text()


def test_a_loss_that_is_not_finite_stops_with_the_pairs(
    hh_export: Path, hh_rows: list[dict[str, Any]], tiny_en: Path, tmp_path: Path
) -> None:
    """A policy whose weights hold a NaN: the ids of the batch are in the message."""
    model = Path(shutil.copytree(tiny_en, tmp_path / "model"))
    model.chmod(0o755)
    (model / "model.safetensors").chmod(0o644)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="the loss is not finite at step 1") as error:
        train_quietly(hh_export, tmp_path / "out", model=str(model))
    assert any(row["pair_id"] in str(error.value) for row in hh_rows[:16])


FILLED = """
import resource, signal, sys
from pathlib import Path
from schemas.errors import TrainingError
from tests.training.running import train_quietly
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    train_quietly(Path(sys.argv[1]), Path(sys.argv[2]), max_steps=1, save_steps=int(sys.argv[3]))
except TrainingError as error:
    print(error.message, "/", error.mend)
"""


@pytest.mark.slow
@pytest.mark.parametrize("save_steps", [1, 100])
def test_a_disk_that_takes_no_more(hh_export: Path, tmp_path: Path, save_steps: int) -> None:
    """Files above 1 MiB fail to be written, at a checkpoint and at the end; nothing half-made has the final name."""
    target = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(hh_export), str(target), str(save_steps)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "files cannot be written to" in done.stdout, done.stderr[-2000:]
    assert "GiB are free" in done.stdout
    assert "make room" in done.stdout
    assert not target.exists()


def encode(rows: list[dict[str, Any]], tokenizer: Any, **options: Any) -> Any:
    return encode_pairs(pa.Table.from_pylist(rows, schema=SCHEMA), tokenizer, **options)


def test_long_pairs_are_dropped_and_counted_or_cut_from_the_left(hh_rows: list[dict[str, Any]], tokenizer: Any) -> None:
    whole = encode(hh_rows, tokenizer)
    longest = whole.lengths(whole.prompt) + np.maximum(whole.lengths(whole.chosen), whole.lengths(whole.rejected))
    limit = int(np.sort(longest)[-4])
    dropped = encode(hh_rows, tokenizer, max_length=limit)
    assert dropped.num_too_long == int((longest > limit).sum())
    assert len(dropped) == len(hh_rows) - dropped.num_too_long
    cut = encode(hh_rows, tokenizer, max_length=limit, truncate="left")
    assert len(cut) == len(hh_rows)
    row = int(np.argmax(longest))
    kept = cut.sequence(int(cut.prompt[row]), int(cut.chosen_cut[row]))
    assert len(kept) + len(cut.sequence(int(cut.chosen[row]))) <= limit
    prompt = whole.sequence(int(whole.prompt[row]))
    assert kept.tolist() == prompt[len(prompt) - len(kept) :].tolist()


def test_weights_and_soft_labels_out_of_range(hh_rows: list[dict[str, Any]], tokenizer: Any) -> None:
    with pytest.raises(TrainingError, match=r"weight is -1\.0, must be >= 0"):
        encode([{**hh_rows[0], "weight": -1.0}], tokenizer)
    with pytest.raises(TrainingError, match=r"soft_label is 1\.5, must be in \[0, 1\]"):
        encode([{**hh_rows[0], "soft_label": 1.5}], tokenizer)
    weightless = encode([{**hh_rows[0], "weight": 0.0}, hh_rows[1]], tokenizer)
    assert (len(weightless), weightless.num_weightless) == (1, 1)


def test_what_an_objective_cannot_use_is_refused(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    soft = [{**hh_rows[0], "soft_label": 0.8}, hh_rows[1]]
    export = write_export(tmp_path / "soft", soft, [], model=tiny_en, tokenizer=tokenizer)
    with pytest.raises(TrainingError, match="1 pair with a soft label, which has no meaning for objective rdpo"):
        train_quietly(export, tmp_path / "out", objective="rdpo")
    with pytest.raises(TrainingError, match=r"1 pair with a soft label, which has no meaning for train\.sft_weight"):
        make_plan(export, objective="dpo", sft_weight=0.1)
    bare = [{**hh_rows[0], "reference_chosen_logps": None}, hh_rows[1]]
    export = write_export(tmp_path / "bare", bare, [], model=tiny_en, tokenizer=tokenizer)
    with pytest.raises(TrainingError, match="1 pair without reference log-probs, which objective dpo needs"):
        train_quietly(export, tmp_path / "out", objective="dpo")
    export = write_export(tmp_path / "empty", [], hh_rows[:1], model=tiny_en, tokenizer=tokenizer)
    with pytest.raises(TrainingError, match="no pairs to train on"):
        train_quietly(export, tmp_path / "out")
    export = write_export(tmp_path / "rules", hh_rows[:1], [], model=tiny_en, tokenizer=tokenizer, objective="magic")
    with pytest.raises(TrainingError, match="there is no objective 'magic'"):
        make_plan(export)
    with pytest.raises(ConfigError, match="tau has no meaning for objective dpo"):
        make_plan(write_export(tmp_path / "t", hh_rows[:1], [], model=tiny_en, tokenizer=tokenizer), tau=1.0)


def test_one_pair_is_enough_and_none_need_be_held_out(
    hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """A soft label of one half: at the start, where policy and reference agree, the loss is log 2."""
    export = write_export(
        tmp_path / "one", [{**hh_rows[0], "soft_label": 0.5}], [], model=tiny_en, tokenizer=tokenizer, objective="cdpo"
    )
    result = train_quietly(export, tmp_path / "out")
    assert (result.counts["train"], result.counts["eval"], result.counts["steps"]) == (1, 0, 1)
    assert result.after == {}
    losses = [logs["loss"] for logs in result.log_history if "loss" in logs]
    assert losses == pytest.approx([np.log(2)], rel=1e-6)


def test_all_pairs_too_long(hh_export: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match="no pairs to train on: 16 of the export's are longer than 2 tokens"
    ) as error:
        train_quietly(hh_export, tmp_path / "out", max_length=2)
    assert error.value.mend == (
        "raise train.max_length, or winnow score --max-length 2 --truncate left, then curate and export again"
    )
    with pytest.raises(TrainingError, match=r"raise train\.max_length, as cutting the prompt is not enough"):
        train_quietly(hh_export, tmp_path / "out", max_length=2, truncate="left")
    with pytest.raises(TrainingError, match=r"or set train\.truncate = 'left'"):
        train_quietly(hh_export, tmp_path / "out", max_length=2, objective="simpo", beta=None)
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        make_plan(hh_export, max_length=1)


def test_pairs_beyond_the_models_positions(hh_export: Path, tiny_en: Path, tmp_path: Path) -> None:
    """As the scorer refuses them: a table of positions ends there, and some rotations go by the longest neighbour."""
    folder = tmp_path / "short"
    shutil.copytree(tiny_en, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    with pytest.raises(TrainingError, match=r"prompt and response have \d+ tokens, and the model takes 64") as error:
        train_quietly(hh_export, tmp_path / "out", model=str(folder), objective="simpo", beta=None)
    assert error.value.mend == "set train.max_length = 64"


@pytest.mark.slow
def test_log_probs_of_a_prompt_cut_elsewhere_are_not_used(
    hh_export: Path, hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """Cut by the trainer and not by the scorer: left out of dpo and counted, trained by simpo without a reference."""
    whole = encode(hh_rows[:16], tokenizer)
    longest = whole.lengths(whole.prompt) + np.maximum(whole.lengths(whole.chosen), whole.lengths(whole.rejected))
    limit = int(np.sort(longest)[-4])
    num_cut = int((longest > limit).sum())
    cut = {"max_length": limit, "truncate": "left", "max_steps": 1}
    dpo = train_quietly(hh_export, tmp_path / "dpo", **cut)
    assert dpo.counts["cut_otherwise"] >= num_cut > 0  # some held-out pairs are cut too
    assert dpo.counts["train"] == 16 - num_cut
    assert dpo.check is not None  # what is left fits
    assert (
        f"{dpo.counts['cut_otherwise']} cut otherwise than by the scorer" in (dpo.checkpoint / "README.md").read_text()
    )
    simpo = train_quietly(hh_export, tmp_path / "simpo", objective="simpo", **cut)
    assert (simpo.counts["train"], simpo.counts["cut_otherwise"]) == (16, 0)
    assert 0 < simpo.after["share_with_reference"] < 1

    # the other way round: the scorer cut at the limit, and the trainer could see more
    scored = write_export(
        tmp_path / "e", hh_rows[:16], [], model=tiny_en, tokenizer=tokenizer, max_length=limit, truncate="left"
    )
    export = ExportFolder.open(scored)
    loss = (LossSettings.resolve(TrainSettings(), Objective.DPO, rules_beta=None),)
    assert encode_split(export, "train", tokenizer, objectives=loss).num_cut_otherwise == 0
    wider = encode_split(export, "train", tokenizer, objectives=loss, max_length=limit + 1000)
    assert (len(wider), wider.num_cut_otherwise) == (16 - num_cut, num_cut)


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_stops_with_the_pairs(
    hh_export: Path, hh_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """So large a beta that the loss is a number of float64 and its gradient none of float32."""
    with pytest.raises(TrainingError, match=r"the gradient is not finite at step 1 for pairs .* and 8 more") as error:
        train_quietly(hh_export, tmp_path / "out", beta=1e42, max_steps=1, batch_size=16)
    assert any(row["pair_id"] in str(error.value) for row in hh_rows[:16])


@pytest.mark.slow
def test_an_adapter_is_not_trained_on(hh_export: Path, copied: Path, tmp_path: Path) -> None:
    """Neither where it is given, nor where the export was scored by one."""
    trained = train_quietly(hh_export, tmp_path / "adapter", max_steps=1, lora={"rank": 2})
    with pytest.raises(ModelError, match=r"is an adapter, which cannot be trained on \(merge it into its base"):
        make_plan(hh_export, model=str(trained.checkpoint))
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["reference"]["adapter"] = "adapters/a"
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=r"the export was scored by an adapter \(adapters/a\) on"):
        make_plan(copied)


def test_more_processes_than_pairs(hh_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(TrainingError, match=r"batch_size is 4, and 5 processes share each step's pairs"):
        make_plan(hh_export)
    monkeypatch.setenv("WORLD_SIZE", "17")
    with pytest.raises(TrainingError, match="there are 16 pairs to train on for 17 processes"):
        make_plan(hh_export, batch_size=20)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(EngineError, match="splits the model over the processes of torchrun"):
        make_plan(hh_export, sharding="fsdp")


def test_the_alarm_belongs_to_the_run_only_where_it_may_end_it(hh_export: Path) -> None:
    def run_id(**alarm: Any) -> str:
        return make_plan(hh_export, alarm=alarm).training_run_id

    assert run_id(window=5) == run_id(window=6)
    assert len({run_id(window=5), run_id(window=5, stop=True), run_id(window=6, stop=True)}) == 3


@pytest.mark.slow
def test_the_card_says_why_nothing_was_checked(
    hh_export: Path, hh_rows: list[dict[str, Any]], tiny_en: Path, tokenizer: Any, tmp_path: Path
) -> None:
    def line(export: Path, name: str, **settings: Any) -> str:
        card = (train_quietly(export, tmp_path / name, max_steps=1, **settings).checkpoint / "README.md").read_text()
        return next(each for each in card.splitlines() if each.startswith("- reference log-probs"))

    assert "as train.check_pairs is 0" in line(hh_export, "unchecked", check_pairs=0)
    bare = [{**row, "reference_chosen_logps": None, "reference_rejected_logps": None} for row in hh_rows[:4]]
    export = write_export(tmp_path / "bare", bare, [], model=tiny_en, tokenizer=tokenizer)
    assert line(export, "free", objective="simpo") == "- reference log-probs: none in the export"
    other = Path(shutil.copytree(tiny_en, tmp_path / "model"))
    other.chmod(0o755)
    (other / "model.safetensors").chmod(0o644)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"][0] *= 1.5
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert "of another policy than the one" in line(hh_export, "other", model=str(other))


def test_an_adapter_that_the_model_does_not_take(hh_export: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"LlamaForCausalLM takes no such adapter: Target modules .*nothing.*again \(name"
    ):
        train_quietly(hh_export, tmp_path / "run", lora={"target_modules": ["nothing"]})
