"""Near-duplicates against brute force and against datasketch, on generated texts.

``python -m tests.benchmarks.near_duplicates [--texts N] [--tokens N] [--brute-force N]``; the last line is one JSON
object. Precision and recall are of pairs in one group, against the groups that comparing all of the first
``--brute-force`` texts with all gives.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from typing import Any

import numpy as np
import polars as pl
import rustworkx as rx
from datasketch import MinHash, MinHashLSH

from curation.near_duplicates import BANDS, ROWS, THRESHOLD, near_duplicate_groups
from curation.shingles import shingle_sets, word_shingles

_BLOCK_ROWS = 500
_DATASKETCH_TEXTS = 3_000


def generated_texts(num_texts: int, num_tokens: int, *, seed: int = 0) -> pl.DataFrame:
    """Texts of words drawn by Zipf's law; two fifths of them are earlier ones with up to a fifth of the words changed.

    Returns:
        ``item_id`` and ``text``.
    """
    rng = np.random.default_rng(seed)
    syllables = np.array([a + b for a in "bdfgklmnprstvz" for b in "aeiou"])
    vocabulary = np.array(["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(20_000)])
    chance = 1 / np.arange(1, len(vocabulary) + 1)
    cumulative = np.cumsum(chance / chance.sum())
    num_originals = num_texts * 3 // 5
    words = np.searchsorted(cumulative, rng.random((num_originals, num_tokens)))
    copies = words[rng.integers(0, num_originals, num_texts - num_originals)]
    share = rng.random((len(copies), 1)) * 0.2
    is_changed = rng.random(copies.shape) < share
    copies[is_changed] = np.searchsorted(cumulative, rng.random(int(is_changed.sum())))
    texts = [" ".join(row) for row in vocabulary[np.concatenate([words, copies]).clip(max=len(vocabulary) - 1)]]
    order = rng.permutation(num_texts)
    return pl.DataFrame({"item_id": [f"{i:08d}" for i in range(num_texts)], "text": pl.Series(texts).gather(order)})


def brute_force_groups(items: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """``item_id`` and ``group_id`` of what the pairs of that Jaccard similarity connect, all compared with all."""
    sets = shingle_sets(word_shingles(items["text"]))
    _, columns = np.unique(sets.indices, return_inverse=True)
    sets = type(sets)((sets.data.astype(np.float32), columns.astype(np.int32), sets.indptr.astype(np.int32)))
    sizes = np.diff(sets.indptr)
    turned = sets.T.tocsr()
    graph: rx.PyGraph = rx.PyGraph()
    graph.add_nodes_from(items["item_id"].to_list())
    for start in range(0, sets.shape[0], _BLOCK_ROWS):
        both = (sets[start : start + _BLOCK_ROWS] @ turned).tocoo()
        left, right = both.coords[0] + start, both.coords[1]
        is_near = (both.data / (sizes[left] + sizes[right] - both.data) >= threshold - 1e-7) & (left < right)
        graph.add_edges_from_no_data(list(zip(left[is_near].tolist(), right[is_near].tolist(), strict=True)))
    groups = [sorted(graph[node] for node in part) for part in rx.connected_components(graph) if len(part) > 1]
    rows = [(item_id, group[0]) for group in groups for item_id in group]
    return pl.DataFrame(rows, schema={"item_id": pl.String, "group_id": pl.String}, orient="row")


def pairs_together(groups: pl.DataFrame) -> set[tuple[str, str]]:
    """Every two items of one group."""
    together = groups.join(groups, on="group_id").filter(pl.col("item_id") < pl.col("item_id_right"))
    return set(together.select("item_id", "item_id_right").rows())


def datasketch_seconds(items: pl.DataFrame) -> float:
    """Seconds that datasketch takes for the same shingles, signature length and bands, without verifying."""
    start = time.perf_counter()
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for item_id, text in items.iter_rows():
        words = text.lower().split()
        signature = MinHash(num_perm=BANDS * ROWS)
        signature.update_batch({f"{a} {b}".encode() for a, b in itertools.pairwise(words)})
        index.query(signature)
        index.insert(item_id, signature)
    return time.perf_counter() - start


def measure(num_texts: int, num_tokens: int, num_brute_force: int) -> dict[str, Any]:
    """All figures of the benchmark."""
    items = generated_texts(num_texts, num_tokens)
    start, start_cpu = time.perf_counter(), time.process_time()
    groups = near_duplicate_groups(items)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    sample = items.head(_DATASKETCH_TEXTS)
    peer_seconds = datasketch_seconds(sample)
    checked = items.head(num_brute_force)
    true = pairs_together(brute_force_groups(checked, THRESHOLD))
    found = pairs_together(near_duplicate_groups(checked))
    return {
        "num_texts": num_texts,
        "num_tokens": num_tokens,
        "num_cores": os.cpu_count(),
        "num_groups": groups["group_id"].n_unique(),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "texts_per_second": round(num_texts / seconds),
        "datasketch_texts_per_second": round(len(sample) / peer_seconds),
        "ratio_datasketch": round(num_texts / seconds / (len(sample) / peer_seconds), 1),
        "num_true_pairs": len(true),
        "precision": round(len(true & found) / max(len(found), 1), 4),
        "recall": round(len(true & found) / max(len(true), 1), 4),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--brute-force", type=int, default=20_000)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.texts, arguments.tokens, arguments.brute_force)))


if __name__ == "__main__":
    main()
