"""What is wrong with settings that somebody wrote, in one sentence."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong: ``train.epoch: unknown key, did you mean epochs?``.

    Args:
        error: of validating.
        model: what was validated.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        *parents, key = (str(part) for part in first["loc"])
        near = get_close_matches(key, _keys_below(model, parents), n=1)
        message = "unknown key" + (f", did you mean {near[0]}?" if near else "")
    return f"{where}: {message}" if where else message


def _keys_below(model: type[BaseModel], parents: list[str]) -> list[str]:
    """Keys that the table has to which these keys lead; none where no table is there."""
    at: type[BaseModel] | None = model
    for parent in parents:
        field = None if at is None else at.model_fields.get(parent)
        at = None if field is None else _table_in(field.annotation)
    return [] if at is None else list(at.model_fields)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    found = (each for each in (annotation, *get_args(annotation)) if isinstance(each, type))
    return next((each for each in found if issubclass(each, BaseModel)), None)
