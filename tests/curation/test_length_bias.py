"""Length slopes equal a logistic regression by hand and by scipy, and a missing length costs its own votes only."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar

from curation.annotators.votes import Votes
from curation.length_bias import length_bias
from tests.curation.planted_votes import planted_votes

CHARS = {"p": (31, 15), "q": (63, 15), "r": (15, 15)}
"""Characters of x and y: 32 to 16 is one doubling once one is added, 64 to 16 two, 16 to 16 none."""


def votes_of(rows: list[tuple[str, str, str]]) -> Votes:
    """Votes of (pair, annotator, vote) on responses x and y."""
    frame = pl.DataFrame(rows, schema=["pair_id", "annotator_id", "vote"], orient="row")
    return Votes.of(
        frame.with_columns(
            response_a_id=pl.col("pair_id") + "x",
            response_b_id=pl.col("pair_id") + "y",
            is_display_order_known=pl.lit(False),
            source=pl.lit("s"),
        )
    )


def lengths(**changed: int | None) -> pl.DataFrame:
    known = {pair + side: n for pair, ends in CHARS.items() for side, n in zip("xy", ends, strict=True)}
    rows = list((known | changed).items())
    return pl.DataFrame(rows, schema={"response_id": pl.String, "num_chars": pl.Int32}, orient="row")


def test_the_slope_of_one_ratio_by_hand() -> None:
    """Three of four votes for the response twice as long: log-odds ln 3, but for the prior of variance 100."""
    found = length_bias(votes_of([("p", "u", vote) for vote in ("a", "a", "a", "b", "tie")]), lengths())
    assert found.set_slope == pytest.approx(np.log(3), abs=0.02)
    # information 4 x 3/4 x 1/4
    assert found.set_high - found.set_low == pytest.approx(2 * 1.96 / np.sqrt(0.75), rel=0.02)
    # the annotator is all there is, so they have the set's slope, held tighter by the prior around it
    assert found.slope[0] == pytest.approx(found.set_slope, abs=0.01)
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.96 / np.sqrt(1.75), rel=0.02)


def test_slopes_are_those_of_a_penalised_logistic_regression() -> None:
    votes = Votes.of(planted_votes(300, 5, 20).judgments)
    rng = np.random.default_rng(0)
    chars = pl.DataFrame(
        {"response_id": votes.response_ids, "num_chars": rng.integers(1, 500, len(votes.response_ids))}
    )
    found = length_bias(votes, chars)
    log = np.log2(chars["num_chars"].to_numpy() + 1.0)
    x = (log[votes.low] - log[votes.high])[votes.pair]
    sign = np.array([1.0, -1.0, 0.0])[votes.vote]

    def best(of: np.ndarray, mean: float, variance: float) -> float:
        def loss(slope: float) -> float:
            return np.logaddexp(0, -sign[of] * x[of] * slope).sum() + (slope - mean) ** 2 / (2 * variance)

        return float(minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10}).x)

    whole = best(sign != 0, 0.0, 100.0)
    assert found.set_slope == pytest.approx(whole, abs=1e-6)
    for annotator in range(votes.num_annotators):
        of = (sign != 0) & (votes.annotator == annotator)
        assert found.slope[annotator] == pytest.approx(best(of, whole, 1.0), abs=1e-6)
    assert (found.low < found.slope).all()
    assert (found.slope < found.high).all()


def test_a_planted_length_bias_is_found() -> None:
    rng = np.random.default_rng(1)
    rows = [(pair, "u", "ab"[int(rng.random() > 1 / (1 + np.exp(-0.8 * d)))]) for pair, d in (("p", 1), ("q", 2)) * 300]
    found = length_bias(votes_of(rows), lengths())
    assert found.set_low < 0.8 < found.set_high
    assert found.set_low > 0


@pytest.mark.parametrize("missing", [{"qx": None}, {}])
def test_a_missing_length_leaves_out_its_votes_and_nothing_else(missing: dict[str, None]) -> None:
    rows = [("p", "u", vote) for vote in ("a", "a", "a", "b")]
    known = lengths(**missing) if missing else lengths().filter(pl.col("response_id") != "qx")
    found = length_bias(votes_of([*rows, ("q", "u", "b"), ("q", "v", "b")]), known)
    assert found.set_slope == length_bias(votes_of(rows), lengths()).set_slope
    assert np.isnan(found.slope).tolist() == [False, True]
    assert json.dumps([found.set_slope, found.set_low, found.set_high], allow_nan=False)


def test_who_only_ties_has_no_slope() -> None:
    found = length_bias(votes_of([("p", "u", "a"), ("p", "v", "tie")]), lengths())
    assert np.isnan(found.slope).tolist() == [False, True]
