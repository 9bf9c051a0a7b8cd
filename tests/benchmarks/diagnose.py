"""How long a diagnosis of many generated votes takes, and how the annotator model's speed compares with crowd-kit's.

    python -m tests.benchmarks.diagnose [--judgments N] [--peer-judgments M] [--texts T]

Last line: one JSON object. ``seconds``, ``cpu_seconds`` and ``peak_gib`` are of everything that ``winnow diagnose``
makes of votes, from Parquet files to the tables' frames: reading them through DuckDB with the memory limit of a lake,
the annotator model, the test for taste, agreement of every two annotators and by slice (nominal and ordinal; source,
batch, week, groups of near-duplicate prompts), length bias, all kinds of contradictions, and the graphs. The lengths of
the responses and the groups of near-duplicates are given, so *finding* near-duplicates is out, and so are the flags of
texts (identical, empty, truncated, refusal, language, tokens) and writing to the lake.

Of the generated votes one in ten was given in an unknown order, a third has a strength, all have a time in half a year;
one prompt in fifty has a near-duplicate, with matched responses.

``ratio_crowdkit`` is the time of 20 rounds of crowd-kit's Dawid-Skene (pandas) over the time of a *whole* fit of the
annotator model until it has converged, on the same votes as integer codes in the same run; 0 peer judgments leave it
out. ``ratio_crowdkit_kernel`` is the same crowd-kit run over ours with priors off, same rounds and same result
(``difference`` is the largest one of their posteriors). ``texts_per_second`` and ``ratio_datasketch`` are of
near-duplicates; 0 texts leave them out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
from crowdkit.aggregation import DawidSkene

from curation.annotators.coded import CodedJudgments
from curation.annotators.dawid_skene import dawid_skene
from curation.annotators.model import fit
from curation.annotators.votes import Votes
from curation.diagnosis import Diagnosis, diagnose_votes
from curation.settings import DiagnoseSettings
from flows.stages.diagnose import judgments_on
from schemas.identity import ID_LENGTH
from tests.benchmarks import near_duplicates
from warehouse.settings import LakeSettings

VOTES_A_PROMPT = 6
PAIRS_A_PROMPT = 3
NUM_ANNOTATORS = 2000
_ROUNDS = 20
_MINUTES = 60 * 24 * 7 * 26
"""Votes are given over half a year."""
_NEAR_EVERY = 100
"""Of so many prompts two are near-duplicates of each other, and so are their responses."""
_CHUNK = 1_000_000


def generate(folder: str, num_judgments: int, *, seed: int = 0) -> None:
    """Write judgments on three pairs of three responses a prompt, and the responses' lengths, as Parquet files.

    Of the annotators one in twenty is adversarial, one in twenty votes for what is shown first, one in ten by chance.
    The votes of a prompt are spread over all files; display orders are random.
    """
    rng = np.random.default_rng(seed)
    num_prompts = max(1, round(num_judgments / VOTES_A_PROMPT))
    quality = rng.normal(size=(num_prompts, 3))
    kind = rng.random(NUM_ANNOTATORS)
    theta = np.where(kind < 0.05, -1.0, np.where(kind < 0.15, 0.0, rng.lognormal(0.0, 0.3, NUM_ANNOTATORS)))
    beta = np.where((kind > 0.15) & (kind < 0.2), 3.0, rng.normal(0.0, 0.1, NUM_ANNOTATORS))
    for start in range(0, num_judgments, _CHUNK):
        num = min(_CHUNK, num_judgments - start)
        prompt, edge = rng.integers(num_prompts, size=num), rng.integers(PAIRS_A_PROMPT, size=num)
        first, second = np.array([0, 0, 1])[edge], np.array([1, 2, 2])[edge]
        is_swapped = rng.random(num) < 0.5
        first, second = np.where(is_swapped, second, first), np.where(is_swapped, first, second)
        annotator = rng.integers(NUM_ANNOTATORS, size=num)
        x = 1.5 * theta[annotator] * (quality[prompt, first] - quality[prompt, second]) + beta[annotator]
        weights = np.stack((np.exp(x / 2), np.exp(-x / 2), np.full(num, 0.3)))
        uniform = rng.random(num) * weights.sum(axis=0)
        vote = np.where(uniform < weights[0], 0, np.where(uniform < weights[0] + weights[1], 1, 2))
        _frame(start, prompt, first, second, vote, annotator).write_parquet(f"{folder}/judgments-{start:012}.parquet")
    for start in range(0, num_prompts * 3, _CHUNK):
        response = np.arange(start, min(start + _CHUNK, num_prompts * 3))
        lengths = pl.DataFrame(
            {"n": response // 3 * 10 + response % 3, "num_chars": rng.integers(20, 900, len(response))}
        )
        lengths.select(
            response_id=_identifier(pl.col("n")), num_chars=pl.col("num_chars").cast(pl.Int32)
        ).write_parquet(f"{folder}/responses-{start:012}.parquet")
    _near_groups(num_prompts).write_parquet(f"{folder}/near.parquet")


def _near_groups(num_prompts: int) -> pl.DataFrame:
    """Groups of two prompts that stand one behind the other, and of their responses in the same place."""
    prompt = np.arange(0, num_prompts - 1, _NEAR_EVERY)
    pairs = [("prompt", prompt, prompt + 1)]
    pairs += [("response", prompt * 10 + place, (prompt + 1) * 10 + place) for place in range(PAIRS_A_PROMPT)]
    items = [
        pl.DataFrame({"item": item, "group": first}).select(
            kind=pl.lit(kind), item_id=_identifier(pl.col("item")), group_id=_identifier(pl.col("group"))
        )
        for kind, first, second in pairs
        for item in (first, second)
    ]
    return pl.concat(items)


def _frame(start: int, prompt: Any, first: Any, second: Any, vote: Any, annotator: Any) -> pl.DataFrame:
    number = np.arange(start, start + len(prompt))
    code = pl.DataFrame({"p": prompt, "f": first, "s": second, "v": vote, "w": annotator, "n": number})
    is_strong = pl.col("n").hash(5) % 3 == 0
    return code.select(
        judgment_id=_identifier(pl.col("n")),
        pair_id=_identifier(pl.col("p") * 10 + pl.col("f") + pl.col("s")),
        prompt_id=_identifier(pl.col("p")),
        response_a_id=_identifier(pl.col("p") * 10 + pl.col("f")),
        response_b_id=_identifier(pl.col("p") * 10 + pl.col("s")),
        vote=pl.lit(pl.Series(["a", "b", "tie"])).gather(pl.col("v")),
        criterion=pl.lit("overall"),
        is_display_order_known=pl.col("n").hash(4) % 10 > 0,
        strength_ordinal=pl.when((pl.col("v") < 2) & (pl.col("w") % 2 == 0)).then(is_strong.cast(pl.Int16) + 1),
        annotator_id=pl.format("annotator-{}", "w"),
        annotated_at=pl.datetime(2026, 1, 5) + pl.duration(minutes=pl.col("n") % _MINUTES),
        batch=pl.format("batch-{}", pl.col("n") // 1_000_000),
        source=pl.lit("generated"),
    )


def _identifier(number: pl.Expr) -> pl.Expr:
    """Digits in random order, as long as the lake's content hashes."""
    return pl.format("{}{}{}", number.hash(1), number.hash(2), number.hash(3)).str.slice(0, ID_LENGTH)


def connection() -> duckdb.DuckDBPyConnection:
    """DuckDB with the memory that a lake gives it where nothing else is said."""
    return duckdb.connect(config={"memory_limit": LakeSettings().memory_limit})


def peak_gib() -> float:
    """Most memory that this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def whole_diagnosis(folder: str) -> Diagnosis:
    """The diagnosis of the generated votes; prints each part's seconds, and the most memory until its end."""
    last = time.perf_counter()

    def advance(steps: int, note: str) -> None:
        nonlocal last
        now = time.perf_counter()
        print(f"{note}: {now - last:.1f} s, peak {peak_gib():.2f} GiB", flush=True)
        last = now

    features = pl.read_parquet(f"{folder}/responses-*.parquet")
    near = pl.read_parquet(f"{folder}/near.parquet")
    advance(1, "read lengths")
    with connection() as con:
        return diagnose_votes(
            ["overall"],
            lambda criterion: judgments_on(con, f"read_parquet('{folder}/judgments-*.parquet')", criterion),
            features=features,
            near=near,
            settings=DiagnoseSettings(),
            advance=advance,
        )


def ratio_crowdkit(votes: Votes) -> dict[str, float]:
    """Seconds of crowd-kit's Dawid-Skene (pandas), of ours with the same result, and of the annotator model."""
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
        "ratio_crowdkit": peer_seconds / model_seconds,
        "ratio_crowdkit_kernel": peer_seconds / our_seconds,
    }


def main() -> None:
    """Print the parts' seconds and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=10_000_000)
    parser.add_argument("--peer-judgments", type=int, help="as many as there are, where not given; 0 for no peer")
    parser.add_argument("--texts", type=int, default=20_000)
    arguments = parser.parse_args()
    num_peer = arguments.judgments if arguments.peer_judgments is None else arguments.peer_judgments
    result: dict[str, Any] = {"judgments": arguments.judgments}
    with tempfile.TemporaryDirectory() as folder:
        _generate_apart(folder, arguments.judgments)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        found = whole_diagnosis(folder)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
        print(", ".join(f"{name} {len(table):,}" for name, table in found.tables.items()), found.facts, flush=True)
        assert found.facts["overall"]["num_judgments"] == arguments.judgments
        result |= {"seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}
        result |= {"peak_gib": round(peak_gib(), 2)}
        del found
    if num_peer > 0:
        peer = _peer(num_peer)
        result |= {name: round(value, 9 if name == "difference" else 2) for name, value in peer.items()}
    if arguments.texts > 0:
        near = near_duplicates.measure(arguments.texts, 300, min(arguments.texts, 2_000))
        result |= {name: near[name] for name in ("texts_per_second", "ratio_datasketch")}
    print(json.dumps(result))


def _generate_apart(folder: str, num_judgments: int) -> None:
    """Generate in another process, so that its memory is not counted here."""
    process = multiprocessing.get_context("spawn").Process(target=generate, args=(folder, num_judgments))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"no votes were generated: exit code {process.exitcode}")


def _peer(num_judgments: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        _generate_apart(folder, num_judgments)
        with connection() as con:
            judgments = judgments_on(con, f"read_parquet('{folder}/judgments-*.parquet')", "overall")
            votes = Votes.of_coded(CodedJudgments.of(judgments))
    return ratio_crowdkit(votes)


if __name__ == "__main__":
    main()
