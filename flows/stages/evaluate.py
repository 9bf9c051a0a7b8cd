"""Evaluate: the trainer's metrics for any model, on an export's pairs, through the scoring engines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from curation.scoring.settings import DtypeName, EngineName, ScoringSettings
from flows.console import progress
from flows.report import StageReport
from flows.stages.score_settings import dtype_alone, validated
from schemas.errors import ConfigError, ExportError
from schemas.tokens import EncodedGroup
from schemas.wording import counted

if TYPE_CHECKING:
    from curation.scoring.engine import Engine, EngineInfo
    from curation.scoring.policy import ReferencePolicy
    from training.data import EncodedPairs
    from training.export_folder import ExportFolder
    from training.monitor import PairScores
    from training.settings import LossSettings

_BATCH_GROUPS = 256
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
    subject = _open(model, export, engine=engine, dtype=dtype, settings=settings or ScoringSettings())
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
class _Subject:
    """A model, by which engine and how it is scored."""

    model: str
    policy: ReferencePolicy
    engine: EngineName
    scoring: ScoringSettings


@dataclass(frozen=True)
class _Scored:
    """Pairs with their scores: by which engine, the loss of which objective, what differs from the scorer's tokens."""

    pairs: EncodedPairs
    scores: PairScores
    engine: EngineInfo
    objective: str
    other_tokens: str | None


def _open(
    model: str, export: ExportFolder, *, engine: str | None, dtype: str | None, settings: ScoringSettings
) -> _Subject:
    """What to score with; in the reference's dtype where it is the reference and none is named."""
    from curation.scoring.engines import choose_engine
    from curation.scoring.policy import open_policy

    chosen = choose_engine(engine or _engine_of(export))
    base, options = _base_and_adapter(model)
    given = {} if dtype is None else {"dtype": dtype}
    scoring = validated(settings.model_dump(exclude_unset=True) | options | given)
    policy = open_policy(scoring, base)
    if "dtype" not in scoring.model_fields_set and _is_reference(policy, export.reference):
        scoring = scoring.model_copy(update={"dtype": _dtype_of(export)})
    return _Subject(model, policy, chosen, scoring)


def _score(subject: _Subject, export: ExportFolder, split: str, *, objective: str | None, num_pairs: int) -> _Scored:
    """Score the pairs and add their losses."""
    from curation.scoring.engines import open_engine
    from training.evaluation import objective_of, with_losses
    from training.load import differing_part

    policy = subject.policy
    objectives, state = objective_of(subject.model, export, objective=objective, split=split)
    different = None if export.reference is None else differing_part(policy.tokenizer, export.reference)
    pairs = _encode(export, split, policy, objectives, is_scorers=different is None).evenly(num_pairs)
    engine = open_engine(subject.engine, policy, subject.scoring)
    with closing(engine) as opened, progress("score", len(pairs), "pairs") as advance:
        scores = score_pairs(pairs, opened, advance)
        info = opened.info
    scores = with_losses(scores, pairs, objectives, state)
    return _Scored(pairs, scores, info, objectives[0].objective.value, different)


def _engine_of(export: ExportFolder) -> str | None:
    """The one engine that scored the export's reference, where it can be opened here by its name."""
    from curation.scoring.engines import available_engines

    engine = (export.reference or {}).get("engine")
    return engine if engine in {each.name for each in available_engines() if each.is_ready} else None


def _dtype_of(export: ExportFolder) -> str:
    """The one dtype of the reference log-probs, else ``auto``."""
    dtype = dtype_alone((export.reference or {}).get("dtype") or "auto")
    return dtype if dtype in get_args(DtypeName) else "auto"


def _is_reference(policy: ReferencePolicy, reference: Mapping[str, Any] | None) -> bool:
    """Whether these weights are those that scored, whatever is cut."""
    if reference is None or policy.weights_hash != reference.get("weights_hash"):
        return False
    adapter = None if policy.adapter is None else str(policy.adapter)
    return adapter == reference.get("adapter")


def _other_engine(export: ExportFolder, info: EngineInfo) -> str | None:
    """Engine and dtype of the reference log-probs, where they are known and not those of this evaluation."""
    reference = export.reference or {}
    engine, dtype = reference.get("engine"), reference.get("dtype")
    if engine is None or dtype is None or (engine, dtype_alone(dtype)) == (info.engine, info.dtype):
        return None
    return f"{engine} ({dtype})"


def score_pairs(pairs: EncodedPairs, engine: Engine, advance: Any) -> PairScores:
    """Log-probs of pairs under a scoring engine; every prompt and response is handed over once."""
    from training.monitor import PairScores

    places: dict[tuple[int, int], dict[int, float]] = {}
    for prompt, response, cut in _sides(pairs):
        places.setdefault((prompt, cut), {})[response] = float("nan")
    todo = list(places)
    total, done = len(todo), 0
    for begin in range(0, total, _BATCH_GROUPS):
        keys = todo[begin : begin + _BATCH_GROUPS]
        groups = [
            EncodedGroup(pairs.sequence(*key).tolist(), [pairs.sequence(r).tolist() for r in places[key]])
            for key in keys
        ]
        for key, found in zip(keys, engine.score(groups), strict=True):
            for response, score in zip(places[key], found, strict=True):
                places[key][response] = score.logps
        finished = len(pairs) * min(begin + _BATCH_GROUPS, total) // total
        advance(finished - done, "")
        done = finished
    logps = np.array([places[prompt, cut][response] for prompt, response, cut in _sides(pairs)]).reshape(2, -1)
    return PairScores(
        chosen_logps=logps[0],
        rejected_logps=logps[1],
        reference_chosen_logps=pairs.reference_chosen_logps,
        reference_rejected_logps=pairs.reference_rejected_logps,
        chosen_num_tokens=pairs.lengths(pairs.chosen).astype(np.float64),
        rejected_num_tokens=pairs.lengths(pairs.rejected).astype(np.float64),
        weight=pairs.weight,
        loss=np.full(len(pairs), np.nan),
    )


def _sides(pairs: EncodedPairs) -> list[tuple[int, int, int]]:
    """(prompt, response, cut) of every chosen, then of every rejected."""
    columns = [
        np.concatenate([pairs.prompt, pairs.prompt]),
        np.concatenate([pairs.chosen, pairs.rejected]),
        np.concatenate([pairs.chosen_cut, pairs.rejected_cut]),
    ]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _encode(
    export: ExportFolder, split: str, policy: ReferencePolicy, objectives: Sequence[LossSettings], *, is_scorers: bool
) -> EncodedPairs:
    """The pairs as the scorer wrote and cut them, as far as the policy takes them.

    Raises:
        ExportError: there are none.
    """
    from training.export_pairs import encode_split

    reference = export.reference or {}
    limits = [limit for limit in (policy.max_length, reference.get("max_length")) if limit is not None]
    pairs = encode_split(
        export,
        split,
        policy.tokenizer,
        objectives=objectives,
        template=None if is_scorers and reference else policy.template,
        max_length=min(limits),
        truncate="left" if policy.truncate == "left" else None,
        is_scorers=is_scorers,
    )
    if len(pairs) + pairs.num_too_long + pairs.num_cut_otherwise + pairs.num_weightless == 0:
        raise ExportError(f"{export.path} has no pairs in split {split!r}", mend="give --split train")
    return pairs


def _base_and_adapter(model: str) -> tuple[str, dict[str, Any]]:
    """An adapter's folder stands for its base with the adapter."""
    file = Path(model) / "adapter_config.json"
    if not file.is_file() or (Path(model) / "config.json").is_file():
        return model, {}
    base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    return str(base), {"adapter": model}


def _lines(facts: dict[str, Any]) -> list[str]:
    from training.metric_words import aligned

    head = f"{counted(facts['num_pairs'], facts['split'] + ' pair')} of {facts['export_id']} with {facts['engine']};"
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
