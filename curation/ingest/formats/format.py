"""What a format is: a name, how it is recognised, and the query that reads its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.ingest.settings import IngestSettings

Sample = Sequence[Mapping[str, Any]]
"""The first rows of a file that are JSON objects."""


@dataclass(frozen=True)
class Format:
    """A format that is a query over one file's rows.

    Attributes:
        name: what ``--format`` takes.
        about: one line for people.
        matches: whether a sample, never empty, is of this format.
        query: SQL over the relation ``rows`` (``source_row``, ``doc``) that returns
            :data:`curation.ingest.candidates.DEFAULTS`.
        group_by: SQL of a key over ``doc``, where rows of one key are compared with each other and so must come
            together; None where every row stands for itself.
    """

    name: str
    about: str
    matches: Callable[[Sample], bool]
    query: Callable[[IngestSettings], str]
    group_by: str | None = None


def all_have(sample: Sample, *names: str) -> bool:
    """Whether most rows of the sample have all of these keys; a few bad rows must not hide a format."""
    return sum(all(name in row for name in names) for row in sample) * 2 > len(sample)
