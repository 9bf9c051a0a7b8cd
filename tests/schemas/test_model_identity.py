"""A policy keeps its identity when it is saved again, and loses it when a number or a token changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.errors import ModelError
from schemas.model_identity import chat_template_hash, tokenizer_hash, weights_hash
from tests.real_data import shared


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in shared("models/tiny-en").iterdir():
        shutil.copyfile(file, folder / file.name)
    return folder


def test_a_tokenizer_that_is_saved_again_keeps_its_hashes(model_folder: Path, tmp_path: Path) -> None:
    first = AutoTokenizer.from_pretrained(model_folder)
    first.padding_side, first.model_max_length = "left", 77
    first(["a", "bb"], padding=True, truncation=True, max_length=8)
    first.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    fresh = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer_hash(again) == tokenizer_hash(fresh)
    assert chat_template_hash(again) == chat_template_hash(fresh)


def test_a_new_token_or_template_is_another_identity(model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokens, template = tokenizer_hash(tokenizer), chat_template_hash(tokenizer)
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.chat_template = tokenizer.chat_template.replace("<|user|>", "User: ")
    assert tokenizer_hash(tokenizer) != tokens
    assert chat_template_hash(tokenizer) != template
    tokenizer.chat_template = None
    assert chat_template_hash(tokenizer) is None


def test_weights_saved_again_in_other_shards_keep_their_hash(model_folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="2MB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert weights_hash(tmp_path / "sharded") == weights_hash(model_folder)


def test_one_changed_number_or_setting_is_another_identity(model_folder: Path) -> None:
    before = weights_hash(model_folder)
    tensors = load_file(model_folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, model_folder / "model.safetensors")
    changed = weights_hash(model_folder)
    assert changed != before
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert weights_hash(model_folder) != changed


def test_a_folder_without_weights_or_with_broken_ones_is_refused(model_folder: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder"):
        weights_hash(model_folder / "missing")
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cut short"):
        weights_hash(model_folder)
    for junk in (b"no json at all", b"\xff\xfe", b"[1, 2]"):
        weights.write_bytes(len(junk).to_bytes(8, "little") + junk)
        with pytest.raises(ModelError, match=r"the header of .* is not"):
            weights_hash(model_folder)
    index = model_folder / "model.safetensors.index.json"
    for text in ("{", "{}", "[]"):
        index.write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match="does not say which file holds which tensor"):
            weights_hash(model_folder)
    index.unlink()
    weights.write_bytes(b"junk")
    with pytest.raises(ModelError, match="not a safetensors file"):
        weights_hash(model_folder)
    weights.unlink()
    with pytest.raises(ModelError, match="no safetensors weights"):
        weights_hash(model_folder)
