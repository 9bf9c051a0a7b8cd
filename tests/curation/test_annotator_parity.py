"""Dawid-Skene with priors off equals crowd-kit's, on real votes."""

from __future__ import annotations

import numpy as np
import pytest
from crowdkit.aggregation import DawidSkene

from curation.annotators.dawid_skene import dawid_skene
from curation.annotators.votes import NUM_VOTES, Votes
from tests.annotator_peers import crowd_frame, display_labels
from tests.real_votes import judgments

ROUNDS = 12


@pytest.mark.parametrize("name", ["cragc25", "llmfao", pytest.param("ukpconvarg1", marks=pytest.mark.slow)])
def test_priors_off_it_equals_crowd_kit(name: str) -> None:
    votes = Votes.of(judgments(name))
    peer = DawidSkene(n_iter=ROUNDS, tol=-np.inf).fit(crowd_frame(votes))
    ours = dawid_skene(
        votes.pair,
        votes.annotator,
        display_labels(votes),
        num_classes=NUM_VOTES,
        max_iterations=ROUNDS,
        tolerance=-np.inf,
    )
    posterior = peer.probas_.sort_index()[list(range(NUM_VOTES))].to_numpy()
    assert np.abs(ours.posterior - posterior).max() < 1e-6
    for (worker, label), row in peer.errors_.iterrows():
        assert ours.confusion[worker, label] == pytest.approx(row[list(range(NUM_VOTES))].to_numpy(), abs=1e-6)
    assert ours.num_iterations == ROUNDS


def test_a_prior_keeps_an_annotator_with_two_votes_from_being_perfect() -> None:
    votes = Votes.of(judgments("cragc25"))
    few = np.flatnonzero(np.bincount(votes.annotator) <= 12)
    fits = [
        dawid_skene(votes.pair, votes.annotator, votes.vote, num_classes=NUM_VOTES, prior_votes=prior)
        for prior in (0.0, 5.0)
    ]
    surest = [fit.confusion[few].max() for fit in fits]
    assert surest[0] > 0.999
    assert surest[1] < 0.98
