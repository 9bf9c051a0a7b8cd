"""Dry runs and advice on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curation.advise import Advice
from flows.console import out
from flows.hints import hint
from flows.narrow_table import narrow_table
from flows.stages.advice import DryRun
from flows.stages.curate import unknown_sentence
from schemas.wording import counted

_EXCERPT = 60


def dry_run_tables(found: DryRun, workspace: Path = Path()) -> None:
    """Print what each rule would do, then its examples."""
    rules = found.rules
    out.print(
        f"{rules.name} over {counted(found.num_pairs, 'pair')}, objective {rules.objective}, beta {rules.beta:g};"
        " nothing is written"
    )
    out.print(hint(found.scored, workspace), soft_wrap=True, markup=False)
    figures = ("matched", "alone", "applied", "weight removed")
    table = narrow_table("rule", "action", *figures, figures=figures)
    for each in found.previews:
        count = each.count
        table.add_row(
            count.rule,
            count.action,
            f"{count.num_matched:,}",
            f"{count.num_alone:,}",
            f"{count.num_applied:,}",
            f"{each.weight_removed:,.1f}",
        )
    out.print(table)
    out.print("matched: its condition holds; alone: no other rule's does; applied: it does something to the pair")
    for each in found.previews:
        if each.count.num_unknown:
            condition = next(rule.when for rule in rules.rule if rule.name == each.count.rule)
            out.print(unknown_sentence(each.count, found.num_pairs, condition), soft_wrap=True)
    if found.num_adjudicated:
        out.print(f"People decided {counted(found.num_adjudicated, 'pair')}, whatever the rules say.")
    for each in found.previews:
        if each.examples:
            out.print(f"\n[bold]{each.count.rule}[/], for example:")
            for pair in each.examples:
                _print_example(pair, found.texts.get(pair))


def advice_lines(advice: Advice, workspace: Path) -> None:
    """Print the recommendation and its reasons."""
    out.print(f"[bold]objective {advice.objective}, beta {advice.beta:g}, profile {advice.profile}[/]")
    for reason in advice.reasons:
        out.print(hint(f"- {reason}", workspace), soft_wrap=True, markup=False)
    out.print(hint(f"Try: winnow curate --rules {advice.profile} --dry-run", workspace), soft_wrap=True)


def _print_example(pair: str, texts: dict[str, Any] | None) -> None:
    if texts is None:
        out.print(f"  {pair}")
        return
    prompt = json.loads(texts["prompt"])
    parts = [prompt[-1]["content"] if prompt else "", texts["chosen"], texts["rejected"]]
    shown = " | ".join(" ".join(part.split())[:_EXCERPT] for part in parts)
    out.print(f"  {pair}  {shown}", soft_wrap=True, markup=False)
