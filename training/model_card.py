"""The card of a trained model: what it was trained from, on what, how, and with which result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.wording import seen_of
from training.metric_words import METRICS

_MEANINGS = (
    "A margin is the log-prob of the chosen response minus that of the rejected one. Absolute accuracy: the share of"
    " pairs with a margin above 0, where the model prefers the chosen response. Relative accuracy: above the"
    " reference's margin. In U: above the reference's margin, and still below 0. Turned: the reference favors the"
    " rejected response, this model the chosen. Drift: the log-prob of a response minus the reference's. Before: under"
    " the model that training started from. Accuracies and margins are of summed log-probs where not per token."
)
_NOISE = (
    " Before training the model was the reference: a relative accuracy above 0 there is the difference between the"
    " reference log-probs of the export and the trainer's own, which the figures against the reference hold, too."
)


def model_card(
    *,
    training_run_id: str,
    model: str,
    manifest: Mapping[str, Any],
    loss: Mapping[str, Any],
    settings: Mapping[str, Any],
    counts: Mapping[str, int],
    before: Mapping[str, float],
    after: Mapping[str, float],
    library: str,
    check: Mapping[str, float] | None,
    check_note: str,
) -> str:
    """Markdown with the header that the Hub reads; ``check_note`` says why there was no check."""
    rules = manifest.get("rules") or {}
    header = f"---\nlibrary_name: {library}\npipeline_tag: text-generation\ntags: [winnow, preference-training]\n---\n"
    parameters = ", ".join(f"{name} {value:g}" for name, value in loss["parameters"].items())
    margins = "per token" if loss["length_normalized"] else "summed"
    lines = [
        header,
        f"# {training_run_id}\n",
        f"`{model}` trained on preference pairs by Winnow.\n",
        f"- objective: `{loss['objective']}` ({parameters}; margins {margins}; SFT weight {loss['sft_weight']:g})",
        f"- export: `{manifest['export_id']}` of curation run `{manifest.get('curation_run_id')}`",
        f"- rules: `{rules.get('name')}` (SHA-256 `{str(rules.get('sha256'))[:12]}`)",
        f"- trained on {seen_of(counts['seen'], counts['train'])}, {counts['eval']:,} held out;"
        f" {counts['too_long']:,} too long, {counts['cut_otherwise']:,} cut otherwise than by the scorer and"
        f" {counts['weightless']:,} without weight were left out",
        f"- steps: {counts['steps']:,}",
        _check_line(check, check_note),
        "| held-out pairs | before | after | unit |",
        "|---|---:|---:|---|",
    ]
    for name, metric in METRICS.items():
        if name in after:
            first = metric.text(before[name]) if name in before else ""
            lines.append(f"| {metric.title} | {first} | {metric.text(after[name])} | {metric.unit} |")
    is_noisy = check is not None and (before.get("relative_accuracy") or 0) > 0
    lines += ["", _MEANINGS + (_NOISE if is_noisy else ""), "", "## Settings\n"]
    lines += [
        "What is null is the objective's or the export's own.\n",
        "```json",
        json.dumps(settings, indent=1, sort_keys=True),
        "```",
        "",
    ]
    return "\n".join(lines)


def _check_line(check: Mapping[str, float] | None, note: str) -> str:
    if check is None:
        return f"- reference log-probs: {note}\n"
    return (
        f"- reference log-probs: from the export; on {check['num_pairs']} pairs they are {check['mean_difference']:.2g}"
        f" nats a token from the trainer's own on average, at most {check['max_difference']:.2g}\n"
    )
