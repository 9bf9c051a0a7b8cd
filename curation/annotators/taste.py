"""Taste or noise: two groups of annotators who agree within themselves and oppose each other on some pairs.

One component: all annotators see the same class z of a pair. Two components: annotators fall into two groups, and on a
share rho of the pairs the second group sees the mirror image of what the first one sees. The mixture counts only where
it predicts votes that it has not seen better than one component does; else no pair is called a taste split. A minority
that opposes the others on *every* pair cannot be told from adversaries by votes alone, and is not called one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from curation.annotators import kernels
from curation.annotators.confusion import THETA, newton_step, vote_probabilities
from curation.annotators.em import Array
from curation.annotators.model import AnnotatorModel, fit
from curation.annotators.voices import one_vote_each
from curation.annotators.votes import NUM_CELLS, TIE, Votes
from curation.settings import AnnotatorSettings

LEAST_VOTES = 4
"""Named annotators from which a pair is tested: two a group."""

_ENOUGH_PAIRS = 200_000
"""Pairs that the test itself is made on; of more, every so many-th, and all of them only where it found two groups."""

_ROUNDS = 12
_POWER_ROUNDS = 30
_SURE = 0.9
_Z = 2.58
"""Standard errors by which the mixture must predict better: one in a hundred, two-sided."""


@dataclass(frozen=True)
class TasteSplit:
    """The test and its result.

    Attributes:
        is_split: of each pair, shape (P,).
        is_tested: pairs with enough named annotators, shape (P,).
        group: of each annotator, 0 or 1, shape (A,).
        gain: held-out log-likelihood of two components less that of one, nats a vote; NaN where nothing is tested.
        gain_error: its standard error.
    """

    is_split: NDArray[np.bool_]
    is_tested: NDArray[np.bool_]
    group: NDArray[np.int8]
    gain: float
    gain_error: float

    @property
    def is_accepted(self) -> bool:
        """Whether two components predict unseen votes better than one."""
        return self.gain > _Z * self.gain_error


def taste_splits(model: AnnotatorModel, settings: AnnotatorSettings | None = None) -> TasteSplit:
    """Test the votes of a fitted model for a split between two groups of its annotators.

    Args:
        model: fitted on the votes.
        settings: that it was fitted with; what is tested is fitted anew without the votes that are held out.
    """
    votes = model.votes
    is_tested = np.bincount(_named(votes).pair, minlength=votes.num_pairs) >= LEAST_VOTES
    is_split = np.zeros(votes.num_pairs, dtype=bool)
    group = np.zeros(votes.num_annotators, dtype=np.int8)
    if not is_tested.any():
        return TasteSplit(is_split, is_tested, group, np.nan, np.nan)
    pairs = np.flatnonzero(is_tested)
    gain, error = _gain(votes.of_pairs(pairs[:: max(1, len(pairs) // _ENOUGH_PAIRS)]), settings or AnnotatorSettings())
    if not gain > _Z * error:
        return TasteSplit(is_split, is_tested, group, gain, error)
    tested = votes.of_pairs(pairs)
    whole = _Mixture(tested, model)
    whole.fit(num_groups=2)
    is_split[pairs] = whole.splits(tested.cell[_one_of_each(tested)])
    return TasteSplit(is_split, is_tested, whole.group, gain, error)


def _gain(tested: Votes, settings: AnnotatorSettings) -> tuple[float, float]:
    """Held-out log-likelihood of two groups less that of one, nats a vote, and its standard error.

    Nothing that either is made from has seen the held-out votes. Responses have no rewards here, in neither.
    """
    unseen = _one_of_each(tested)
    is_unseen = np.zeros(tested.num_votes, dtype=bool)
    is_unseen[unseen] = True
    training, cell = tested.take(~is_unseen), tested.cell[unseen]
    model = fit(training, settings.model_copy(update={"min_degree": np.inf}))
    one, two = _Mixture(training, model), _Mixture(training, model)
    one.fit(num_groups=1)
    two.fit(num_groups=2)
    gains = two.judge(cell)[0] - one.judge(cell)[0]
    return float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))


def _named(votes: Votes) -> Votes:
    """One vote of each named annotator on each pair: who is not named belongs to no group."""
    return one_vote_each(votes.take(votes.is_named[votes.annotator]))


def _one_of_each(votes: Votes) -> NDArray[np.int64]:
    """Index of one vote of every pair, by the pair's number so that all places are held out alike; shape (P,)."""
    start = votes.ballots.starts
    pairs = np.arange(votes.num_pairs)
    chosen: NDArray[np.int64] = start[:-1] + (pairs * 2_654_435_761 >> 7) % np.diff(start)
    return chosen


class _Mixture:
    """One or two groups of annotators; classes and priors are those of the fitted model."""

    def __init__(self, votes: Votes, model: AnnotatorModel) -> None:
        self.votes, self.grid, self.population = votes, model.grid, model.population
        self.parameters, self.class_prior = model.parameters, model.class_prior
        self.group = np.zeros(votes.num_annotators, dtype=np.int8)
        self.share = 0.1

    @property
    def table(self) -> Array:
        """P(vote | class) of each cell, shape (9 A, K)."""
        return vote_probabilities(self.parameters, self.grid).reshape(-1, self.grid.size)

    def fit(self, *, num_groups: int) -> None:
        """Alternate between the pairs' classes, the annotators' groups and what each annotator is like."""
        if num_groups == 2:
            direction = self._first_direction()
            self.group = (direction < 0).astype(np.int8)
            # in one group, who often opposes the rest looks careless: begin with the population's discrimination
            self.parameters = self.parameters.copy()
            self.parameters[:, THETA] = np.maximum(self.parameters[:, THETA], self.population.mean[THETA])
        else:
            self.share = 0.0
        for _ in range(_ROUNDS):
            table = self.table
            in_first, in_second, num_opposed = self._expect(table)
            if num_groups == 2:
                self.share = float(np.clip(num_opposed / self.votes.num_pairs, 1e-4, 0.5))
                gain = ((in_second - in_first) * np.log(table)).sum(axis=1).reshape(-1, NUM_CELLS).sum(axis=1)
                self.group = (gain > 0).astype(np.int8)
            counts = np.where(np.repeat(self.group == 1, NUM_CELLS)[:, None], in_second, in_first)
            missing = np.zeros((len(self.parameters), 3))
            self.parameters = newton_step(self.parameters, counts, missing, self.grid, self.population)

    def _first_direction(self) -> Array:
        """Leading eigenvector of annotators' products of residuals (vote less expected), off the diagonal."""
        votes, table = self.votes, self.table
        by_order = table.reshape(-1, 3, self.grid.size)
        lean = np.repeat(by_order[:, 0] - by_order[:, 1], 3, axis=0)
        expected = np.empty(votes.num_votes)
        ballots = votes.ballots
        known = ballots.starts, ballots.cell, ballots.weight, table, self.class_prior, lean, expected
        list(ballots.map(lambda first, last: kernels.expected_values(first, last, *known)))
        residual = np.where(votes.vote == TIE, 0.0, 1.0 - 2.0 * votes.vote) - expected
        shape = (votes.num_annotators, votes.num_pairs)
        # a copy, because adding up repeated votes moves the indices
        products = sparse.csc_array((residual, votes.annotator, ballots.starts), shape=shape, copy=True)
        products.sum_duplicates()
        by_annotator = products.tocsr()
        own: Array = np.asarray(products.multiply(products).sum(axis=1)).ravel()
        direction = np.cos(np.arange(shape[0]) * 2.4)
        for _ in range(_POWER_ROUNDS):
            # shifted by the diagonal, so that all eigenvalues are of one sign and the largest one is found
            direction = by_annotator @ (products.T @ direction) - 0.5 * own * direction
            direction /= max(float(np.linalg.norm(direction)), 1e-300)
        return direction

    def _known(self, table: Array) -> tuple[Any, ...]:
        """What the compiled loops over two groups read."""
        ballots, mirror = self.votes.ballots, self.grid.mirror
        votes = ballots.starts, ballots.cell, ballots.weight
        return *votes, np.log(table), self.group == 1, NUM_CELLS, np.log(self.class_prior), mirror, self.share

    def _expect(self, table: Array) -> tuple[Array, Array, float]:
        """Expected votes of each cell and class as each group sees them, (9 A, K), and of pairs that are opposed."""
        known = self._known(table)

        def work(first: int, last: int) -> tuple[Array, Array, float]:
            in_first, in_second = np.zeros(table.shape), np.zeros(table.shape)
            return in_first, in_second, kernels.expect_two(first, last, *known, in_first, in_second)

        in_first, in_second, num_opposed = np.zeros(table.shape), np.zeros(table.shape), 0.0
        for more_first, more_second, more_opposed in self.votes.ballots.map(work):
            in_first += more_first
            in_second += more_second
            num_opposed += more_opposed
        return in_first, in_second, num_opposed

    def judge(self, unseen: NDArray[np.int32]) -> tuple[Array, Array]:
        """Log-probability of one more vote of each pair, and that the groups oppose on it, each of shape (P,).

        Args:
            unseen: cell of that vote, shape (P,).
        """
        log_unseen, opposed = np.empty(len(unseen)), np.empty(len(unseen))
        known = self._known(self.table)
        for _ in self.votes.ballots.map(
            lambda first, last: kernels.judge_two(first, last, *known, unseen, log_unseen, opposed)
        ):
            pass
        return log_unseen, opposed

    def splits(self, unseen: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Pairs on which the groups surely oppose, with a strict majority of two or more votes in each."""
        _, split = self.judge(unseen)
        voices = _named(self.votes)
        sign = np.array([1, -1, 0])[voices.vote]
        in_second = self.group[voices.annotator] == 1
        leads = [
            np.bincount(voices.pair[part], sign[part], minlength=voices.num_pairs) for part in (~in_second, in_second)
        ]
        is_opposed = (leads[0] * leads[1] < 0) & (np.abs(leads[0]) >= 2) & (np.abs(leads[1]) >= 2)
        return (split > _SURE) & is_opposed
