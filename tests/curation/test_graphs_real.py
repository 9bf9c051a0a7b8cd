"""The preference graphs of UKPConvArg1, whose numbers are known."""

from __future__ import annotations

import gzip

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from curation.graphs import comparisons, preference_graphs
from tests.real_data import shared


@pytest.fixture(scope="module")
def ukpconvarg1() -> pl.DataFrame:
    folder = shared("data/ukpconvarg1")
    pairs, votes = (
        pl.read_ndjson(gzip.decompress((folder / f"{name}.jsonl.gz").read_bytes())) for name in ("pairs", "votes")
    )
    vote = pl.col("vote")
    counts = votes.group_by("pair_id").agg(
        votes_x=(vote == "a").sum(), votes_y=(vote == "b").sum(), ties=(vote == "tie").sum()
    )
    named = pairs.select(
        "pair_id", prompt_id="topic", criterion=pl.lit("overall"), response_x_id="a_id", response_y_id="b_id"
    )
    return named.join(counts, on="pair_id")


def test_strict_majority_edges_and_three_cycles(ukpconvarg1: pl.DataFrame) -> None:
    found = preference_graphs(ukpconvarg1)
    assert found.graphs["num_edges"].sum() == 15_223
    assert found.graphs["num_three_cycles"].sum() == 5_415
    assert found.components["num_three_cycles"].sum() == 5_415
    assert len(found.graphs) == 32
    assert len(found.response_estimates) == 1_052


def test_batches_of_graphs_and_permutations_change_nothing(
    ukpconvarg1: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = ukpconvarg1["prompt_id"].unique().sort()[:6]
    some = ukpconvarg1.filter(pl.col("prompt_id").is_in(topics.implode()))
    whole = preference_graphs(some)
    monkeypatch.setattr(comparisons, "CELLS", 1)
    one_by_one = preference_graphs(some)
    for name in ("pair_graph", "components", "response_estimates", "graphs"):
        left, right = (getattr(each, name).sort(pl.selectors.string()) for each in (whole, one_by_one))
        assert_frame_equal(left, right, abs_tol=1e-9)
