"""A diagnosis in words: what a person should know of the lake's tables after ``diagnose``."""

from __future__ import annotations

from typing import Any

from flows.policies import policy_names, scored_line
from schemas.wording import counted
from warehouse.lake import Lake

_WORST = """
    select
        *,
        is_adversarial or is_careless or is_position_biased as is_flagged
    from mart.annotator_report
    where is_flagged or not starts_with(annotator_id, 'unnamed:')
    order by is_flagged desc, is_adversarial desc, reliability_high, annotator_id, criterion
    limit 5
"""

_LEAKS = """
    select source_1, split_1, source_2, split_2, num_prompt_groups, share_2
    from mart.split_leakage
    -- of the two directions, that of the split to be kept clean: the one that is named so, else the smaller one
    qualify row_number() over (
        partition by
            least((source_1, split_1), (source_2, split_2)), greatest((source_1, split_1), (source_2, split_2))
        order by regexp_matches(split_2, 'test|eval|valid|dev|held', 'i') desc, share_2 desc, source_2, split_2
    ) = 1
    order by num_prompt_groups desc, source_1, split_1, source_2, split_2
    limit 3
"""

_BETAS = (0.01, 0.05, 0.1, 0.5, 1.0)


def reading(lake: Lake) -> tuple[str, ...]:
    """Sentences on agreement, annotators, lengths, contradictions, cycles, leakage and the betas that are safe."""
    return (
        _agreement(lake),
        *_annotators(lake),
        *_convergence(lake),
        *_length_bias(lake),
        _contradictions(lake),
        _cycles(lake),
        *_leakage(lake),
        *_safe_betas(lake),
    )


def _agreement(lake: Lake) -> str:
    row = lake.con.execute(
        "select alpha, alpha_low, alpha_high, num_units, num_units_excluded from mart.agreement_by_slice"
        " where slice = 'all' and level = 'nominal'"
    ).fetchone()
    if row is None or row[3] == 0:
        return "agreement: no pair has two votes, so nothing can be said of it"
    alpha, low, high, num_units, num_excluded = row
    if alpha is None:
        return f"agreement: every vote on the {num_units:,} pairs with two or more is the same"
    return (
        f"agreement: Krippendorff's alpha {alpha:.2f} ({low:.2f} to {high:.2f}) on {counted(num_units, 'pair')};"
        f" {num_excluded:,} with fewer than two votes are left out"
    )


def _annotators(lake: Lake) -> tuple[str, ...]:
    """How many are flagged, and five with the reason: the flagged ones, then the least reliable of the others."""
    total, flagged = lake.con.execute(
        "select count(*), count(*) filter (where is_adversarial or is_careless or is_position_biased)"
        " from mart.annotator_report"
    ).fetchall()[0]
    lines = []
    for row in lake.frame(_WORST).iter_rows(named=True):
        lines.append(
            f"  {row['annotator_id']} ({row['criterion']}): {_reason(row)}; reliability"
            f" {row['reliability']:.2f} ({row['reliability_low']:.2f} to {row['reliability_high']:.2f})"
            f" from {counted(row['num_votes'], 'vote')}"
        )
    if not lines:
        return ("annotators: no vote names its annotator, so nothing can be said of them",)
    head = (
        f"{flagged:,} of {total:,} are flagged; the worst" if flagged else f"none of {total:,} is flagged; the weakest"
    )
    return (f"annotators: {head}:", *lines)


def _reason(row: dict[str, Any]) -> str:
    reasons = []
    if row["is_adversarial"]:
        reasons.append("votes against the better response")
    elif row["is_careless"]:
        reasons.append("agrees with the others less than the rest do")
    if row["is_position_biased"]:
        side = "first" if row["position_bias"] > 0 else "second"
        reasons.append(f"favors the response shown {side} (log-odds {row['position_bias']:+.2f})")
    return " and ".join(reasons) or "not flagged, but the interval ends lowest"


def _convergence(lake: Lake) -> tuple[str, ...]:
    """A line for each criterion on which the annotator model stopped before it had settled."""
    rows = lake.con.execute(
        "select criterion, num_rounds - 1 from mart.criterion_report where is_converged = false order by criterion"
    ).fetchall()
    return tuple(
        f"annotator model: not settled on {criterion} after {rounds} rounds, so its figures may still move; raise"
        " [diagnose.annotators] max_rounds"
        for criterion, rounds in rows
    )


def _length_bias(lake: Lake) -> tuple[str, ...]:
    rows = lake.con.execute(
        "select criterion, length_bias, length_bias_low, length_bias_high from mart.criterion_report"
        " where length_bias_low > 0 or length_bias_high < 0 order by abs(length_bias) desc, criterion limit 3"
    ).fetchall()
    return tuple(
        f"length: votes on {criterion} lean to the {'longer' if slope > 0 else 'shorter'} response,"
        f" log-odds {slope:+.2f} ({low:+.2f} to {high:+.2f}) for twice the length"
        for criterion, slope, low, high in rows
    )


def _leakage(lake: Lake) -> tuple[str, ...]:
    rows = lake.con.execute(_LEAKS).fetchall()
    return tuple(
        f"leakage: {num:,} groups of equal or nearly equal prompts are in {split_1} of {source_1} and in {split_2} of"
        f" {source_2}, {share:.1%} of its prompts"
        for source_1, split_1, source_2, split_2, num, share in rows
    )


def _contradictions(lake: Lake) -> str:
    rows = lake.con.execute(
        "select kind, count(distinct pair_id) as num_pairs from mart.contradictions group by kind"
        " order by num_pairs desc, kind"
    ).fetchall()
    if not rows:
        return "contradictions: none"
    return "contradictions, pairs: " + ", ".join(f"{kind.replace('_', ' ')} {num:,}" for kind, num in rows)


def _cycles(lake: Lake) -> str:
    num_pairs, num_on_cycles = lake.con.execute(
        "select (select count(*) from raw.pair_estimates), (select count(*) from raw.pair_graph)"
    ).fetchall()[0]
    return f"cycles: {num_on_cycles / num_pairs:.1%} of {counted(num_pairs, 'pair')} lie on one"


def _safe_betas(lake: Lake) -> tuple[str, ...]:
    lines = []
    for reference_id, name in policy_names(lake).items():
        lines.append(scored_line(lake, reference_id))
        shares = dict(
            lake.con.execute(
                "select beta, share_failing from mart.beta_sensitivity where reference_id = ?", [reference_id]
            ).fetchall()
        )
        if shares:
            curve = ", ".join(f"{shares[beta]:.1%} at {beta:g}" for beta in _BETAS)
            lines.append(f"beta, share of pairs on which the assumption fails under {name}: {curve}")
    return tuple(lines) or ("beta: nothing is scored yet; winnow score, then this line shows which beta is safe",)
