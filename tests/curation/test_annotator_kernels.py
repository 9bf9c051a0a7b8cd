"""The compiled loops equal plain numpy, however many votes a pair has and however the pairs are cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from curation.annotators import em, kernels
from curation.annotators.classify import Classifier
from curation.annotators.confusion import Grid, vote_probabilities
from curation.annotators.em import Ballots
from curation.annotators.model import _start
from curation.annotators.taste import _Mixture
from curation.annotators.votes import NUM_CELLS, Votes
from curation.settings import AnnotatorSettings
from tests.curation.planted_votes import planted_votes

GRID = Grid.of((0.5, 2.0), (-1.0, 1.0))
RNG = np.random.default_rng(0)
PARAMETERS = RNG.normal(size=(6, 3)) + np.array([1.0, 0.0, -1.0])
PRIOR = GRID.symmetric(RNG.dirichlet(np.ones(GRID.size)))
NUM_VOTES_OF_PAIR = np.array([1, 4000, 3, 2, 7])


def ballots() -> Ballots:
    pair = np.repeat(np.arange(len(NUM_VOTES_OF_PAIR)), NUM_VOTES_OF_PAIR)
    cell = RNG.integers(6 * NUM_CELLS, size=len(pair)).astype(np.int32)
    return Ballots.of(pair, cell, num_pairs=len(NUM_VOTES_OF_PAIR), num_cells=6 * NUM_CELLS)


def test_posteriors_and_expected_counts_equal_those_of_logarithms() -> None:
    table = vote_probabilities(PARAMETERS, GRID).reshape(-1, GRID.size)
    votes = ballots()
    pair = np.repeat(np.arange(votes.num_pairs), NUM_VOTES_OF_PAIR)
    log_joint = np.tile(np.log(PRIOR), (votes.num_pairs, 1))
    np.add.at(log_joint, pair, np.log(table)[votes.cell])
    posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    expected = np.zeros(table.shape)
    np.add.at(expected, votes.cell, posterior[pair])

    none, nothing = np.empty(0, dtype=np.int64), np.empty((0, GRID.size))
    counts, classes, square = np.zeros(table.shape), np.zeros(GRID.size), np.zeros((GRID.size // 2,) * 2)
    mean, result = np.zeros(GRID.size // 2), np.empty(posterior.shape)
    known = (votes.starts, votes.cell, votes.weight, table, PRIOR, none, nothing)
    evidence = kernels.expect(0, 5, *known, GRID.mirror, 1, counts, classes, mean, square, nothing)
    kernels.summarise(0, 5, *known, np.eye(GRID.size), result)
    assert evidence == pytest.approx(logsumexp(log_joint, axis=1).sum(), rel=1e-12)
    assert result == pytest.approx(posterior, abs=1e-12)
    assert counts == pytest.approx(expected, abs=1e-9)
    assert classes == pytest.approx(posterior.sum(axis=0), abs=1e-12)
    folded = (posterior + posterior[:, GRID.mirror])[:, : GRID.size // 2]
    assert mean == pytest.approx(folded.sum(axis=0), abs=1e-12)
    assert square == pytest.approx(folded.T @ folded, abs=1e-12)


def test_two_groups_see_what_logarithms_say() -> None:
    votes = Votes.of(planted_votes(300, 5, 20).judgments)
    model = _start(votes, AnnotatorSettings())
    mixture = _Mixture(votes, model)
    mixture.group = (np.arange(votes.num_annotators) % 3 == 0).astype(np.int8)
    mixture.parameters = model.parameters + np.random.default_rng(1).normal(size=model.parameters.shape) * 0.3
    unseen = votes.cell[votes.ballots.starts[:-1]]
    log_unseen, opposed = mixture.judge(unseen)

    log_table, in_second = np.log(mixture.table), mixture.group[votes.annotator] == 1
    first, second = (np.zeros((votes.num_pairs, model.grid.size)) for _ in range(2))
    np.add.at(first, votes.pair[~in_second], log_table[votes.cell[~in_second]])
    np.add.at(second, votes.pair[in_second], log_table[votes.cell[in_second]])
    same = first + second + np.log(model.class_prior) + np.log1p(-mixture.share)
    mirrored = first + second[:, model.grid.mirror] + np.log(model.class_prior) + np.log(mixture.share)
    total = logsumexp(np.concatenate((same, mirrored), axis=1), axis=1, keepdims=True)
    same, mirrored = np.exp(same - total), np.exp(mirrored - total)
    views = same + mirrored, same + mirrored[:, model.grid.mirror]
    is_second = mixture.group[unseen // NUM_CELLS] == 1
    likelihood = (np.where(is_second[:, None], views[1], views[0]) * mixture.table[unseen]).sum(axis=1)
    assert opposed == pytest.approx(mirrored.sum(axis=1), abs=1e-12)
    assert log_unseen == pytest.approx(np.log(likelihood), abs=1e-12)


def test_two_groups_of_hundreds_who_oppose_each_other_have_a_probability() -> None:
    table = np.log(vote_probabilities(np.array([[3.0, 0.0, -3.0]] * 2), GRID).reshape(-1, GRID.size))
    # a thousand votes for the lower response by the first annotator, as many for the higher one by the second
    cell = np.repeat(np.array([0, NUM_CELLS + 1], dtype=np.int32), 1000)
    opposed, log_unseen = np.empty(1), np.empty(1)
    votes = np.array([0, 2000]), cell, np.empty(0, np.float32), table, np.array([False, True]), NUM_CELLS
    known = *votes, np.log(PRIOR), GRID.mirror, 0.1
    kernels.judge_two(0, 1, *known, cell[:1], log_unseen, opposed)
    assert opposed[0] == pytest.approx(1.0)
    assert np.isfinite(log_unseen[0])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = Votes.of(planted_votes().judgments)
    model = _start(votes, AnnotatorSettings())
    whole = model.classifier().expect()
    monkeypatch.setattr(em, "_CHUNK_VOTES", 1000)
    cut = model.classifier()
    assert isinstance(cut, Classifier)
    chunks = list(cut.ballots.map(lambda first, last: (first, last)))
    assert len(chunks) > 3
    assert [first for first, _ in chunks[1:]] == [last for _, last in chunks[:-1]]
    assert cut.expect().counts == pytest.approx(whole.counts, abs=1e-9)
    assert cut.expect().log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-12)


def test_squared_scores_equal_those_of_numerical_derivatives() -> None:
    votes = Votes.of(planted_votes(60, 4, 12).judgments)
    model = _start(votes, AnnotatorSettings())
    model.parameters = model.parameters + np.random.default_rng(2).normal(size=model.parameters.shape) * 0.3
    posterior = model.classifier().summarise(np.eye(model.grid.size))[votes.pair]
    scores = np.empty((votes.num_votes, 3))
    for parameter in range(3):
        ends = []
        for step in (1e-6, -1e-6):
            moved = model.parameters.copy()
            moved[:, parameter] += step
            ends.append(np.log(vote_probabilities(moved, model.grid)).reshape(-1, model.grid.size)[votes.cell])
        scores[:, parameter] = (posterior * (ends[0] - ends[1]) / 2e-6).sum(axis=1)
    expected = np.zeros((votes.num_annotators, 3, 3))
    np.add.at(expected, votes.annotator, scores[:, :, None] * scores[:, None, :])
    assert model.classifier().squared_scores() == pytest.approx(np.triu(expected), abs=1e-6)


def test_many_annotators_are_counted_in_few_chunks() -> None:
    pair, cell = np.repeat(np.arange(600_000), 4), np.zeros(2_400_000, dtype=np.int32)
    for num_cells, expected in ((18_000, 8), (4_500_000, 2)):
        ballots = em.Ballots.of(pair, cell, num_pairs=600_000, num_cells=num_cells)
        assert len(list(ballots.map(lambda first, last: last))) == expected
