"""The pairs of an evaluation: written and cut as the scorer did, and scored by an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.errors import ExportError
from schemas.tokens import EncodedGroup

if TYPE_CHECKING:
    from curation.scoring.engine import Engine
    from curation.scoring.policy import ReferencePolicy
    from training.data import EncodedPairs
    from training.export_folder import ExportFolder
    from training.monitor import PairScores
    from training.settings import LossSettings

_BATCH_GROUPS = 256


def encode_as_scored(
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
