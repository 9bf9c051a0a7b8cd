"""How long a diagnosis of many generated votes takes, and how the annotator model's speed compares with crowd-kit's.

    python -m tests.benchmarks.diagnose [--judgments N] [--peer-judgments M] [--texts T]

Last line: one JSON object. ``seconds`` and ``peak_gib`` are of everything but near-duplicates, from frames to frames;
``ratio_crowdkit`` is crowd-kit's Dawid-Skene (pandas) over ours with priors off, the same rounds on the same votes in
the same run (``difference`` is the largest one of their posteriors); ``ratio_crowdkit_model`` is the same crowd-kit run
over a whole fit of the annotator model; ``texts_per_second`` and ``ratio_datasketch`` are of near-duplicates.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from crowdkit.aggregation import DawidSkene

from curation.agreement import annotator_pairs
from curation.annotators.dawid_skene import dawid_skene
from curation.annotators.model import fit
from curation.annotators.votes import Votes
from curation.contradictions import between_pairs
from curation.diagnosis import agreement, diagnose_criterion, graphs_of
from curation.settings import DiagnoseSettings
from tests.benchmarks import near_duplicates

VOTES_A_PROMPT = 6
PAIRS_A_PROMPT = 3
_ROUNDS = 20


def generated_votes(num_judgments: int, *, num_annotators: int = 2000, seed: int = 0) -> pl.DataFrame:
    """Judgments on three pairs of three responses a prompt, by annotators of all kinds, in random display order.

    One annotator in twenty is adversarial, one in twenty votes for what is shown first, one in ten by chance.
    """
    rng = np.random.default_rng(seed)
    num_prompts = max(1, round(num_judgments / VOTES_A_PROMPT))
    quality = rng.normal(size=(num_prompts, 3))
    kind = rng.random(num_annotators)
    theta = np.where(kind < 0.05, -1.0, np.where(kind < 0.15, 0.0, rng.lognormal(0.0, 0.3, num_annotators)))
    beta = np.where((kind > 0.15) & (kind < 0.2), 3.0, rng.normal(0.0, 0.1, num_annotators))
    prompt = rng.integers(num_prompts, size=num_judgments)
    edge = rng.integers(PAIRS_A_PROMPT, size=num_judgments)
    first, second = np.array([0, 0, 1])[edge], np.array([1, 2, 2])[edge]
    is_swapped = rng.random(num_judgments) < 0.5
    first, second = np.where(is_swapped, second, first), np.where(is_swapped, first, second)
    annotator = rng.integers(num_annotators, size=num_judgments)
    x = 1.5 * theta[annotator] * (quality[prompt, first] - quality[prompt, second]) + beta[annotator]
    weights = np.stack((np.exp(x / 2), np.exp(-x / 2), np.full(num_judgments, 0.3)))
    uniform = rng.random(num_judgments) * weights.sum(axis=0)
    vote = np.where(uniform < weights[0], 0, np.where(uniform < weights[0] + weights[1], 1, 2))
    return _frame(prompt, first, second, vote, annotator)


def _frame(prompt: Any, first: Any, second: Any, vote: Any, annotator: Any) -> pl.DataFrame:
    number = pl.int_range(len(prompt), eager=True)
    code = pl.DataFrame({"p": prompt, "f": first, "s": second, "v": vote, "w": annotator, "n": number})
    return code.select(
        judgment_id=_identifier(pl.col("n")),
        pair_id=_identifier(pl.col("p") * 10 + pl.col("f") + pl.col("s")),
        prompt_id=_identifier(pl.col("p")),
        response_a_id=_identifier(pl.col("p") * 10 + pl.col("f")),
        response_b_id=_identifier(pl.col("p") * 10 + pl.col("s")),
        vote=pl.lit(pl.Series(["a", "b", "tie"])).gather(pl.col("v")),
        is_display_order_known=pl.lit(True),
        strength_ordinal=pl.lit(None, dtype=pl.Int16),
        annotator_id=pl.format("annotator-{}", "w"),
        annotated_at=pl.lit(None, dtype=pl.Datetime),
        batch=pl.format("batch-{}", pl.col("n") // 1_000_000),
        source=pl.lit("generated"),
        prompt_group_id=pl.lit(None, dtype=pl.String),
    )


def _identifier(number: pl.Expr) -> pl.Expr:
    """Up to 40 digits in random order, as long as the lake's content hashes."""
    return pl.format("{}{}", number.hash(1), number.hash(2))


def peak_gib() -> float:
    """Most memory that this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def whole_diagnosis(judgments: pl.DataFrame) -> dict[str, float]:
    """Seconds of each part of everything but near-duplicates."""
    settings = DiagnoseSettings()
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - begin
        return result

    features = timed("lengths", lambda: _lengths(judgments))
    part = timed("annotators", lambda: diagnose_criterion("overall", judgments, features, settings))
    timed("agreement", lambda: (agreement([part], settings), annotator_pairs(part.shared)))
    graphs = timed("graphs", lambda: graphs_of(part.pairs, seed=0))
    none = pl.DataFrame(schema={"kind": pl.String, "item_id": pl.String, "group_id": pl.String})
    found = timed(
        "contradictions",
        lambda: between_pairs(part.pairs, none, graphs.pair_graph, graphs.components),
    )
    assert len(found) > 0
    assert len(part.contradictions) > 0
    return seconds


def _lengths(judgments: pl.DataFrame) -> pl.DataFrame:
    ids = pl.concat([judgments["response_a_id"], judgments["response_b_id"]]).unique().alias("response_id")
    return pl.DataFrame({"response_id": ids, "num_chars": ids.str.len_chars().cast(pl.Int32)})


def ratio_crowdkit(judgments: pl.DataFrame) -> dict[str, float]:
    """Seconds of crowd-kit's Dawid-Skene (pandas), of ours with the same result, and of the annotator model."""
    votes = Votes.of(judgments)
    frame = pd.DataFrame({"task": votes.pair, "worker": votes.annotator, "label": votes.vote.astype(np.int64)})
    begin = time.perf_counter()
    peer = DawidSkene(n_iter=_ROUNDS, tol=-np.inf).fit(frame)
    peer_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    ours = dawid_skene(
        votes.pair, votes.annotator, votes.vote, num_classes=3, max_iterations=_ROUNDS, tolerance=-np.inf
    )
    our_seconds = time.perf_counter() - begin
    difference = float(np.abs(ours.posterior - peer.probas_.sort_index()[[0, 1, 2]].to_numpy()).max())
    begin = time.perf_counter()
    model = fit(votes)
    model_seconds = time.perf_counter() - begin
    return {
        "crowdkit_seconds": peer_seconds,
        "dawid_skene_seconds": our_seconds,
        "model_seconds": model_seconds,
        "model_rounds": len(model.history),
        "rounds": _ROUNDS,
        "difference": difference,
        "ratio_crowdkit": peer_seconds / our_seconds,
        "ratio_crowdkit_model": peer_seconds / model_seconds,
    }


def main() -> None:
    """Print the parts' seconds and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=10_000_000)
    parser.add_argument("--peer-judgments", type=int, default=1_000_000)
    parser.add_argument("--texts", type=int, default=20_000)
    arguments = parser.parse_args()
    judgments = generated_votes(arguments.judgments)
    print(f"{len(judgments):,} judgments generated, {peak_gib():.1f} GiB so far", flush=True)
    begin = time.perf_counter()
    parts = whole_diagnosis(judgments)
    seconds, peak = time.perf_counter() - begin, peak_gib()
    print(", ".join(f"{name} {value:.1f} s" for name, value in parts.items()), f"peak {peak:.1f} GiB", flush=True)
    del judgments
    result: dict[str, Any] = {
        "judgments": arguments.judgments,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak, 2),
    }
    if arguments.peer_judgments > 0:
        peer = ratio_crowdkit(generated_votes(arguments.peer_judgments))
        result |= {name: round(value, 9 if name == "difference" else 2) for name, value in peer.items()}
    if arguments.texts > 0:
        near = near_duplicates.measure(arguments.texts, 300, min(arguments.texts, 2_000))
        result |= {name: near[name] for name in ("texts_per_second", "ratio_datasketch")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
