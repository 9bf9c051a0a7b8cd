"""Planted against found: what a generated world's truth says, next to what the lake says, kind by kind.

The found side is SQL on ``mart`` and ``raw`` only; the truth is joined to it by identifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import polars as pl

from schemas.errors import SourceError
from warehouse.lake import Lake

_TRUTH = ("pairs", "annotators", "judgments")


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        title: what it is, as the table says it.
        grain: ``pair`` or ``annotator``.
        planted: condition over the truth's table of that grain.
        found: query of the identifiers that the lake reports.
        how: where it was found, in words.
        is_part: a part of the kind above it: the lake does not tell it apart, so it has a recall and no precision.
    """

    title: str
    grain: str
    planted: str
    found: str
    how: str
    is_part: bool = False


@dataclass(frozen=True)
class Finding:
    """Planted against found for one kind.

    Attributes:
        kind: what was looked for.
        num_planted: in the truth.
        num_found: reported by the lake.
        num_hits: both.
    """

    kind: Kind
    num_planted: int
    num_found: int
    num_hits: int

    @property
    def precision(self) -> tuple[float, float, float] | None:
        """Share of what was found that is true, with its 95 % interval; None where nothing was found, or for a part."""
        return None if self.kind.is_part else interval(self.num_hits, self.num_found)

    @property
    def recall(self) -> tuple[float, float, float] | None:
        """Share of what is true that was found, with its 95 % interval; None where nothing was planted."""
        return interval(self.num_hits, self.num_planted)


_PAIRS = "select pair_id from mart.pair_diagnostics where reference_id is not distinct from $reference_id and "
_CONTRADICTED = "select pair_id from mart.contradictions where kind in "
_OPPOSED = "('between_annotators', 'within_annotator', 'between_orders')"
_WRONG = _PAIRS + "coalesce(p_flip > 0.5, num_votes_chosen < num_votes_rejected or is_in_feedback_arc_set)"
_QUARANTINED = """
    union
    select pair_id from raw.quarantine as quarantine
    inner join truth_judgments as rows on quarantine.source_row = rows.source_row
    where quarantine.reason = 'identical_responses'
"""
_FAVORED = """
    pair_id in (
        select diagnostics.pair_id
        from mart.pair_diagnostics as diagnostics
        inner join truth_pairs as pairs on diagnostics.pair_id = pairs.pair_id
        where diagnostics.reference_id is not distinct from $reference_id
        and pairs.favored_id = diagnostics.rejected_id
    )
"""

KINDS: tuple[Kind, ...] = (
    Kind("wrong labels", "pair", "label_id <> better_id", _WRONG, "overruled by the annotator model or the ranking"),
    Kind("flipped on purpose", "pair", "is_flipped and label_id <> better_id", _WRONG, "the same", is_part=True),
    Kind("votes for both sides", "pair", "has_opposing_votes", _CONTRADICTED + _OPPOSED, "mart.contradictions"),
    Kind("judged again, opposite", "pair", "is_repeated", _CONTRADICTED + _OPPOSED, "the same", is_part=True),
    Kind(
        "annotator against self",
        "pair",
        "is_self_contradicted",
        _CONTRADICTED + "('within_annotator')",
        "within_annotator",
    ),
    Kind(
        "opposing near-duplicates",
        "pair",
        "opposes_pair_id is not null",
        _CONTRADICTED + "('between_near_duplicates')",
        "between_near_duplicates",
    ),
    Kind("pairs on a cycle", "pair", "is_on_cycle", _PAIRS + "is_in_cycle", "is_in_cycle"),
    Kind("cycles on purpose", "pair", "is_cycle_planted", _PAIRS + "is_in_cycle", "the same", is_part=True),
    Kind(
        "identical responses",
        "pair",
        "is_identical",
        _PAIRS + "is_identical" + _QUARANTINED,
        "is_identical, quarantine",
    ),
    Kind(
        "near-identical responses",
        "pair",
        "is_near_identical",
        _PAIRS + "is_near_identical and not is_identical",
        "is_near_identical",
    ),
    Kind("policy favors rejected", "pair", _FAVORED, _PAIRS + "is_reference_wrong", "is_reference_wrong"),
    Kind(
        "adversarial annotators",
        "annotator",
        "kind = 'adversarial'",
        "select annotator_id from mart.annotator_report where is_adversarial",
        "is_adversarial",
    ),
    Kind(
        "position-biased annotators",
        "annotator",
        "kind = 'position_biased'",
        "select annotator_id from mart.annotator_report where is_position_biased",
        "is_position_biased",
    ),
    Kind(
        "careless annotators",
        "annotator",
        "kind = 'careless'",
        "select annotator_id from mart.annotator_report where is_careless and not is_adversarial",
        "is_careless",
    ),
)


def planted_against_found(lake: Lake, world: Path, *, reference_id: str | None) -> list[Finding]:
    """Count, for every kind, what is true, what the lake reports, and what is both.

    Args:
        lake: into which the world's judgments were ingested, and diagnosed.
        world: folder of ``winnow synth``.
        reference_id: reference policy whose margins count; None where nothing is scored.

    Raises:
        SourceError: the folder holds no truth.
    """
    truth = read_truth(world)
    with lake.registered(**{f"truth_{name}": frame for name, frame in truth.items()}):
        return [_compare(lake, kind, reference_id) for kind in KINDS]


def read_truth(world: Path) -> dict[str, pl.DataFrame]:
    """The truth's tables by name.

    Raises:
        SourceError: one is missing.
    """
    paths = {name: world / "truth" / f"{name}.parquet" for name in _TRUTH}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise SourceError(f"{missing[0]} does not exist", mend=f"winnow synth {world}")
    return {name: pl.read_parquet(path) for name, path in paths.items()}


def _compare(lake: Lake, kind: Kind, reference_id: str | None) -> Finding:
    key = f"{kind.grain}_id"
    sql = f"""
        with planted as (select {key} from truth_{kind.grain}s where {kind.planted}),
        found as (select distinct {key} from ({kind.found}))
        select count(planted.{key}), count(found.{key}), count(*) filter (planted.{key} = found.{key})
        from planted full outer join found on planted.{key} = found.{key}
    """
    uses_reference = "$reference_id" in sql
    row = lake.con.execute(sql, {"reference_id": reference_id} if uses_reference else None).fetchone()
    assert row is not None
    return Finding(kind, *(int(value) for value in row))


def interval(hits: int, total: int) -> tuple[float, float, float] | None:
    """A share and its 95 % Wilson interval (E. B. Wilson, JASA 22, 1927); None of nothing."""
    if total == 0:
        return None
    z = 1.959964
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return share, max(0.0, middle - half), min(1.0, middle + half)
