"""The whole diagnosis of a set of judgments: from frames to the frames of the lake's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curation.agreement import alpha_by_slice, annotator_pairs, shared_votes
from curation.annotators.estimates import annotator_estimates, pair_estimates
from curation.annotators.model import fit
from curation.annotators.taste import taste_splits
from curation.annotators.votes import Votes, compact, encode
from curation.contradictions import between_pairs, between_votes
from curation.graphs import PreferenceGraphs, preference_graphs
from curation.length_bias import length_bias
from curation.near_duplicates import near_duplicate_groups
from curation.settings import DiagnoseSettings
from curation.slices import nominal_patterns, ordinal_patterns, same_width, slice_labels
from curation.text_features import pair_features, prompt_texts, response_features

Advance = Callable[[int, str], None]


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
    """What the judgments on one criterion gave: frames of the lake's columns, and figures of the fit."""

    pairs: pl.DataFrame
    annotators: pl.DataFrame
    shared: pl.DataFrame
    nominal: pl.DataFrame
    ordinal: pl.DataFrame | None
    contradictions: pl.DataFrame
    facts: dict[str, Any]


def diagnose_judgments(
    criteria: Sequence[str],
    judgments_of: Callable[[str], pl.DataFrame],
    *,
    responses: pl.DataFrame,
    prompts: pl.DataFrame,
    settings: DiagnoseSettings,
    advance: Advance = lambda steps, note: None,
) -> Diagnosis:
    """Diagnose the texts, then one criterion after the other, then what they contradict.

    Args:
        criteria: names, none without a judgment.
        judgments_of: reads the judgments on one criterion (columns of ``raw.judgments``); called once for each.
        responses: ``response_id``, ``prompt_id``, ``text``.
        prompts: ``prompt_id``, ``messages``.
        settings: of the diagnosis.
        advance: told of progress, (steps, note); there are ``len(criteria) + 4`` steps.
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
    judgments_of: Callable[[str], pl.DataFrame],
    *,
    features: pl.DataFrame,
    near: pl.DataFrame,
    settings: DiagnoseSettings,
    advance: Advance = lambda steps, note: None,
) -> Diagnosis:
    """What the votes say, one criterion after the other, given what the texts say.

    Args:
        criteria, judgments_of, settings, advance: as :func:`diagnose_judgments`, with ``len(criteria) + 2`` steps.
        features: ``response_id``, ``num_chars``.
        near: groups of near-duplicates, ``kind``, ``item_id``, ``group_id``.
    """
    parts = []
    for criterion in criteria:
        # handed over without a name of its own here, so that what is no longer needed is freed on the way
        parts.append(
            diagnose_criterion(criterion, _with_prompt_groups(judgments_of(criterion), near), features, settings)
        )
        advance(1, criterion)
    pairs = pl.concat([part.pairs for part in parts])
    graphs = graphs_of(pairs, seed=settings.seed)
    advance(1, "graphs")
    found = between_pairs(pairs, near, graphs.pair_graph, graphs.components)
    advance(1, "contradictions")
    tables = {
        "pair_estimates": pairs,
        "annotator_estimates": pl.concat([part.annotators for part in parts]),
        "annotator_pairs": annotator_pairs(pl.concat([part.shared for part in parts])),
        "agreement": agreement(parts, settings),
        "contradictions": pl.concat([*(part.contradictions for part in parts), found]),
        "pair_graph": graphs.pair_graph,
        "preference_components": graphs.components,
        "prompt_graphs": graphs.graphs,
        "response_estimates": graphs.response_estimates,
    }
    return Diagnosis(tables, {part.facts["criterion"]: part.facts for part in parts})


def diagnose_criterion(
    criterion: str, judgments: pl.DataFrame, features: pl.DataFrame, settings: DiagnoseSettings
) -> CriterionDiagnosis:
    """Annotators, consensus and agreement of the judgments on one criterion.

    Args:
        criterion: its name.
        judgments: columns of ``raw.judgments`` and ``prompt_group_id``; not empty.
        features: ``response_id``, ``num_chars``.
        settings: of the diagnosis.
    """
    votes = Votes.of(judgments)
    start = votes.ballots.starts[:-1]
    prompts = compact(judgments["prompt_id"].gather(votes.row[start]))
    judgments = judgments.drop("pair_id", "prompt_id", "response_a_id", "response_b_id", "vote")
    sources, source = encode(judgments["source"])
    model = fit(votes, settings.annotators)
    taste = taste_splits(model, settings.annotators)
    pairs = pair_estimates(model).with_columns(
        prompt_id=prompts,
        criterion=pl.lit(criterion),
        source=sources.gather(np.minimum.reduceat(source[votes.row], start)),
        is_taste_split=pl.when(pl.Series(taste.is_tested)).then(pl.Series(taste.is_split)),
    )
    length = length_bias(votes, features)
    annotators = annotator_estimates(model).with_columns(
        criterion=pl.lit(criterion),
        length_bias=pl.Series(length.slope).fill_nan(None),
        length_bias_low=pl.Series(length.low).fill_nan(None),
        length_bias_high=pl.Series(length.high).fill_nan(None),
    )
    labels = slice_labels(criterion, judgments, votes)
    nominal, ordinal = nominal_patterns(votes, labels), ordinal_patterns(judgments, votes, labels)
    del labels
    judgments = judgments.select("judgment_id", "annotator_id", "source")
    return CriterionDiagnosis(
        pairs=pairs,
        annotators=annotators.drop("num_tested", "num_agreeing"),
        shared=shared_votes(votes).with_columns(criterion=pl.lit(criterion)),
        nominal=nominal,
        ordinal=ordinal,
        contradictions=between_votes(votes, judgments, pairs),
        facts={
            "criterion": criterion,
            "num_judgments": votes.num_votes,
            "num_pairs": votes.num_pairs,
            "num_annotators": votes.num_annotators,
            "log_likelihood": model.log_likelihood,
            "num_rounds": len(model.history),
            "is_converged": model.is_converged,
            "taste_gain": None if np.isnan(taste.gain) else [taste.gain, taste.gain_error],
            "length_bias": [length.set_slope, length.set_low, length.set_high],
        },
    )


def graphs_of(pairs: pl.DataFrame, *, seed: int) -> PreferenceGraphs:
    """Preference graphs of the votes that ``raw.pair_estimates`` counts."""
    votes = pairs.select(
        "pair_id",
        "prompt_id",
        "criterion",
        response_x_id="chosen_id",
        response_y_id="rejected_id",
        votes_x="num_votes_chosen",
        votes_y="num_votes_rejected",
        ties="num_ties",
    )
    return preference_graphs(votes, seed=seed)


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


def _with_prompt_groups(judgments: pl.DataFrame, near: pl.DataFrame) -> pl.DataFrame:
    """Add ``prompt_group_id``; NULL where the prompt has no near-duplicate, so that no slice is made of it alone."""
    groups = near.filter(pl.col("kind") == "prompt").select(prompt_id="item_id", prompt_group_id="group_id")
    if groups.is_empty():
        return judgments.with_columns(prompt_group_id=pl.lit(None, dtype=pl.String))
    return judgments.join(groups, on="prompt_id", how="left", maintain_order="left")
