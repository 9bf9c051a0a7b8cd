"""Agreement equals the krippendorff package, and hand-worked kappas."""

from __future__ import annotations

import itertools

import krippendorff
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from curation import agreement
from curation.agreement import alpha_by_slice, annotator_pairs, krippendorff_alpha, shared_votes, unit_patterns
from curation.annotators.judgments import Labels
from curation.annotators.votes import NUM_VOTES, Votes
from curation.significance import benjamini_hochberg, binomial_p_values
from tests.real_votes import SETS, judgments


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_alpha_of_real_votes_equals_the_package(name: str, level: str) -> None:
    counts = Votes.of(judgments(name)).tally[:, [0, 2, 1]]
    expected = krippendorff.alpha(value_counts=counts, level_of_measurement=level)
    assert krippendorff_alpha(counts, level=level)[0] == pytest.approx(expected, abs=1e-9)


def test_alpha_of_ukpconvarg1_is_what_its_readme_says() -> None:
    assert krippendorff_alpha(Votes.of(judgments("ukpconvarg1")).tally, level="nominal")[0] == pytest.approx(
        0.27, abs=0.005
    )


@settings(max_examples=50, deadline=None)
@given(arrays(np.int64, st.tuples(st.integers(2, 12), st.just(4)), elements=st.integers(0, 4)), st.booleans())
def test_alpha_of_any_counts_equals_the_package(counts: np.ndarray, is_ordinal: bool) -> None:
    level = "ordinal" if is_ordinal else "nominal"
    units = counts[counts.sum(axis=1) >= 2]
    if len(units) == 0 or (units.sum(axis=0) > 0).sum() < 2:
        assert np.isnan(krippendorff_alpha(counts, level=level)[0])
        return
    expected = krippendorff.alpha(value_counts=counts, level_of_measurement=level)
    assert krippendorff_alpha(counts, level=level)[0] == pytest.approx(expected, abs=1e-9)


def patterns(counts: list[list[int]]) -> pl.DataFrame:
    rows = [(unit, value) for unit, row in enumerate(counts) for value, n in enumerate(row) for _ in range(n)]
    pair, value = np.array(rows).T
    return unit_patterns(pair, value, NUM_VOTES, name="all", labels=one_label(len(pair)))


def one_label(num: int) -> Labels:
    return Labels(pl.Series(["all"]), np.zeros(num, dtype=np.int32))


def test_units_with_one_vote_are_left_out_and_counted() -> None:
    row = alpha_by_slice(
        patterns([[2, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]]), level="nominal", num_bootstraps=50, seed=0
    ).row(0, named=True)
    assert (row["num_units"], row["num_units_excluded"], row["num_votes"]) == (2, 2, 4)
    assert row["raw_agreement"] == 0.5
    assert row["alpha"] == pytest.approx(0.0)  # 1 - (2 / 4) / (6 / 12)


def test_a_set_with_one_vote_a_pair_has_no_agreement() -> None:
    row = alpha_by_slice(patterns([[1, 0, 0], [0, 1, 0]]), level="nominal", num_bootstraps=50, seed=0).row(
        0, named=True
    )
    assert row["alpha"] is None
    assert row["raw_agreement"] is None


def test_the_interval_is_the_bootstrap_over_units() -> None:
    counts = Votes.of(judgments("cragc25")).tally.astype(np.int64)
    pair = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    value = np.concatenate([np.repeat(np.arange(NUM_VOTES), row) for row in counts])
    row = alpha_by_slice(
        unit_patterns(pair, value, NUM_VOTES, name="all", labels=one_label(len(pair))),
        level="nominal",
        num_bootstraps=400,
        seed=0,
    ).row(0, named=True)
    rng = np.random.default_rng(1)
    plain = [
        krippendorff.alpha(
            value_counts=counts[rng.integers(len(counts), size=len(counts))], level_of_measurement="nominal"
        )
        for _ in range(200)
    ]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert row["alpha_low"] == pytest.approx(low, abs=0.01)
    assert row["alpha_high"] == pytest.approx(high, abs=0.01)


def votes_of(rows: list[tuple[str, str, str]]) -> Votes:
    """Votes of (pair, annotator, vote) for responses x and y, x shown first."""
    frame = pl.DataFrame(rows, schema=["pair_id", "annotator_id", "vote"], orient="row")
    return Votes.of(
        frame.with_columns(
            response_a_id=pl.col("pair_id") + "x",
            response_b_id=pl.col("pair_id") + "y",
            is_display_order_known=pl.lit(True),
            source=pl.lit("s"),
        )
    )


def agreements(*criteria: list[tuple[str, str, str]]) -> pl.DataFrame:
    """Of the votes on each criterion."""
    shared = [shared_votes(votes_of(rows)).with_columns(criterion=pl.lit(str(i))) for i, rows in enumerate(criteria)]
    return annotator_pairs(pl.concat(shared))


def test_kappa_by_hand() -> None:
    said = {"u": "aaab", "v": "aabb"}
    rows = [(f"p{i}", who, vote) for who, votes in said.items() for i, vote in enumerate(votes)]
    row = agreements(rows).row(0, named=True)
    assert (row["annotator_1"], row["annotator_2"], row["num_shared"]) == ("u", "v", 4)
    assert row["raw_agreement"] == 0.75
    assert row["chance_agreement"] == pytest.approx(3 / 4 * 1 / 2 + 1 / 4 * 1 / 2)
    assert row["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)


def test_who_votes_twice_on_a_pair_counts_once_and_as_a_tie_where_they_differ() -> None:
    rows = [("p", "u", "a"), ("p", "u", "b"), ("p", "v", "tie"), ("q", "u", "a"), ("q", "u", "a"), ("q", "v", "a")]
    row = agreements(rows).row(0, named=True)
    assert row["num_shared"] == 2
    assert row["raw_agreement"] == 1.0


def test_two_annotators_agree_on_each_criterion_by_itself() -> None:
    same, other = ([(pair, who, vote) for pair in "pq" for who, vote in (("u", "a"), ("v", v))] for v in "ab")
    found = agreements(same, other)
    assert found.select("criterion", "num_shared", "raw_agreement").rows() == [("0", 2, 1.0), ("1", 2, 0.0)]


@pytest.mark.parametrize("at_once", [1, 7, 1_000_000])
def test_every_two_votes_on_a_pair_are_put_beside_one_another(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_CHUNK_VOTES", at_once)
    rng = np.random.default_rng(0)
    rows = [("crowded", f"w{i:03d}", "ab"[i % 2]) for i in range(60)]
    rows += [(f"p{p}", f"w{w:03d}", ("a", "b", "tie")[rng.integers(3)]) for p in range(30) for w in range(p % 5)]
    said: dict[str, list[tuple[str, str]]] = {}
    for pair, who, vote in rows:
        said.setdefault(pair, []).append((who, vote))
    expected: dict[tuple[str, str], list[int]] = {}
    for votes in said.values():
        for (one, first), (other, second) in itertools.combinations(sorted(votes), 2):
            num = expected.setdefault((one, other), [0, 0])
            num[0] += 1
            num[1] += first == second
    found = shared_votes(votes_of(rows)).select("annotator_1", "annotator_2", "num_shared", "num_same")
    assert {(a, b): [shared, same] for a, b, shared, same in found.iter_rows()} == expected


def test_annotators_without_a_shared_pair_give_no_row() -> None:
    assert agreements([("p", "u", "a"), ("q", "v", "a")]).is_empty()


def test_exact_binomial_tests_by_hand() -> None:
    found = binomial_p_values(np.array([5, 0, 3, 0]), np.array([5, 4, 6, 0]), 0.5)
    assert found == pytest.approx([2 / 32, 2 / 16, 1.0, 1.0])


def test_benjamini_hochberg_by_hand() -> None:
    found = benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.03, 0.5]))
    assert found[[0, 2, 3, 4]] == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert np.isnan(found[1])
