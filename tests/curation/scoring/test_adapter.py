"""A LoRA adapter scores as the merged model does, in every engine, and is another reference policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from curation.scoring.adapter import merged_policy
from curation.scoring.engine import ResponseScore
from curation.scoring.settings import ScoringSettings
from curation.scoring.transformers_engine import TransformersEngine
from schemas.errors import EngineError, ModelError
from schemas.tokens import EncodedGroup
from tests.curation.scoring.real_groups import encoded, hh_texts, oracle, tiny_policy, worst
from tests.real_data import shared


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EncodedGroup], list[list[float]]]:
    """A random adapter, some groups, and their log-probs by the unmerged PEFT model."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(shared("models/tiny-en"), dtype=torch.float32)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(base, config).eval()
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    groups = encoded(hh_texts(), 3)
    values = []
    with torch.inference_mode():
        for group in groups:
            values.append([])
            for ids in group.response_ids:
                whole = torch.tensor([[*group.prompt_ids, *ids]])
                logits = model(whole).logits[0, len(group.prompt_ids) - 1 : -1].log_softmax(-1)
                values[-1].append(float(logits.gather(-1, torch.tensor(ids)[:, None]).sum()))
    return folder, groups, values


def differs_from_base(scores: list[list[ResponseScore]], groups: list[EncodedGroup]) -> bool:
    return worst(scores, oracle(groups)) > 1


def test_transformers_scores_the_adapter(adapter: tuple[Path, list[EncodedGroup], list[list[float]]]) -> None:
    folder, groups, values = adapter
    policy = tiny_policy(adapter=str(folder))
    assert policy.reference_id != tiny_policy().reference_id
    engine = TransformersEngine(policy, ScoringSettings(dtype="float32"))
    scores = engine.score(groups)
    assert worst(scores, values) < 1e-3
    assert differs_from_base(scores, groups)


def test_merging_leaves_the_terminal_to_winnow(
    adapter: tuple[Path, list[EncodedGroup], list[list[float]]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.enable_progress_bar()  # as in a new process
    merged = merged_policy(tiny_policy(adapter=str(adapter[0])), tmp_path, dtype="float32")
    assert (merged.folder / "model.safetensors").is_file()
    assert capfd.readouterr().err == ""


@pytest.mark.vllm
def test_vllm_scores_the_adapter(adapter: tuple[Path, list[EncodedGroup], list[list[float]]]) -> None:
    from curation.scoring.vllm_engine import VllmEngine

    folder, groups, values = adapter
    engine = VllmEngine(tiny_policy(adapter=str(folder)), ScoringSettings(dtype="float32"))
    scores = engine.score(groups)
    engine.close()
    assert worst(scores, values) < 1e-3
    assert differs_from_base(scores, groups)


def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder"):
        tiny_policy(adapter=str(tmp_path / "missing"))
    with pytest.raises(ModelError, match="no safetensors weights"):
        tiny_policy(adapter=str(tmp_path))


def test_transformers_does_not_pretend_to_quantise() -> None:
    with pytest.raises(EngineError, match="does not quantise"):
        TransformersEngine(tiny_policy(quantization="fp8"), ScoringSettings(quantization="fp8"))
