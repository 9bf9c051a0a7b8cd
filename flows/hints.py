"""Hints that name a command, for the workspace that the user is in: what is printed can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

_TAKES_WORKSPACE = "adjudicate|advise|curate|diagnose|diff|export|ingest|prune|restore|run|runs|score|sql|train"
_COMMAND = re.compile(rf"\bwinnow ({_TAKES_WORKSPACE})\b(?! -w| --workspace)")


def hint(text: str, workspace: Path) -> str:
    """The text with ``-w WORKSPACE`` behind every ``winnow COMMAND``; unchanged for the current folder."""
    if workspace == Path():
        return text
    return _COMMAND.sub(lambda found: f"{found.group()} -w {shlex.quote(str(workspace))}", text)


def given_workspace(arguments: Sequence[str]) -> Path:
    """The workspace that a command line names with ``-w`` or ``--workspace``; the current folder where it does not."""
    for place, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        if name in ("-w", "--workspace"):
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            return Path(value if has_value else following)
    return Path()
