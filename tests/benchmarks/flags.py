"""How well bad annotators of the generated world are told from honest ones, by the number of their votes.

Adversarial and position-biased annotators are ranked by the model's statistic among the honest ones (careful and
careless) and counted as caught above the honest ones' 95th percentile: a false alarm in twenty. Beside it, what the
flags of ``mart.annotator_report`` catch. The rank correlation of reliability stands beside that of an oracle, who knows
which response is better, every position bias and how reliabilities are spread. All worlds have the default settings.

    python -m tests.benchmarks.flags [--seeds 8]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import norm, spearmanr

from curation.annotators.confusion import THETA
from curation.annotators.estimates import annotator_estimates, position_p_values
from curation.annotators.model import fit
from curation.annotators.votes import Votes
from curation.synthetic.world import World, world

VOTES = (30, 60, 120, 240, 480)
NUM_ANNOTATORS = 100
HONEST = ("careful", "careless")


def judged(seed: int, num_votes: int) -> pl.DataFrame:
    """Annotators of a world in which they have about so many votes each, and what the model says of them."""
    made = world(seed, num_votes * NUM_ANNOTATORS // 8, NUM_ANNOTATORS, with_text=False)
    judgments = made.judgments.with_columns(is_display_order_known=pl.lit(True), source=pl.lit("world"))
    model = fit(Votes.of(judgments))
    theta_error = np.sqrt(model.covariance[:, THETA, THETA])
    found = annotator_estimates(model).with_columns(
        adversarial=pl.Series(norm.cdf(-model.parameters[:, THETA] / theta_error)),
        position_biased=pl.Series(1.0 - position_p_values(model)),
    )
    truth = made.annotators.select("annotator_id", "kind", planted="reliability")
    return (
        found.join(truth, on="annotator_id")
        .join(oracle(made), on="annotator_id")
        .with_columns(seed=pl.lit(seed), is_settled=pl.lit(model.is_converged))
    )


def oracle(made: World) -> pl.DataFrame:
    """The posterior mean of each annotator's reliability, given all but the votes' own chance."""
    truth = made.annotators.select("annotator_id", "reliability", "position_bias")
    votes = (
        made.judgments.filter(pl.col("vote") != "tie", pl.col("cause") == "annotator")
        .join(made.pairs.select("pair_id", "better_id"), on="pair_id")
        .filter(pl.col("better_id").is_not_null())
        .join(truth, on="annotator_id")
        .select(
            "annotator_id",
            "position_bias",
            is_a_better=pl.col("better_id") == pl.col("response_a_id"),
            is_a=pl.col("vote") == "a",
        )
    )
    theta = np.log(truth["reliability"].to_numpy() / (1 - truth["reliability"].to_numpy()))
    means = []
    for (name,), mine in votes.group_by("annotator_id", maintain_order=True):
        toward = np.where(mine["is_a_better"].to_numpy(), 1.0, -1.0)[:, None]
        log_odds = toward * theta + mine["position_bias"].to_numpy()[:, None]
        log_weight = -np.logaddexp(0, np.where(mine["is_a"].to_numpy()[:, None], -log_odds, log_odds)).sum(0)
        weight = np.exp(log_weight - log_weight.max())
        means.append((name, float(weight @ truth["reliability"].to_numpy() / weight.sum())))
    return pl.DataFrame(means, schema=["annotator_id", "oracle"], orient="row")


def row(annotators: pl.DataFrame) -> dict[str, Any]:
    """Shares caught and flagged, of the annotators of all seeds with one number of votes."""
    honest = annotators.filter(pl.col("kind").is_in(HONEST))
    result: dict[str, Any] = {"mean_votes": round(annotators["num_votes"].mean(), 1)}
    for kind, flag in (("adversarial", "is_adversarial"), ("position_biased", "is_position_biased")):
        bad = annotators.filter(kind=kind)
        threshold = honest[kind].quantile(0.95, interpolation="higher")
        result[kind] = {
            "number": len(bad),
            "caught_at_5_percent": (bad[kind] > threshold).mean(),
            "flagged": bad[flag].mean(),
            "honest_flagged": honest[flag].mean(),
        }
    enough = annotators.filter(pl.col("num_votes") >= 30)
    parts = enough.partition_by("seed")
    result["rank_correlation"] = float(np.mean([spearmanr(p["planted"], p["reliability"]).statistic for p in parts]))
    result["oracle_rank_correlation"] = float(np.mean([spearmanr(p["planted"], p["oracle"]).statistic for p in parts]))
    return result


def main() -> None:
    """Print the table, and the same as one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--votes", type=int, nargs="+", default=VOTES)
    arguments = parser.parse_args()
    results = {}
    print(
        "votes: adversarial caught, flagged, honest flagged; position-biased the same; rank correlation, of the oracle"
    )
    for num_votes in arguments.votes:
        found = row(pl.concat([judged(seed, num_votes) for seed in range(arguments.seeds)]))
        results[num_votes] = found
        bad = [found[kind] for kind in ("adversarial", "position_biased")]
        shares = ["{caught_at_5_percent:.2f} {flagged:.2f} {honest_flagged:.3f}".format(**each) for each in bad]
        shares.append("{rank_correlation:.2f} {oracle_rank_correlation:.2f}".format(**found))
        print(f"{num_votes:>4} ({found['mean_votes']}): {'; '.join(shares)}", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
