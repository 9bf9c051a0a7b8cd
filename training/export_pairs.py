"""The pairs of an export's split as token ids, written and cut as the scorer did, so that its log-probs are theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.tokens import Template, Tokenizer
from training.data import Advance, EncodedPairs, Truncation, encode_pairs
from training.export_folder import ExportFolder
from training.objective_loss import route_of
from training.objectives import TRAITS
from training.settings import LossSettings


def encode_split(
    export: ExportFolder,
    split: str,
    tokenizer: Tokenizer,
    *,
    objectives: Sequence[LossSettings],
    template: Template | None = None,
    max_length: int | None = None,
    truncate: Truncation | None = None,
    is_scorers: bool = True,
    advance: Advance | None = None,
) -> EncodedPairs:
    """Tokenize a split; what is left open is as the scorer had it.

    Args:
        export: the export.
        split: ``train`` or ``test``.
        tokenizer: of the policy.
        objectives: the run's own, then those to which pairs are routed.
        template: how prompts are written.
        max_length: most tokens of a prompt with one response.
        truncate: what is done to a longer pair.
        is_scorers: whether tokenizer and template are the scorer's. If not, no pair keeps its reference log-probs.
        advance: called with (rows done, note) as encoding goes on.

    Returns:
        The pairs. Reference log-probs of a prompt that is cut elsewhere than the scorer cut it are taken away; a pair
        whose objective needs them is left out and counted in ``num_cut_otherwise``.

    Raises:
        TokenError: a conversation cannot be tokenized.
        TrainingError: a weight or soft label is out of range.
    """
    reference = export.reference or {}
    scorers: Truncation = "left" if reference.get("truncate") == "left" else "drop"
    pairs = encode_pairs(
        export.table(split),
        tokenizer,
        template=template or reference.get("template") or "auto",
        max_length=max_length or reference.get("max_length"),
        truncate=truncate or scorers,
        advance=advance,
    )
    if not is_scorers:
        return _without_reference(pairs, np.ones(len(pairs), dtype=bool))
    differs = _is_cut_otherwise(pairs, reference.get("max_length") if scorers == "left" else None)
    differs &= ~np.isnan(pairs.reference_chosen_logps + pairs.reference_rejected_logps)
    route = route_of(pairs.objective, objectives)
    lost = differs & np.array([TRAITS[loss.objective].needs_reference for loss in objectives])[route]
    kept = replace(
        _without_reference(pairs, differs).take(np.flatnonzero(~lost)),
        num_too_long=pairs.num_too_long,
        num_weightless=pairs.num_weightless,
    )
    return replace(kept, num_cut_otherwise=int(lost.sum()))


def _is_cut_otherwise(pairs: EncodedPairs, limit: int | None) -> NDArray[np.bool_]:
    """Whether a prompt of each pair is cut elsewhere than at ``limit`` tokens with its response. Shape (N,)."""
    differs = np.zeros(len(pairs), dtype=bool)
    for cut, response in ((pairs.chosen_cut, pairs.chosen), (pairs.rejected_cut, pairs.rejected)):
        total = pairs.lengths(pairs.prompt) + pairs.lengths(response)
        differs |= cut != (0 if limit is None else np.maximum(total - limit, 0))
    return differs


def _without_reference(pairs: EncodedPairs, rows: NDArray[np.bool_]) -> EncodedPairs:
    return replace(
        pairs,
        reference_chosen_logps=np.where(rows, np.nan, pairs.reference_chosen_logps),
        reference_rejected_logps=np.where(rows, np.nan, pairs.reference_rejected_logps),
    )
