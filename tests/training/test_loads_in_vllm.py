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
from tests.training.running import train_quietly

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SCORE = """
import json, sys
from vllm import LLM, SamplingParams
model, rows = sys.argv[1], json.loads(sys.argv[2])
llm = LLM(model, dtype="float32", enforce_eager=True, max_model_len=512, kv_cache_memory_bytes=1 << 28)
params = SamplingParams(prompt_logprobs=0, max_tokens=1, temperature=0.0, detokenize=False)
found = llm.generate([{"prompt_token_ids": p + r} for p, r in rows], params, use_tqdm=False)
sums = []
for (prompt, response), output in zip(rows, found):
    tokens = output.prompt_logprobs[len(prompt):]
    sums.append(sum(each[token].logprob for each, token in zip(tokens, response)))
print(json.dumps(sums))
"""


def test_vllm_scores_it_as_transformers_does(
    hh_export: Path, hh_rows: list[dict[str, Any]], tokenizer: Any, tmp_path: Path
) -> None:
    trained = train_quietly(hh_export, tmp_path / "model", max_steps=2)
    rows, expected = [], []
    model = AutoModelForCausalLM.from_pretrained(trained.checkpoint, dtype=torch.float32)
    for row in hh_rows[16:]:
        group = encode_group(tokenizer, json.loads(row["prompt"]), [row["chosen"], row["rejected"]])
        for response in group.response_ids:
            rows.append((group.prompt_ids, response))
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([group.prompt_ids + response])).logits[0].double()
            at = torch.arange(len(group.prompt_ids) - 1, len(group.prompt_ids) + len(response) - 1)
            expected.append(float(torch.log_softmax(logits[at], -1)[range(len(at)), response].sum()))
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": "127.0.0.1"}
    one_process = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCORE, str(trained.checkpoint), json.dumps(rows)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **quiet, **one_process},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(found) == 16
    assert found == pytest.approx(expected, abs=1e-3)
    reference = [row[f"reference_{side}_logps"] for row in hh_rows[16:] for side in ("chosen", "rejected")]
    assert max(abs(a - b) for a, b in zip(found, reference, strict=True)) > 0.1
