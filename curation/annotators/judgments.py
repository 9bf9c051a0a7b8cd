"""Judgments as they are handed over for a diagnosis: sorted by pair, so that no name need be held once a vote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Codes = NDArray[np.signedinteger[Any]]

_RANGE_VALUES = 8_000_000
_SAMPLE_VALUES = 10_000
"""Strings that are numbered at a time, and those that the ranges of the alphabet are drawn from."""

_OPTIONAL = {
    "judgment_id": pl.lit(None, dtype=pl.String),
    "prompt_id": pl.lit(""),
    "strength_ordinal": pl.lit(None, dtype=pl.Int16),
    "annotated_at": pl.lit(None, dtype=pl.Datetime),
    "batch": pl.lit(None, dtype=pl.String),
}


@dataclass(frozen=True)
class Judgments:
    """The judgments on one criterion. All of ``votes`` is read before ``pairs``, both once.

    Attributes:
        votes: frames in ascending order of ``pair_id``: ``judgment_id``, ``pair_id``, ``vote`` (a, b or tie),
            ``is_forward`` (whether the response shown first has the lower id), ``is_display_order_known``,
            ``strength_ordinal``, ``annotator_id``, ``annotated_at``, ``batch``, ``source``.
        pairs: frames of the same pairs in the same order, one row each: ``pair_id``, ``prompt_id``, ``low_id`` and
            ``high_id`` (the pair's response ids, the lower one first).
    """

    votes: Iterable[pl.DataFrame]
    pairs: Iterable[pl.DataFrame]

    @classmethod
    def of(cls, judgments: pl.DataFrame) -> Judgments:
        """Of a frame with columns of ``raw.judgments``, in any order of rows.

        ``prompt_id``, ``judgment_id``, ``strength_ordinal``, ``annotated_at`` and ``batch`` may be left out, where
        nothing is asked that rests on them.
        """
        frame = judgments.with_columns(
            value.alias(name) for name, value in _OPTIONAL.items() if name not in judgments.columns
        ).sort("pair_id")
        first, second = pl.col("response_a_id"), pl.col("response_b_id")
        is_forward = first < second
        ends = frame.select(
            "pair_id",
            "prompt_id",
            low_id=pl.when(is_forward).then(first).otherwise(second),
            high_id=pl.when(is_forward).then(second).otherwise(first),
        )
        pairs = ends.unique("pair_id", keep="first", maintain_order=True)
        return cls([frame.with_columns(is_forward=is_forward)], [pairs])


@dataclass(frozen=True)
class Labels:
    """A name for each of many things.

    Attributes:
        names: sorted distinct names.
        code: index of each thing's name, -1 where it has none. Shape (N,).
    """

    names: pl.Series
    code: Codes

    @property
    def is_constant(self) -> bool:
        """Whether all things have one and the same name."""
        return len(self.code) > 0 and self.code[0] >= 0 and bool((self.code == self.code[0]).all())

    @property
    def is_empty(self) -> bool:
        """Whether nothing has a name."""
        return bool((self.code < 0).all())


class Coder:
    """Numbers names in the order in which they come, and in the end by their rank."""

    def __init__(self, name: Callable[[pl.Series], pl.Series] = lambda values: values) -> None:
        """``name`` turns distinct values into names."""
        self._known: dict[str, int] = {}
        self._name = name

    def codes(self, values: pl.Series) -> Codes:
        """Number of each value's name, -1 for NULL, shape (N,)."""
        distinct = values.unique().drop_nulls()
        numbers = [self._known.setdefault(name, len(self._known)) for name in self._name(distinct).to_list()]
        numbered = pl.DataFrame({"value": distinct, "code": pl.Series(numbers, dtype=pl.Int32)})
        coded = pl.DataFrame({"value": values}).join(numbered, on="value", how="left", maintain_order="left")
        return coded["code"].fill_null(-1).to_numpy()

    def ranked(self) -> tuple[pl.Series, Codes]:
        """All names, sorted, and the rank of each number in as few bytes as do, with -1 at the end: -1 stays -1."""
        names = pl.Series(list(self._known), dtype=pl.String)
        sequence = names.arg_sort().to_numpy()
        rank = np.full(len(names) + 1, -1, dtype=np.min_scalar_type(-max(len(names), 1)))
        rank[sequence] = np.arange(len(names))
        return names.gather(sequence), rank


def encode(values: pl.Series) -> tuple[pl.Series, Codes]:
    """Sorted distinct strings, and each value's index among them, shape (N,); none may be NULL.

    Many strings are numbered range by range of the alphabet, so that little more than themselves is held.
    """
    code = np.empty(len(values), dtype=np.int32)
    distinct: list[pl.Series] = []
    start = 0
    for is_inside in _ranges(values):
        part = values if is_inside is None else values.filter(is_inside)
        names = compact(part.unique().sort())
        numbers = pl.Series(np.arange(start, start + len(names), dtype=np.int32))
        coded = pl.DataFrame({"value": part}).join(
            pl.DataFrame({"value": names, "code": numbers}), on="value", how="left", maintain_order="left"
        )
        code[slice(None) if is_inside is None else is_inside.to_numpy()] = coded["code"].to_numpy()
        distinct.append(names)
        start += len(names)
    return pl.concat(distinct), code


def _ranges(values: pl.Series) -> Iterator[pl.Series | None]:
    """Masks of about equally many values each, ascending; None for all of them."""
    num_ranges = -(-len(values) // _RANGE_VALUES)
    if num_ranges < 2:
        yield None
        return
    sample = values.gather_every(max(1, len(values) // _SAMPLE_VALUES)).sort()
    ends = [sample[len(sample) * number // num_ranges] for number in range(1, num_ranges)]
    for low, high in zip([None, *ends], [*ends, None], strict=True):
        if low is None:
            yield values < high
        elif high is None:
            yield values >= low
        else:
            yield (values >= low) & (values < high)


def compact(strings: pl.Series) -> pl.Series:
    """The same strings without the bytes of those that were left out when they were picked from a longer series."""
    copied = pl.from_arrow(strings.to_arrow())
    assert isinstance(copied, pl.Series)
    return copied.alias(strings.name)
