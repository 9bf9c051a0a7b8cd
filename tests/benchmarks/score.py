"""Scoring against what people do now, and against the engine's own limit; the last line is one JSON object.

    python -m tests.benchmarks.score --model ../shared/models/tiny-en \\
        --data ../shared/data/hh_rlhf/harmless-base-test.jsonl.gz --pairs 1000

All of it runs in one process on the same machine, with the same batch, cache block and dtype. Every time is the best of
``--repeats``; ``--growth`` also scores more pairs, shard by shard as a run does. *Baseline*: vLLM with
``prompt_logprobs=1``, chosen and rejected as separate requests. *Limit*: the same engine's plain prefill of the same
requests without cache or log-probs, divided by all tokens over unique tokens.
On a GPU, ``--shape 1b`` or ``--shape 8b`` makes a Llama of that shape with random weights on the spot.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from curation.scoring import vllm_process
from curation.scoring.engine import Engine
from curation.scoring.engines import open_engine
from curation.scoring.policy import ReferencePolicy, open_policy
from curation.scoring.settings import ScoringSettings
from curation.scoring.shards import SHARD_TOKENS
from schemas.tokens import EncodedGroup, encode_groups
from tests.benchmarks.shapes import SHAPES, random_model
from tests.curation.scoring.real_groups import hh_texts


def main() -> None:
    """Measure, tell how on standard error, and print the JSON line."""
    options = _options()
    settings = ScoringSettings(
        dtype=options.dtype,
        vllm_path=options.path,
        batch_tokens=options.batch_tokens,
        max_length=options.max_length,
        compile=options.compile,
        gpu_memory_utilization=0.45,  # room for the engine that is measured next, should this one give back too little
    )
    with tempfile.TemporaryDirectory() as folder:
        model = options.model if options.shape is None else _random_model(options.shape, options.model, Path(folder))
        policy = open_policy(settings, str(model))
        pairs = _pairs(policy, options.data, options.pairs)
        result = _measure(policy, settings, pairs, options)
    print(json.dumps(result))


def _measure(
    policy: ReferencePolicy, settings: ScoringSettings, pairs: list[EncodedGroup], options: argparse.Namespace
) -> dict[str, Any]:
    total = sum(len(g.prompt_ids) * len(g.response_ids) + sum(map(len, g.response_ids)) for g in pairs)
    unique = sum(len(g.prompt_ids) + sum(map(len, g.response_ids)) for g in pairs)
    result: dict[str, Any] = {
        "engine": options.engine,
        "clock": options.clock,
        "threads": torch.get_num_threads(),
        "pairs": len(pairs),
        "tokens": total,
        "unique_tokens": unique,
        "prefix_ceiling": round(total / unique, 4),
    }
    engine = open_engine(options.engine, policy, settings)
    result |= {"path": engine.info.path, "version": engine.info.version, "dtype": engine.info.dtype}
    result["device"] = engine.info.device
    seconds = _best(lambda: engine.score(pairs), options.repeats)
    batch_tokens, realised = engine.batch_tokens, engine.counts.saving_realised
    growth = {count: _growth(engine, _pairs(policy, options.data, count)) for count in options.growth}
    engine.close()
    result |= {
        "seconds": round(seconds, 3),
        "pairs_per_second": round(len(pairs) / seconds, 2),
        "unique_tokens_per_second": round(unique / seconds),
        "prefix_saving_realised": round(realised, 4),
        "peak_gib": _peak_gib(),
    }
    if growth:
        result["growth_seconds"] = {count: round(seconds, 2) for count, seconds in growth.items()}
    if vllm_process.vllm_version() is not None and not options.skip_vllm:
        baseline, prefill, prefill_ours = _vllm_times(policy, settings, pairs, batch_tokens, options)
        limit = prefill * unique / total
        result |= {
            "prompt_logprobs_seconds": round(baseline, 3),
            "prefill_seconds": round(prefill, 3),
            "limit_seconds": round(limit, 3),
            "ratio_prompt_logprobs": round(baseline / seconds, 3),
            "limit_ratio": round(seconds / limit, 3),
            "limit_ratio_our_layers": round(seconds / (prefill_ours * unique / total), 3),
        }
    if options.trl_pairs:
        trl = _trl_seconds_per_token(policy, settings, pairs[: options.trl_pairs]) * total
        result |= {"trl_seconds": round(trl, 3), "ratio_trl": round(trl / seconds, 3)}
    result["flops_use"] = round(_flops(policy, pairs) / seconds / _matmul_rate(engine.info.dtype), 4)
    return result


def _growth(engine: Engine, pairs: list[EncodedGroup]) -> float:
    """Seconds for pairs that are scored shard by shard."""
    shard_tokens = SHARD_TOKENS[engine.info.device]
    started = _clock()
    shard: list[EncodedGroup] = []
    size = 0
    for group in pairs:
        shard.append(group)
        size += len(group.prompt_ids) + sum(map(len, group.response_ids))
        if size > shard_tokens:
            engine.score(shard)
            shard, size = [], 0
    if shard:
        engine.score(shard)
    return _clock() - started


def _vllm_times(
    policy: ReferencePolicy,
    settings: ScoringSettings,
    pairs: list[EncodedGroup],
    batch_tokens: int,
    options: argparse.Namespace,
) -> tuple[float, float, float]:
    """Seconds of the baseline and of the plain prefill in vLLM as it is, and of the plain prefill with our layers.

    All have our batch and block. Our layers (a CPU's norms and activations) are what our model has and vLLM's has not.
    """
    from vllm import SamplingParams

    same = {} if options.engine != "vllm" else {"max_num_batched_tokens": batch_tokens}
    llm = vllm_process.start(policy, settings, skip_tokenizer_init=False, **same)
    prompts: list[Any] = [
        {"prompt_token_ids": [*group.prompt_ids, *ids]} for group in pairs for ids in group.response_ids
    ]
    as_now = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1)
    plain = SamplingParams(max_tokens=1, temperature=0, detokenize=False, skip_reading_prefix_cache=True)
    prefill = _best(lambda: llm.generate(prompts, plain, use_tqdm=False), options.repeats)
    baseline = _best(lambda: llm.generate(prompts, as_now, use_tqdm=False), options.repeats)
    vllm_process.shut_down(llm)
    if torch.cuda.is_available():
        return baseline, prefill, prefill
    overrides = {"architectures": [_register_plain_with_our_layers(policy)]}
    llm = vllm_process.start(policy, settings, skip_tokenizer_init=False, hf_overrides=overrides, **same)
    prefill_ours = _best(lambda: llm.generate(prompts, plain, use_tqdm=False), options.repeats)
    vllm_process.shut_down(llm)
    return baseline, prefill, prefill_ours


def _register_plain_with_our_layers(policy: ReferencePolicy) -> str:
    """Name of a vLLM architecture that generates like the policy's and has our layers."""
    from vllm import ModelRegistry

    from curation.scoring.vllm_cpu_layers import replace_layers

    (architecture,) = json.loads((policy.folder / "config.json").read_text())["architectures"]
    base = ModelRegistry.models[architecture].load_model_cls()

    def __init__(self: Any, *, vllm_config: Any, prefix: str = "") -> None:  # noqa: N807
        base.__init__(self, vllm_config=vllm_config, prefix=prefix)
        replace_layers(self)

    name = f"OurLayers{architecture}"
    ModelRegistry.register_model(name, type(name, (base,), {"__init__": __init__}))
    return name


def _trl_seconds_per_token(policy: ReferencePolicy, settings: ScoringSettings, pairs: list[EncodedGroup]) -> float:
    """Seconds a token of TRL's ``precompute_ref_log_probs``, its forward passes alone."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    seconds: list[float] = []

    class Timed(DPOTrainer):
        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            started = _clock()
            made = super()._precompute_ref_logps(dataset, name, batch_size)
            seconds.append(_clock() - started)
            return made

    texts = [
        {key: policy.tokenizer.decode(ids) for key, ids in zip(("prompt", "chosen", "rejected"),
         (group.prompt_ids, *group.response_ids), strict=True)}
        for group in pairs
    ]  # fmt: skip
    dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    model = AutoModelForCausalLM.from_pretrained(policy.folder, dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            precompute_ref_log_probs=True,
            per_device_train_batch_size=8,
            max_length=policy.max_length,
            report_to=[],
            disable_tqdm=True,
            bf16=False,
        )
        Timed(model, args=arguments, train_dataset=Dataset.from_list(texts), processing_class=policy.tokenizer)
    return seconds[0] / sum(2 * len(g.prompt_ids) + sum(map(len, g.response_ids)) for g in pairs)


def _clock() -> float:
    """Seconds by the wall, or of this process's CPUs with ``--clock cpu``, for a machine that others use too."""
    return time.process_time() if _options().clock == "cpu" else time.perf_counter()


def _best(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = _clock()
        work()
        times.append(_clock() - started)
    print(f"  {' '.join(f'{seconds:.2f}' for seconds in times)} s", file=sys.stderr)
    return min(times)


def _pairs(policy: ReferencePolicy, data: Path, count: int) -> list[EncodedGroup]:
    """The first pairs of HH transcripts that fit, repeated with another first token where the file has too few."""
    groups = [
        group
        for group in encode_groups(policy.tokenizer, list(hh_texts(data)))
        if len(group.prompt_ids) + max(map(len, group.response_ids)) < policy.max_length
    ]
    return [
        EncodedGroup([5 + number // len(groups), *groups[number % len(groups)].prompt_ids[1:]],
                     groups[number % len(groups)].response_ids)
        for number in range(count)
    ]  # fmt: skip


def _random_model(shape: str, tokenizer_from: str, folder: Path) -> Path:
    from transformers import AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    random_model(shape, dtype=torch.bfloat16, device=device).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_from).save_pretrained(folder)
    return folder


def _flops(policy: ReferencePolicy, pairs: list[EncodedGroup]) -> float:
    """Matmul FLOPs that the unique tokens need: 2 a weight, the LM head on response rows, attention left out."""
    config = json.loads((policy.folder / "config.json").read_text())
    size, heads = config["hidden_size"], config["num_attention_heads"]
    keys = 2 * size * config["num_key_value_heads"] // heads
    layer = size * (2 * size + keys) + 3 * size * config["intermediate_size"]
    unique = sum(len(g.prompt_ids) + sum(map(len, g.response_ids)) for g in pairs)
    rows = sum(sum(map(len, g.response_ids)) for g in pairs)
    return 2.0 * (layer * config["num_hidden_layers"] * unique + size * config["vocab_size"] * rows)


def _matmul_rate(dtype: str) -> float:
    """FLOPs a second of a large product in this dtype, now; the best of five."""
    has_gpu = torch.cuda.is_available()
    size, times = (8192, 10) if has_gpu else (2048, 2)
    a, b = (torch.randn(size, size, device="cuda" if has_gpu else "cpu").to(getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        started = _clock()
        for _ in range(times):
            a @ b
        if has_gpu:
            torch.cuda.synchronize()
        best = min(best, _clock() - started)
    return times * 2 * size**3 / best


def _peak_gib() -> float:
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_reserved() / 2**30, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


@cache
def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    parser.add_argument("--path", choices=("auto", "pooling", "token-ids", "flat"), default="auto")
    parser.add_argument("--model", default="../shared/models/tiny-en")
    parser.add_argument("--shape", choices=tuple(SHAPES), help="random Llama of this shape with --model's tokenizer")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh_rlhf/harmless-base-test.jsonl.gz"))
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--growth", type=int, nargs="*", default=(), help="also time these numbers of pairs")
    parser.add_argument(
        "--trl-pairs", type=int, default=48, help="pairs that TRL is timed on, scaled by tokens; 0: not"
    )
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that is shared")
    parser.add_argument("--compile", action="store_true", help="compile the layers (transformers)")
    parser.add_argument("--skip-vllm", action="store_true", help="time only the engine")
    return parser.parse_args()


if __name__ == "__main__":
    vllm_process.prepare_environment()
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.disable(logging.WARNING)
    main()
