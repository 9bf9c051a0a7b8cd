"""Paths into a row, as mapping files write them: ``name``, ``name.key``, ``name[0]``, ``"a.b"[-1].c``."""

from __future__ import annotations

import re

from schemas.errors import ConfigError

_PART = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>[^."\[\]{}]+))(?P<indices>(?:\[-?\d+\])*)(?:\.|$)')


def parse_path(path: str) -> list[str | int]:
    """Keys and list positions of a path; a negative position counts from the end.

    Raises:
        ConfigError: it is not a path.
    """
    parts: list[str | int] = []
    at = 0
    while at < len(path):
        match = _PART.match(path, at)
        if match is None:
            break
        parts.append(match["quoted"] or match["plain"].strip())
        parts += [int(index) for index in re.findall(r"-?\d+", match["indices"])]
        at = match.end()
    if not parts or at < len(path) or path.endswith("."):
        raise ConfigError(f"{path!r} is not a path into a row", mend='write name, name.key, name[0] or "a.b".key')
    return parts


def json_path(parts: list[str | int]) -> str:
    """The JSON path of DuckDB's functions."""
    written = [f"[{'#' if part < 0 else ''}{part}]" if isinstance(part, int) else f'."{part}"' for part in parts]
    return "$" + "".join(written)
