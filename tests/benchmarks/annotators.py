"""Held-out votes: the annotator model against majority, crowd-kit and evalica on real sets.

One random vote is held out of every pair that has enough, of somebody who has no other vote on the pair, so that nobody
is predicted from their own repeats; each model learns from the rest and says how probable the held-out vote is.
Log-loss is in nats a vote. To be fair to models without a prior, each peer's probabilities are mixed with the training
set's vote frequencies by the weight that suits it best *on the held-out votes*; ours are taken as they are. Intervals
are bootstrapped over pairs.

    python -m tests.benchmarks.annotators [--sets ukpconvarg1 cragc25 llmfao]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.annotators.model import fit, predict
from curation.annotators.votes import HIGH, LOW, NUM_VOTES, TIE, Votes
from tests.annotator_peers import PEERS, display_labels
from tests.real_votes import SETS, judgments

Array = NDArray[np.float64]

LEAST_VOTES = {"ukpconvarg1": 5, "cragc25": 5, "llmfao": 4}
_MIXTURES = np.concatenate(([0.0], np.geomspace(1e-4, 1.0, 60)))
_FLOOR = 1e-12


def hold_out(votes: Votes, *, least: int, seed: int) -> tuple[Votes, Votes]:
    """One random vote of every pair that has at least ``least`` is held out: (train, test).

    Only votes of annotators who voted once on the pair are held out.
    """
    random = np.random.default_rng(seed).random(votes.num_votes)
    voice = np.cumsum(votes.is_first) - 1
    is_single = np.bincount(voice)[voice] == 1
    sequence = np.lexsort((random, is_single, votes.pair))
    num = np.bincount(votes.pair, minlength=votes.num_pairs)
    last = sequence[np.cumsum(num) - 1]
    is_held_out = np.zeros(votes.num_votes, dtype=bool)
    is_held_out[last[(num >= least) & is_single[last]]] = True
    return votes.take(~is_held_out), votes.take(is_held_out)


def mixed(probabilities: Array, label: NDArray[np.int64], frequencies: Array) -> tuple[Array, float]:
    """Mixed with the vote frequencies by the weight with the least log-loss on the labels themselves."""
    rows = np.arange(len(label))
    losses = [
        -np.log(np.maximum((1 - w) * probabilities[rows, label] + w * frequencies[label], _FLOOR)).mean()
        for w in _MIXTURES
    ]
    weight = float(_MIXTURES[int(np.argmin(losses))])
    return (1 - weight) * probabilities + weight * frequencies, weight


def measure(name: str, *, seed: int = 0, num_bootstraps: int = 1000) -> list[dict[str, Any]]:
    """One row a model: log-loss, accuracy, and the difference to ours, each with its 95 % interval."""
    votes = Votes.of(judgments(name))
    train, test = hold_out(votes, least=LEAST_VOTES[name], seed=seed)
    rows = np.arange(test.num_votes)
    draws = np.random.default_rng(seed).integers(len(rows), size=(num_bootstraps, len(rows)))
    label = display_labels(test, train)
    frequencies = np.bincount(display_labels(train), minlength=NUM_VOTES) / train.num_votes
    results, ours = [], None
    for model in ("winnow", *PEERS):
        begin = time.perf_counter()
        if model == "winnow":
            canonical = predict(fit(train), test)
            swapped = (label != test.vote)[:, None]
            probabilities, weight = np.where(swapped, canonical[:, [HIGH, LOW, TIE]], canonical), 0.0
        else:
            probabilities, weight = mixed(PEERS[model](train, test), label, frequencies)
        loss = -np.log(np.maximum(probabilities[rows, label], _FLOOR))
        hit = (probabilities.argmax(axis=1) == label).astype(np.float64)
        ours = loss if ours is None else ours
        results.append(
            {
                "set": name,
                "model": model,
                "log_loss": float(loss.mean()),
                "log_loss_interval": _interval(loss, draws),
                "accuracy": float(hit.mean()),
                "accuracy_interval": _interval(hit, draws),
                "worse_than_ours_interval": _interval(loss - ours, draws),
                "mixed": weight,
                "seconds": time.perf_counter() - begin,
                "num_held_out": len(rows),
            }
        )
    return results


def _interval(values: Array, draws: NDArray[np.int64]) -> list[float]:
    means = np.array([values[draw].mean() for draw in draws])
    return [float(end) for end in np.quantile(means, [0.025, 0.975])]


def main() -> None:
    """Print the table, and the same as one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = []
    print("set, model, log-loss and interval, accuracy and interval, log-loss less ours, weight of the frequencies")
    for name in arguments.sets:
        for row in measure(name, seed=arguments.seed):
            results.append(row)
            (a, b), (c, d), (e, f) = row["log_loss_interval"], row["accuracy_interval"], row["worse_than_ours_interval"]
            print(
                f"{name:<12} {row['model']:<22} {row['log_loss']:8.4f} {a:.4f} .. {b:.4f} {row['accuracy']:8.4f}"
                f" {c:.4f} .. {d:.4f} {e:+.4f} .. {f:+.4f} {row['mixed']:.3f}",
                flush=True,
            )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
