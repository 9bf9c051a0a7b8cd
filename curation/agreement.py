"""Agreement between annotators: Krippendorff's alpha by slice, and every two annotators who share pairs.

A unit is a pair; units with fewer than two votes carry no information on agreement and are excluded and counted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.voices import one_vote_each
from curation.annotators.votes import NUM_VOTES, Votes, encode

Array = NDArray[np.float64]
Ints = NDArray[np.integer]
Merge = Callable[[Ints, Ints, Ints], tuple[Ints, Ints]]


def krippendorff_alpha(counts: NDArray[np.integer] | Array, *, weights: Array | None = None, level: str) -> Array:
    """Krippendorff's alpha of units' vote counts.

    Args:
        counts: votes of each unit for each value, values in rank order, shape (U, V).
        weights: how often each unit stands in each sample, shape (B, U); once where not given.
        level: ``nominal`` or ``ordinal``.

    Returns:
        Alpha of each sample, shape (B,), or (1,) without weights; NaN where all votes are equal or none is pairable.
        K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011).
    """
    counts = np.asarray(counts, dtype=np.float64)
    num = counts.sum(axis=1)
    is_unit = num >= 2
    counts, num = counts[is_unit], num[is_unit]
    samples = np.ones((1, len(num))) if weights is None else weights[:, is_unit]
    size = counts.shape[1]
    if len(num) == 0:
        return np.full(len(samples), np.nan)
    products = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size)
    observed = (samples @ (products / (num - 1.0)[:, None, None]).reshape(len(num), -1)).reshape(-1, size, size)
    margin = observed.sum(axis=2)
    total = margin.sum(axis=1)
    distance = _distance(margin, level)
    expected = margin[:, :, None] * margin[:, None, :] - margin[:, :, None] * np.eye(size)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_chance = (expected * distance).sum(axis=(1, 2)) / (total - 1.0)
        return 1.0 - (observed * distance).sum(axis=(1, 2)) / by_chance


def _distance(margin: Array, level: str) -> Array:
    """Squared distance of every two values in each sample, shape (B, V, V)."""
    size = margin.shape[1]
    if level == "nominal":
        return np.broadcast_to(1.0 - np.eye(size), (len(margin), size, size))
    before = np.cumsum(margin, axis=1) - margin / 2.0
    return (before[:, :, None] - before[:, None, :]) ** 2


def unit_patterns(
    pair: NDArray[np.integer],
    value: NDArray[np.integer],
    num_values: int,
    *,
    name: str,
    labels: pl.Series,
    merge: Merge | None = None,
) -> pl.DataFrame:
    """How many units of each value of a slice have the same vote counts.

    Args:
        pair: index of each vote's pair, shape (N,).
        value: code of each vote, in rank order from 0, shape (N,).
        num_values: V, how many codes there are.
        name: name of the slice.
        labels: which value of the slice each vote belongs to, shape (N,); votes without one are left out.
        merge: makes one voice of the votes of one annotator in a unit, where somebody voted several times on a pair:
            (unit, which votes, their values) to unit and value.

    Returns:
        ``slice``, ``slice_value``, ``counts`` (list of V), ``num_same``.
    """
    is_labelled = labels.is_not_null().to_numpy()
    names, label = encode(labels.drop_nulls())
    unit = pair[is_labelled].astype(np.int64) * len(names) + label
    kept = value[is_labelled]
    if merge is not None:
        unit, kept = merge(unit, np.flatnonzero(is_labelled), kept)
    votes = pl.DataFrame({"unit": unit, "value": kept.astype(np.int32)})
    counts = [(pl.col("value") == code).sum().alias(f"n{code}") for code in range(num_values)]
    columns = [f"n{code}" for code in range(num_values)]
    units = votes.group_by("unit").agg(counts)
    patterns = units.group_by(pl.col("unit") % max(len(names), 1), *columns).agg(num_same=pl.len().cast(pl.Int64))
    patterns = patterns.with_columns(slice_value=names.gather(patterns["unit"]))
    return patterns.select(
        pl.lit(name).alias("slice"),
        "slice_value",
        pl.concat_list(pl.col(columns).cast(pl.Int64)).alias("counts"),
        "num_same",
    )


def alpha_by_slice(patterns: pl.DataFrame, *, level: str, num_bootstraps: int, seed: int) -> pl.DataFrame:
    """Alpha with its bootstrap interval over units, for every slice and value.

    Args:
        patterns: of :func:`unit_patterns`, several below one another.
        level: ``nominal`` or ``ordinal``.
        num_bootstraps: samples of the interval.
        seed: of the samples.

    Returns:
        The columns of ``raw.agreement`` but ``run_id``. Units with the same counts are drawn together, so the cost
        does not grow with their number.
    """
    merged = patterns.group_by("slice", "slice_value", "counts").agg(pl.col("num_same").sum())
    rows = []
    for (name, value), part in merged.sort("slice", "slice_value", "counts").group_by(
        "slice", "slice_value", maintain_order=True
    ):
        counts = np.array(part["counts"].to_list(), dtype=np.int64)
        interval = _interval(counts, part["num_same"].to_numpy(), level, num_bootstraps, seed)
        rows.append({"slice": name, "slice_value": value, "level": level, **interval})
    return pl.DataFrame(rows, schema=_SCHEMA)


_SCHEMA = {
    "slice": pl.String,
    "slice_value": pl.String,
    "level": pl.String,
    "alpha": pl.Float64,
    "alpha_low": pl.Float64,
    "alpha_high": pl.Float64,
    "num_units": pl.Int64,
    "num_units_excluded": pl.Int64,
    "num_votes": pl.Int64,
    "raw_agreement": pl.Float64,
}


def _interval(
    counts: NDArray[np.integer], same: NDArray[np.integer], level: str, num_bootstraps: int, seed: int
) -> dict[str, float | int | None]:
    num = counts.sum(axis=1)
    is_unit = num >= 2
    row: dict[str, float | int | None] = {
        "alpha": None,
        "alpha_low": None,
        "alpha_high": None,
        "num_units": int(same[is_unit].sum()),
        "num_units_excluded": int(same[~is_unit].sum()),
        "num_votes": int((num * same)[is_unit].sum()),
        "raw_agreement": None,
    }
    if not is_unit.any():
        return row
    counts, same, num = counts[is_unit], same[is_unit], num[is_unit]
    agreeing = (counts * (counts - 1)).sum(axis=1) @ same
    row["raw_agreement"] = float(agreeing / ((num * (num - 1)) @ same))
    alpha = krippendorff_alpha(counts, weights=same[None, :].astype(np.float64), level=level)[0]
    if np.isnan(alpha):
        return row
    row["alpha"] = float(alpha)
    draws = np.random.default_rng(seed).multinomial(int(same.sum()), same / same.sum(), size=num_bootstraps)
    sampled = krippendorff_alpha(counts, weights=draws.astype(np.float64), level=level)
    sampled = sampled[~np.isnan(sampled)]
    if len(sampled) > 0:
        row["alpha_low"], row["alpha_high"] = (float(end) for end in np.quantile(sampled, [0.025, 0.975]))
    return row


def shared_votes(votes: Votes) -> pl.DataFrame:
    """What every two annotators said of the pairs that both judged.

    An annotator who voted several times on a pair counts once, with the side that has more than half of their votes,
    else as a tie.

    Returns:
        ``annotator_1`` and ``annotator_2`` (the lower id first), ``vote_1``, ``vote_2`` (canonical codes), ``num``.
    """
    voices = one_vote_each(votes, is_unnamed_one=True)
    pair, annotator, vote = voices.pair, voices.annotator, voices.vote.astype(np.int64)
    kinds = NUM_VOTES * NUM_VOTES
    parts = [pl.DataFrame(schema={"key": pl.Int64, "num": pl.UInt32})]
    distance = 1
    while len(pair) > distance:
        left = np.flatnonzero(pair[distance:] == pair[:-distance])
        if len(left) == 0:
            break
        right = left + distance
        key = annotator[left].astype(np.int64) * votes.num_annotators + annotator[right]
        key = key * kinds + vote[left] * NUM_VOTES + vote[right]
        parts.append(pl.DataFrame({"key": key}).group_by("key").agg(num=pl.len().cast(pl.UInt32)))
        distance += 1
    counts = pl.concat(parts).group_by("key").agg(pl.col("num").sum().cast(pl.Int64)).sort("key")
    both, kind = counts["key"] // kinds, counts["key"] % kinds
    return pl.DataFrame(
        {
            "annotator_1": votes.annotator_ids.gather(both // votes.num_annotators),
            "annotator_2": votes.annotator_ids.gather(both % votes.num_annotators),
            "vote_1": (kind // NUM_VOTES).cast(pl.Int8),
            "vote_2": (kind % NUM_VOTES).cast(pl.Int8),
            "num": counts["num"],
        }
    )


def annotator_pairs(shared: pl.DataFrame) -> pl.DataFrame:
    """Agreement of every two annotators on each criterion, raw and by chance: ``raw.annotator_pairs`` but ``run_id``.

    Args:
        shared: of :func:`shared_votes`, with ``criterion``.
    """
    num, first, second = pl.col("num"), pl.col("vote_1"), pl.col("vote_2")
    sums = [(num * (first == v)).sum().alias(f"first_{v}") for v in range(NUM_VOTES)]
    sums += [(num * (second == v)).sum().alias(f"second_{v}") for v in range(NUM_VOTES)]
    chance = pl.sum_horizontal(pl.col(f"first_{v}") * pl.col(f"second_{v}") for v in range(NUM_VOTES))
    raw, by_chance = pl.col("raw_agreement"), pl.col("chance_agreement")
    return (
        shared.group_by("annotator_1", "annotator_2", "criterion")
        .agg(*sums, num_shared=num.sum(), agree=(num * (first == second)).sum())
        .sort("annotator_1", "annotator_2", "criterion")
        .with_columns(
            raw_agreement=pl.col("agree") / pl.col("num_shared"),
            chance_agreement=chance / (pl.col("num_shared") * pl.col("num_shared")),
        )
        .select(
            "annotator_1",
            "annotator_2",
            "criterion",
            pl.col("num_shared").cast(pl.Int32),
            "raw_agreement",
            "chance_agreement",
            kappa=pl.when(by_chance < 1.0).then((raw - by_chance) / (1.0 - by_chance)),
        )
    )
