"""The loops over annotators, compiled: what the three numbers an annotator make of the votes, and its derivatives.

Tables are of shape (A, 3 display orders, 3 votes, K classes); see :mod:`curation.annotators.confusion`.
"""

from __future__ import annotations

import math

from curation.annotators.kernels import SIGN
from curation.compiled import compiled


@compiled
def fill_probabilities(parameters, strength, evenness, order_sign, table):  # type: ignore[no-untyped-def]
    """Write P(vote | class) of each annotator and display order to ``table`` (A, 3 orders, 3 votes, K)."""
    for a in range(parameters.shape[0]):
        for o in range(order_sign.shape[0]):
            for k in range(strength.shape[0]):
                lean = parameters[a, 0] * strength[k] + order_sign[o] * parameters[a, 1]
                tie = math.exp(parameters[a, 2] + evenness[k] - 0.5 * abs(lean))
                less = math.exp(-abs(lean))
                more = 1.0 / (1.0 + less + tie)
                less *= more
                table[a, o, 0, k] = more if lean >= 0 else less
                table[a, o, 1, k] = less if lean >= 0 else more
                table[a, o, 2, k] = tie * more


@compiled
def add_information(counts, table, strength, order_sign, gradient, information):  # type: ignore[no-untyped-def]
    """Add gradient (A, 3) and expected information (A, 3, 3), its upper halves, of the complete-data log-likelihood.

    ``counts`` and ``table`` are of shape (A, 3 orders, 3 votes, K).
    """
    for a in range(table.shape[0]):
        for o in range(order_sign.shape[0]):
            sign = order_sign[o]
            for k in range(strength.shape[0]):
                n_low, n_high, n_tie = counts[a, o, 0, k], counts[a, o, 1, k], counts[a, o, 2, k]
                low, high, tie = table[a, o, 0, k], table[a, o, 1, k], table[a, o, 2, k]
                total, s = n_low + n_high + n_tie, strength[k]
                slope = 0.5 * (n_low - n_high - total * (low - high))
                gradient[a, 0] += slope * s
                gradient[a, 1] += slope * sign
                gradient[a, 2] += n_tie - total * tie
                curve = 0.25 * total * (low + high - (low - high) ** 2)
                cross = -0.5 * total * (low - high) * tie
                information[a, 0, 0] += curve * s * s
                information[a, 0, 1] += curve * s * sign
                information[a, 0, 2] += cross * s
                information[a, 1, 1] += curve * sign * sign
                information[a, 1, 2] += cross * sign
                information[a, 2, 2] += total * tie * (1.0 - tie)


@compiled
def add_squares(table, strength, order_sign, counts, squares):  # type: ignore[no-untyped-def]
    """Add up what the squares of the derivatives of log P(vote | class) by (theta, beta, tau) come to.

    Adds the products of two, times ``counts`` (A, 3, 3, K), to the upper halves of ``squares`` (A, 3, 3).
    """
    for a in range(table.shape[0]):
        for o in range(order_sign.shape[0]):
            for v in range(3):
                sign = SIGN[v]
                for k in range(strength.shape[0]):
                    lean = 0.5 * (sign - (table[a, o, 0, k] - table[a, o, 1, k]))
                    theta, beta = lean * strength[k], lean * order_sign[o]
                    tau = (1.0 if v == 2 else 0.0) - table[a, o, 2, k]
                    n = counts[a, o, v, k]
                    squares[a, 0, 0] += n * theta * theta
                    squares[a, 0, 1] += n * theta * beta
                    squares[a, 0, 2] += n * theta * tau
                    squares[a, 1, 1] += n * beta * beta
                    squares[a, 1, 2] += n * beta * tau
                    squares[a, 2, 2] += n * tau * tau
