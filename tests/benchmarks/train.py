"""Ours against TRL's DPOTrainer: same model, pairs, order, optimizer and dtype, in one process.

    python -m tests.benchmarks.train --json
    python -m tests.benchmarks.train --json --shape 8b --device cuda --dtype bfloat16

Every system trains the same few steps in each of several rounds, one system after the other; a step's time is its best
over the rounds, so that a busy machine disturbs the ratios little. Before them comes one step that is not counted, in
which kernels are compiled and memory is taken. The limit is the body's plain forward and backward
pass over as many tokens as our rows have, as a rectangle of 256 columns. ``flops_use`` is the rate of our products, as
a share of what one large product reaches in the same run. With ``--optimizer-in-backward`` no system clips, and ours
is measured a second time with that setting. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.benchmarks.shapes import SHAPES, matmul_rate, random_model, step_flops
from tests.benchmarks.train_systems import StepTimes, ours, synchronize, trl, with_adapter
from tests.real_data import shared
from tests.training.export_fixture import SCHEMA, export_rows, hh_pairs
from training.batches import PairBatches
from training.data import EncodedPairs, encode_pairs
from training.packing import pack_pairs
from training.policy import ATTENTION, set_attention
from training.quiet import quiet_libraries

SYSTEMS = ("ours_shared", "ours_packed", "ours_padded", "trl_precomputed", "trl_in_loop")
IN_BACKWARD = "ours_in_backward"


@dataclass
class Measured:
    """Seconds and losses of each step, best of the rounds, and the most memory above the start."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, seconds: list[float], losses: list[float], peak_bytes: int) -> None:
        """Take in a round."""
        self.seconds = [min(pair) for pair in zip(self.seconds or seconds, seconds, strict=True)]
        self.losses = losses
        self.peak_bytes = max(self.peak_bytes, peak_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--model", default=None, help="model folder; tiny-en when not given")
    parser.add_argument("--shape", choices=list(SHAPES), help="random weights of this shape instead of a model folder")
    parser.add_argument("--layers", type=int, default=None, help="fewer layers than the shape has, for a trial")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--lora", action="store_true", help="train an adapter of rank 16 and not the model, in all")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="recompute every layer, in all systems")
    parser.add_argument("--compile", action="store_true", help="compile the decoder layers, in ours")
    parser.add_argument(
        "--optimizer-in-backward", action="store_true", help=f"measure {IN_BACKWARD} too, and clip in no system"
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="measure only these")
    options = parser.parse_args()
    options.max_grad_norm = 0.0 if options.optimizer_in_backward else 1.0
    if options.optimizer_in_backward:
        options.systems = [*options.systems, IN_BACKWARD]
    if (options.device == "cuda") != torch.cuda.is_available():
        parser.error(f"--device {options.device}: this machine's is another one (hide GPUs: CUDA_VISIBLE_DEVICES=)")
    with quiet_libraries():
        result = run(options)
    if not options.json:
        for name, row in result["systems"].items():
            print(f"{name:24} {row['pairs_per_s']:8.2f} pairs/s {row['peak_mb']:8.0f} MB  loss {row['loss']:.6f}")
    print(json.dumps(result))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every system."""
    folder = Path(options.model) if options.model else shared("models/tiny-en")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    count = (1 + options.steps) * options.batch_size
    raw, pairs = hh_data(tokenizer, count)
    order = [i for batch in PairBatches(count, options.batch_size, seed=0) for i in batch]
    dtype = getattr(torch, options.dtype)

    def load() -> Any:
        if options.shape is None:
            return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        return random_model(options.shape, dtype=dtype, device=options.device, layers=options.layers)

    _fill_reference(load(), pairs)

    def make(name: str, times: StepTimes) -> Any:
        whose, how = name.split("_", 1)
        if whose == "ours":
            batching = "shared" if name == IN_BACKWARD else how
            return ours(load(), pairs, options, times, batching, in_backward=name == IN_BACKWARD)  # type: ignore[arg-type]
        reference = load() if how == "in_loop" and options.shape is not None and not options.lora else None
        return trl(load(), reference, tokenizer, raw, order, options, times, precompute=how == "precomputed")

    measured = {name: Measured() for name in options.systems}
    limit: list[float] = []
    rate, flops = 0.0, _flops(with_adapter(load(), options), pairs, order[options.batch_size :], options.batch_size)
    for _ in range(options.rounds):
        for name in options.systems:
            measured[name].add(*_train(partial(make, name)))
            print(f"{name}: {[round(value, 2) for value in measured[name].seconds]} s a step", file=sys.stderr)
        rate = max(rate, matmul_rate(dtype=dtype, device=options.device))
        once = _limit(with_adapter(load(), options), pairs, order, options.batch_size)
        limit = [min(pair) for pair in zip(limit or once, once, strict=True)]
    result = _report(measured, limit, count - options.batch_size)
    achieved = flops / sum(measured["ours_shared"].seconds)
    result |= {"model": options.shape or folder.name, "dtype": options.dtype, "matmul_tflops": rate / 1e12}
    result |= {name: getattr(options, name) for name in ("max_grad_norm", "gradient_checkpointing", "compile")}
    return result | {"flops_use": achieved / rate}


def _flops(model: Any, pairs: EncodedPairs, order: list[int], batch_size: int) -> float:
    """Operations of our products over all steps."""
    begins = range(0, len(order), batch_size)
    packs = [pack_pairs(pairs, order[i : i + batch_size], token_budget=1 << 30) for i in begins]
    return sum(step_flops(model, of_step) for of_step in packs)


def _report(measured: dict[str, Measured], limit: list[float], count: int) -> dict[str, Any]:
    rate = {name: count / sum(m.seconds) for name, m in measured.items()}
    ours = rate["ours_shared"]
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "num_pairs": count,
        "systems": {
            name: {"pairs_per_s": rate[name], "peak_mb": m.peak_bytes / 2**20, "loss": m.losses[-1]}
            for name, m in measured.items()
        },
        "limit_ratio": sum(measured["ours_shared"].seconds) / sum(limit),
    }
    for name in ("trl_in_loop", "trl_precomputed"):
        if name in rate:
            result[f"ratio_{name}"] = ours / rate[name]
    if "trl_in_loop" in rate:
        peak = measured["trl_in_loop"].peak_bytes
        result["peak_memory_ratio"] = measured["ours_shared"].peak_bytes / peak
        if IN_BACKWARD in rate:
            result["peak_memory_ratio_in_backward"] = measured[IN_BACKWARD].peak_bytes / peak
        losses = [measured[name].losses for name in ("ours_shared", "trl_in_loop")]
        result["max_loss_difference"] = float(np.abs(np.subtract(*losses)).max())
    if IN_BACKWARD in rate:
        result["in_backward_memory_ratio"] = measured[IN_BACKWARD].peak_bytes / measured["ours_shared"].peak_bytes
    return result


def hh_data(tokenizer: Any, count: int) -> tuple[list[Any], EncodedPairs]:
    """The first published pairs that fit 1,024 tokens, as messages and as tokens."""
    raw = hh_pairs(count + 40)
    table = pa.Table.from_pylist(export_rows(raw), schema=SCHEMA)
    pairs = encode_pairs(table, tokenizer)
    fits = np.flatnonzero(
        pairs.lengths(pairs.prompt) + np.maximum(pairs.lengths(pairs.chosen), pairs.lengths(pairs.rejected)) <= 1024
    )[:count]
    return [raw[i] for i in fits], pairs.take(fits)


def _fill_reference(model: Any, pairs: EncodedPairs) -> None:
    from training.policy import pair_logps

    set_attention(model, ATTENTION["shared"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    with torch.no_grad():
        for pack in pack_pairs(pairs, range(len(pairs)), token_budget=8192):
            found = pair_logps(model, pack.to(torch.device(device)))
            pairs.reference_chosen_logps[pack.pairs] = found.chosen_logps.cpu().numpy()
            pairs.reference_rejected_logps[pack.pairs] = found.rejected_logps.cpu().numpy()


def _train(make: Callable[[StepTimes], Any]) -> tuple[list[float], list[float], int]:
    from transformers import PrinterCallback

    times = StepTimes()
    trainer = make(times)
    trainer.remove_callback(PrinterCallback)
    _settle()
    start = _reset_peak()
    trainer.train()
    peak = _peak() - start
    del trainer
    _settle()
    return times.seconds[1:], times.losses, peak


def _limit(model: Any, pairs: EncodedPairs, order: list[int], batch_size: int) -> list[float]:
    """Seconds of the body's plain forward and backward pass over as many tokens as each of our batches has.

    Those of the first batch are left out.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    set_attention(model, "sdpa")
    seconds = []
    for begin in range(0, len(order), batch_size):
        packs = pack_pairs(pairs, order[begin : begin + batch_size], token_budget=1 << 30)
        ids = torch.randint(0, 1000, (max(packs[0].input_ids.numel() // 256, 1), 256), device=device)
        scale = packs[0].input_ids.numel() / ids.numel()
        synchronize()
        start = time.perf_counter()
        model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state.sum().backward()
        synchronize()
        seconds.append((time.perf_counter() - start) * scale)
    return seconds[1:]


def _settle() -> None:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _reset_peak() -> int:
    """Start a new peak; returns the bytes in use that are not counted: on a GPU none, so that weights count."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return 0
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main()
