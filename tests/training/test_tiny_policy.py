"""The demo's tiny policy: an ordinary model folder, the same for the same seed, with the habits of its corpus."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curation.synthetic import World, policy_corpus, world
from schemas.errors import SourceError
from schemas.tokens import encode_group
from training.tiny_policy import TinyPolicySettings, train_tiny_policy

SMALL = TinyPolicySettings(vocab_size=400, hidden_size=64, num_layers=1, num_steps=6, tokens_per_batch=512)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "policy_corpus.jsonl"
    policy_corpus(0, 100).write_ndjson(path)
    return path


def test_it_is_an_ordinary_model_folder(corpus: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    made = train_tiny_policy(corpus, tmp_path / "p", settings=SMALL, advance=lambda n, note: steps.extend([note] * n))
    assert len(steps) == SMALL.num_steps
    assert float(steps[-1].split()[1]) < float(steps[0].split()[1]), "the loss falls"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in made.folder.iterdir()}
    model = AutoModelForCausalLM.from_pretrained(made.folder)
    tokenizer = AutoTokenizer.from_pretrained(made.folder)
    assert model.num_parameters() == made.num_parameters
    assert len(tokenizer) == model.config.vocab_size == 400
    group = encode_group(tokenizer, [{"role": "user", "content": "Über 5 €?"}], ["Yes.", "No."])
    assert tokenizer.decode(group.prompt_ids) == "<|bos|><|user|>Über 5 €?<|end|><|assistant|>"
    assert [ids[-1] for ids in group.response_ids] == [model.config.eos_token_id] * 2
    assert not list(tmp_path.glob(".*partial"))


def test_the_same_seed_gives_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        train_tiny_policy(corpus, tmp_path / name, seed=seed, settings=SMALL)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "other")}
    assert weights["one"] == weights["two"]
    assert weights["one"] != weights["other"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        ("{", "line 1 is not JSON"),
        ('{"prompt": "a", "response": "b"}\n[1]', "line 2 has no prompt"),
        ('{"prompt": 1, "response": "b"}', "line 1 has no prompt"),
    ],
)
def test_a_bad_corpus_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "c.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SourceError, match=said) as caught:
        train_tiny_policy(path, tmp_path / "p", settings=SMALL)
    assert "c.jsonl" in caught.value.message
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_it_favors_many_of_the_worse_responses(tmp_path: Path) -> None:
    """Those of the topics in which its corpus is bad, and few of the others."""
    path = tmp_path / "policy_corpus.jsonl"
    policy_corpus(0, 4000).write_ndjson(path)
    made = world(0, 150, 20)
    folder = train_tiny_policy(path, tmp_path / "p").folder
    logps = score(folder, made)
    pairs = made.pairs.filter(pl.col("better_id").is_not_null()).to_dicts()
    favored = [max((row["response_1_id"], row["response_2_id"]), key=logps.__getitem__) for row in pairs]
    wrong = sum(one != row["better_id"] for one, row in zip(favored, pairs, strict=True)) / len(pairs)
    by_habit = sum(one == row["favored_id"] for one, row in zip(favored, pairs, strict=True)) / len(pairs)
    assert 0.25 <= wrong <= 0.5
    assert by_habit > 0.7
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def score(folder: Path, made: World) -> dict[str, float]:
    """Summed log-probs of every response, one at a time."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    rows = made.responses.join(made.prompts.select("prompt_id", prompt="text"), on="prompt_id")
    logps = {}
    for row in rows.iter_rows(named=True):
        group = encode_group(tokenizer, [{"role": "user", "content": row["prompt"]}], [row["text"]])
        ids = torch.tensor([group.prompt_ids + group.response_ids[0]])
        with torch.no_grad():
            token_logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        logps[row["response_id"]] = float(token_logps[len(group.prompt_ids) - 1 :].sum())
    return logps
