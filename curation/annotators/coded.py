"""Judgments as numbers.

A batch of judgments is turned into codes and dropped. What stays is a few bytes a judgment, the identifiers once a
pair, prompt, response and annotator, and the identifiers of the judgments that oppose one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.judgments import Coder, Codes, Judgments, Labels, compact, encode

LOW, HIGH, TIE = 0, 1, 2
"""Codes of a canonical vote: for the lower response id, for the higher one, for neither."""

FORWARD, BACKWARD, UNKNOWN = 0, 1, 2
"""Codes of the display order: the lower id first, the higher id first, not known."""

NUM_VOTES = 3
NUM_CELLS = 9
"""Cells of one annotator: display order x canonical vote."""

UNNAMED = "unnamed:"
"""Beginning of the id that stands for the voters of a source that names nobody."""

_ARRAYS = ("pair", "annotator", "vote", "order", "strength", "source", "batch", "week")


@dataclass(frozen=True)
class CodedJudgments:
    """The judgments on one criterion, sorted by pair, annotator and cell.

    Attributes:
        pair_ids, response_ids, prompt_ids, annotator_ids: sorted, strings, shapes (P,), (R,), (Q,), (A,); an annotator
            is ``unnamed:SOURCE`` where the source gives none.
        low, high, prompt: index of each pair's responses and prompt, shape (P,).
        pair, annotator: index of each vote's pair and annotator, shape (N,).
        vote: LOW, HIGH or TIE, shape (N,).
        order: FORWARD, BACKWARD or UNKNOWN, shape (N,).
        strength: ordinal strength, -1 where there is none, shape (N,).
        source, batch, week: of each vote; a week is that of ``annotated_at`` by ISO 8601.
        opposed_ids: identifiers of the votes of :func:`opposed`, strings.
    """

    pair_ids: pl.Series
    response_ids: pl.Series
    prompt_ids: pl.Series
    annotator_ids: pl.Series
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    prompt: NDArray[np.int32]
    pair: NDArray[np.int32]
    annotator: NDArray[np.int32]
    vote: NDArray[np.int8]
    order: NDArray[np.int8]
    strength: NDArray[np.int16]
    source: Labels
    batch: Labels
    week: Labels
    opposed_ids: pl.Series

    @classmethod
    def of(cls, judgments: Judgments) -> CodedJudgments:
        """Read all of them.

        Raises:
            ValueError: the frames are not in ascending order of ``pair_id``, or the pairs are not those of the votes.
        """
        coders = {
            "annotator": Coder(),
            "source": Coder(),
            "batch": Coder(),
            "week": Coder(lambda monday: monday.dt.strftime("%G-W%V")),
        }
        ids: list[pl.Series] = []
        parts: list[dict[str, Any]] = []
        for frame in _whole_pairs(judgments.votes):
            is_first = (frame["pair_id"] != frame["pair_id"].shift(1)).fill_null(True)
            ids.append(compact(frame["pair_id"].filter(is_first)))
            pair = np.cumsum(is_first.to_numpy(), dtype=np.int32) - 1
            parts.append({"pair": pair, **_coded(frame, pair, coders)})
        pair_ids = pl.concat(ids)
        if not (pair_ids[1:] > pair_ids[:-1]).all():
            raise ValueError("the judgments were not handed over in ascending order of pair_id")
        names = {name: coder.ranked() for name, coder in coders.items()}
        start = np.int32(0)
        for part, of_part in zip(parts, ids, strict=True):
            _arrange(part, {name: rank for name, (_, rank) in names.items()})
            part["pair"] += start
            start += np.int32(len(of_part))
        opposed_ids = pl.concat([part.pop("opposed_ids") for part in parts])
        joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in _ARRAYS}
        for name in ("source", "batch", "week"):
            joined[name] = Labels(names[name][0], joined[name])
        ends = _ends(judgments.pairs, pair_ids)
        return cls(pair_ids=pair_ids, annotator_ids=names["annotator"][0], opposed_ids=opposed_ids, **ends, **joined)


def opposed(pair: Codes, vote: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Votes for one response of a pair on which the other one got a vote too; ``pair`` ascends. Shape (N,)."""
    num_pairs = int(pair[-1]) + 1 if len(pair) > 0 else 0
    has_low, has_high = (np.zeros(num_pairs, dtype=bool) for _ in range(2))
    has_low[pair[vote == LOW]] = True
    has_high[pair[vote == HIGH]] = True
    found: NDArray[np.bool_] = (has_low & has_high)[pair] & (vote != TIE)
    return found


def chunks_of_pairs(pair: NDArray[np.integer], size: int) -> Iterator[tuple[int, int]]:
    """Ranges of about ``size`` votes, cut where a pair ends; ``pair`` ascends."""
    first = 0
    while first < len(pair):
        last = int(np.searchsorted(pair, pair[min(first + size, len(pair)) - 1], side="right"))
        yield first, last
        first = last


def _whole_pairs(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, cut where a pair ends."""
    rest: list[pl.DataFrame] = []
    for frame in frames:
        if len(frame) == 0:
            continue
        num_last = int((frame["pair_id"] == frame["pair_id"][-1]).sum())
        if num_last < len(frame):
            yield pl.concat([*rest, frame.head(-num_last)])
            rest = [frame.tail(num_last)]
        else:
            rest.append(frame)
    if rest:
        yield pl.concat(rest)


def _coded(frame: pl.DataFrame, pair: Codes, coders: Mapping[str, Coder]) -> dict[str, Any]:
    """Codes of whole pairs' votes, as they came; names numbered as they come."""
    is_forward = frame["is_forward"].to_numpy()
    is_tie, is_first = (frame["vote"] == "tie").to_numpy(), (frame["vote"] == "a").to_numpy()
    vote = np.where(is_tie, TIE, np.where(is_first == is_forward, LOW, HIGH)).astype(np.int8)
    known = frame["is_display_order_known"].to_numpy()
    named = frame.select(pl.coalesce("annotator_id", pl.lit(UNNAMED) + pl.col("source"))).to_series()
    return {
        "annotator": coders["annotator"].codes(named),
        "vote": vote,
        "order": np.where(known, np.where(is_forward, FORWARD, BACKWARD), UNKNOWN).astype(np.int8),
        "strength": frame["strength_ordinal"].cast(pl.Int16).fill_null(-1).to_numpy(),
        "source": coders["source"].codes(frame["source"]),
        "batch": coders["batch"].codes(frame["batch"]),
        "week": coders["week"].codes(frame["annotated_at"].dt.truncate("1w")),
        "opposed_ids": compact(frame["judgment_id"].filter(pl.Series(opposed(pair, vote)))),
    }


def _arrange(part: dict[str, Any], ranks: Mapping[str, Codes]) -> None:
    """Number names by their rank, and sort whole pairs' votes by pair, annotator and cell."""
    for name, rank in ranks.items():
        part[name] = rank[part[name]]
    part["annotator"] = part["annotator"].astype(np.int32)
    cell = part["order"] * NUM_VOTES + part["vote"]
    key = (
        part["pair"] * np.int64(len(ranks["annotator"]) * NUM_CELLS)
        + part["annotator"].astype(np.int64) * NUM_CELLS
        + cell
    )
    sequence = np.argsort(key, kind="stable")
    is_opposed = opposed(part["pair"], part["vote"])
    place = np.cumsum(is_opposed) - 1
    part["opposed_ids"] = part["opposed_ids"].gather(place[sequence[is_opposed[sequence]]])
    for name in _ARRAYS:
        part[name] = part[name][sequence]


def _ends(frames: Iterable[pl.DataFrame], pair_ids: pl.Series) -> dict[str, Any]:
    """Prompt and responses of the pairs, whose identifiers must be the given ones."""
    parts, start = [], 0
    for frame in frames:
        if not frame["pair_id"].equals(pair_ids[start : start + len(frame)], check_names=False):
            raise ValueError("the pairs that were handed over are not those of the judgments")
        parts.append(frame.select("prompt_id", "low_id", "high_id"))
        start += len(frame)
    if start != len(pair_ids):
        raise ValueError(f"{start} pairs were handed over, and judgments on {len(pair_ids)}")
    prompt_ids, prompt = encode(pl.concat([part["prompt_id"] for part in parts]))
    ends = [part[name].alias("id") for name in ("low_id", "high_id") for part in parts]
    del parts
    response_ids, code = encode(pl.concat(ends, rechunk=False))
    low, high = code[: len(pair_ids)].copy(), code[len(pair_ids) :].copy()
    return {"prompt_ids": prompt_ids, "prompt": prompt, "response_ids": response_ids, "low": low, "high": high}
