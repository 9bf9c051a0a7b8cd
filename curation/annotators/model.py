"""The annotator model: who is reliable, and what each pair's consensus is, from votes alone.

Latent classes of pairs (:mod:`curation.annotators.confusion`), hierarchical normal priors over annotators whose
variances are estimated (empirical Bayes), a symmetric prior over classes, and rewards of responses where a prompt's
graph is dense (:mod:`curation.annotators.ranking`). Fitted by EM; deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from curation.annotators.confusion import NO_TIES, TAU, Grid, NormalPrior, newton_step, vote_probabilities
from curation.annotators.em import Array, VoteMatrix, posterior_of
from curation.annotators.information import observed_information
from curation.annotators.ranking import DenseGraph, tilted
from curation.annotators.votes import TIE, Votes
from curation.settings import AnnotatorSettings


@dataclass
class AnnotatorModel:
    """The fitted model.

    Attributes:
        votes: what it was fitted on.
        grid: latent classes.
        parameters: theta, beta, tau of each annotator, shape (A, 3).
        population: their prior.
        class_prior: shape (K,), symmetric.
        graph: pairs with rewards of responses.
        reward: x of each response of the graph, nats, shape (R,).
        reward_variance: of the prior of x.
        posterior: of each pair's class, shape (P, K).
        covariance: of each annotator's parameters, shape (A, 3, 3).
        log_likelihood: of all votes, annotators' parameters at their estimates, nats.
        history: log-likelihood after each round.
        is_converged: whether the tolerance was reached.
    """

    votes: Votes
    grid: Grid
    parameters: Array
    population: NormalPrior
    class_prior: Array
    graph: DenseGraph
    reward: Array
    reward_variance: float
    posterior: Array = field(default_factory=lambda: np.empty((0, 0)))
    covariance: Array = field(default_factory=lambda: np.empty((0, 3, 3)))
    log_likelihood: float = -np.inf
    history: list[float] = field(default_factory=list)
    is_converged: bool = False

    def log_prior(self) -> Array:
        """Log prior of each pair's class; shape (1, K) where no pair has rewards, else (P, K)."""
        log_prior = np.log(self.class_prior)[None, :]
        if len(self.graph.pair) == 0:
            return log_prior
        every = np.repeat(log_prior, self.votes.num_pairs, axis=0)
        every[self.graph.pair] = tilted(log_prior, self.graph.difference(self.reward), self.grid)
        return every


def fit(votes: Votes, settings: AnnotatorSettings | None = None) -> AnnotatorModel:
    """Fit the annotator model to the votes on one criterion.

    Votes must not be empty. Every round is one E-step, one Newton step an annotator, one of the rewards; the variances
    of the priors are updated every ``settings.rounds_per_update`` rounds.
    """
    settings = settings or AnnotatorSettings()
    model = _start(votes, settings)
    matrix = VoteMatrix(votes.matrix)
    counts = np.empty((0, 0))
    for round_number in range(1, settings.max_rounds + 1):
        counts = _expect(model, matrix)
        model.history.append(model.log_likelihood)
        is_update = round_number % settings.rounds_per_update == 0
        if is_update:
            settled = _update_variances(model, counts)
            gain = model.history[-1] - model.history[-min(settings.rounds_per_update, len(model.history))]
            if settled and abs(gain) < settings.tolerance * votes.num_votes:
                model.is_converged = True
                break
        _maximise(model, counts, settings)
    model.covariance = _covariance(model, counts)
    return model


def _start(votes: Votes, settings: AnnotatorSettings) -> AnnotatorModel:
    tie_share = float((votes.vote == TIE).mean())
    evennesses = settings.evennesses if tie_share > 0 else (0.0,)
    grid = Grid.of(settings.strengths, evennesses)
    tau = np.log(tie_share / (1.0 - tie_share)) if 0 < tie_share < 1 else (NO_TIES if tie_share == 0 else 3.0)
    population = NormalPrior(np.array([1.0, 0.0, tau]), np.array([0.25, 0.25, 1.0 if tie_share > 0 else 1e-6]))
    graph = DenseGraph.of(votes, min_degree=settings.min_degree)
    return AnnotatorModel(
        votes=votes,
        grid=grid,
        parameters=np.tile(population.mean, (votes.num_annotators, 1)),
        population=population,
        class_prior=np.full(grid.size, 1.0 / grid.size),
        graph=graph,
        reward=np.zeros(graph.num_responses),
        reward_variance=0.25,
    )


def _expect(model: AnnotatorModel, matrix: VoteMatrix) -> Array:
    """E-step: posterior of each pair's class; returns expected counts of cells, shape (9 A, K)."""
    table = np.log(vote_probabilities(model.parameters, model.grid))
    log_joint = matrix.times(table.reshape(-1, model.grid.size))
    log_joint += model.log_prior()
    model.posterior, evidence = posterior_of(log_joint)
    model.log_likelihood = float(evidence.sum())
    return matrix.transposed_times(model.posterior)


def _maximise(model: AnnotatorModel, counts: Array, settings: AnnotatorSettings) -> None:
    model.parameters = newton_step(model.parameters, counts, model.grid, model.population)
    pseudo = settings.class_prior_pairs / model.grid.size
    expected = model.class_prior * model.votes.num_pairs
    if len(model.graph.pair) > 0:
        prior = np.exp(tilted(np.log(model.class_prior), model.graph.difference(model.reward), model.grid))
        in_graph = model.posterior[model.graph.pair]
        model.reward, _ = model.graph.newton_step(model.reward, model.reward_variance, in_graph, prior, model.grid)
        expected += prior.sum(axis=0) - model.class_prior * len(model.graph.pair)
    ratio = (model.grid.symmetric(model.posterior.sum(axis=0)) + pseudo) / (model.grid.symmetric(expected) + pseudo)
    weights = model.class_prior * ratio
    model.class_prior = weights / weights.sum()


def _update_variances(model: AnnotatorModel, counts: Array) -> bool:
    """Empirical Bayes: the priors' variances from the estimates' spread and uncertainty. Whether they settled."""
    covariance = _covariance(model, counts)
    mean = model.population.mean.copy()
    if mean[TAU] > NO_TIES:
        mean[TAU] = model.parameters[:, TAU].mean()
    spread = (model.parameters - mean) ** 2 + np.diagonal(covariance, axis1=1, axis2=2)
    # two pseudo-annotators of variance 1/4 keep the variance off zero where there are few annotators
    variance = (spread.sum(axis=0) + 2 * 0.25) / (len(spread) + 2)
    if mean[TAU] == NO_TIES:
        variance[TAU] = model.population.variance[TAU]
    change = np.abs(variance / model.population.variance - 1.0).max()
    model.population = replace(model.population, mean=mean, variance=variance)
    if len(model.graph.pair) > 0:
        prior = np.exp(tilted(np.log(model.class_prior), model.graph.difference(model.reward), model.grid))
        in_graph = model.posterior[model.graph.pair]
        _, diagonal = model.graph.newton_step(model.reward, model.reward_variance, in_graph, prior, model.grid)
        new = float((model.reward**2 + 1.0 / diagonal).mean())
        change = max(change, abs(new / model.reward_variance - 1.0))
        model.reward_variance = new
    return bool(change < 0.02)


def _covariance(model: AnnotatorModel, counts: Array) -> Array:
    information = observed_information(
        model.parameters, model.votes.matrix, model.posterior, counts, model.grid
    ) + np.diag(1.0 / model.population.variance)
    # far from a maximum the observed information need not be positive; the prior's precision is its floor
    values, vectors = np.linalg.eigh(information)
    floor = (1.0 / model.population.variance).min()
    return np.einsum("aij,aj,akj->aik", vectors, 1.0 / np.maximum(values, floor), vectors)


def population_votes(model: AnnotatorModel) -> Array:
    """P(vote | class) of a random vote's annotator, both display orders alike; shape (3 votes, K)."""
    num_votes = np.bincount(model.votes.annotator, minlength=model.votes.num_annotators)
    probabilities = vote_probabilities(model.parameters, model.grid)[:, :2].mean(axis=1)
    return np.einsum("a,avk->vk", num_votes / num_votes.sum(), probabilities)


def predict(model: AnnotatorModel, votes: Votes) -> Array:
    """P(low, high, tie) of further votes on the same pairs by the same annotators, shape (N, 3)."""
    table = vote_probabilities(model.parameters, model.grid)
    given = table[votes.annotator, votes.order]
    return np.einsum("nk,nvk->nv", model.posterior[votes.pair], given)
