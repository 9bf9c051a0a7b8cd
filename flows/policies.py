"""Which reference policy figures rest on, and how much of the set it has scored."""

from __future__ import annotations

import shlex
from typing import Any

from schemas.policy_names import policy_name
from schemas.wording import counted
from warehouse.lake import Lake
from warehouse.scores import count_responses


def known_policies(lake: Lake) -> list[dict[str, Any]]:
    """Rows of ``raw.reference_policies``, the newest first."""
    return lake.frame("select * from raw.reference_policies order by created_at desc, reference_id").to_dicts()


def policy_names(lake: Lake) -> dict[str, str]:
    """Every policy's name by its ``reference_id``, the newest first."""
    return {policy["reference_id"]: policy_name(policy) for policy in known_policies(lake)}


def scored_line(lake: Lake, reference_id: str | None) -> str:
    """Which policy has scored, how much of the set, and the command that goes on where that is not all.

    Args:
        lake: holds the scores.
        reference_id: the policy; None where nothing is scored.
    """
    if reference_id is None:
        return "not scored by any reference policy yet"
    policies = known_policies(lake)
    policy = next(each for each in policies if each["reference_id"] == reference_id)
    counts = count_responses(lake, reference_id)
    total = counts.num_new + counts.num_scored + counts.num_truncated + counts.num_failed
    parts = [f"scored by {policy_name(policy)}: {counts.num_scored:,} of {counted(total, 'response')}"]
    parts += [f"{counts.num_truncated:,} too long"] if counts.num_truncated else []
    parts += [f"{counts.num_failed:,} failed"] if counts.num_failed else []
    line = ", ".join(parts)
    if counts.num_new:
        line += f", scoring is not complete; run: {_command(policy, is_newest=policy is policies[0])}"
    return line


def chosen_line(lake: Lake, reference_id: str | None) -> str:
    """:func:`scored_line` of the policy that decides, and whether there are others that might have."""
    others = len(known_policies(lake)) - 1
    hint = f"; --reference names {'the other one' if others == 1 else f'one of the {others} others'}"
    return scored_line(lake, reference_id) + (hint if others > 0 else "")


def _command(policy: dict[str, Any], *, is_newest: bool) -> str:
    """What goes on scoring under a policy; without options it is the newest."""
    if is_newest:
        return "winnow score"
    parts = ["winnow score --model", shlex.quote(policy["model"]), f"--max-length {policy['max_length']}"]
    parts += [] if policy["adapter"] is None else ["--adapter", shlex.quote(policy["adapter"])]
    parts += [] if policy["truncate"] == "never" else ["--truncate", policy["truncate"]]
    return " ".join(parts)
