"""The data card of an export, in Markdown with plots: what came in, what was dropped and why, and what to beware of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.export.formats.layout import Layout
from curation.export.manifest import Provenance
from curation.export.plots import bars, histogram
from schemas.enums import Split
from schemas.policy_names import policy_name
from schemas.wording import counted

FILE_NAME = "README.md"


@dataclass(frozen=True)
class CardFigures:
    """What the card tells beside the manifest.

    Attributes:
        came_in: label and count of what came in: judgments, annotators, pairs, quarantined rows.
        quarantined: reason and number of rows.
        rules: one row a rule: rule, action, num_matched, num_applied, num_unknown; pairs that people decided count
            under ``num_applied`` of none of them but of a row ``adjudication`` of their own.
        totals: num_pairs, num_dropped, num_flipped, ... and total_weight of the run.
        agreement: rows of Krippendorff's alpha over the whole set: level, alpha, alpha_low, alpha_high, num_units.
        noise: mean_p_wrong (1 - p_consensus_right), mean_p_flip (None until it is known), share_single_vote.
        margins: quantiles of the reference margin before and after: label, q05, q25, q50, q75, q95, share_wrong, all
            over num_with_margin of num_pairs; empty where no pair has a margin.
        num_scored: responses with a log-prob under the reference policy.
        num_responses: all responses.
        num_new: those that it has not met: scoring is not complete where there are some.
        histogram: edges and two series of shares, before and after; None where nothing is scored.
    """

    came_in: Sequence[tuple[str, int]]
    quarantined: Sequence[tuple[str, int]]
    rules: Sequence[Mapping[str, Any]]
    totals: Mapping[str, Any]
    agreement: Sequence[Mapping[str, Any]]
    noise: Mapping[str, Any]
    margins: Sequence[Mapping[str, Any]]
    num_scored: int
    num_responses: int
    num_new: int
    histogram: tuple[tuple[float, float], list[float], list[float]] | None


def write_card(
    folder: Path, counts: Mapping[str, int], layout: Layout, provenance: Provenance, figures: CardFigures
) -> list[str]:
    """Write ``README.md`` and its plots; returns the paths that were written."""
    plots = _plots(figures)
    for name, text in plots.items():
        (folder / name).write_text(text, encoding="utf-8")
    sections = [
        _front_matter(counts, layout, provenance),
        _head(counts, provenance, figures),
        _came_in(figures),
        _decided(figures, plots),
        _agreement(figures),
        _margins(figures, plots),
        _limits(layout, provenance, figures),
        _sources(provenance),
    ]
    (folder / FILE_NAME).write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return [FILE_NAME, *plots]


def _plots(figures: CardFigures) -> dict[str, str]:
    changed = [(str(rule["rule"]), int(rule["num_applied"])) for rule in figures.rules if rule["num_applied"]]
    plots = {"rules.svg": bars(changed, title="Pairs that each rule changed")} if changed else {}
    if figures.histogram is not None:
        edges, before, after = figures.histogram
        plots["margins.svg"] = histogram(
            edges,
            [("before", before), ("after, weighted", after)],
            title="Reference margin, before and after curation",
            unit="reference margin, nats (left of the line the reference prefers rejected)",
        )
    return plots


def _front_matter(counts: Mapping[str, int], layout: Layout, provenance: Provenance) -> str:
    """What the Hugging Face hub and ``load_dataset`` read: licence, and which files are which split."""
    lines = ["---"]
    if provenance.licence:
        lines.append(f"license: {json.dumps(provenance.licence.lower())}")
    lines += ["tags: [preference]", "configs:", "- config_name: default", "  data_files:"]
    for split in Split:
        if counts[split]:
            lines += [f"  - split: {split}", f"    path: {json.dumps(layout.pattern(split))}"]
    return "\n".join([*lines, "---"])


def _head(counts: Mapping[str, int], provenance: Provenance, figures: CardFigures) -> str:
    rules, reference = provenance.rules, provenance.reference
    policy = "not scored by a reference policy"
    if reference is not None:
        total = counted(figures.num_responses, "response")
        policy = f"scored by {policy_name(reference)}, {figures.num_scored:,} of {total}"
    return (
        f"# Preference pairs, curated with {rules['name']}\n\n"
        f"{counted(counts['train'], 'pair')} to train on and {counts['test']:,} held out, cut by groups of"
        f" near-duplicate prompts; {policy}.\nObjective `{rules['objective']}`, beta {rules['beta']:g}."
        f" Decisions `{provenance.curation_run_id}`: the id is a hash of them, and the curation runs that decided so"
        " have it, from the second on with a number behind it."
    )


def _came_in(figures: CardFigures) -> str:
    rows = [f"| {name} | {count:,} |" for name, count in figures.came_in]
    rows += [f"| in quarantine: {reason} | {count:,} |" for reason, count in figures.quarantined]
    return "\n".join(["## What came in\n", "| what | rows |", "|---|---:|", *rows])


def _decided(figures: CardFigures, plots: Mapping[str, str]) -> str:
    totals = figures.totals
    rows = [
        f"| {rule['rule']} | {rule['action']} | {rule['num_matched']:,} | {rule['num_applied']:,} |"
        for rule in figures.rules
    ]
    text = (
        f"## What was done and why\n\nOf {counted(totals['num_pairs'], 'pair')} {totals['num_dropped']:,} were dropped,"
        f" {totals['num_flipped']:,} flipped, {totals['num_reweighted']:,} reweighted,"
        f" {totals['num_soft_labelled']:,} given a soft label and {totals['num_routed']:,} routed to another objective;"
        f" people decided {totals['num_adjudicated']:,}. The weight that is left is {totals['total_weight']:,.1f}.\n"
    )
    table = "\n".join(["| rule | action | condition holds | does something |", "|---|---|---:|---:|", *rows])
    image = "\n\n![Pairs that each rule changed](rules.svg)" if "rules.svg" in plots else ""
    return f"{text}\n{table}{image}"


def _agreement(figures: CardFigures) -> str:
    lines = ["## Agreement and noise\n"]
    for row in figures.agreement:
        if row["alpha"] is None:
            continue
        interval = ""
        if row["alpha_low"] is not None:
            interval = f" (95 % interval {row['alpha_low']:.3f} to {row['alpha_high']:.3f})"
        lines.append(
            f"- Krippendorff's alpha, {row['level']}: {row['alpha']:.3f}{interval}, over"
            f" {counted(row['num_units'], 'pair')} with several votes."
        )
    if len(lines) == 1:
        lines.append("- Agreement is not defined: no pair has two votes, or it was not computed.")
    noise = figures.noise
    lines.append(f"- {noise['share_single_vote']:.1%} of the pairs have a single vote.")
    lines.append(
        f"- The annotator model expects the consensus to be wrong on {noise['mean_p_wrong']:.1%} of the pairs."
    )
    if noise["mean_p_flip"] is None:
        lines.append("- p_flip is not known: label-noise scoring has not run.")
    else:
        lines.append(f"- Mean p_flip, the calibrated probability of a wrong label: {noise['mean_p_flip']:.1%}.")
    return "\n".join(lines)


def _margins(figures: CardFigures, plots: Mapping[str, str]) -> str:
    if not figures.margins:
        return "## Margins\n\nNo pair is scored, so there are no margins."
    quantiles = ("q05", "q25", "q50", "q75", "q95")
    rows = [
        f"| {row['label']} | {row['num_with_margin']:,} of {row['num_pairs']:,} | "
        + " | ".join(f"{row[q]:.2f}" for q in quantiles)
        + f" | {row['share_wrong']:.1%} |"
        for row in figures.margins
    ]
    head = "| pairs | with a margin | 5 % | 25 % | median | 75 % | 95 % | reference prefers rejected |"
    table = "\n".join([head, "|---|---:|---:|---:|---:|---:|---:|---:|", *rows])
    if any(row["num_with_margin"] < row["num_pairs"] for row in figures.margins):
        table += (
            "\n\nA pair has no margin where a response of it has no reference log-probs; the figures are of the others."
        )
    image = "\n\n![Reference margins](margins.svg)" if "margins.svg" in plots else ""
    return f"## Reference margins before and after, nats\n\n{table}{image}"


def _limits(layout: Layout, provenance: Provenance, figures: CardFigures) -> str:
    lines = ["## Known limits\n"]
    for rule in figures.rules:
        if rule["num_unknown"]:
            lines.append(
                f"- The condition of `{rule['rule']}` was NULL on {counted(rule['num_unknown'], 'pair')} and did not"
                " match."
            )
    if provenance.reference is None:
        lines.append("- There are no reference log-probs; a trainer that needs them must compute them.")
    else:
        lines.append(
            "- Reference log-probs belong to the tokenizer and chat template named in `manifest.json`; under others"
            " they are wrong."
        )
    if provenance.reference is not None and figures.num_new:
        lines.append(
            f"- Scoring was not complete: {counted(figures.num_new, 'response')} had not met the reference policy, and"
            " their pairs have no reference log-probs."
        )
    if layout.loses:
        lines.append(f"- The {layout.name} format has no room for {', '.join(layout.loses)}.")
    lines.append(
        "- Near-duplicates are kept out of the other split by prompt; a response may still recur under another prompt."
    )
    lines.append("- Preferences are those of the annotators in the sources, with their tastes and blind spots.")
    return "\n".join(lines)


def _sources(provenance: Provenance) -> str:
    rows = [
        f"| {source['source']} | {source['licence'] or 'not stated'} | {source['num_pairs']:,} |"
        for source in provenance.sources
    ]
    licence = provenance.licence or "not stated"
    return "\n".join(
        [
            f"## Sources and licence\n\nLicence of this set: {licence}.\n",
            "| source | licence | pairs |",
            "|---|---|---:|",
            *rows,
        ]
    )
