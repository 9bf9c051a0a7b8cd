"""The annotator model: who is reliable, and what each pair's consensus is, from votes alone.

Latent classes of pairs (:mod:`curation.annotators.confusion`), hierarchical normal priors over annotators whose
variances are estimated (empirical Bayes), a symmetric prior over classes, and rewards of responses where a prompt's
graph is dense (:mod:`curation.annotators.ranking`). Fitted by EM with Newton steps; deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from curation.annotators.classes import Moments, class_step
from curation.annotators.classify import Classifier, Expectation
from curation.annotators.confusion import NO_TIES, TAU, THETA, Grid, NormalPrior, newton_step, vote_probabilities
from curation.annotators.em import Array
from curation.annotators.information import observed_information
from curation.annotators.ranking import DenseGraph, tilted
from curation.annotators.votes import TIE, Votes
from curation.settings import AnnotatorSettings

_MOST_MISSING = 0.5
"""Most of the information that a Newton step treats as missing: over-relaxed EM converges up to twice the step."""

_SETTLED = 0.05
"""Relative change of the priors' standard deviations below which they have settled."""

_SAME = 0.03
"""The same of annotators' priors as a difference, log-odds: one that falls to 0 has settled long before it is there."""

_SAMPLE_STEP = 8
"""Most pairs of which one is in the sample that a large set starts from."""

_HYPERPRIOR = (2.0, 0.25)
"""Pseudo-annotators at the mean that a fit begins with, and their variance: where there are few annotators they keep a
prior's variance off zero, and its mean from running away where all votes are the same."""

_MOST_VARIANCE = 4.0
"""Most variance of a prior: where hardly anybody ever ties, that of the tie tendency has no end."""


@dataclass
class AnnotatorModel:
    """The fitted model.

    Attributes:
        votes: what it was fitted on.
        grid: latent classes.
        parameters: theta, beta, tau of each annotator, shape (A, 3).
        population: their prior.
        population_base: mean of the prior that the fit begins with, that of its hyperprior, shape (3,).
        trend: change of the logarithms of the prior's variances at their last update, shape (3,).
        class_prior: shape (K,), symmetric.
        class_base: its hyperprior's mean, shape (K,).
        graph: pairs with rewards of responses.
        reward: x of each response of the graph, nats, shape (R,).
        reward_variance: of the prior of x.
        num_rewards: how many of the rewards the votes determine.
        missing: share of the information on annotators that is lost to not knowing the pairs' classes, shape (A, 3).
        covariance: of each annotator's parameters, shape (A, 3, 3).
        class_share: expected share of pairs of each class, shape (K,).
        history: log-likelihood of all votes after each round, parameters at their estimates, nats.
        is_converged: whether the tolerance was reached.
    """

    votes: Votes
    grid: Grid
    parameters: Array
    population: NormalPrior
    population_base: Array
    class_prior: Array
    class_base: Array
    graph: DenseGraph
    reward: Array
    missing: Array
    trend: Array = field(default_factory=lambda: np.zeros(3))
    reward_variance: float = 1.0
    num_rewards: float = 0.0
    covariance: Array = field(default_factory=lambda: np.empty((0, 3, 3)))
    class_share: Array = field(default_factory=lambda: np.empty(0))
    history: list[float] = field(default_factory=list)
    is_converged: bool = False

    @property
    def log_likelihood(self) -> float:
        """Of all votes, nats."""
        return self.history[-1]

    def classifier(self) -> Classifier:
        """Posteriors of pairs under the present parameters."""
        return Classifier(self.votes.ballots, self.parameters, self.class_prior, self.graph, self.reward, self.grid)


def fit(votes: Votes, settings: AnnotatorSettings | None = None) -> AnnotatorModel:
    """Fit the annotator model to the votes on one criterion; there must be at least one.

    Every round is one E-step and one damped Newton step of the annotators, the rewards and the class prior; the
    variances of the priors are updated every ``settings.rounds_per_update`` rounds. A large set starts from the fit of
    a sample of its pairs.
    """
    settings = settings or AnnotatorSettings()
    model = _start(votes, settings)
    is_warm = votes.num_votes > 2 * settings.sample_votes
    if is_warm:
        every = min(votes.num_votes // settings.sample_votes, _SAMPLE_STEP)
        sample = votes.of_pairs(np.arange(0, votes.num_pairs, every))  # identifiers are hashes, so it is a random one
        _take_over(model, fit(sample, settings.model_copy(update={"min_degree": np.inf})))
    believed = model.classifier().expect()
    model.history.append(believed.log_likelihood)
    num_voices = float(votes.weight.sum()) if len(votes.weight) > 0 else votes.num_votes
    enough, updated_at = settings.tolerance * num_voices, 0
    # rewards and their scale move in turn, so with rewards an even number of rounds compares like with like
    lag = settings.rounds_per_update * (2 if len(model.graph.pair) > 0 else 1)
    for round_number in range(1, settings.max_rounds + 1):
        # moving the scale is a short cut, and swings where the votes hardly determine it: the second half does without
        is_scale_moved = round_number % 2 == 0 and 2 * round_number <= settings.max_rounds
        _maximise(model, believed, settings, is_scale_moved=is_scale_moved)
        del believed  # of many annotators it is large
        believed = model.classifier().expect()
        model.history.append(believed.log_likelihood)
        # what begins near its end is there once a round gains less than half of the tolerance
        is_near = is_warm and 2.0 * abs(model.history[-1] - model.history[-2]) < enough
        if is_near or round_number - updated_at == settings.rounds_per_update:
            settled = _update_variances(model, believed)
            if settled and (is_near or abs(model.history[-1] - model.history[max(round_number - lag, 0)]) < enough):
                model.is_converged = True
                break
            updated_at = round_number
    if not model.is_converged:
        model.covariance = _covariance(model, believed.counts)
    model.class_share = model.grid.symmetric(believed.classes / votes.num_pairs)
    return model


def _start(votes: Votes, settings: AnnotatorSettings) -> AnnotatorModel:
    tie_share = float((votes.vote == TIE).mean())
    grid = Grid.of(settings.strengths, settings.evennesses if tie_share > 0 else (0.0,))
    tau = NO_TIES if tie_share == 0 else float(np.log(tie_share / max(1.0 - tie_share, 1e-3)))
    population = NormalPrior(np.array([1.0, 0.0, tau]), np.array([0.25, 0.25, 1.0 if tie_share > 0 else 1e-6]))
    graph = DenseGraph.of(votes, min_degree=settings.min_degree)
    base = np.exp(-0.5 * (grid.strength / settings.strength_scale) ** 2)
    return AnnotatorModel(
        votes=votes,
        grid=grid,
        parameters=np.tile(population.mean, (votes.num_annotators, 1)),
        population=population,
        population_base=population.mean.copy(),
        class_prior=base / base.sum(),
        class_base=base / base.sum(),
        graph=graph,
        reward=np.zeros(graph.num_responses),
        missing=np.zeros((votes.num_annotators, 3)),
    )


def _take_over(model: AnnotatorModel, sample: AnnotatorModel) -> None:
    """Start from the fit of a sample of the same annotators."""
    if sample.grid.size == model.grid.size:
        model.parameters, model.population = sample.parameters, sample.population
        model.class_prior, model.missing = sample.class_prior, sample.missing


def _maximise(
    model: AnnotatorModel, believed: Expectation, settings: AnnotatorSettings, *, is_scale_moved: bool
) -> None:
    """One step of the annotators and the class prior, and of the rewards or, in turn, of their scale."""
    grid, graph = model.grid, model.graph
    model.parameters = newton_step(model.parameters, believed.counts, model.missing, grid, model.population)
    num_free = model.votes.num_pairs - len(graph.pair)
    posterior, prior = believed.free, Moments.of(model.class_prior[None, :], None, grid, num_pairs=num_free)
    if len(graph.pair) > 0:
        difference = graph.difference(model.reward) if is_scale_moved else None
        in_prior = _prior_in_graph(model)
        posterior = posterior.plus(Moments.of(believed.in_graph, difference, grid))
        prior = prior.plus(Moments.of(in_prior, difference, grid))
        if not is_scale_moved:
            model.reward, _ = graph.newton_step(model.reward, model.reward_variance, believed.in_graph, in_prior, grid)
    model.class_prior, growth = class_step(
        model.class_prior,
        posterior,
        prior,
        grid,
        pseudo_pairs=settings.class_prior_pairs * model.class_base,
        determined=model.num_rewards if is_scale_moved else 0.0,
    )
    model.reward = model.reward * growth


def _prior_in_graph(model: AnnotatorModel) -> Array:
    """Class prior of the graph's pairs, tilted by the rewards, shape (E, K)."""
    return np.exp(tilted(np.log(model.class_prior)[None, :], model.graph.difference(model.reward), model.grid))


def _update_variances(model: AnnotatorModel, believed: Expectation) -> bool:
    """Empirical Bayes: D. MacKay's fixed point (Neural Computation 4, 1992). Returns whether the variances settled.

    A prior's variance is the estimates' squares over the number of them that the votes determine; its mean is what the
    votes say on average.
    """
    model.covariance = covariance = _covariance(model, believed.counts)
    mean, old = model.population.mean.copy(), model.population.variance
    number, variance = _HYPERPRIOR
    share = np.clip(1.0 - np.diagonal(covariance, axis1=1, axis2=2) / old, 0.0, 1.0)
    determined = share.sum(axis=0)
    free = [THETA, TAU] if mean[TAU] > NO_TIES else [THETA]
    # an estimate is share x what the votes say + (1 - share) x the mean
    said = (model.parameters - (1.0 - share) * mean).sum(axis=0)
    mean[free] = ((said + number * model.population_base) / (determined + number))[free]
    new = (((model.parameters - mean) ** 2).sum(axis=0) + number * variance) / (determined + number)
    new = np.minimum(new, _MOST_VARIANCE)
    if mean[TAU] == NO_TIES:
        new[TAU] = old[TAU]
    # what turns back goes half of the way, else it swings about its end for ever
    change = np.log(new / old)
    change = np.where(change * model.trend < 0, 0.5 * change, change)
    model.trend, new = change, old * np.exp(change)
    model.population = replace(model.population, mean=mean, variance=new)
    difference = np.abs(np.sqrt(new) - np.sqrt(old))
    is_settled = bool((difference < np.maximum(_SAME, _SETTLED * np.sqrt(old))).all())
    if len(model.graph.pair) > 0:
        return _update_reward_variance(model, believed.in_graph) < _SETTLED and is_settled
    return is_settled


def _update_reward_variance(model: AnnotatorModel, in_graph: Array) -> float:
    prior = _prior_in_graph(model)
    _, diagonal = model.graph.newton_step(model.reward, model.reward_variance, in_graph, prior, model.grid)
    model.num_rewards = float(np.clip(1.0 - 1.0 / (diagonal * model.reward_variance), 0.0, 1.0).sum())
    number, variance = _HYPERPRIOR
    new = float(((model.reward**2).sum() + number * variance) / (model.num_rewards + number))
    change = abs(np.sqrt(new / model.reward_variance) - 1.0)
    model.reward_variance = new
    return change


def _covariance(model: AnnotatorModel, counts: Array) -> Array:
    """Covariance of each annotator's parameters, shape (A, 3, 3); notes which share of the information is missing."""
    observed, complete = observed_information(model.parameters, model.classifier(), counts, model.grid)
    whole = np.diagonal(complete, axis1=1, axis2=2)
    lost = 1.0 - np.diagonal(observed, axis1=1, axis2=2) / np.maximum(whole, 1e-300)
    model.missing = np.clip(lost, 0.0, _MOST_MISSING)
    values, vectors = np.linalg.eigh(observed + np.diag(1.0 / model.population.variance))
    # far from a maximum the observed information need not be positive; the prior's precision is its floor
    floor = (1.0 / model.population.variance).min()
    covariance: Array = np.einsum("aij,aj,akj->aik", vectors, 1.0 / np.maximum(values, floor), vectors)
    return covariance


def population_votes(model: AnnotatorModel) -> Array:
    """P(vote | class) of a random vote's annotator, both display orders alike; shape (3 votes, K)."""
    votes = model.votes
    weight = votes.weight if len(votes.weight) > 0 else None
    num_votes = np.bincount(votes.annotator, weight, minlength=votes.num_annotators)
    probabilities = vote_probabilities(model.parameters, model.grid)[:, :2].mean(axis=1)
    return np.einsum("a,avk->vk", num_votes / num_votes.sum(), probabilities)


def predict(model: AnnotatorModel, votes: Votes) -> Array:
    """P(low, high, tie) of further votes on the same pairs by the same annotators, shape (N, 3)."""
    table = vote_probabilities(model.parameters, model.grid)
    posterior = model.classifier().summarise(np.eye(model.grid.size))
    return np.einsum("nk,nvk->nv", posterior[votes.pair], table[votes.annotator, votes.order])
