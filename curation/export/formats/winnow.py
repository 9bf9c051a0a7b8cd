"""The own layout, which this project's trainer reads: Parquet, with everything that is known of a pair."""

from __future__ import annotations

from curation.export.formats.layout import Layout

COLUMNS = (
    "pair_id",
    "prompt_id",
    "prompt_group_id",
    "criterion",
    "prompt",
    "chosen",
    "rejected",
    "reference_chosen_logps",
    "reference_rejected_logps",
    "chosen_num_tokens",
    "rejected_num_tokens",
    "weight",
    "soft_label",
    "objective",
    "source",
)
"""Columns of a pair in an export, in order; the other layouts are made from these."""

LAYOUT = Layout("winnow", "parquet", ", ".join(COLUMNS))
