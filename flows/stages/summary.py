"""The last stage: a Markdown summary of what the set looks like now, and where everything lies. It only reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.report import StageReport
from flows.workspace import Workspace
from schemas.wording import counted
from warehouse.lake import Lake

_REFERENCE = """
    select
        policies.model,
        count(reference_margin) as num_scored,
        count(*) filter (where is_reference_wrong) as num_wrong,
        count(*) filter (where is_reference_wrong_mean) as num_wrong_mean,
        count(*) filter (where is_reference_wrong <> is_reference_wrong_mean) as num_disagreeing,
        count(*) filter (where not is_assumption_held) as num_failing,
        quantile_disc(beta_max, [0.01, 0.05, 0.1, 0.25, 0.5]) as beta_max
    from mart.pair_diagnostics as diagnostics
    join raw.reference_policies as policies on diagnostics.reference_id = policies.reference_id
    where diagnostics.reference_margin is not null and not is_tied
    group by policies.reference_id, policies.model
    order by policies.model
"""

_SET = """
    select
        (select count(*) from raw.prompts) as prompts,
        (select count(*) from raw.responses) as responses,
        (select count(*) from raw.judgments) as judgments,
        (select count(distinct annotator_id) from raw.judgments) as annotators,
        (select count(*) from raw.quarantine) as quarantined,
        (select count(*) from raw.pair_estimates) as pairs,
        (select count(distinct pair_id) from raw.contradictions) as contradicted,
        (select count(*) from raw.pair_graph) as in_cycles
"""

_RULES = """
    select rule, count(*) as pairs
    from (select unnest(rules) as rule from model.standing_decisions)
    group by rule order by pairs desc, rule
"""


def summarise(workspace: Workspace, reports: Sequence[StageReport] = ()) -> StageReport:
    """Write ``summaries/latest.md`` and return its figures and closing sentences."""
    with workspace.lake(read_only=True) as lake:
        size = lake.frame(_SET).row(0, named=True)
        references = lake.frame(_REFERENCE).to_dicts()
        rules = lake.frame(_RULES).to_dicts()
        checkpoints = _checkpoints(lake)
    export = next((report.facts["path"] for report in reports if report.stage == "export"), None)
    path = workspace.summaries / "latest.md"
    path.parent.mkdir(exist_ok=True)
    sections = [
        f"# {workspace.root.resolve().name}\n",
        _size_section(size),
        *[_reference_section(reference) for reference in references],
        _rules_section(rules, size["pairs"]),
        _places_section(export, checkpoints),
    ]
    path.write_text("\n".join(sections), encoding="utf-8")
    lines = [_reference_sentence(reference) for reference in references]
    return StageReport(
        "summary",
        None,
        0,
        {"path": str(path), **size, "references": references},
        (*lines, f"The summary is {path}."),
    )


def share(count: int, total: int) -> str:
    """A share with its 95 % Wilson interval: ``54.2 % (52.1 to 56.2)``."""
    if total == 0:
        return "none"
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(method="wilson")
    return f"{100 * count / total:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _reference_sentence(reference: dict[str, Any]) -> str:
    total = reference["num_scored"]
    return (
        f"The reference favors the rejected answer on {share(reference['num_wrong'], total)} of"
        f" {counted(total, 'pair')} summed, and on {share(reference['num_wrong_mean'], total)} per token."
    )


def _size_section(size: dict[str, int]) -> str:
    rows = [f"| {name.replace('_', ' ')} | {count:,} |" for name, count in size.items()]
    return "\n".join(["## The set\n", "| what | rows |", "|---|---:|", *rows, ""])


def _reference_section(reference: dict[str, Any]) -> str:
    total = reference["num_scored"]
    quantiles = ", ".join(f"{value:.3g}" for value in reference["beta_max"])
    return "\n".join(
        [
            f"## Under the reference policy {Path(reference['model']).name}\n",
            "| pairs (of those scored and not tied) | share, 95 % interval |",
            "|---|---:|",
            f"| reference favors the rejected answer, summed | {share(reference['num_wrong'], total)} |",
            f"| reference favors the rejected answer, per token | {share(reference['num_wrong_mean'], total)} |",
            f"| summed and per-token margins disagree | {share(reference['num_disagreeing'], total)} |",
            f"| the assumption fails at the workspace's beta | {share(reference['num_failing'], total)} |",
            "",
            f"`beta_max` at 1, 5, 10, 25 and 50 % of the pairs: {quantiles}. A beta below the value at 5 % keeps the",
            "assumption on 95 % of the pairs.",
            "",
        ]
    )


def _rules_section(rules: list[dict[str, Any]], total: int) -> str:
    if not rules:
        return "## Rules\n\nNo rule matched a pair.\n"
    rows = [f"| {rule['rule']} | {rule['pairs']:,} | {100 * rule['pairs'] / total:.1f} % |" for rule in rules]
    return "\n".join(["## Rules of the latest curation\n", "| rule | pairs | share |", "|---|---:|---:|", *rows, ""])


def _checkpoints(lake: Lake) -> list[dict[str, Any]]:
    sql = """
        select objective, checkpoint, settings, (
            select map_from_entries(list((metric, value))) from raw.training_metrics as metrics
            where metrics.training_run_id = runs.training_run_id and phase = 'eval' and slice = 'all'
            and step = (
                select max(step) from raw.training_metrics as latest
                where latest.training_run_id = runs.training_run_id and phase = 'eval'
            )
        ) as metrics
        from raw.training_runs as runs order by started_at
    """
    return lake.frame(sql).to_dicts()


def _places_section(export: str | None, checkpoints: list[dict[str, Any]]) -> str:
    lines = ["## Where it lies\n"]
    if export is not None:
        lines.append(f"- The curated set: `{export}`")
    lines += [f"- The {each['objective']} checkpoint: `{each['checkpoint']}`" for each in checkpoints]
    lines.append('- Every figure: `winnow sql "select * from mart.pair_diagnostics limit 10"`')
    return "\n".join([*lines, ""])
