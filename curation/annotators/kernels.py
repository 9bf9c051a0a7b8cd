"""The loops over pairs and votes, compiled: nothing as long as the votes is ever made but their own codes.

A pair's posterior over K classes is the product of its prior and of one row of probabilities a vote; it is scaled back
before it can underflow, so no logarithm and no exponential is taken a class. All kernels read votes that are sorted by
pair: ``starts`` of shape (P + 1,) says where each pair's votes begin in ``cell``, and a cell is a row of the table of
probabilities, shape (C, K), which counts to the power of the vote's ``weight``, shape (N,), or (0,) where all are 1.
They work on the pairs ``first`` to ``last`` and release the interpreter lock.

Where pairs have priors of their own, ``own_pair`` (shape (E,), ascending) names them and ``own_prior`` holds them.
"""

from __future__ import annotations

import math

import numpy as np

from curation.compiled import compiled

SIGN = (1.0, -1.0, 0.0)
"""Of a vote for the lower response, for the higher one, for neither."""

_SMALL = 1e-100
_LARGE = 1e100


@compiled
def _multiply(joint, starts, cell, weight, probability, pair):  # type: ignore[no-untyped-def]
    """Multiply ``joint`` by the rows of the pair's votes; returns the logarithm of the scale that was taken out."""
    log_scale = 0.0
    size = joint.shape[0]
    for vote in range(starts[pair], starts[pair + 1]):
        row = cell[vote]
        part = weight[vote] if weight.shape[0] > 0 else 1.0
        top = 0.0
        for k in range(size):
            joint[k] *= probability[row, k] if part == 1.0 else probability[row, k] ** part
            top = max(top, joint[k])
        if top < _SMALL:
            for k in range(size):
                joint[k] *= _LARGE
            log_scale -= math.log(_LARGE)
    return log_scale


@compiled
def _normalise(joint):  # type: ignore[no-untyped-def]
    """Divide by the sum; returns its logarithm."""
    total = 0.0
    for k in range(joint.shape[0]):
        total += joint[k]
    scale = 1.0 / total
    for k in range(joint.shape[0]):
        joint[k] *= scale
    return math.log(total)


@compiled
def expect(  # type: ignore[no-untyped-def]
    first,
    last,
    starts,
    cell,
    weight,
    probability,
    prior,
    own_pair,
    own_prior,
    mirror,
    step,
    counts,
    classes,
    mean,
    square,
    own,
):
    """One E-step; returns the log-likelihood, nats.

    Adds up expected votes in ``counts`` (C, K), expected pairs in ``classes`` (K,), and, of the pairs without a prior
    of their own, the posterior folded at the mirror in ``mean`` (K / 2,) and its products in ``square`` (K / 2, K / 2),
    these of every ``step``-th pair only, ``step`` times; ``mirror`` of length 0 leaves both out. Writes the posterior
    of the other pairs to ``own`` (E, K).
    """
    size, half = prior.shape[0], mirror.shape[0] // 2
    joint, folded = np.empty(size), np.empty(half)
    number = np.searchsorted(own_pair, first)
    log_likelihood = 0.0
    for pair in range(first, last):
        is_own = number < own_pair.shape[0] and own_pair[number] == pair
        for k in range(size):
            joint[k] = own_prior[number, k] if is_own else prior[k]
        log_likelihood += _multiply(joint, starts, cell, weight, probability, pair)
        log_likelihood += _normalise(joint)
        for vote in range(starts[pair], starts[pair + 1]):
            row = cell[vote]
            part = weight[vote] if weight.shape[0] > 0 else 1.0
            for k in range(size):
                counts[row, k] += part * joint[k]
        for k in range(size):
            classes[k] += joint[k]
        if is_own:
            for k in range(size):
                own[number, k] = joint[k]
            number += 1
        else:
            for k in range(half):
                folded[k] = joint[k] + joint[mirror[k]]
                mean[k] += folded[k]
            if pair % step == 0:
                for i in range(half):
                    for k in range(half):
                        square[i, k] += step * folded[i] * folded[k]
    return log_likelihood


@compiled
def summarise(  # type: ignore[no-untyped-def]
    first, last, starts, cell, weight, probability, prior, own_pair, own_prior, weights, result
):
    """Write the posterior of each pair times ``weights`` (K, M) to ``result`` (P, M)."""
    size = prior.shape[0]
    joint = np.empty(size)
    number = np.searchsorted(own_pair, first)
    for pair in range(first, last):
        is_own = number < own_pair.shape[0] and own_pair[number] == pair
        for k in range(size):
            joint[k] = own_prior[number, k] if is_own else prior[k]
        if is_own:
            number += 1
        _multiply(joint, starts, cell, weight, probability, pair)
        _normalise(joint)
        for m in range(weights.shape[1]):
            total = 0.0
            for k in range(size):
                total += joint[k] * weights[k, m]
            result[pair, m] = total


@compiled
def square_scores(  # type: ignore[no-untyped-def]
    first, last, starts, cell, weight, probability, prior, own_pair, own_prior, strength, order_sign, result
):
    """Add the products of the votes' mean scores to the upper halves of ``result`` (A, 3, 3).

    A vote's products count by its weight; its mean score, by (theta, beta, tau), is over its pair's posterior. The rows
    of ``probability`` are annotators x 3 orders, of sign ``order_sign`` (3,), x 3 votes; ``strength`` is of shape (K,).
    """
    size = prior.shape[0]
    joint = np.empty(size)
    number = np.searchsorted(own_pair, first)
    for pair in range(first, last):
        is_own = number < own_pair.shape[0] and own_pair[number] == pair
        for k in range(size):
            joint[k] = own_prior[number, k] if is_own else prior[k]
        if is_own:
            number += 1
        _multiply(joint, starts, cell, weight, probability, pair)
        _normalise(joint)
        for vote in range(starts[pair], starts[pair + 1]):
            row = cell[vote]
            part = weight[vote] if weight.shape[0] > 0 else 1.0
            said = row % 3
            low = row - said
            sign = SIGN[said]
            theta, beta, tau = 0.0, 0.0, 0.0
            for k in range(size):
                lean = 0.5 * (sign - (probability[low, k] - probability[low + 1, k]))
                theta += joint[k] * lean * strength[k]
                beta += joint[k] * lean
                tau -= joint[k] * probability[low + 2, k]
            beta *= order_sign[row // 3 % 3]
            tau += 1.0 if said == 2 else 0.0
            owner = row // 9
            result[owner, 0, 0] += part * theta * theta
            result[owner, 0, 1] += part * theta * beta
            result[owner, 0, 2] += part * theta * tau
            result[owner, 1, 1] += part * beta * beta
            result[owner, 1, 2] += part * beta * tau
            result[owner, 2, 2] += part * tau * tau


@compiled
def _two_views(  # type: ignore[no-untyped-def]
    pair, starts, cell, weight, log_table, in_second, cells_each, log_prior, mirror, share, first_view, second_view
):
    """Class of a pair as each group of annotators sees it; returns the probability that the groups oppose.

    The second group sees the mirror image of what the first one sees on a ``share`` of the pairs. In logarithms, for
    the classes that two groups favor can lie further apart than a number is small.
    """
    size = log_prior.shape[0]
    for k in range(size):
        first_view[k] = 0.0
        second_view[k] = 0.0
    for vote in range(starts[pair], starts[pair + 1]):
        row = cell[vote]
        view = second_view if in_second[row // cells_each] else first_view
        part = weight[vote] if weight.shape[0] > 0 else 1.0
        for k in range(size):
            view[k] += part * log_table[row, k]
    same, opposed = np.empty(size), np.empty(size)
    top = -np.inf
    for k in range(size):
        same[k] = first_view[k] + second_view[k] + log_prior[k] + math.log1p(-share)
        # one group has no opposed pairs, and the logarithm of that is not asked for
        opposed[k] = first_view[k] + second_view[mirror[k]] + log_prior[k] + math.log(share) if share > 0 else -np.inf
        top = max(top, same[k], opposed[k])
    total, split = 0.0, 0.0
    for k in range(size):
        same[k], opposed[k] = math.exp(same[k] - top), math.exp(opposed[k] - top)
        total += same[k] + opposed[k]
        split += opposed[k]
    for k in range(size):
        first_view[k] = (same[k] + opposed[k]) / total
        second_view[k] = (same[k] + opposed[mirror[k]]) / total
    return split / total


@compiled
def expect_two(  # type: ignore[no-untyped-def]
    first, last, starts, cell, weight, log_table, in_second, cells_each, log_prior, mirror, share, in_first, in_other
):
    """One E-step of two groups: adds expected votes as each group sees them, (C, K); returns expected opposed pairs."""
    size = log_prior.shape[0]
    first_view, second_view = np.empty(size), np.empty(size)
    num_opposed = 0.0
    for pair in range(first, last):
        num_opposed += _two_views(
            pair,
            starts,
            cell,
            weight,
            log_table,
            in_second,
            cells_each,
            log_prior,
            mirror,
            share,
            first_view,
            second_view,
        )
        for vote in range(starts[pair], starts[pair + 1]):
            row = cell[vote]
            part = weight[vote] if weight.shape[0] > 0 else 1.0
            for k in range(size):
                in_first[row, k] += part * first_view[k]
                in_other[row, k] += part * second_view[k]
    return num_opposed


@compiled
def judge_two(  # type: ignore[no-untyped-def]
    first,
    last,
    starts,
    cell,
    weight,
    log_table,
    in_second,
    cells_each,
    log_prior,
    mirror,
    share,
    unseen,
    log_p,
    opposed,
):
    """Write the probability that the groups oppose on each pair, and log P of one more vote of it, both (P,).

    ``unseen`` of shape (P,) is that vote's cell.
    """
    size = log_prior.shape[0]
    first_view, second_view = np.empty(size), np.empty(size)
    for pair in range(first, last):
        opposed[pair] = _two_views(
            pair,
            starts,
            cell,
            weight,
            log_table,
            in_second,
            cells_each,
            log_prior,
            mirror,
            share,
            first_view,
            second_view,
        )
        row = unseen[pair]
        view = second_view if in_second[row // cells_each] else first_view
        total = 0.0
        for k in range(size):
            total += view[k] * math.exp(log_table[row, k])
        log_p[pair] = math.log(total)


@compiled
def expected_values(  # type: ignore[no-untyped-def]
    first, last, starts, cell, weight, probability, prior, values, result
):
    """Write the expectation of ``values[cell]`` (C, K) over its pair's posterior for each vote, (N,)."""
    size = prior.shape[0]
    joint = np.empty(size)
    for pair in range(first, last):
        for k in range(size):
            joint[k] = prior[k]
        _multiply(joint, starts, cell, weight, probability, pair)
        _normalise(joint)
        for vote in range(starts[pair], starts[pair + 1]):
            total = 0.0
            for k in range(size):
                total += joint[k] * values[cell[vote], k]
            result[vote] = total
