"""The demo's arms: the same policy trained in several ways, compared on the same held-out pairs and with the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from flows.console import say
from flows.planted import read_truth
from flows.stages.curate import curate
from flows.stages.export import export
from flows.stages.train import train
from flows.workspace import Workspace
from warehouse.lake import Lake

UNCURATED, RANDOM_DROP = "dpo on all pairs", "dpo on random drop"

_RULES = """\
description = "{description}"
objective = "dpo"
beta = 0.1

[[rule]]
name = "{name}"
when = "{when}"
action = "drop"
"""

_ARMS = """
    with runs as (select arm, training_run_id from arm_runs),

    -- held-out pairs of every arm, each with the margin of the better response, whichever the arm called chosen
    margins as (
        select
            runs.arm,
            margins.pair_id,
            margins.policy_margin * sign(margins.reference_margin) * sign(diagnostics.reference_margin)
                * if(diagnostics.chosen_id = pairs.better_id, 1, -1) as policy_margin,
            diagnostics.reference_margin * if(diagnostics.chosen_id = pairs.better_id, 1, -1) as reference_margin
        from runs
        inner join raw.training_margins as margins on runs.training_run_id = margins.training_run_id
        inner join mart.pair_diagnostics as diagnostics on margins.pair_id = diagnostics.pair_id
        inner join truth_pairs as pairs on margins.pair_id = pairs.pair_id
        where diagnostics.reference_id = $reference_id and pairs.better_id is not null
    ),

    shared as (
        select pair_id from margins group by pair_id having count(*) = (select count(*) from runs)
    )

    select
        arm,
        count(*) as num_pairs,
        count(*) filter (policy_margin > 0) as num_right,
        count(*) filter (reference_margin > 0) as num_right_before,
        count(*) filter (policy_margin > reference_margin) as num_relative,
        count(*) filter (reference_margin < policy_margin and policy_margin < 0) as num_undesirable,
        count(*) filter (reference_margin < 0 and policy_margin > 0) as num_turned,
        count(*) filter (reference_margin < 0) as num_wrong_before
    from margins
    semi join shared on margins.pair_id = shared.pair_id
    group by arm
"""


@dataclass(frozen=True)
class ArmResult:
    """One trained policy on the held-out pairs that all arms share, by what is truly the better response.

    Attributes:
        name: of the arm.
        num_train: pairs that it trained on.
        num_pairs: held-out pairs.
        num_right: it prefers the better response.
        num_right_before: the reference policy does.
        num_relative: it prefers the better response more than the reference policy does.
        num_undesirable: more than the reference policy, and still not: the undesirable set U.
        num_turned: it prefers the better response and the reference policy does not.
        num_wrong_before: the reference policy does not.
    """

    name: str
    num_train: int
    num_pairs: int
    num_right: int
    num_right_before: int
    num_relative: int
    num_undesirable: int
    num_turned: int
    num_wrong_before: int


def train_ablations(
    workspace: Workspace, *, curated: Mapping[str, Any], export_id: str, rules: str, model: str
) -> dict[str, dict[str, Any]]:
    """Train DPO on every pair, and on as many as the curated set has, the rest dropped at random.

    The workspace's latest curation and export are again the main job's afterwards. What was trained beside this export
    before is not trained again.

    Args:
        workspace: where the main job ran.
        curated: facts of its curation.
        export_id: its export.
        rules: rules of its curation.
        model: policy to start from.

    Returns:
        Facts of the training, by arm.
    """
    folder = workspace.root / "ablations"
    folder.mkdir(exist_ok=True)
    done = folder / "done.json"
    if done.is_file():
        before: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if before["export_id"] == export_id:
            return dict(before["arms"])
    with workspace.lake(read_only=True) as lake:
        last = lake.value(
            "select pair_id from raw.pair_estimates order by pair_id limit 1 offset ?",
            [max(0, curated["num_dropped"] - 1)],
        )
    arms = {
        UNCURATED: ("uncurated", "Every pair.", "false"),
        RANDOM_DROP: ("random_drop", "As many pairs as the curated set has, by chance.", f"pair_id <= '{last}'"),
    }
    trained = {}
    for arm, (name, description, when) in arms.items():
        path = folder / f"{name}.toml"
        path.write_text(_RULES.format(name=name, description=description, when=when), encoding="utf-8")
        say(curate(workspace, rules=str(path), reference_id=curated["reference_id"]))
        exported = export(workspace)
        say(exported)
        report = train(workspace, export=Path(exported.facts["path"]), model=model, objective="dpo")
        say(report)
        trained[arm] = report.facts
    say(curate(workspace, rules=rules, reference_id=curated["reference_id"]))
    export(workspace)
    done.write_text(json.dumps({"export_id": export_id, "arms": trained}) + "\n", encoding="utf-8")
    return trained


def compare_arms(
    lake: Lake, world: Path, runs: Mapping[str, Mapping[str, Any]], *, reference_id: str
) -> list[ArmResult]:
    """Every arm on the held-out pairs that all of them share, in the order of ``runs``.

    Args:
        lake: with the runs' margins.
        world: folder with the truth.
        runs: facts of the training, by arm.
        reference_id: reference policy of the margins.
    """
    arms = pl.DataFrame({"arm": list(runs), "training_run_id": [run["training_run_id"] for run in runs.values()]})
    with lake.registered(arm_runs=arms, truth_pairs=read_truth(world)["pairs"]):
        rows = {row["arm"]: row for row in lake.frame(_ARMS, {"reference_id": reference_id}).to_dicts()}
        sizes = dict(
            lake.con.execute(
                "select arm, num_pairs from arm_runs"
                " inner join raw.training_runs using (training_run_id) inner join raw.exports using (export_id)"
            ).fetchall()
        )
    return [
        ArmResult(name, sizes[name], **{key: value for key, value in rows[name].items() if key != "arm"})
        for name in runs
    ]
