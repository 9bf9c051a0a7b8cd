"""Hints that name a command, for the workspace that the user is in: what is printed can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from schemas.errors import WinnowError

_TAKES_WORKSPACE = (
    "adjudicate|advise|annotators|curate|diagnose|diff|export|ingest|pair|prune|restore|run|runs|score|sql|train"
)
_COMMAND = re.compile(rf"\bwinnow ({_TAKES_WORKSPACE})\b(?! -w| --workspace)")


def hint(text: str, workspace: Path) -> str:
    """The text with ``-w WORKSPACE`` behind every ``winnow COMMAND``; unchanged for the current folder."""
    if workspace == Path():
        return text
    return _COMMAND.sub(lambda found: f"{found.group()} -w {shlex.quote(str(workspace))}", text)


def error_line(error: WinnowError, workspace: Path) -> Text:
    """What is wrong and, behind a semicolon, what to do about it in this workspace."""
    line = Text.assemble(("error", "bold red"), f": {error.message}")
    if error.mend:
        line.append(f"; {hint(error.mend, workspace)}")
    return line


def given_workspace(arguments: Sequence[str]) -> Path:
    """The workspace that a command line names with ``-w`` or ``--workspace``; the current folder where it does not."""
    for place, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        if name in ("-w", "--workspace"):
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            return Path(value if has_value else following)
    return Path()
