"""The demo: the whole main job on a generated world, whose truth says how well every fault was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.console import err, out, progress
from flows.demo_arms import ArmResult, compare_arms, train_ablations
from flows.pipeline import run_pipeline
from flows.planted import Finding, planted_against_found
from flows.report import StageReport
from flows.settings import FILE_NAME
from flows.workspace import Workspace
from schemas.errors import WorkspaceError

if TYPE_CHECKING:
    from training.tiny_policy import TinyPolicySettings

WORLD, POLICY, RULES = "world", "policy", "rules.toml"
OBJECTIVES = ("dpo", "cpo")
NUM_DOCUMENTS = 4000

_SETTINGS = """\
# Settings of the demo; docs/settings.md lists every key.

[export]
test_share = 0.25  # the world is small, and its held-out pairs are what the figures are about

[scoring]
dtype = "float32"  # as the policy is stored and as it is trained on from there

[train]
learning_rate = 5e-4  # the policy has a million parameters, not a billion
epochs = 2
batch_size = 16
"""

_MORE_RULES = """
# The demo's own, after those of the cpo profile

[[rule]]
name = "doubtful_label"
when = "p_consensus_right < 0.7"
action = "drop"
why = "The votes hardly say which response is better."

[[rule]]
name = "against_the_ranking"
when = "is_in_feedback_arc_set"
action = "drop"
why = "Reversing it is part of the cheapest way to a ranking of its prompt's responses."

[[rule]]
name = "opposed_by_a_near_duplicate"
when = "list_contains(contradiction_kinds, 'between_near_duplicates') and p_consensus_right < 0.9"
action = "drop"
why = "The same question was answered the other way round, and neither side is sure."
"""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and found.

    Attributes:
        root: the workspace.
        findings: planted against found, kind by kind.
        arms: the trained policies, compared on the same held-out pairs.
        reports: of the main job's stages.
        places: what lies where.
    """

    root: Path
    findings: list[Finding]
    arms: list[ArmResult]
    reports: list[StageReport]
    places: dict[str, Path]


def run_demo(
    root: Path,
    *,
    seed: int,
    num_prompts: int,
    num_annotators: int,
    engine: str,
    ablations: bool,
    policy_settings: TinyPolicySettings | None = None,
) -> DemoResult:
    """Generate a world, train a tiny reference policy for it, run the main job, and compare with the truth.

    Run again on the same workspace it scores and trains nothing again.

    Args:
        root: the workspace; made if need be.
        seed: of the world and the policy.
        num_prompts, num_annotators: size of the world.
        engine: scoring engine.
        policy_settings: shape and training of the tiny policy.
        ablations: train DPO on the uncurated set and on one of the same size dropped at random, too.

    Raises:
        WorkspaceError: the workspace holds another world, or something else than a demo.
    """
    _prepare(root)
    world = _make_world(root / WORLD, seed, num_prompts, num_annotators)
    policy = _make_policy(root / WORLD, root / POLICY, seed, policy_settings)
    reports = run_pipeline(
        root,
        [str(world / "judgments.jsonl")],
        model=str(policy),
        engine=engine,
        rules=str(root / RULES),
        objectives=list(OBJECTIVES),
    )
    facts = {report.stage: report.facts for report in reports}
    workspace = Workspace.open(root)
    runs = {f"{report.facts['objective']} on curated": report.facts for report in reports if report.stage == "train"}
    if ablations:
        runs |= train_ablations(
            workspace,
            curated=facts["curate"],
            rules=str(root / RULES),
            model=str(policy),
            export_id=facts["export"]["export_id"],
        )
    with workspace.lake(read_only=True) as lake:
        findings = planted_against_found(lake, world, reference_id=facts["score"]["reference_id"])
        arms = compare_arms(lake, world, runs, reference_id=facts["score"]["reference_id"])
    places = {
        "curated set": Path(facts["export"]["path"]),
        "its rules": root / RULES,
        **{name: Path(run["checkpoint"]) for name, run in runs.items()},
        "reference": policy,
        "truth": world / "truth",
    }
    return DemoResult(root, findings, arms, reports, places)


def _prepare(root: Path) -> None:
    """A folder with the demo's settings; one with other settings is not a demo."""
    if root.exists() and not root.is_dir():
        raise WorkspaceError(f"{root} is a file, not a folder", mend="winnow demo --workspace FOLDER")
    path = root / FILE_NAME
    if path.exists() and not (root / WORLD).is_dir():
        raise WorkspaceError(f"{root} is a workspace that is no demo", mend="winnow demo --workspace ANOTHER")
    root.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(_SETTINGS, encoding="utf-8")
        profile = (files("curation") / "profiles" / "cpo.toml").read_text(encoding="utf-8")
        (root / RULES).write_text(profile + _MORE_RULES, encoding="utf-8")


def _make_world(folder: Path, seed: int, num_prompts: int, num_annotators: int) -> Path:
    from curation.synthetic import world, write_world

    manifest = folder / "manifest.json"
    wanted = {"seed": seed, "num_prompts": num_prompts, "num_annotators": num_annotators}
    marker = folder / "arguments.json"
    if manifest.exists():
        there = json.loads(marker.read_text(encoding="utf-8"))
        if there != wanted:
            raise WorkspaceError(
                f"{folder} holds another world: {_say(there)}", mend="remove the workspace, or name another one"
            )
        out.print(f"{_head('synth')} Nothing new: {folder} holds this world already.", soft_wrap=True)
        return folder
    made = world(seed, num_prompts, num_annotators)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
    counts = write_world(made, folder, num_documents=NUM_DOCUMENTS)["counts"]
    out.print(
        f"{_head('synth')} {counts['judgments']:,} judgments by {counts['annotators']} annotators on"
        f" {counts['pairs']:,} pairs of {counts['responses']:,} responses to {counts['prompts']:,} prompts.",
        soft_wrap=True,
    )
    return folder


def _make_policy(world: Path, folder: Path, seed: int, settings: TinyPolicySettings | None) -> Path:
    if (folder / "config.json").is_file():
        out.print(f"{_head('policy')} Nothing new: {folder} holds the reference policy already.", soft_wrap=True)
        return folder
    with err.status("Loading torch"):
        from transformers.utils import logging

        from training.tiny_policy import TinyPolicySettings, train_tiny_policy

    logging.disable_progress_bar()
    settings = settings or TinyPolicySettings()
    with progress("policy", total=settings.num_steps, unit="steps") as advance:
        made = train_tiny_policy(world / "policy_corpus.jsonl", folder, seed=seed, settings=settings, advance=advance)
    out.print(
        f"{_head('policy')} A reference policy of {made.num_parameters / 1e6:.2f}M parameters, trained on"
        f" {made.num_tokens:,} tokens to {made.final_loss:.2f} nats a token.",
        soft_wrap=True,
    )
    return folder


def _head(stage: str) -> str:
    return f"[bold green]{stage:<9}[/]"


def _say(arguments: dict[str, Any]) -> str:
    names: Sequence[str] = ("seed", "num_prompts", "num_annotators")
    return ", ".join(f"{name.removeprefix('num_')} {arguments[name]}" for name in names)
