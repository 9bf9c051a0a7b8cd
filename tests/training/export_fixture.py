"""An export folder of real HH pairs, written by the contract; the reference log-probs are computed by transformers
alone, one response at a time, so they are independent of the trainer."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from schemas.identity import canonical_messages, pair_id, prompt_id, response_id
from schemas.model_identity import chat_template_hash, tokenizer_hash, weights_hash
from schemas.tokens import encode_group
from tests.real_data import shared

SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt_group_id", pa.string()),
        ("criterion", pa.string()),
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("reference_chosen_logps", pa.float64()),
        ("reference_rejected_logps", pa.float64()),
        ("chosen_num_tokens", pa.int32()),
        ("rejected_num_tokens", pa.int32()),
        ("weight", pa.float64()),
        ("soft_label", pa.float64()),
        ("objective", pa.string()),
        ("source", pa.string()),
    ]
)


def hh_pairs(count: int, *, longest: int | None = None) -> list[tuple[list[dict[str, str]], str, str]]:
    """The first published pairs as (messages, chosen, rejected), split at the last assistant turn.

    ``longest`` leaves out transcripts of more characters, to keep tests quick.
    """
    found = []
    with gzip.open(shared("data/hh_rlhf/harmless-base-test.jsonl.gz"), "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if longest is not None and max(len(row["chosen"]), len(row["rejected"])) > longest:
                continue
            prompt, chosen = row["chosen"].rsplit("\n\nAssistant:", 1)
            other, rejected = row["rejected"].rsplit("\n\nAssistant:", 1)
            if prompt == other and chosen.strip() and rejected.strip():
                found.append((_messages(prompt), chosen.strip(), rejected.strip()))
            if len(found) == count:
                break
    return found


def _messages(prompt: str) -> list[dict[str, str]]:
    messages = []
    for turn in prompt.split("\n\nHuman:")[1:]:
        human, *answers = turn.split("\n\nAssistant:")
        messages.append({"role": "user", "content": human.strip()})
        messages += [{"role": "assistant", "content": answer.strip()} for answer in answers]
    return messages


def export_rows(pairs: list[tuple[list[dict[str, str]], str, str]]) -> list[dict[str, Any]]:
    """Rows of an export without reference log-probs."""
    rows = []
    for messages, chosen, rejected in pairs:
        prompt = canonical_messages(messages)
        pid = prompt_id(prompt)
        rows.append(
            {
                "pair_id": pair_id(response_id(pid, chosen), response_id(pid, rejected), "overall"),
                "prompt_id": pid,
                "prompt_group_id": pid,
                "criterion": "overall",
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "weight": 1.0,
                "soft_label": None,
                "objective": None,
                "source": "hh",
            }
        )
    return rows


def transformers_logps(model: Any, tokenizer: Any, messages: list[dict[str, str]], response: str) -> tuple[float, int]:
    """Summed log-prob of a response and its number of tokens, from the model's full logits."""
    group = encode_group(tokenizer, messages, [response])
    ids = torch.tensor([group.prompt_ids + group.response_ids[0]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1].double()
    start = len(group.prompt_ids) - 1
    token_logps = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[start:, 0]
    return float(token_logps.sum()), len(token_logps)


def add_reference(rows: list[dict[str, Any]], model: Any, tokenizer: Any) -> None:
    """Fill in the reference log-probs of rows."""
    for row in rows:
        for side in ("chosen", "rejected"):
            logps, count = transformers_logps(model, tokenizer, json.loads(row["prompt"]), row[side])
            row[f"reference_{side}_logps"], row[f"{side}_num_tokens"] = logps, count


def write_export(
    folder: Path,
    train: list[dict[str, Any]],
    test: list[dict[str, Any]],
    *,
    model: Path,
    tokenizer: Any,
    objective: str = "dpo",
    beta: float = 0.1,
    max_length: int | None = 1024,
    truncate: str | None = None,
) -> Path:
    """Write the Parquet files and the manifest; ``max_length`` and ``truncate`` are the scorer's."""
    folder.mkdir(parents=True)
    files = []
    for split, rows in (("train", train), ("test", test)):
        name = f"{split}-00000.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / name)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        files.append({"path": name, "sha256": digest, "num_rows": len(rows), "split": split})
    manifest = {
        "format": "winnow-export",
        "version": 1,
        "export_id": hashlib.sha256("".join(f["sha256"] for f in files).encode()).hexdigest()[:16],
        "curation_run_id": "curate-test",
        "rules": {"name": "plain", "sha256": "0" * 64, "objective": objective, "beta": beta},
        "reference": {
            "reference_id": "r",
            "model": str(model),
            "revision": None,
            "weights_hash": weights_hash(model),
            "tokenizer_hash": tokenizer_hash(tokenizer),
            "chat_template_hash": chat_template_hash(tokenizer),
            "template": "auto",
            "max_length": max_length,
            "truncate": truncate,
            "dtype": "float32",
            "engine": "transformers",
            "engine_path": "test",
            "engine_version": "0",
        },
        "counts": {"train": len(train), "test": len(test)},
        "files": files,
        "sources": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return folder
