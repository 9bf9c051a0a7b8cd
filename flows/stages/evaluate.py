"""Evaluate: the trainer's metrics for any model, on an export's pairs, through the scoring engines."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.scoring.settings import ScoringSettings
from flows.console import progress
from flows.report import StageReport
from flows.stages.evaluate_pairs import encode_as_scored, score_pairs
from flows.stages.evaluate_policy import Subject, open_subject
from flows.stages.score_settings import dtype_alone
from schemas.errors import ConfigError
from schemas.wording import counted

if TYPE_CHECKING:
    from curation.scoring.engine import EngineInfo
    from training.data import EncodedPairs
    from training.export_folder import ExportFolder
    from training.monitor import PairScores

SLICES = ("criterion", "source", "objective")


def evaluate(
    model: str,
    *,
    on: Path,
    split: str = "test",
    engine: str | None = None,
    dtype: str | None = None,
    slice_by: str | None = None,
    objective: str | None = None,
    num_pairs: int = 2000,
    settings: ScoringSettings | None = None,
) -> StageReport:
    """Score an export's pairs under a model and compute every metric of ``training.monitor``; nothing is written.

    The pairs are those that a training with default settings holds out, written and cut as the scorer did. Under
    another tokenizer or chat template than the scorer's, the reference log-probs are not used.

    Args:
        model: folder (of a model, or of an adapter that names its base) or Hub id.
        on: folder of the export.
        split: ``test`` or ``train``.
        engine: scoring engine; when None the one that scored the export's reference, or the best where that one is not
            known or not here.
        dtype: of the computation; when None that of the reference's log-probs for the reference policy itself, and for
            any other model the one in which its weights are stored.
        slice_by: column of the export by which metrics are also given.
        objective: whose loss; that which the model was trained with, else that of the export's rules, when None.
        num_pairs: at most so many, evenly spaced; 0 for all. That of ``train.eval_pairs`` for the same pairs.
        settings: further settings of scoring.

    Returns:
        Facts: model, export_id, split, num_pairs, num_too_long, num_cut_otherwise, other_tokens (the part that differs
        from the scorer's, or None), engine, reference_engine (what computed the reference log-probs, where it is
        another one, or None), objective, metrics, slice_by, slices.

    Raises:
        ExportError: the export does not match its manifest, or the split is empty.
        TrainingError: the objective is not known.
        ModelError: the model lacks a part.
        EngineError: the engine cannot serve it.
    """
    from training.export_folder import ExportFolder
    from training.monitor import metrics, metrics_by_slice
    from training.preflight import resolve_objective

    if slice_by is not None and slice_by not in SLICES:
        raise ConfigError(f"there is no slice {slice_by!r}", mend=f"use one of {', '.join(SLICES)}")
    export = ExportFolder.open(Path(on))
    resolve_objective(objective, export.rules)  # an unknown one is refused before a model is loaded
    subject = open_subject(model, export, engine=engine, dtype=dtype, settings=settings or ScoringSettings())
    scored = _score(subject, export, split, objective=objective, num_pairs=num_pairs)
    pairs, scores = scored.pairs, scored.scores
    labels = None if slice_by is None else pairs.labels(slice_by, own_objective=scored.objective)
    facts = {
        "model": model,
        "export_id": export.export_id,
        "split": split,
        "num_pairs": len(pairs),
        "num_too_long": pairs.num_too_long,
        "num_cut_otherwise": pairs.num_cut_otherwise,
        "other_tokens": scored.other_tokens,
        "engine": f"{scored.engine.engine} {scored.engine.version}, {scored.engine.path}, {scored.engine.dtype}",
        "reference_engine": _other_engine(export, scored.engine),
        "objective": scored.objective,
        "metrics": metrics(scores),
        "slice_by": slice_by,
        "slices": {} if labels is None else metrics_by_slice(scores, labels),
    }
    return StageReport("evaluate", None, 0, facts, tuple(_lines(facts)))


@dataclass(frozen=True)
class _Scored:
    """Pairs with their scores: by which engine, the loss of which objective, what differs from the scorer's tokens."""

    pairs: EncodedPairs
    scores: PairScores
    engine: EngineInfo
    objective: str
    other_tokens: str | None


def _score(subject: Subject, export: ExportFolder, split: str, *, objective: str | None, num_pairs: int) -> _Scored:
    """Score the pairs and add their losses."""
    from curation.scoring.engines import open_engine
    from training.evaluation import objective_of, with_losses
    from training.load import differing_part

    policy = subject.policy
    objectives, state = objective_of(subject.model, export, objective=objective, split=split)
    different = None if export.reference is None else differing_part(policy.tokenizer, export.reference)
    pairs = encode_as_scored(export, split, policy, objectives, is_scorers=different is None).evenly(num_pairs)
    engine = open_engine(subject.engine, policy, subject.scoring)
    with closing(engine) as opened, progress("score", len(pairs), "pairs") as advance:
        scores = score_pairs(pairs, opened, advance)
        info = opened.info
    scores = with_losses(scores, pairs, objectives, state)
    return _Scored(pairs, scores, info, objectives[0].objective.value, different)


def _other_engine(export: ExportFolder, info: EngineInfo) -> str | None:
    """Engine and dtype of the reference log-probs, where they are known and not those of this evaluation."""
    reference = export.reference or {}
    engine, dtype = reference.get("engine"), reference.get("dtype")
    if engine is None or dtype is None or (engine, dtype_alone(dtype)) == (info.engine, info.dtype):
        return None
    return f"{engine} ({dtype})"


def _lines(facts: dict[str, Any]) -> list[str]:
    from training.metric_words import aligned

    pairs = counted(facts["num_pairs"], facts["split"] + " pair")
    head = f"{facts['model']} on {pairs} of {facts['export_id']} with {facts['engine']};"
    head += f" loss of {facts['objective']}"
    if facts["num_too_long"]:
        head += f"; {facts['num_too_long']} were too long"
    if facts["num_cut_otherwise"]:
        head += f"; {facts['num_cut_otherwise']} are cut otherwise than by the scorer and left out"
    lines = [head]
    if facts["other_tokens"]:
        lines.append(
            f"the model's {facts['other_tokens']} is not the scorer's: what needs reference log-probs is left out"
        )
    elif facts["reference_engine"]:
        lines.append(
            f"the reference log-probs come from {facts['reference_engine']}: drifts and margins against them also hold"
            " the noise between the two"
        )
    lines += aligned(facts["metrics"])
    for label, values in facts["slices"].items():
        lines += [f"{facts['slice_by']} {label}:", *aligned(values)]
    return lines
