"""A tiny reference policy, trained from scratch on a folder's conversations in well under a minute on two CPU cores.

It is an ordinary model folder: byte-level BPE tokenizer with chat template, Llama shape, safetensors weights. The demo
uses it where no real policy is at hand; what it favors is what its corpus says.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from schemas.errors import SourceError, TrainingError
from schemas.tokens import encode_group

PAD, BOS, END, USER, ASSISTANT = SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class TinyPolicySettings(BaseModel):
    """Shape and training of the tiny policy; the defaults make 1.05M parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(default=2048, ge=300, description="Tokens, the 256 bytes and special tokens included")
    hidden_size: int = Field(default=128, ge=64, multiple_of=64, description="Width of the model")
    num_layers: int = Field(default=4, ge=1, description="Layers")
    max_length: int = Field(default=512, ge=64, description="Longest conversation in tokens")
    num_steps: int = Field(default=320, ge=1, description="Optimizer steps")
    tokens_per_batch: int = Field(default=768, ge=64, description="Tokens of a batch, about")
    learning_rate: float = Field(default=5e-3, gt=0, description="Highest learning rate")
    warmup_share: float = Field(default=0.1, ge=0, le=1, description="Share of the steps in which it rises")


@dataclass(frozen=True)
class TinyPolicy:
    """What was trained.

    Attributes:
        folder: the model folder.
        num_parameters: of the model.
        num_tokens: that it was trained on, with repetitions.
        final_loss: mean over the last tenth of the steps, nats a response token.
    """

    folder: Path
    num_parameters: int
    num_tokens: int
    final_loss: float


def train_tiny_policy(
    corpus: Path,
    folder: Path,
    *,
    seed: int = 0,
    settings: TinyPolicySettings | None = None,
    advance: Callable[[int, str], None] | None = None,
) -> TinyPolicy:
    """Train tokenizer and model on conversations and save both.

    Args:
        corpus: JSON lines with ``prompt`` and ``response``.
        folder: where the model goes; it appears when it is complete.
        seed: of the weights and the order; the same seed gives the same weights, however many cores there are.
        settings: shape and training.
        advance: called after each step with (1, a note with the loss).

    Raises:
        SourceError: the corpus is missing, empty or not of this form.
        TrainingError: the loss is not a number.
    """
    settings = settings or TinyPolicySettings()
    conversations = read_corpus(corpus)
    tokenizer = train_tokenizer(conversations, settings)
    batches = _batches(_encode(tokenizer, conversations, settings.max_length), settings, seed)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(_config(tokenizer, settings))
    with _one_thread():
        losses, num_tokens = _train(model, batches, settings, advance)
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.replace(folder)
    tail = losses[-max(1, len(losses) // 10) :]
    return TinyPolicy(folder, model.num_parameters(), num_tokens, sum(tail) / len(tail))


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: the sums do not depend on the number of cores, and on a shared machine no thread waits for another.

    Matrices this small gain little from a second one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def read_corpus(path: Path) -> list[tuple[str, str]]:
    """Prompts and responses of a corpus.

    Raises:
        SourceError: it is missing or empty, or a line is not an object with ``prompt`` and ``response`` as text.
    """
    mend = "winnow synth makes one: policy_corpus.jsonl"
    if not path.is_file():
        raise SourceError(f"{path} does not exist", mend=mend)
    conversations = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(f"{path}, line {number} is not JSON: {error}", mend=mend) from error
        prompt, response = (row.get("prompt"), row.get("response")) if isinstance(row, dict) else (None, None)
        if not (isinstance(prompt, str) and isinstance(response, str)):
            raise SourceError(f"{path}, line {number} has no prompt and response", mend=mend)
        conversations.append((prompt, response))
    if not conversations:
        raise SourceError(f"{path} is empty", mend=mend)
    return conversations


def train_tokenizer(conversations: list[tuple[str, str]], settings: TinyPolicySettings) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the conversations, with a chat template; it can spell any text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((text for pair in conversations for text in pair), trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=settings.max_length,
        clean_up_tokenization_spaces=False,
    )


def _config(tokenizer: PreTrainedTokenizerFast, settings: TinyPolicySettings) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=3 * settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.hidden_size // 64,
        num_key_value_heads=1,
        head_dim=64,  # the smallest that every vLLM attention backend takes
        max_position_embeddings=settings.max_length,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )


Row = tuple[list[int], int]
"""Token ids of a conversation, and how many of them are its prompt's."""


def _encode(tokenizer: PreTrainedTokenizerFast, conversations: list[tuple[str, str]], max_length: int) -> list[Row]:
    """Token ids of each whole conversation, cut on the right to ``max_length``."""
    encoded = []
    for prompt, response in conversations:
        group = encode_group(tokenizer, [{"role": "user", "content": prompt}], [response])
        encoded.append(((group.prompt_ids + group.response_ids[0])[:max_length], len(group.prompt_ids)))
    return encoded


def _batches(rows: list[Row], settings: TinyPolicySettings, seed: int) -> Iterator[list[Row]]:
    """Endless batches of rows of like length, in an order that depends on the seed alone."""
    by_length = sorted(rows, key=lambda row: len(row[0]))
    mean_length = sum(len(ids) for ids, _ in rows) / len(rows)
    size = max(1, round(settings.tokens_per_batch / mean_length))
    batches = [by_length[start : start + size] for start in range(0, len(by_length), size)]
    generator = torch.Generator().manual_seed(seed)
    while True:
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[index]


def _train(
    model: LlamaForCausalLM,
    batches: Iterator[list[Row]],
    settings: TinyPolicySettings,
    advance: Callable[[int, str], None] | None,
) -> tuple[list[float], int]:
    """Train on the responses' tokens with AdamW and a cosine schedule.

    Returns:
        The loss of each step, nats a response token, and how many tokens went through the model.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    model.train()
    losses: list[float] = []
    num_tokens = 0
    for _ in range(settings.num_steps):
        batch = _pad(next(batches), int(model.config.pad_token_id or 0))
        loss = model(**batch).loss
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the tiny policy's loss is {loss.item()} after {len(losses)} steps", mend="lower its learning_rate"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        num_tokens += int(batch["attention_mask"].sum())
        if advance is not None:
            advance(1, f"loss {losses[-1]:.2f} nats a token")
    model.eval()
    return losses, num_tokens


def _rate(step: int, settings: TinyPolicySettings) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine down to 5 %."""
    warmup = max(1, round(settings.warmup_share * settings.num_steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, settings.num_steps - warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _pad(rows: list[Row], pad_token_id: int) -> dict[str, Any]:
    """Right-padded ids, mask and labels, which are the responses' tokens. Shapes ``(rows, longest row)``."""
    longest = max(len(row) for row, _ in rows)
    ids = torch.full((len(rows), longest), pad_token_id)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, (row, num_prompt_tokens) in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        labels[index, num_prompt_tokens : len(row)] = torch.tensor(row[num_prompt_tokens:])
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
