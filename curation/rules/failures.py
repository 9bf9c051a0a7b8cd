"""Rules that fail while they run: DuckDB's reason in one line, and the name of the rule that failed."""

from __future__ import annotations

from bisect import bisect_left

import duckdb

from curation.rules.compile import CompiledRules, compile_rules
from schemas.errors import RuleError

RUN_TIME_ERRORS = (duckdb.DataError, duckdb.InvalidInputException)
"""What an expression that type-checks can still raise on a value: out of range, not convertible, not valid."""

_MEND = "guard it with case or greatest, or use try_cast"


class RuleRunError(RuleError):
    """An expression of a rule failed on a value of a pair.

    Args:
        rules: what to call the rules in the message, such as ``rule 'x'``.
        reason: what failed, in one line.
    """

    def __init__(self, rules: str, reason: str) -> None:
        super().__init__(f"{rules} failed while it ran: {reason}", mend=_MEND)
        self.reason = reason


def failure_of(compiled: CompiledRules, error: duckdb.Error) -> RuleRunError:
    """What is said of a whole set of rules of which one failed."""
    return RuleRunError(f"a rule of {compiled.rules.name!r}", _reason(error))


def named(
    con: duckdb.DuckDBPyConnection, compiled: CompiledRules, *, pairs: str, failure: RuleRunError
) -> RuleRunError:
    """The failure with the name of its rule: the first that fails when the rules up to it run.

    Rules run with those before them, because a flip changes what they see and a weight is only computed where its
    condition holds. Rules fail from the first failing one on, so it is found by halving.

    Args:
        con: connection without an open transaction; an aborted one answers nothing.
        compiled: the rules.
        pairs: relation with the columns that the rules read.
        failure: what the whole set failed with.
    """
    reasons: dict[int, str] = {}

    def fails(number: int) -> bool:
        first = compiled.rules.model_copy(update={"rule": compiled.rules.rule[:number]})
        try:
            con.execute(f"create or replace temp table failing as {compile_rules(first, compiled.types).over(pairs)}")
        except RUN_TIME_ERRORS as error:
            reasons[number] = _reason(error)
            return True
        return False

    numbers = range(1, len(compiled.rules.rule))
    number = bisect_left(numbers, True, key=fails) + 1
    con.execute("drop table if exists failing")
    return RuleRunError(f"rule {compiled.rules.rule[number - 1].name!r}", reasons.get(number, failure.reason))


def _reason(error: duckdb.Error) -> str:
    """First line of DuckDB's message, without its class and without the query that follows."""
    line = str(error).splitlines()[0]
    return line.partition("Error: ")[2] or line
