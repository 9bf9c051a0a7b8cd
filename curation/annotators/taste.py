"""Taste or noise: two groups of annotators who agree within themselves and oppose each other on some pairs.

One component: all annotators see the same class z of a pair. Two components: annotators fall into two groups, and on a
share rho of the pairs the second group sees the mirror image of what the first one sees. The mixture counts only where
it predicts votes that it has not seen better than one component does; else no pair is called a taste split. A minority
that opposes the others on *every* pair cannot be told from adversaries by votes alone, and is not called one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from curation.annotators.confusion import THETA, newton_step, vote_probabilities
from curation.annotators.em import Array, posterior_of
from curation.annotators.model import AnnotatorModel
from curation.annotators.votes import NUM_CELLS, TIE, Votes

LEAST_VOTES = 4
"""Votes from which a pair is tested: two a group."""

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
        is_tested: pairs with enough votes, shape (P,).
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


def taste_splits(model: AnnotatorModel) -> TasteSplit:
    """Test the votes of a fitted model for a split between two groups of its annotators."""
    votes = model.votes
    num_votes = votes.tally.sum(axis=1)
    is_tested = num_votes >= LEAST_VOTES
    nothing = np.zeros(votes.num_pairs, dtype=bool)
    group = np.zeros(votes.num_annotators, dtype=np.int8)
    if not is_tested.any():
        return TasteSplit(nothing, is_tested, group, np.nan, np.nan)
    held_out = _one_of_each(votes, is_tested)
    training, unseen = votes.take(~held_out & is_tested[votes.pair]), votes.take(held_out)
    one, two = _Mixture(training, model), _Mixture(training, model)
    one.fit(num_groups=1)
    two.fit(num_groups=2)
    gains = two.log_likelihood(unseen) - one.log_likelihood(unseen)
    gain, error = float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))
    if not gain > _Z * error:
        return TasteSplit(nothing, is_tested, group, gain, error)
    whole = _Mixture(votes.take(is_tested[votes.pair]), model)
    whole.fit(num_groups=2)
    return TasteSplit(whole.splits() & is_tested, is_tested, whole.group, gain, error)


def _one_of_each(votes: Votes, is_tested: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One vote of every tested pair, which one by the pair's number so that all places are held out alike."""
    num = np.bincount(votes.pair, minlength=votes.num_pairs)
    start = np.cumsum(num) - num
    pairs = np.flatnonzero(is_tested)
    is_held_out = np.zeros(votes.num_votes, dtype=bool)
    is_held_out[start[pairs] + (pairs * 2_654_435_761 >> 7) % num[pairs]] = True
    return is_held_out


class _Mixture:
    """One or two groups of annotators; classes and priors are those of the fitted model."""

    def __init__(self, votes: Votes, model: AnnotatorModel) -> None:
        self.votes, self.grid, self.population = votes, model.grid, model.population
        self.parameters = model.parameters
        self.log_prior = np.log(model.class_prior)
        self.matrix = votes.matrix
        self.group = np.zeros(votes.num_annotators, dtype=np.int8)
        self.share = 0.1

    @property
    def log_confusion(self) -> Array:
        """Log P(vote | class) of each cell, shape (9 A, K)."""
        return np.log(vote_probabilities(self.parameters, self.grid)).reshape(-1, self.grid.size)

    def fit(self, *, num_groups: int) -> None:
        """Alternate between the pairs' classes, the annotators' groups and what each annotator is like."""
        if num_groups == 2:
            direction = self._first_direction()
            self.group = (direction < 0).astype(np.int8)
            # in one group, who often opposes the rest looks careless: begin with the population's discrimination
            self.parameters = self.parameters.copy()
            self.parameters[:, THETA] = np.maximum(self.parameters[:, THETA], self.population.mean[THETA])
        else:
            self.share = 1e-12
        for _ in range(_ROUNDS):
            first, second, split = self._posteriors()
            in_first, in_second = self.matrix.T @ first, self.matrix.T @ second
            if num_groups == 2:
                self.share = float(np.clip(split.mean(), 1e-4, 0.5))
                gain = ((in_second - in_first) * self.log_confusion).sum(axis=1).reshape(-1, NUM_CELLS).sum(axis=1)
                self.group = (gain > 0).astype(np.int8)
            counts = np.where(np.repeat(self.group == 1, NUM_CELLS)[:, None], in_second, in_first)
            missing = np.zeros((len(self.parameters), 3))
            self.parameters = newton_step(self.parameters, counts, missing, self.grid, self.population)

    def _first_direction(self) -> Array:
        """Leading eigenvector of annotators' products of residuals (vote less expected), off the diagonal."""
        posterior, _ = posterior_of(self.matrix @ self.log_confusion + self.log_prior)
        table = np.exp(self.log_confusion)
        cells = np.arange(len(table)).reshape(-1, 3)
        lean = (table[cells[:, 0]] - table[cells[:, 1]])[self.votes.cell // 3]
        expected = np.einsum("nk,nk->n", posterior[self.votes.pair], lean)
        residual = np.where(self.votes.vote == TIE, 0.0, 1.0 - 2.0 * self.votes.vote) - expected
        shape = (self.votes.num_annotators, self.votes.num_pairs)
        products = sparse.csr_array((residual, (self.votes.annotator, self.votes.pair)), shape=shape)
        own = np.asarray(products.multiply(products).sum(axis=1)).ravel()
        direction = np.cos(np.arange(shape[0]) * 2.4)
        for _ in range(_POWER_ROUNDS):
            # shifted by the diagonal, so that all eigenvalues are of one sign and the largest one is found
            direction = products @ (products.T @ direction) - 0.5 * own * direction
            direction /= max(float(np.linalg.norm(direction)), 1e-300)
        return direction

    def _log_joint(self) -> tuple[Array, Array]:
        """Log P(votes of group 0 | class) and of group 1, each of shape (P, K)."""
        in_second, log_confusion = np.repeat(self.group == 1, NUM_CELLS)[:, None], self.log_confusion
        first = self.matrix @ np.where(in_second, 0.0, log_confusion)
        return first, self.matrix @ np.where(in_second, log_confusion, 0.0)

    def _posteriors(self) -> tuple[Array, Array, Array]:
        """Class as each group sees it, shape (P, K) each, and probability that the groups oppose, shape (P,)."""
        first, second = self._log_joint()
        same = first + second + self.log_prior + np.log1p(-self.share)
        opposed = first + second[:, self.grid.mirror] + self.log_prior + np.log(self.share)
        joint, _ = posterior_of(np.concatenate((same, opposed), axis=1))
        size = self.grid.size
        same, opposed = joint[:, :size], joint[:, size:]
        return same + opposed, same + opposed[:, self.grid.mirror], opposed.sum(axis=1)

    def log_likelihood(self, held_out: Votes) -> Array:
        """Log-probability of each held-out vote, shape (N,)."""
        first, second, _ = self._posteriors()
        likelihood = np.exp(self.log_confusion[held_out.cell])
        in_second = (self.group[held_out.annotator] == 1)[:, None]
        believed = np.where(in_second, second[held_out.pair], first[held_out.pair])
        return np.log((believed * likelihood).sum(axis=1))

    def splits(self) -> NDArray[np.bool_]:
        """Pairs on which the groups surely oppose, with a strict majority of two or more votes in each."""
        _, _, split = self._posteriors()
        sign = np.array([1, -1, 0])[self.votes.vote]
        in_second = self.group[self.votes.annotator] == 1
        leads = [
            np.bincount(self.votes.pair[part], sign[part], minlength=self.votes.num_pairs)
            for part in (~in_second, in_second)
        ]
        is_opposed = (leads[0] * leads[1] < 0) & (np.abs(leads[0]) >= 2) & (np.abs(leads[1]) >= 2)
        return (split > _SURE) & is_opposed
