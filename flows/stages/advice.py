"""Figures for ``winnow advise`` from the lake, and what ``winnow curate --dry-run`` finds; both only read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from curation.advise import BETAS, DOUBTFUL, FAILING_SHARE, Advice, Diagnostics, advise
from curation.rules.compile import compile_rules
from curation.rules.decide import decide
from curation.rules.preview import RulePreview, preview
from curation.rules.ruleset import RuleSet, load_rules
from flows.policies import chosen_line
from flows.stages.curate import (
    ADJUDICATED,
    choose_reference,
    failures_named,
    no_pairs,
    pair_columns,
    pairs_relation,
)
from flows.workspace import Workspace
from warehouse.narrow_diagnostics import diagnostics_under


@dataclass(frozen=True)
class DryRun:
    """What a curation run would do.

    Attributes:
        rules: the rule set.
        num_pairs: pairs that it would decide on.
        num_adjudicated: pairs that people decided, whatever the rules say.
        scored: which policy's log-probs the rules read, and how much of the set it has scored.
        previews: one for each rule, in order.
        texts: prompt, chosen and rejected of every example pair, by pair id.
    """

    rules: RuleSet
    num_pairs: int
    num_adjudicated: int
    scored: str
    previews: list[RulePreview]
    texts: dict[str, dict[str, Any]]


def dry_run(workspace: Workspace, *, rules: str | None = None, reference_id: str | None = None) -> DryRun:
    """Evaluate rules over all pairs without writing anything.

    Raises:
        RuleError: the rules are not valid, or there is nothing to decide on.
    """
    ruleset = load_rules(rules or workspace.settings.curate.rules)
    with workspace.lake(read_only=True) as lake:
        reference = choose_reference(lake, reference_id)
        compiled = compile_rules(ruleset, pair_columns(lake))
        num_pairs = int(lake.value("select count(*) from raw.pair_estimates"))
        if num_pairs == 0:
            raise no_pairs(lake, "curate")
        pairs = pairs_relation(compiled, diagnostics_under(lake.con, reference))
        with failures_named(lake, compiled, reference):
            decide(lake.con, compiled, pairs=pairs, adjudicated=ADJUDICATED)
        previews = preview(lake.con, ruleset.rule)
        examples = sorted({pair for each in previews for pair in each.examples})
        rows = lake.frame(
            """
            select estimates.pair_id, prompts.messages as prompt, chosen.text as chosen, rejected.text as rejected
            from raw.pair_estimates as estimates
            join raw.prompts as prompts on prompts.prompt_id = estimates.prompt_id
            join raw.responses as chosen on chosen.response_id = estimates.chosen_id
            join raw.responses as rejected on rejected.response_id = estimates.rejected_id
            where list_contains($1, estimates.pair_id)
            """,
            [examples],
        ).to_dicts()
        num_adjudicated = int(lake.value("select count(*) from adjudicated_pairs"))
        scored = chosen_line(lake, reference)
    return DryRun(ruleset, num_pairs, num_adjudicated, scored, previews, {row["pair_id"]: row for row in rows})


def advice(workspace: Workspace, *, reference_id: str | None = None) -> tuple[Advice, Diagnostics]:
    """Recommend objective, beta and profile for the set as it is now.

    Raises:
        RuleError: there are no diagnosed pairs.
    """
    failing = ", ".join(
        f"avg((reference_margin + reward_gap / {beta} <= 0)::int) filter (is_measured) as failing_{number}"
        for number, beta in enumerate(BETAS)
    )
    with workspace.lake(read_only=True) as lake:
        reference = choose_reference(lake, reference_id)
        row = lake.frame(
            f"""
            with pairs as (
                select *, reference_margin is not null and not is_tied as is_measured
                from mart.pair_diagnostics where reference_id is not distinct from ?
            )
            select
                count(*) as num_pairs,
                count(*) filter (is_measured) as num_scored,
                {failing},
                quantile_disc(beta_max, {FAILING_SHARE}) filter (is_measured) as beta_max_quantile,
                avg(is_reference_wrong::int) filter (is_measured) as share_reference_wrong,
                avg((num_votes >= 2)::int) as share_several_votes,
                coalesce(avg((p_chosen < {DOUBTFUL})::int) filter (num_votes >= 2), 0) as share_doubtful,
                coalesce(
                    avg((greatest(num_votes_chosen, num_votes_rejected, num_ties) < num_votes)::int)
                    filter (num_votes >= 2), 0
                ) as share_divided,
                count(p_flip) > 0 as has_p_flip,
                count(*) filter (is_identical or is_empty or is_tied or is_truncated) as num_degenerate
            from pairs
            """,
            [reference],
        ).row(0, named=True)
        if row["num_pairs"] == 0:
            raise no_pairs(lake, "advise on")
        scored = chosen_line(lake, reference)
    shares = {beta: row.pop(f"failing_{number}") for number, beta in enumerate(BETAS)}
    found = Diagnostics(share_failing={beta: share or 0.0 for beta, share in shares.items()}, **row)
    advised = advise(found)
    return replace(advised, reasons=(scored, *advised.reasons)), found
