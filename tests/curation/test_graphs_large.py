"""Graphs of hundreds of responses, which are treated one at a time, get the same figures as in batches."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from curation.graphs import bradley_terry, hodge_rank, large
from curation.graphs.comparisons import Comparisons

MODULES = ("curation.graphs.bradley_terry.LARGE", "curation.graphs.hodge_rank.LARGE", "curation.graphs.large.LARGE")


def votes(num_responses: int, num_pairs: int, *, prompt: str, seed: int) -> pl.DataFrame:
    """Votes on random pairs within two halves of a prompt's responses, so that its graph has several components."""
    rng = np.random.default_rng(seed)
    half = rng.integers(0, 2, num_pairs) * (num_responses // 2)
    x, y = rng.integers(0, num_responses // 2, (2, num_pairs)) + half
    frame = pl.DataFrame({"x": np.minimum(x, y), "y": np.maximum(x, y)}).filter(pl.col("x") != pl.col("y")).unique()
    frame = frame.sort("x", "y")
    counts = {name: rng.integers(0, 4, len(frame)) for name in ("votes_x", "votes_y")}
    return frame.select(
        pair_id=pl.format("{}/{}-{}", pl.lit(prompt), "x", "y"),
        prompt_id=pl.lit(prompt),
        criterion=pl.lit("overall"),
        response_x_id=pl.format("{}/{}", pl.lit(prompt), pl.col("x").cast(pl.String).str.zfill(4)),
        response_y_id=pl.format("{}/{}", pl.lit(prompt), pl.col("y").cast(pl.String).str.zfill(4)),
    ).with_columns(**{name: pl.Series(value) for name, value in counts.items()}, ties=pl.lit(1))


@pytest.mark.parametrize("num_pairs", [9, 40, 150])
def test_one_at_a_time_gives_the_same_figures(num_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    both = pl.concat([votes(24, num_pairs, prompt=name, seed=seed) for seed, name in enumerate("pqr")])
    comparisons = Comparisons.of(both)
    tested = np.array([True, False, True])
    found = []
    for least in (10_000, 2):
        for name in MODULES:
            monkeypatch.setattr(name, least)
        monkeypatch.setattr("curation.graphs.hodge_rank.CELLS", 5_000)  # so that signs are drawn in blocks
        found.append((bradley_terry.bradley_terry(comparisons), hodge_rank.hodge_rank(comparisons, tested, seed=3)))
    (batched, batched_hodge), (alone, alone_hodge) = found
    for name in ("scores", "low", "high"):
        assert getattr(alone, name) == pytest.approx(getattr(batched, name), abs=1e-8), name
    for name in ("scores", "curl_ratio", "curl_ratio_null", "p_value"):
        assert getattr(alone_hodge, name) == pytest.approx(getattr(batched_hodge, name), abs=1e-8, nan_ok=True), name


def test_a_prompt_with_a_thousand_responses_holds_few_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    inverse = large.inverse_beside_means
    for module in (bradley_terry, hodge_rank):
        monkeypatch.setattr(module, "inverse_beside_means", lambda *given: made.append(1) or inverse(*given))
    comparisons = Comparisons.of(votes(1000, 20_000, prompt="p", seed=0))
    assert np.isfinite(bradley_terry.bradley_terry(comparisons).high).all()
    hodge = hodge_rank.hodge_rank(comparisons, np.array([True]))
    assert 0 < hodge.curl_ratio[0] < 1
    assert len(made) == 2


def test_inverse_beside_means_is_the_pseudo_inverse_of_a_laplacian() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (2, 30)) + np.repeat([0, 5], 15)
    first, second = first[first != second], second[first != second]
    matrix = large.laplacian(first, second, rng.random(len(first)) + 0.1, 10)
    component = large.component_of(first, second, 10)
    found = large.inverse_beside_means(matrix, component, 1.0)
    assert found == pytest.approx(np.linalg.pinv(matrix.toarray()), abs=1e-9)
