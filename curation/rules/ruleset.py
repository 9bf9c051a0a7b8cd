"""A rule file: TOML with an objective, a beta, named parameters and rules in order; shipped profiles are such files."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curation.rules.expressions import closest
from schemas.enums import Action
from schemas.errors import RuleError

OBJECTIVES = (
    "cdpo",
    "cpo",
    "cpo_clip",
    "cpo_contrastive",
    "cpo_lagrangian",
    "cpo_reference",
    "dpo",
    "hinge",
    "ipo",
    "kto",
    "orpo",
    "rdpo",
    "ropo",
    "rrhf",
    "simpo",
)
"""Losses that a rule file may name."""

MAX_RULES = 63
"""Rules in one file: the matched ones of a pair are one bit each of a 64-bit number while a run computes."""

_NEEDS = {Action.REWEIGHT: "weight", Action.SOFT_LABEL: "soft_label", Action.ROUTE: "objective"}

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=80)]


class Rule(BaseModel):
    """One ``[[rule]]``: when it matches, and what it then does to the pair."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="Name of the rule; decisions and diffs refer to it")
    when: str = Field(description="Condition over mart.pair_diagnostics and parameters; NULL does not match")
    action: Action = Field(description="drop, flip, reweight, soft_label, route or keep")
    weight: str | float | None = Field(default=None, description="reweight: expression of a factor, finite and >= 0")
    soft_label: str | float | None = Field(
        default=None, description="soft_label: expression of the probability that chosen is right, 0 to 1"
    )
    objective: str | None = Field(default=None, description="route: the objective that this pair trains with")
    why: str | None = Field(default=None, description="One sentence for people")

    @property
    def value(self) -> str | None:
        """Expression of the weight or the soft label; None for actions without one."""
        value = self.weight if self.action is Action.REWEIGHT else self.soft_label
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _has_what_its_action_needs(self) -> Rule:
        needed = _NEEDS.get(self.action)
        for field in _NEEDS.values():
            given = getattr(self, field) is not None
            if given and field != needed:
                raise ValueError(f"{self.action} does not take {field!r}")
            if not given and field == needed:
                raise ValueError(f"{self.action} needs {field!r}")
        if self.objective is not None:
            _known_objective(self.objective)
        return self


class RuleSet(BaseModel):
    """A whole rule file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="rules", description="Name of the profile; the file's name where it is absent")
    description: str = Field(default="", description="When to use it and why, one paragraph")
    objective: str = Field(default="dpo", description="Loss of the pairs that no rule routes elsewhere")
    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False, description="Strength of the pull to the reference")
    parameters: dict[Name, float] = Field(default_factory=dict, description="Named numbers that expressions may use")
    rule: tuple[Rule, ...] = Field(default=(), description="The rules, in order")

    @model_validator(mode="after")
    def _is_consistent(self) -> RuleSet:
        _known_objective(self.objective)
        names = [rule.name for rule in self.rule]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rules are named {name!r}")
        if len(names) > MAX_RULES:
            raise ValueError(f"{len(names)} rules; at most {MAX_RULES} fit in one file")
        for name, value in self.parameters.items():
            if not math.isfinite(value):
                raise ValueError(f"parameter {name!r} is not a finite number")
        if "beta" in self.parameters:
            raise ValueError("beta is set at the top of the file, not in [parameters]")
        return self

    @property
    def canonical(self) -> str:
        """Everything that decides, as canonical JSON; names and descriptions for people are left out."""
        values = self.model_dump(mode="json", exclude={"name": True, "description": True})
        for rule in values["rule"]:
            del rule["why"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Hash of :attr:`canonical`: two files with this hash decide alike."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def profiles() -> list[str]:
    """Names of the shipped profiles."""
    folder = files("curation") / "profiles"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_rules(name_or_path: str) -> RuleSet:
    """A shipped profile by name, or a TOML file.

    Raises:
        RuleError: there is no such profile or file, or it is not a valid rule file; the message names the key.
    """
    if name_or_path in profiles():
        text = (files("curation") / "profiles" / f"{name_or_path}.toml").read_text(encoding="utf-8")
        return parse_rules(text, origin=f"profile {name_or_path}", default_name=name_or_path)
    path = Path(name_or_path)
    if not path.is_file():
        near = closest(name_or_path, profiles())
        mend = f"did you mean {near[0]}?" if near else f"give a TOML file, or one of {', '.join(profiles())}"
        raise RuleError(f"there is no rule file or profile {name_or_path!r}", mend=mend)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RuleError(f"{path} is not UTF-8 text: {error}") from error
    return parse_rules(text, origin=str(path), default_name=path.stem)


def parse_rules(text: str, *, origin: str, default_name: str = "rules") -> RuleSet:
    """Rules from TOML text; ``origin`` names it in errors.

    Raises:
        RuleError: it is not TOML, or a key is unknown, missing or of a value that is not allowed.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{origin} is not valid TOML: {error}") from error
    try:
        return RuleSet.model_validate({"name": default_name, **values})
    except ValidationError as error:
        raise RuleError(f"{origin}: {_first_error(error, values)}", mend="docs/rules.md lists every key") from error


def _first_error(error: ValidationError, values: dict[str, Any]) -> str:
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    if len(first["loc"]) > 1 and first["loc"][0] == "rule" and isinstance(first["loc"][1], int):
        number = first["loc"][1]
        given = values["rule"][number] if isinstance(values.get("rule"), list) else None
        name = given.get("name") if isinstance(given, dict) else None
        parts = [f"rule {number + 1}" + (f" ({name})" if name else ""), *parts[2:]]
    where = ", ".join(parts)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        key = parts[-1]
        known = [*Rule.model_fields, *RuleSet.model_fields]
        near = closest(key, known)
        message = "unknown key" + (f", did you mean {near[0]}?" if near else "")
    return f"{where}: {message}" if where else message


def _known_objective(name: str) -> None:
    if name not in OBJECTIVES:
        near = closest(name, OBJECTIVES)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(OBJECTIVES)}"
        raise ValueError(f"there is no objective {name!r}; {hint}")
