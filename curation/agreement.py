"""Agreement between annotators: Krippendorff's alpha by slice, and every two annotators who share pairs.

A unit is a pair; units with fewer than two votes carry no information on agreement and are excluded and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.coded import chunks_of_pairs
from curation.annotators.judgments import Labels
from curation.annotators.voices import one_vote_each
from curation.annotators.votes import NUM_VOTES, Votes

Array = NDArray[np.float64]
Ints = NDArray[np.integer]
Merge = Callable[[Ints, Ints, Ints], tuple[Ints, Ints]]

_CHUNK_VOTES = 1_000_000
"""Votes, or two votes beside one another, that are counted at a time."""

_KINDS = NUM_VOTES * NUM_VOTES


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
    pair: Ints, value: Ints, num_values: int, *, name: str, labels: Labels, merge: Merge | None = None
) -> pl.DataFrame:
    """How many units of each value of a slice have the same vote counts; counted some pairs at a time.

    Args:
        pair: index of each vote's pair, ascending, shape (N,).
        value: code of each vote, in rank order from 0, shape (N,).
        num_values: V, how many codes there are.
        name: name of the slice.
        labels: which value of the slice each vote belongs to, shape (N,); votes without one are left out.
        merge: makes one voice of the votes of one annotator in a unit, where somebody voted several times on a pair:
            (unit, which votes, their values) to unit and value.

    Returns:
        ``slice``, ``slice_value``, ``counts`` (list of V), ``num_same``.
    """
    columns = [f"n{code}" for code in range(num_values)]
    schema = {"label": pl.Int64, **dict.fromkeys(columns, pl.Int64), "num_same": pl.UInt32}
    parts = [pl.DataFrame(schema=schema)]
    for first, last in chunks_of_pairs(pair, _CHUNK_VOTES):
        chosen = first + np.flatnonzero(labels.code[first:last] >= 0)
        unit: Ints = pair[chosen].astype(np.int64) * len(labels.names) + labels.code[chosen]
        kept = value[chosen]
        if merge is not None:
            unit, kept = merge(unit, chosen, kept)
        units = _units(unit, kept, num_values, len(labels.names))
        parts.append(pl.DataFrame(units, schema=["label", *columns]).group_by("label", *columns).agg(num_same=pl.len()))
    patterns = pl.concat(parts).group_by("label", *columns).agg(pl.col("num_same").sum().cast(pl.Int64))
    return patterns.select(
        pl.lit(name).alias("slice"),
        labels.names.gather(patterns["label"]).alias("slice_value"),
        pl.concat_list(columns).alias("counts"),
        "num_same",
    )


def _units(unit: Ints, value: Ints, num_values: int, num_labels: int) -> NDArray[np.int64]:
    """Label and vote counts of each unit, shape (U, 1 + V); a unit is a pair times ``num_labels`` plus a label."""
    if not (unit[1:] >= unit[:-1]).all():
        sequence = np.argsort(unit, kind="stable")
        unit, value = unit[sequence], value[sequence]
    is_first = np.ones(len(unit), dtype=bool)
    is_first[1:] = unit[1:] != unit[:-1]
    number = np.cumsum(is_first) - 1
    first = unit[is_first]
    counts = np.bincount(number * num_values + value, minlength=len(first) * num_values).reshape(-1, num_values)
    return np.column_stack((first % num_labels, counts))


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
        ``annotator_1`` and ``annotator_2`` (the lower id first), ``num_shared`` pairs, ``num_same`` votes, and the
        votes of each by canonical code, ``first_0`` to ``first_2`` and ``second_0`` to ``second_2``.
    """
    voices = one_vote_each(votes, is_unnamed_one=True)
    found, num_found = [pl.DataFrame(schema={"key": pl.Int64, "num": pl.Int64})], 0
    for first, last in chunks_of_pairs(voices.pair, _CHUNK_VOTES):
        annotator, vote = voices.annotator[first:last].astype(np.int64), voices.vote[first:last]
        for left, right in _beside(voices.pair[first:last]):
            both = annotator[left] * votes.num_annotators + annotator[right]
            key = pl.DataFrame({"key": both * _KINDS + vote[left] * NUM_VOTES + vote[right]})
            found.append(key.group_by("key").agg(num=pl.len().cast(pl.Int64)))
            num_found += len(found[-1])
            if num_found > max(len(found[0]), 4 * _CHUNK_VOTES):
                found, num_found = [_added(found)], 0
    return _of_both(_added(found), votes)


def _beside(pair: Ints) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices of every two votes on the same pair, the earlier one left, some at a time; ``pair`` ascends."""
    num_after = np.searchsorted(pair, pair, side="right") - np.arange(1, len(pair) + 1)
    ends = np.cumsum(num_after)
    first, done = 0, 0
    while first < len(pair):
        last = max(int(np.searchsorted(ends, done + _CHUNK_VOTES, side="right")), first + 1)
        num = num_after[first:last]
        left = np.repeat(np.arange(first, last), num)
        yield left, left + 1 + np.arange(len(left)) - np.repeat(ends[first:last] - num - done, num)
        first, done = last, int(ends[last - 1])


def _added(counts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(counts).group_by("key").agg(pl.col("num").sum())


def _of_both(counts: pl.DataFrame, votes: Votes) -> pl.DataFrame:
    """Sums of each two annotators from counts of (annotator, annotator, vote, vote)."""
    num, codes = pl.col("num"), {"first": pl.col("kind") // NUM_VOTES, "second": pl.col("kind") % NUM_VOTES}
    sums = {f"{side}_{v}": (num * (code == v)).sum() for side, code in codes.items() for v in range(NUM_VOTES)}
    is_same = codes["first"] == codes["second"]
    both = (
        counts.select("num", both=pl.col("key") // _KINDS, kind=(pl.col("key") % _KINDS).cast(pl.Int8))
        .group_by("both")
        .agg(num_shared=num.sum(), num_same=(num * is_same).sum(), **sums)
        .sort("both")
    )
    return both.select(
        votes.annotator_ids.gather(both["both"] // votes.num_annotators).alias("annotator_1"),
        votes.annotator_ids.gather(both["both"] % votes.num_annotators).alias("annotator_2"),
        pl.exclude("both"),
    )


def annotator_pairs(shared: pl.DataFrame) -> pl.DataFrame:
    """Agreement of every two annotators on each criterion, raw and by chance: ``raw.annotator_pairs`` but ``run_id``.

    Args:
        shared: of :func:`shared_votes`, with ``criterion``.
    """
    chance = pl.sum_horizontal(pl.col(f"first_{v}") * pl.col(f"second_{v}") for v in range(NUM_VOTES))
    raw, by_chance = pl.col("raw_agreement"), pl.col("chance_agreement")
    return (
        shared.sort("annotator_1", "annotator_2", "criterion")
        .with_columns(
            raw_agreement=pl.col("num_same") / pl.col("num_shared"),
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
