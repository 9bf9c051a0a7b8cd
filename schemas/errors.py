"""Errors that a user can mend. Each says in one line what is wrong, where, and what to do about it."""

from __future__ import annotations


class WinnowError(ValueError):
    """A mistake in input, configuration or environment that the user can mend.

    The command line prints ``error: {message}`` and, where there is one, ``; {mend}`` behind it, and exits with 2.

    Args:
        message: names the thing (file, row, field, value) and what is wrong with it.
        mend: the next step that puts it right, as an instruction.
    """

    def __init__(self, message: str, *, mend: str | None = None) -> None:
        super().__init__(message if mend is None else f"{message} ({mend})")
        self.message = message
        self.mend = mend


class ConfigError(WinnowError):
    """``winnow.toml`` or an option has an unknown key or a value that is not allowed."""


class WorkspaceError(WinnowError):
    """The workspace is missing, of another version, or its catalog cannot be opened."""


class SourceError(WinnowError):
    """An input file or Hub id cannot be read at all, or too many of its rows are bad."""


class EmptySourceError(SourceError):
    """An input file has no row."""


class ModelError(WinnowError):
    """A model folder or Hub id is missing a part that scoring or training needs."""


class EngineError(WinnowError):
    """A scoring engine is not installed, cannot be reached, or cannot serve the model."""


class TokenError(WinnowError):
    """A conversation cannot be turned into tokens with this tokenizer."""


class RuleError(WinnowError):
    """A curation rule does not parse, names an unknown column, or does what rules may not do."""


class QueryError(WinnowError):
    """A user's SQL is not a single read-only query, does not parse, or names what does not exist."""


class ExportError(WinnowError):
    """An export cannot be written, or does not match its manifest."""


class TrainingError(WinnowError):
    """Training cannot start or go on: wrong tokenizer, stale log-probs, broken checkpoint, NaN loss."""
