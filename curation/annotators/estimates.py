"""What the fitted annotator model says of each pair and of each annotator, as frames of the lake's columns."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from curation.annotators.coded import chunks_of_pairs
from curation.annotators.confusion import BETA, THETA, vote_probabilities
from curation.annotators.em import Array
from curation.annotators.model import AnnotatorModel, population_votes
from curation.annotators.voices import one_vote_each
from curation.annotators.votes import HIGH, LOW, TIE, UNKNOWN, Votes
from curation.significance import benjamini_hochberg, binomial_p_values, fewest_false

EVEN = 1e-9
"""A posterior this close to one half is exactly even; the lower response id is then the chosen one."""

FALSE_DISCOVERY_RATE = 0.05
_CHUNK_VOTES = 1_000_000
_Z95 = 1.959963984540054
_LEAST_DETERMINED = 0.05
"""Share of what is known of an annotator's position bias that their votes must give for it to be tested."""


def pair_estimates(model: AnnotatorModel) -> pl.DataFrame:
    """Consensus of every pair: the columns of ``raw.pair_estimates`` but ``is_taste_split`` and ``run_id``."""
    votes = model.votes
    summary = model.classifier().summarise(np.column_stack((population_votes(model).T, model.grid.strength > 0)))
    drawn = summary[:, :3]
    p_low = drawn[:, LOW] / (drawn[:, LOW] + drawn[:, HIGH])
    low_is_better = summary[:, 3]
    is_tied = np.abs(p_low - 0.5) < EVEN
    low_is_chosen = (p_low > 0.5) | is_tied
    num_low, num_high, num_ties = votes.tally.T
    q_value = _vote_q_values(one_vote_each(votes).tally)
    chosen, rejected = (np.where(side, votes.low, votes.high) for side in (low_is_chosen, ~low_is_chosen))
    frame = pl.DataFrame(
        {
            "pair_id": votes.pair_ids,
            "chosen_id": votes.response_ids.gather(chosen),
            "rejected_id": votes.response_ids.gather(rejected),
        }
    )
    return frame.with_columns(
        num_votes=pl.Series(votes.tally.sum(axis=1).astype(np.int32)),
        num_votes_chosen=pl.Series(np.where(low_is_chosen, num_low, num_high)),
        num_votes_rejected=pl.Series(np.where(low_is_chosen, num_high, num_low)),
        num_ties=pl.Series(num_ties),
        num_annotators=pl.Series(votes.num_annotators_of_pair),
        p_chosen=pl.Series(np.where(is_tied, 0.5, np.maximum(p_low, 1.0 - p_low))),
        p_tie=pl.Series(drawn[:, TIE]),
        p_consensus_right=pl.Series(np.where(low_is_chosen, low_is_better, 1.0 - low_is_better)),
        is_tied=pl.Series(is_tied),
        vote_q_value=pl.Series(q_value).fill_nan(None),
    )


def annotator_estimates(model: AnnotatorModel) -> pl.DataFrame:
    """The columns of ``raw.annotator_estimates`` but ``criterion`` and ``run_id``, and the votes that were tested."""
    votes = model.votes
    theta, beta = model.parameters[:, THETA], model.parameters[:, BETA]
    theta_error = np.sqrt(model.covariance[:, THETA, THETA])
    beta_error = np.sqrt(model.covariance[:, BETA, BETA])
    shares = model.class_share
    has_order = np.bincount(votes.annotator[votes.order != UNKNOWN], minlength=votes.num_annotators) > 0
    position_p = np.where(has_order, position_p_values(model), np.nan)
    agree, tested, rest = agreement_with_others(one_vote_each(votes))
    agreement_q = benjamini_hochberg(np.where(tested > 0, binomial_p_values(agree, tested, rest), np.nan))
    high = _reliability(theta + _Z95 * theta_error, shares, model)
    return pl.DataFrame(
        {
            "annotator_id": votes.annotator_ids,
            "num_votes": np.bincount(votes.annotator, minlength=votes.num_annotators),
            "reliability": _reliability(theta, shares, model),
            "reliability_low": _reliability(theta - _Z95 * theta_error, shares, model),
            "reliability_high": high,
            "position_bias": beta,
            "position_bias_low": beta - _Z95 * beta_error,
            "position_bias_high": beta + _Z95 * beta_error,
            "tie_rate": vote_probabilities(model.parameters, model.grid)[:, :2, TIE].mean(axis=1) @ shares,
            "is_adversarial": fewest_false(stats.norm.cdf(theta / theta_error), FALSE_DISCOVERY_RATE),
            "is_position_biased": np.nan_to_num(benjamini_hochberg(position_p), nan=1.0) < FALSE_DISCOVERY_RATE,
            "is_careless": (np.nan_to_num(agreement_q, nan=1.0) < FALSE_DISCOVERY_RATE) & (agree < rest * tested),
            "agreement_q_value": pl.Series(agreement_q).fill_nan(None),
            "num_tested": tested,
            "num_agreeing": agree,
        }
    ).with_columns(pl.col("num_votes").cast(pl.Int32))


def position_p_values(model: AnnotatorModel) -> Array:
    """Two-sided p-values of 'no position bias' from the votes alone, shape (A,); 1 where they say next to nothing.

    The estimate is drawn to 0 by the prior, and so is less often far from it than its standard error says. What the
    votes alone say is the estimate over the determined share of its variance.
    """
    beta, variance = model.parameters[:, BETA], model.covariance[:, BETA, BETA]
    determined = 1.0 - variance / model.population.variance[BETA]
    z = beta / np.sqrt(variance * np.maximum(determined, _LEAST_DETERMINED))
    return np.where(determined < _LEAST_DETERMINED, 1.0, 2.0 * stats.norm.sf(np.abs(z)))


def _reliability(theta: Array, shares: Array, model: AnnotatorModel) -> Array:
    """Probability of voting for the better response of a random pair when not tying, without position bias."""
    return (1.0 / (1.0 + np.exp(-theta[:, None] * np.abs(model.grid.strength)))) @ shares


def agreement_with_others(votes: Votes) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """How often each annotator sides with the strict majority of the others on the pair.

    Returns:
        Votes that agree, and votes that could (neither a tie nor without a majority of others), each shape (A,); and
        the share that all other annotators reach, shape (A,). Give it one vote of each annotator on each pair.
    """
    agree, tested = (np.zeros(votes.num_annotators, dtype=np.int64) for _ in range(2))
    for first, last in chunks_of_pairs(votes.pair, _CHUNK_VOTES):
        pair, annotator = votes.pair[first:last] - votes.pair[first], votes.annotator[first:last]
        sign = np.array([1, -1, 0], dtype=np.int64)[votes.vote[first:last]]
        is_new = np.ones(len(pair), dtype=bool)
        is_new[1:] = (pair[1:] != pair[:-1]) | (annotator[1:] != annotator[:-1])
        group = np.cumsum(is_new) - 1
        own = np.bincount(group, sign).astype(np.int64)[group]
        others = np.bincount(pair, sign).astype(np.int64)[pair] - own
        can = (sign != 0) & (others != 0)
        agrees = can & (np.sign(others) == sign)
        tested += np.bincount(annotator[can], minlength=votes.num_annotators)
        agree += np.bincount(annotator[agrees], minlength=votes.num_annotators)
    remaining = tested.sum() - tested
    rest = np.divide(agree.sum() - agree, remaining, out=np.full(len(tested), 0.5), where=remaining > 0)
    return agree, tested, rest


def _vote_q_values(tally: NDArray[np.int32]) -> Array:
    """Adjusted p-value of each pair's votes against a coin; ties are not counted, NaN below two votes."""
    decided = tally[:, LOW] + tally[:, HIGH]
    kinds, kind = np.unique(decided.astype(np.int64) * (int(decided.max()) + 1) + tally[:, LOW], return_inverse=True)
    trials, successes = np.divmod(kinds, int(decided.max()) + 1)
    p_value = binomial_p_values(successes, trials, 0.5)[kind]
    return benjamini_hochberg(np.where(tally.sum(axis=1) >= 2, p_value, np.nan))
