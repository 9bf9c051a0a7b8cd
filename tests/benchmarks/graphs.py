"""Preference graphs at scale, and dense ones.

``python -m tests.benchmarks.graphs [--prompts N]``; the last line is one JSON object. ``sparse``: prompts of which nine
in ten have one pair and the rest three to five responses with all pairs. ``dense``: 32 prompts of 33 responses with 500
pairs, the shape of UKPConvArg1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import time
from typing import Any

import numpy as np
import polars as pl

from curation.graphs import preference_graphs


def generated_votes(sizes: np.ndarray, share_of_pairs: float, *, seed: int = 0) -> pl.DataFrame:
    """Votes of one to five annotators on pairs of each prompt's responses, whose rewards are standard normal.

    Args:
        sizes: responses of each prompt.
        share_of_pairs: of all pairs of a prompt, those that are judged.
        seed: of the world.
    """
    rng = np.random.default_rng(seed)
    prompts, x, y = [], [], []
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        for i, j in itertools.combinations(range(int(size)), 2):
            kept = members[rng.random(len(members)) < share_of_pairs]
            prompts.append(kept)
            x.append(kept * 64 + i)
            y.append(kept * 64 + j)
    prompt, left, right = np.concatenate(prompts), np.concatenate(x), np.concatenate(y)
    reward = rng.normal(size=len(sizes) * 64)
    total = rng.integers(1, 6, len(prompt))
    won = rng.binomial(total, 1 / (1 + np.exp(reward[right] - reward[left])))
    return pl.DataFrame(
        {
            "pair_id": _ids(np.arange(len(prompt)), "pair"),
            "prompt_id": _ids(prompt, "prompt"),
            "criterion": pl.repeat("overall", len(prompt), eager=True),
            "response_x_id": _ids(left, "response"),
            "response_y_id": _ids(right, "response"),
            "votes_x": won,
            "votes_y": total - won,
            "ties": np.zeros(len(prompt), np.int64),
        }
    )


def _ids(numbers: np.ndarray, kind: str) -> pl.Series:
    """Names as long as a content hash."""
    text = pl.Series(numbers).cast(pl.String)
    return text.hash(seed=len(kind)).cast(pl.String).str.zfill(20) + text.str.zfill(12)


def _timed(votes: pl.DataFrame) -> dict[str, Any]:
    start = time.perf_counter()
    found = preference_graphs(votes)
    seconds = time.perf_counter() - start
    return {
        "num_pairs": len(votes),
        "seconds": round(seconds, 2),
        "pairs_per_second": round(len(votes) / seconds),
        "num_components": len(found.components),
        "num_pairs_on_cycles": len(found.pair_graph),
    }


def measure(num_prompts: int) -> dict[str, Any]:
    """All figures of the benchmark."""
    rng = np.random.default_rng(1)
    few = np.where(rng.random(num_prompts) < 0.9, 2, rng.integers(3, 6, num_prompts))
    sparse = generated_votes(few, 1.0)
    dense = generated_votes(np.full(32, 33), 500 / (33 * 16))
    result: dict[str, Any] = {"num_cores": os.cpu_count(), "num_prompts": num_prompts}
    result["sparse"] = _timed(sparse)
    result["dense"] = _timed(dense)
    result["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return result


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1_700_000)
    print(json.dumps(measure(parser.parse_args().prompts)))


if __name__ == "__main__":
    main()
