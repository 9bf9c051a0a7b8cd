"""A quantised reference is a policy of its own, scored in vLLM, and its quantisation stands with its scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from curation.scoring.engines import open_engine
from curation.scoring.noise import NOISE_FLOOR, score_noise
from curation.scoring.policy import open_policy
from curation.scoring.settings import ScoringSettings
from flows.stages.ingest import ingest
from flows.stages.score import score
from flows.workspace import Workspace
from schemas.errors import EngineError, ModelError, WinnowError
from tests.curation.scoring.quantized import awq_copy
from tests.curation.scoring.real_groups import encoded, hh_texts, oracle, tiny_policy
from tests.real_data import shared

SETTINGS = ScoringSettings(dtype="bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return awq_copy(shared("models/tiny-en"), tmp_path_factory.mktemp("awq") / "tiny-en-awq")


def test_its_identity_is_its_own(folder: Path) -> None:
    quantised, whole = open_policy(SETTINGS, str(folder)), tiny_policy()
    assert quantised.quantization == "awq"
    assert whole.quantization is None
    assert quantised.reference_id != whole.reference_id


@pytest.mark.vllm
def test_four_bits_score_near_the_whole_weights_and_not_equal(folder: Path) -> None:
    groups = encoded(hh_texts(), 12)
    engine = open_engine("vllm", open_policy(SETTINGS, str(folder)), SETTINGS)
    try:
        found = [each for scores in engine.score(groups) for each in scores]
        info = engine.info
    finally:
        engine.close()
    expected = [value for values in oracle(groups) for value in values]
    a_token = [(each.logps - value) / each.num_tokens for each, value in zip(found, expected, strict=True)]
    assert 1e-3 < np.sqrt(np.mean(np.square(a_token))) < 0.3
    assert (info.quantization, info.dtype) == ("awq", "bfloat16")
    assert score_noise(info, 100) == NOISE_FLOOR["vllm", "bfloat16"] * 10


@pytest.mark.vllm
def test_its_scores_say_how_they_were_quantised(folder: Path, tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "Name a colour.", "chosen": "Red is one.", "rejected": "Four."}\n')
    ingest(workspace, [str(pairs)])
    score(workspace, model=str(folder), engine="vllm")
    with workspace.lake(read_only=True) as lake:
        (row,) = lake.con.execute("select distinct dtype, noise > 0 from raw.reference_scores").fetchall()
        assert row == ("bfloat16/awq", True)
        assert lake.value("select quantization from raw.reference_policies") == "awq"


def test_the_engine_without_quantisation_says_where_to_go() -> None:
    settings = ScoringSettings(quantization="fp8")
    with pytest.raises(WinnowError, match="does not quantise to fp8") as refused:
        open_engine("transformers", open_policy(settings, str(shared("models/tiny-en"))), settings)
    assert refused.value.mend == "--engine vllm"


@pytest.mark.vllm
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has FP8")
def test_a_quantisation_that_this_vllm_lacks_is_one_line() -> None:
    settings = ScoringSettings(quantization="fp8", dtype="bfloat16")
    with pytest.raises(EngineError, match=r"on a CPU cannot load .*tiny-en quantised with fp8: ") as refused:
        open_engine("vllm", open_policy(settings, str(shared("models/tiny-en"))), settings)
    assert "\n" not in refused.value.message


@pytest.mark.gpu
@pytest.mark.vllm
def test_eight_bit_floats_score_near_the_whole_weights() -> None:
    settings = ScoringSettings(quantization="fp8", dtype="bfloat16")
    groups = encoded(hh_texts(), 12)
    engine = open_engine("vllm", open_policy(settings, str(shared("models/tiny-en"))), settings)
    try:
        found = [each for scores in engine.score(groups) for each in scores]
        assert engine.info.quantization == "fp8"
    finally:
        engine.close()
    expected = [value for values in oracle(groups) for value in values]
    a_token = [(each.logps - value) / each.num_tokens for each, value in zip(found, expected, strict=True)]
    assert np.sqrt(np.mean(np.square(a_token))) < 0.3


@pytest.mark.parametrize("name", ["model.gguf", "folder"])
def test_gguf_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "model.gguf", tmp_path / "folder" / "model.gguf"):
        path.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=rf"{name} is GGUF, for which vLLM 0.32 has no loader"):
        open_policy(SETTINGS, str(tmp_path / name))
