"""A split of taste between two groups is told from noise, and a crowd without groups has none."""

from __future__ import annotations

import numpy as np
import polars as pl

from curation.annotators.model import fit
from curation.annotators.taste import TasteSplit, taste_splits
from curation.annotators.votes import Votes
from tests.curation.planted_votes import planted_votes


def split_votes(
    share: float, *, num_pairs: int = 800, votes_a_pair: int = 10, seed: int = 0
) -> tuple[Votes, np.ndarray]:
    """Votes of 60 careful annotators, a third of whom sees a share of the pairs the other way round."""
    rng = np.random.default_rng(seed)
    is_split = np.arange(num_pairs) < share * num_pairs
    strength = rng.choice([-1.0, 1.0], num_pairs) * rng.uniform(1.0, 3.0, num_pairs)
    pair = np.repeat(np.arange(num_pairs), votes_a_pair)
    annotator = np.concatenate([rng.choice(60, votes_a_pair, replace=False) for _ in range(num_pairs)])
    x = strength[pair] * np.where(is_split[pair] & (annotator % 3 == 0), -1.0, 1.0)
    is_low = rng.random(len(x)) < 1 / (1 + np.exp(-x))
    frame = pl.DataFrame(
        {
            "pair_id": [f"{p:05d}" for p in pair],
            "response_a_id": [f"{p:05d}-0" for p in pair],
            "response_b_id": [f"{p:05d}-1" for p in pair],
            "vote": np.where(is_low, "a", "b"),
            "is_display_order_known": False,
            "annotator_id": [f"w{w:02d}" for w in annotator],
            "source": "s",
        }
    )
    return Votes.of(frame), is_split


def found(votes: Votes) -> TasteSplit:
    return taste_splits(fit(votes))


def test_two_groups_that_oppose_on_some_pairs_are_found() -> None:
    votes, truth = split_votes(0.4)
    result = found(votes)
    assert result.is_accepted
    minority = np.arange(60) % 3 == 0
    agreement = (result.group == minority).mean()
    assert max(agreement, 1 - agreement) >= 0.95
    assert result.is_split[truth].mean() >= 0.4
    assert result.is_split[~truth].mean() <= 0.02


def test_a_crowd_without_groups_has_no_split() -> None:
    votes, _ = split_votes(0.0)
    result = found(votes)
    assert not result.is_accepted
    assert not result.is_split.any()


def test_careless_biased_and_adversarial_annotators_are_not_taste() -> None:
    assert not found(Votes.of(planted_votes().judgments)).is_split.any()


def test_pairs_with_few_votes_are_not_tested() -> None:
    votes = Votes.of(planted_votes(200, 3).judgments)
    assert not found(votes).is_tested.any()


def test_the_votes_stay_as_they_are_also_where_annotators_repeat_themselves() -> None:
    judgments = planted_votes().judgments
    votes = Votes.of(pl.concat([judgments, judgments.sample(fraction=0.3, seed=0)]))
    model = fit(votes)
    before = votes.annotator.copy(), votes.ballots.starts.copy()
    first = taste_splits(model)
    assert (before[0] == votes.annotator).all()
    assert (before[1] == votes.ballots.starts).all()
    assert taste_splits(model).gain == first.gain


def test_pairs_of_unnamed_voters_and_repeats_of_few_are_not_tested() -> None:
    votes = planted_votes(200, 5).judgments
    number = pl.col("pair_id").cast(pl.Int32)
    unnamed = pl.when(number >= 100).then("annotator_id")
    assert taste_tested(votes.with_columns(annotator_id=unnamed)) == [False] * 100 + [True] * 100
    few = votes.with_columns(annotator_id=pl.when(number < 100).then(pl.lit("judge")).otherwise("annotator_id"))
    assert taste_tested(few) == [False] * 100 + [True] * 100


def taste_tested(judgments: pl.DataFrame) -> list[bool]:
    return found(Votes.of(judgments)).is_tested.tolist()


def test_nothing_that_predicts_the_held_out_votes_was_made_from_them() -> None:
    votes = Votes.of(planted_votes(300, 5).judgments)
    model = fit(votes)
    before = taste_splits(model).gain
    # were the fitted parameters the arms' beginning, this would move the gain
    model.parameters[:, 0] += 1.0
    model.class_prior[:] = 1.0 / len(model.class_prior)
    assert taste_splits(model).gain == before
