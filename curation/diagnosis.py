"""The whole diagnosis of a set of judgments: from frames to the frames of the lake's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.agreement import alpha_by_slice, annotator_pairs, shared_votes
from curation.annotators.coded import CodedJudgments, chunks_of_pairs
from curation.annotators.estimates import annotator_estimates, pair_estimates
from curation.annotators.judgments import Coder, Judgments, Labels
from curation.annotators.model import fit
from curation.annotators.taste import taste_splits
from curation.annotators.votes import Votes
from curation.contradictions import between_pairs, between_votes
from curation.graphs import preference_graphs
from curation.length_bias import length_bias
from curation.near_duplicates import near_duplicate_groups
from curation.settings import DiagnoseSettings
from curation.slices import nominal_patterns, ordinal_patterns, same_width, slice_labels
from curation.text_features import pair_features, prompt_texts, response_features

Advance = Callable[[int, str], None]

STEPS = 6
"""Steps of progress that a criterion takes."""

_CHUNK_PAIRS = 500_000


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        tables: frame of each table of the lake's ``raw`` schema, without ``run_id``.
        facts: figures of the run, JSON-serialisable.
    """

    tables: dict[str, pl.DataFrame]
    facts: dict[str, Any]


@dataclass(frozen=True)
class CriterionDiagnosis:
    """What the judgments on one criterion gave.

    Attributes:
        tables: frames of the lake's columns.
        nominal, ordinal: what agreement by slice is made from.
        facts: figures of the fit.
    """

    tables: dict[str, pl.DataFrame]
    nominal: pl.DataFrame
    ordinal: pl.DataFrame | None
    facts: dict[str, Any]


def diagnose_judgments(
    criteria: Sequence[str],
    judgments_of: Callable[[str], Judgments],
    *,
    responses: pl.DataFrame,
    prompts: pl.DataFrame,
    settings: DiagnoseSettings,
    advance: Advance = lambda steps, note: None,
) -> Diagnosis:
    """Diagnose the texts, then one criterion after the other, then what they contradict.

    Args:
        criteria: names, none without a judgment.
        judgments_of: hands over the judgments on one criterion; called once for each.
        responses: ``response_id``, ``prompt_id``, ``text``.
        prompts: ``prompt_id``, ``messages``.
        settings: of the diagnosis.
        advance: told of progress, (steps, note); there are ``STEPS * len(criteria) + 3`` steps.
    """
    near = _near_duplicates(responses, prompts)
    advance(1, "near-duplicates")
    features = response_features(responses, prompts)
    advance(1, "texts")
    diagnosis = diagnose_votes(criteria, judgments_of, features=features, near=near, settings=settings, advance=advance)
    ends = diagnosis.tables["pair_estimates"].select("pair_id", response_x_id="chosen_id", response_y_id="rejected_id")
    of_texts = {
        "near_duplicates": near,
        "response_features": features,
        "pair_features": pair_features(ends, responses),
    }
    return Diagnosis(diagnosis.tables | of_texts, diagnosis.facts)


def diagnose_votes(
    criteria: Sequence[str],
    judgments_of: Callable[[str], Judgments],
    *,
    features: pl.DataFrame,
    near: pl.DataFrame,
    settings: DiagnoseSettings,
    advance: Advance = lambda steps, note: None,
) -> Diagnosis:
    """What the votes say, one criterion after the other, given what the texts say.

    Args:
        criteria, judgments_of, settings, advance: as :func:`diagnose_judgments`, with two steps less.
        features: ``response_id``, ``num_chars``.
        near: groups of near-duplicates, ``kind``, ``item_id``, ``group_id``.
    """
    parts = [
        diagnose_criterion(name, judgments_of(name), features=features, near=near, settings=settings, advance=advance)
        for name in criteria
    ]
    tables = {name: pl.concat([part.tables[name] for part in parts]) for name in parts[0].tables}
    tables["agreement"] = agreement(parts, settings)
    advance(1, "tables")
    return Diagnosis(tables, {part.facts["criterion"]: part.facts for part in parts})


def diagnose_criterion(
    criterion: str,
    judgments: Judgments,
    *,
    features: pl.DataFrame,
    near: pl.DataFrame,
    settings: DiagnoseSettings,
    advance: Advance,
) -> CriterionDiagnosis:
    """Annotators, consensus, agreement, contradictions and graphs of the judgments on one criterion.

    Args:
        criterion: its name.
        judgments: not empty.
        features: ``response_id``, ``num_chars``.
        near: groups of near-duplicates, ``kind``, ``item_id``, ``group_id``.
        settings: of the diagnosis.
        advance: told of ``STEPS`` steps.
    """
    coded = CodedJudgments.of(judgments)
    votes = Votes.of_coded(coded)
    advance(1, f"{criterion}: read")
    pairs, annotators, facts = _estimates(criterion, coded, votes, features, settings)
    advance(1, f"{criterion}: annotators")
    between_annotators = annotator_pairs(shared_votes(votes).with_columns(criterion=pl.lit(criterion)))
    labels = slice_labels(criterion, coded, _prompt_groups(coded.prompt_ids, near))
    nominal, ordinal = nominal_patterns(votes, labels), ordinal_patterns(coded, votes, labels)
    advance(1, f"{criterion}: agreement")
    contradictions, prompt = [between_votes(coded, pairs)], coded.prompt
    advance(1, f"{criterion}: votes against votes")
    # no vote is looked at from here on
    del coded, votes, labels
    graphs = graphs_of(pairs, prompt, seed=settings.seed)
    advance(1, f"{criterion}: graphs")
    contradictions.append(between_pairs(pairs, near, graphs["pair_graph"], graphs["preference_components"]))
    advance(1, f"{criterion}: pairs against pairs")
    tables = {
        "pair_estimates": pairs,
        "annotator_estimates": annotators,
        "annotator_pairs": between_annotators,
        "contradictions": pl.concat(contradictions),
        **graphs,
    }
    return CriterionDiagnosis(tables, nominal, ordinal, facts)


def _estimates(
    criterion: str, coded: CodedJudgments, votes: Votes, features: pl.DataFrame, settings: DiagnoseSettings
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    """Frames of pairs and of annotators, and figures of the fit."""
    model = fit(votes, settings.annotators)
    taste = taste_splits(model, settings.annotators)
    source = np.minimum.reduceat(coded.source.code, votes.ballots.starts[:-1])
    pairs = pair_estimates(model).with_columns(
        prompt_id=coded.prompt_ids.gather(coded.prompt),
        criterion=pl.lit(criterion, dtype=pl.Categorical),
        source=coded.source.names.cast(pl.Categorical).gather(source),
        is_taste_split=pl.when(pl.Series(taste.is_tested)).then(pl.Series(taste.is_split)),
    )
    length = length_bias(votes, features)
    annotators = annotator_estimates(model).with_columns(
        criterion=pl.lit(criterion),
        length_bias=pl.Series(length.slope).fill_nan(None),
        length_bias_low=pl.Series(length.low).fill_nan(None),
        length_bias_high=pl.Series(length.high).fill_nan(None),
    )
    facts = {
        "criterion": criterion,
        "num_judgments": votes.num_votes,
        "num_pairs": votes.num_pairs,
        "num_annotators": votes.num_annotators,
        "log_likelihood": model.log_likelihood,
        "num_rounds": len(model.history),
        "is_converged": model.is_converged,
        "taste_gain": None if np.isnan(taste.gain) else [taste.gain, taste.gain_error],
        "length_bias": [length.set_slope, length.set_low, length.set_high],
    }
    return pairs, annotators.drop("num_tested", "num_agreeing"), facts


def graphs_of(pairs: pl.DataFrame, prompt: NDArray[np.int32], *, seed: int) -> dict[str, pl.DataFrame]:
    """Preference graphs of the votes that ``raw.pair_estimates`` counts, as tables of the lake, some prompts at a time.

    Args:
        pairs: on one criterion.
        prompt: number of each pair's prompt, shape (P,).
        seed: of :func:`preference_graphs`.
    """
    rows = np.argsort(prompt, kind="stable")
    parts = []
    for first, last in chunks_of_pairs(prompt[rows], _CHUNK_PAIRS):
        votes = pairs.select(
            "pair_id",
            "prompt_id",
            "criterion",
            response_x_id="chosen_id",
            response_y_id="rejected_id",
            votes_x="num_votes_chosen",
            votes_y="num_votes_rejected",
            ties="num_ties",
        )[rows[first:last]]
        parts.append(preference_graphs(votes.with_columns(pl.col("criterion").cast(pl.String)), seed=seed))
    as_category = pl.col("criterion").cast(pl.Categorical)  # of millions of rows
    return {
        "pair_graph": pl.concat([part.pair_graph for part in parts]),
        "preference_components": pl.concat([part.components for part in parts]),
        "prompt_graphs": pl.concat([part.graphs.with_columns(as_category) for part in parts]),
        "response_estimates": pl.concat([part.response_estimates.with_columns(as_category) for part in parts]),
    }


def agreement(parts: Sequence[CriterionDiagnosis], settings: DiagnoseSettings) -> pl.DataFrame:
    """The columns of ``raw.agreement`` but ``run_id``: nominal everywhere, ordinal where strengths exist."""
    nominal = pl.concat([part.nominal for part in parts])
    levels = [alpha_by_slice(nominal, level="nominal", num_bootstraps=settings.num_bootstraps, seed=settings.seed)]
    graded = [part.ordinal for part in parts if part.ordinal is not None]
    if graded:
        ordinal = same_width(graded)
        levels.append(
            alpha_by_slice(ordinal, level="ordinal", num_bootstraps=settings.num_bootstraps, seed=settings.seed)
        )
    return pl.concat(levels)


def _near_duplicates(responses: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    answers = responses.select(item_id="response_id", text="text")
    return pl.concat(
        [near_duplicate_groups(prompt_texts(prompts), "prompt"), near_duplicate_groups(answers, "response")]
    )


def _prompt_groups(prompt_ids: pl.Series, near: pl.DataFrame) -> Labels:
    """Group of each prompt; none where it has no near-duplicate, so that no slice is made of it alone."""
    groups = near.filter(pl.col("kind") == "prompt").select("group_id", prompt_id="item_id")
    found = pl.DataFrame({"prompt_id": prompt_ids}).join(groups, on="prompt_id", how="left", maintain_order="left")
    coder = Coder()
    code = coder.codes(found["group_id"])
    names, rank = coder.ranked()
    return Labels(names, rank[code])
