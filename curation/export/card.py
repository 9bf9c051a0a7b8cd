"""The data card of an export, in Markdown: what came in, what was dropped and why, and what to beware of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.export.manifest import Provenance

FILE_NAME = "README.md"


@dataclass(frozen=True)
class CardFigures:
    """What the card tells beside the manifest.

    Attributes:
        num_judgments, num_pairs, num_quarantined: what came in.
        rules: one row a rule: rule, action, num_matched, num_applied.
        totals: num_dropped, num_flipped, ... and total_weight of the run.
    """

    num_judgments: int
    num_pairs: int
    num_quarantined: int
    rules: Sequence[Mapping[str, Any]]
    totals: Mapping[str, Any]


def write_card(folder: Path, counts: Mapping[str, int], provenance: Provenance, figures: CardFigures) -> list[str]:
    """Write ``README.md``; returns the paths that were written."""
    sections = [_head(counts, provenance), _came_in(figures), _decided(figures)]
    (folder / FILE_NAME).write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return [FILE_NAME]


def _head(counts: Mapping[str, int], provenance: Provenance) -> str:
    rules = provenance.rules
    return (
        f"# Preference pairs, curated with {rules['name']}\n\n"
        f"{counts['train']:,} pairs to train on and {counts['test']:,} held out, cut by prompt group.\n"
        f"Objective `{rules['objective']}`, beta {rules['beta']:g}."
    )


def _came_in(figures: CardFigures) -> str:
    return (
        "## What came in\n\n"
        f"{figures.num_judgments:,} judgments on {figures.num_pairs:,} pairs;"
        f" {figures.num_quarantined:,} rows in quarantine."
    )


def _decided(figures: CardFigures) -> str:
    rows = [
        f"| {rule['rule']} | {rule['action']} | {rule['num_matched']:,} | {rule['num_applied']:,} |"
        for rule in figures.rules
    ]
    return "\n".join(
        [
            "## What was done and why\n",
            "| rule | action | pairs matched | pairs changed |",
            "|---|---|---:|---:|",
            *rows,
        ]
    )
