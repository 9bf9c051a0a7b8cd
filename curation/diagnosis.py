"""The whole diagnosis of a set of judgments: from frames to the frames of the lake's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curation.agreement import alpha_by_slice, annotator_pairs, shared_votes, unit_patterns
from curation.annotators.estimates import annotator_estimates, pair_estimates
from curation.annotators.model import fit
from curation.annotators.votes import NUM_VOTES, TIE, Votes, encode
from curation.contradictions import contradictions
from curation.graphs import preference_graphs
from curation.settings import DiagnoseSettings
from curation.text_features import pair_features, response_features


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        tables: frame of each table of the lake's ``raw`` schema, without ``run_id``.
        facts: figures of the run.
        lines: the same in words.
    """

    tables: dict[str, pl.DataFrame]
    facts: dict[str, Any]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Criterion:
    """What one criterion's judgments gave."""

    pairs: pl.DataFrame
    annotators: pl.DataFrame
    shared: pl.DataFrame
    nominal: pl.DataFrame
    ordinal: pl.DataFrame | None
    log_likelihood: float


def diagnose_judgments(
    criteria: Sequence[str],
    judgments_of: Callable[[str], pl.DataFrame],
    *,
    responses: pl.DataFrame,
    prompts: pl.DataFrame,
    settings: DiagnoseSettings,
    advance: Callable[[int, str], None] = lambda steps, note: None,
) -> Diagnosis:
    """Diagnose one criterion after the other.

    Args:
        criteria: names.
        judgments_of: reads the judgments on one criterion (columns of ``raw.judgments``); called once or twice each.
        responses: ``response_id``, ``prompt_id``, ``text``.
        prompts: ``prompt_id``, ``messages``.
        settings: of the diagnosis.
        advance: told of progress, (steps, note).
    """
    parts = []
    for criterion in criteria:
        parts.append(_diagnose_criterion(criterion, judgments_of(criterion), settings))
        advance(1, criterion)
    pairs = pl.concat([part.pairs for part in parts])
    near_duplicates = pl.DataFrame(schema={"kind": pl.String, "item_id": pl.String, "group_id": pl.String})
    graphs = preference_graphs(
        pairs.select(
            "pair_id",
            "prompt_id",
            "criterion",
            response_x_id="chosen_id",
            response_y_id="rejected_id",
            votes_x="num_votes_chosen",
            votes_y="num_votes_rejected",
            ties="num_ties",
        ),
        seed=settings.seed,
    )
    advance(1, "graphs")
    ends = pairs.select("pair_id", response_x_id="chosen_id", response_y_id="rejected_id")
    texts = {
        "response_features": response_features(responses, prompts),
        "pair_features": pair_features(ends, responses),
    }
    advance(1, "texts")
    found = pl.concat(
        [
            contradictions(
                judgments_of(criterion),
                pairs.filter(pl.col("criterion") == criterion),
                near_duplicates,
                graphs.pair_graph,
                graphs.components,
            )
            for criterion in criteria
        ]
    )
    advance(1, "contradictions")
    tables = {
        "pair_estimates": pairs,
        "annotator_estimates": pl.concat([part.annotators for part in parts]),
        "annotator_pairs": annotator_pairs(pl.concat([part.shared for part in parts])),
        "agreement": _agreement(parts, settings),
        "contradictions": found,
        "pair_graph": graphs.pair_graph,
        "preference_components": graphs.components,
        "response_estimates": graphs.response_estimates,
        "near_duplicates": near_duplicates,
        **texts,
    }
    return Diagnosis(tables, {"num_pairs": len(pairs)}, (f"{len(pairs):,} pairs",))


def _diagnose_criterion(criterion: str, judgments: pl.DataFrame, settings: DiagnoseSettings) -> _Criterion:
    votes = Votes.of(judgments)
    model = fit(votes, settings.annotators)
    start = np.searchsorted(votes.pair, np.arange(votes.num_pairs, dtype=np.int32))
    sources, source = encode(judgments["source"])
    pairs = pair_estimates(model).with_columns(
        prompt_id=judgments["prompt_id"].gather(votes.row[start]),
        criterion=pl.lit(criterion),
        source=sources.gather(np.minimum.reduceat(source[votes.row], start)),
        is_taste_split=pl.lit(None, dtype=pl.Boolean),
    )
    annotators = annotator_estimates(model).drop("num_tested", "num_agreeing")
    labels = _slices(criterion, judgments, votes)
    nominal = [
        unit_patterns(votes.pair, votes.vote, NUM_VOTES, name=name, labels=values) for name, values in labels.items()
    ]
    return _Criterion(
        pairs=pairs,
        annotators=annotators.with_columns(criterion=pl.lit(criterion)),
        shared=shared_votes(votes),
        nominal=pl.concat(nominal),
        ordinal=_ordinal_patterns(judgments, votes, labels),
        log_likelihood=model.log_likelihood,
    )


def _slices(criterion: str, judgments: pl.DataFrame, votes: Votes) -> dict[str, pl.Series]:
    """Which value of each slice every vote belongs to, in the order of the votes."""
    labels = {
        "all": pl.repeat("all", votes.num_votes, eager=True),
        "criterion": pl.repeat(criterion, votes.num_votes, eager=True),
        "source": judgments["source"],
        "batch": judgments["batch"],
        "week": judgments.select(pl.col("annotated_at").dt.strftime("%G-W%V"))["annotated_at"],
    }
    ordered = {
        name: values if name in ("all", "criterion") else values.gather(votes.row) for name, values in labels.items()
    }
    return {name: values for name, values in ordered.items() if values.null_count() < len(values)}


def _ordinal_patterns(judgments: pl.DataFrame, votes: Votes, labels: dict[str, pl.Series]) -> pl.DataFrame | None:
    """Votes with strengths as ranks from 'high by much' to 'low by much'; None where no vote has one."""
    strength = judgments["strength_ordinal"].gather(votes.row)
    if strength.null_count() == len(strength):
        return None
    is_graded = (
        judgments["source"]
        .gather(votes.row)
        .is_in(judgments.filter(pl.col("strength_ordinal").is_not_null())["source"].unique().to_list())
    )
    is_given = (strength.is_not_null() | pl.Series(votes.vote == TIE)) & is_graded
    most = int(strength.fill_null(0).to_numpy().max())
    sign = np.array([1, -1, 0])[votes.vote]
    value = sign * strength.fill_null(0).to_numpy() + most
    keep = is_given.to_numpy()
    patterns = [
        unit_patterns(votes.pair[keep], value[keep], 2 * most + 1, name=name, labels=values.filter(is_given))
        for name, values in labels.items()
    ]
    return pl.concat(patterns)


def _agreement(parts: Sequence[_Criterion], settings: DiagnoseSettings) -> pl.DataFrame:
    sample = {"num_bootstraps": settings.num_bootstraps, "seed": settings.seed}
    levels = [alpha_by_slice(pl.concat([part.nominal for part in parts]), level="nominal", **sample)]
    ordinal = [part.ordinal for part in parts if part.ordinal is not None]
    if ordinal:
        levels.append(alpha_by_slice(_same_width(ordinal), level="ordinal", **sample))
    return pl.concat(levels)


def _same_width(patterns: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Patterns of criteria with scales of different length, counts padded to the longest, the tie in the middle."""
    widths = [len(part["counts"][0]) for part in patterns]
    padded = []
    for part, width in zip(patterns, widths, strict=True):
        zeros = pl.lit([0] * ((max(widths) - width) // 2), dtype=pl.List(pl.Int64))
        padded.append(part.with_columns(counts=zeros.list.concat(pl.col("counts")).list.concat(zeros)))
    return pl.concat(padded)
