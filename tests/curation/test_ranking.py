"""The Bradley-Terry layer: rewards and annotators' temperatures are recovered, and every step climbs to the maximum."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import spearmanr

from curation.annotators.classes import Moments, class_step
from curation.annotators.confusion import THETA, Grid
from curation.annotators.model import fit
from curation.annotators.ranking import DenseGraph, tilted
from curation.annotators.votes import Votes
from curation.settings import AnnotatorSettings

GRID = Grid.of((0.5, 2.0), (0.0,))
LOG_PRIOR = np.log(np.array([0.2, 0.3, 0.3, 0.2]))
TEMPERATURES = np.linspace(0.1, 2.0, 12)
Array = NDArray[np.float64]


def bradley_terry_votes(num_prompts: int = 6, num_responses: int = 16, *, seed: int = 0) -> tuple[Votes, Array, Array]:
    """Votes of annotators with ``TEMPERATURES`` on all pairs of some prompts; rewards and temperatures by number."""
    rng = np.random.default_rng(seed)
    reward = rng.normal(0.0, 1.5, (num_prompts, num_responses))
    rows = []
    for prompt in range(num_prompts):
        for low in range(num_responses):
            for high in range(low + 1, num_responses):
                for who in rng.choice(len(TEMPERATURES), 4, replace=False):
                    x = TEMPERATURES[who] * (reward[prompt, low] - reward[prompt, high])
                    ends = f"{prompt}-{low:02d}", f"{prompt}-{high:02d}"
                    rows.append((" ".join(ends), *ends, "ab"[int(rng.random() > 1 / (1 + np.exp(-x)))], f"w{who:02d}"))
    names = ["pair_id", "response_a_id", "response_b_id", "vote", "annotator_id"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    votes = Votes.of(frame.with_columns(is_display_order_known=pl.lit(False), source=pl.lit("s")))
    return votes, reward.ravel(), TEMPERATURES


def test_rewards_and_temperatures_are_recovered() -> None:
    votes, reward, temperature = bradley_terry_votes()
    model = fit(votes)
    assert model.graph.response_ids.to_list() == sorted(model.graph.response_ids)
    by_prompt = zip(reward.reshape(6, -1), model.reward.reshape(6, -1), strict=True)
    assert np.mean([spearmanr(true, found).statistic for true, found in by_prompt]) >= 0.9
    theta = model.parameters[:, THETA]
    assert spearmanr(temperature, theta).statistic >= 0.9
    # the coldest votes like a coin, the hottest is not
    assert theta[0] < 0.4 * theta[-1]


def test_the_layer_predicts_what_the_pairs_alone_do_not() -> None:
    votes, reward, _ = bradley_terry_votes()
    better = np.sign(reward[votes.low] - reward[votes.high])
    right = {}
    for name, degree in (("rewards", 4.0), ("pairs", np.inf)):
        model = fit(votes, AnnotatorSettings(min_degree=degree))
        lean = model.classifier().summarise(model.grid.strength[:, None])[:, 0]
        right[name] = float((np.sign(lean) == better).mean())
    assert right["rewards"] > right["pairs"] + 0.01


def test_sparse_graphs_have_no_rewards() -> None:
    votes, *_ = bradley_terry_votes(2, 16)
    assert DenseGraph.of(votes, min_degree=15.0).num_responses == 32
    assert DenseGraph.of(votes, min_degree=15.1).num_responses == 0
    assert DenseGraph.of(votes, min_degree=np.inf).num_responses == 0


def test_equal_rewards_leave_the_prior_and_a_difference_tilts_it() -> None:
    same, tilt = np.exp(tilted(LOG_PRIOR[None, :], np.array([0.0, 0.7]), GRID))
    assert same == pytest.approx(np.exp(LOG_PRIOR))
    by_hand = np.exp(LOG_PRIOR + 0.7 * GRID.strength)
    assert tilt == pytest.approx(by_hand / by_hand.sum())


def four() -> tuple[DenseGraph, Array]:
    """All pairs of four responses, and a likelihood of each pair's classes."""
    low, high = np.triu_indices(4, 1)
    graph = DenseGraph(pl.Series(list("abcd")), np.arange(6), low.astype(np.int64), high.astype(np.int64))
    return graph, np.random.default_rng(3).dirichlet(np.ones(GRID.size), 6)


def test_newton_steps_of_the_rewards_end_at_the_maximum() -> None:
    graph, likelihood = four()
    variance = 2.0

    def loss(reward: Array) -> float:
        prior = np.exp(tilted(LOG_PRIOR[None, :], graph.difference(reward), GRID))
        return float((reward**2).sum() / (2 * variance) - np.log((prior * likelihood).sum(axis=1)).sum())

    reward = np.zeros(4)
    for _ in range(200):
        prior = np.exp(tilted(LOG_PRIOR[None, :], graph.difference(reward), GRID))
        joint = prior * likelihood
        reward, diagonal = graph.newton_step(reward, variance, joint / joint.sum(axis=1, keepdims=True), prior, GRID)
    assert reward == pytest.approx(minimize(loss, np.zeros(4), tol=1e-12).x, abs=1e-5)
    assert (diagonal > 1.0 / variance).all()


def test_class_steps_end_at_the_fixed_point_of_em() -> None:
    likelihood = np.random.default_rng(4).dirichlet(np.full(GRID.size, 0.7), 300)
    pseudo = np.full(GRID.size, 5.0)
    by_em = by_newton = np.full(GRID.size, 1.0 / GRID.size)
    for _ in range(2000):
        joint = by_em * likelihood
        counts = (joint / joint.sum(axis=1, keepdims=True)).sum(axis=0) + pseudo
        by_em = GRID.symmetric(counts / counts.sum())
    for _ in range(50):
        joint = by_newton * likelihood
        believed = Moments.of(joint / joint.sum(axis=1, keepdims=True), None, GRID)
        expected = Moments.of(by_newton[None, :], None, GRID, num_pairs=300)
        by_newton, growth = class_step(by_newton, believed, expected, GRID, pseudo_pairs=pseudo, determined=0.0)
        assert growth == pytest.approx(1.0)
    assert by_newton == pytest.approx(by_em, abs=1e-6)


def test_moments_of_folded_sums_are_those_of_the_weights() -> None:
    weights = np.random.default_rng(5).dirichlet(np.ones(GRID.size), 40)
    folded = (weights + weights[:, GRID.mirror])[:, : GRID.size // 2]
    one, other = Moments.of(weights, None, GRID), Moments.of_folded(folded.sum(axis=0), folded.T @ folded)
    assert one.mean == pytest.approx(other.mean)
    assert one.covariance == pytest.approx(other.covariance)
