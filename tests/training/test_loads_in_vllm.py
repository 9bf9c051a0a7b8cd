"""A trained checkpoint is an ordinary model folder: vLLM and transformers load it and agree on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from schemas.tokens import encode_group
from tests.real_data import shared
from tests.training.running import train_quietly

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SERVE = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
model, rows, adapter = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
small = dict(enforce_eager=True, max_model_len=512, kv_cache_memory_bytes=1 << 28)
llm = LLM(model, dtype="float32", enable_lora=bool(adapter), **small)
params = SamplingParams(logprobs=0, max_tokens=1, temperature=0.0, detokenize=False)
lora = LoRARequest("trained", 1, adapter) if adapter else None
found = llm.generate([{"prompt_token_ids": row} for row in rows], params, use_tqdm=False, lora_request=lora)
print(json.dumps([[(token, each.logprob) for token, each in o.outputs[0].logprobs[0].items()][0] for o in found]))
"""


@pytest.mark.parametrize("lora", [None, {"rank": 8}], ids=["whole model", "adapter"])
def test_vllm_predicts_with_it_as_transformers_does(
    hh_export: Path, hh_rows: list[dict[str, Any]], tokenizer: Any, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    """The likeliest next token and its log-prob at the end of every prompt and in the middle of every response."""
    trained = train_quietly(hh_export, tmp_path / "model", max_steps=2, learning_rate=5e-3 if lora else 5e-4, lora=lora)
    groups = [
        encode_group(tokenizer, json.loads(row["prompt"]), [row["chosen"], row["rejected"]]) for row in hh_rows[16:]
    ]
    rows = [g.prompt_ids for g in groups] + [
        g.prompt_ids + ids[: len(ids) // 2] for g in groups for ids in g.response_ids
    ]
    base = shared("models/tiny-en")
    expected, before = (_likeliest(model, rows) for model in (trained.checkpoint, base))
    folders = (base, trained.checkpoint) if lora else (trained.checkpoint, "")
    found = _served(str(folders[0]), rows, str(folders[1]))
    assert [token for token, _ in found] == [token for token, _ in expected]
    assert [logp for _, logp in found] == pytest.approx([logp for _, logp in expected], abs=1e-4)
    assert max(abs(a[1] - b[1]) for a, b in zip(expected, before, strict=True)) > 1e-2


def _likeliest(folder: Path, rows: list[list[int]]) -> list[tuple[int, float]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for row in rows:
        with torch.no_grad():
            logps = torch.log_softmax(model(input_ids=torch.tensor([row])).logits[0, -1].double(), -1)
        found.append((int(logps.argmax()), float(logps.max())))
    return found


def _served(model: str, rows: list[list[int]], adapter: str) -> list[tuple[int, float]]:
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1"}
    one_process = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SERVE, model, json.dumps(rows), adapter],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **quiet, **one_process},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [(token, logp) for token, logp in json.loads(done.stdout.strip().splitlines()[-1])]
