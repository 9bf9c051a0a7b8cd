"""Peers of the annotator model: each learns from votes and predicts further votes on the same pairs.

Every peer gets the labels in each pair's own display order (that of its first vote), so that a peer with confusion
matrices can learn position bias as far as its model allows.
"""

from __future__ import annotations

from collections.abc import Callable

import evalica
import numpy as np
import pandas as pd
import polars as pl
from crowdkit.aggregation import MACE, DawidSkene, MajorityVote, OneCoinDawidSkene
from numpy.typing import NDArray
from scipy import sparse

from curation.annotators.judgments import encode
from curation.annotators.votes import BACKWARD, HIGH, LOW, NUM_VOTES, TIE, Votes

Array = NDArray[np.float64]


def display_labels(votes: Votes, like: Votes | None = None) -> NDArray[np.int64]:
    """Labels in the display order of each pair's first vote of ``like``: its own inverse."""
    like = like or votes
    first = np.searchsorted(like.pair, np.arange(votes.num_pairs))
    is_backward = np.zeros(votes.num_pairs, dtype=bool)
    has_votes = first < like.num_votes
    is_backward[has_votes] = like.order[first[has_votes]] == BACKWARD
    swapped = np.array([HIGH, LOW, TIE])[votes.vote]
    return np.where(is_backward[votes.pair], swapped, votes.vote).astype(np.int64)


def crowd_frame(votes: Votes) -> pd.DataFrame:
    """What crowd-kit reads."""
    return pd.DataFrame({"task": votes.pair, "worker": votes.annotator, "label": display_labels(votes)})


def majority(train: Votes, test: Votes) -> Array:
    """Share of the other votes."""
    return _of_pairs(MajorityVote().fit_predict_proba(crowd_frame(train)), train)[test.pair]


def dawid_skene(train: Votes, test: Votes) -> Array:
    """crowd-kit's Dawid-Skene: posterior of the pair times the annotator's confusion matrix."""
    return _with_confusion(DawidSkene(n_iter=100).fit(crowd_frame(train)), train, test)


def one_coin(train: Votes, test: Votes) -> Array:
    """crowd-kit's OneCoin Dawid-Skene, likewise."""
    return _with_confusion(OneCoinDawidSkene(n_iter=100).fit(crowd_frame(train)), train, test)


def mace(train: Votes, test: Votes) -> Array:
    """crowd-kit's MACE: copies the true label with some probability, else votes by a habit."""
    data = crowd_frame(train)
    model = MACE(n_restarts=3, n_iter=50).fit(data)
    _, worker_names = pd.factorize(data["worker"])
    _, label_names = pd.factorize(data["label"])
    habit, copies = np.full((train.num_annotators, NUM_VOTES), 1 / NUM_VOTES), np.full(train.num_annotators, 0.5)
    habit[np.ix_(np.asarray(worker_names), np.asarray(label_names))] = model.thetas_
    copies[np.asarray(worker_names)] = model.spamming_[:, 1]
    posterior = _of_pairs(model.probas_, train)[test.pair]
    share = copies[test.annotator][:, None]
    return share * posterior + (1 - share) * habit[test.annotator]


def bradley_terry(train: Votes, test: Votes) -> Array:
    """evalica's Bradley-Terry over the responses of each prompt; ties at the rate of the set."""
    ids, code = encode(pl.concat([train.low_ids, train.high_ids]))
    low, high = code[: train.num_pairs], code[train.num_pairs :]
    links = sparse.coo_array((np.ones(len(low)), (low, high)), shape=(len(ids), len(ids)))
    component = sparse.csgraph.connected_components(links, directed=False)[1][low][train.pair]
    score = np.ones(len(ids))
    for number in np.unique(component):  # all at once, evalica's scores of unconnected graphs come out equal
        of = component == number
        winners = [(evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw)[vote] for vote in train.vote[of]]
        pair = train.pair[of]
        scores = evalica.bradley_terry(low[pair].tolist(), high[pair].tolist(), winners, limit=1000).scores
        score[scores.index.to_numpy()] = scores.to_numpy()
    low_wins = score[low] / (score[low] + score[high])
    tie = float((train.vote == TIE).mean())
    of_pair = np.column_stack(((1 - tie) * low_wins, (1 - tie) * (1 - low_wins), np.full(train.num_pairs, tie)))
    swap = display_labels(test, train)
    return _displayed(of_pair[test.pair], test.vote, swap)


PEERS: dict[str, Callable[[Votes, Votes], Array]] = {
    "majority vote": majority,
    "crowd-kit Dawid-Skene": dawid_skene,
    "crowd-kit OneCoin": one_coin,
    "crowd-kit MACE": mace,
    "evalica Bradley-Terry": bradley_terry,
}
"""Name and function: (train, test) to P(label) in the pair's display order, shape (N, 3)."""


def _of_pairs(probabilities: pd.DataFrame, votes: Votes) -> Array:
    """Class probabilities as an array of shape (P, 3); a pair without votes, or a class never voted for, gets none."""
    table = np.zeros((votes.num_pairs, NUM_VOTES))
    columns = probabilities.columns.to_numpy().astype(int)
    table[np.ix_(probabilities.index.to_numpy(), columns)] = probabilities.to_numpy()
    return table


def _with_confusion(model: DawidSkene, train: Votes, test: Votes) -> Array:
    errors = model.errors_
    confusion = np.zeros((train.num_annotators, NUM_VOTES, NUM_VOTES))
    worker, label = (errors.index.get_level_values(name).to_numpy() for name in ("worker", "label"))
    for column in errors.columns:
        confusion[worker, label, int(column)] = errors[column].to_numpy()
    is_seen = confusion.sum(axis=(1, 2)) > 0
    confusion[~is_seen] = confusion[is_seen].mean(axis=0)
    return np.einsum("nk,nvk->nv", _of_pairs(model.probas_, train)[test.pair], confusion[test.annotator])


def _displayed(canonical: Array, vote: NDArray[np.int8], label: NDArray[np.int64]) -> Array:
    """Columns low, high, tie put into the display order in which ``vote`` is called ``label``."""
    is_swapped = (vote != label)[:, None]
    return np.where(is_swapped, canonical[:, [HIGH, LOW, TIE]], canonical)
