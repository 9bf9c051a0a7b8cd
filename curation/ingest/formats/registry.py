"""All formats, in the order in which they are tried on a file whose format is not given."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from curation.ingest.formats.annotation_tools import ARGILLA, LABEL_STUDIO
from curation.ingest.formats.battles import ALPACA_EVAL, ARENA
from curation.ingest.formats.completions import DISTILABEL, NECTAR, NEMO_RL, ULTRAFEEDBACK
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.grouped import HELPSTEER, KTO
from curation.ingest.formats.hh import HH
from curation.ingest.formats.llama_factory import LLAMA_FACTORY_ALPACA, LLAMA_FACTORY_SHAREGPT
from curation.ingest.formats.multipref import MULTIPREF
from curation.ingest.formats.rated_pairs import RATED_PAIRS
from curation.ingest.formats.winnow import WINNOW
from curation.ingest.mapping import Mapping, parse_mapping, read_mapping
from schemas.errors import SourceError

QUERY_FORMATS: tuple[Format, ...] = (
    WINNOW, LABEL_STUDIO, ARGILLA, MULTIPREF, ARENA, ALPACA_EVAL, ULTRAFEEDBACK, NEMO_RL, NECTAR, DISTILABEL,
    LLAMA_FACTORY_SHAREGPT, RATED_PAIRS, LLAMA_FACTORY_ALPACA, HELPSTEER, KTO, HH,
)  # fmt: skip
"""Formats whose rows are nested, read by a query of their own. They are more specific, so they are tried first."""


@cache
def mappings() -> tuple[Mapping, ...]:
    """The built-in mapping files; those that ask for more columns come first."""
    folder = files("curation.ingest") / "mappings"
    found = [
        parse_mapping(entry.read_text(encoding="utf-8"), origin=entry.name)
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    ]
    return tuple(sorted(found, key=lambda m: (-len(m.detect.columns) if m.detect else 0, m.name)))


def format_names() -> list[str]:
    """What ``--format`` takes, besides the path of a mapping file."""
    return sorted([each.name for each in QUERY_FORMATS] + [each.name for each in mappings()])


def format_of(name: str) -> Format | Mapping:
    """The format of a name, or the mapping of a TOML file.

    Raises:
        SourceError: there is none of this name.
        ConfigError: the mapping file is not valid.
    """
    if name.endswith(".toml"):
        return read_mapping(Path(name))
    formats: list[Format | Mapping] = [*QUERY_FORMATS, *mappings()]
    for each in formats:
        if each.name == name:
            return each
    raise SourceError(
        f"unknown format {name!r}", mend=f"use one of {', '.join(format_names())}, or the path of a mapping file"
    )


def detect(sample: Sample) -> Format | Mapping | None:
    """The format of a file from its first rows; None where nothing fits."""
    if not sample:
        return None
    for each in QUERY_FORMATS:
        if each.matches(sample):
            return each
    for mapping in mappings():
        wanted = mapping.detect
        if wanted and all_have(sample, *wanted.columns) and not any(all_have(sample, name) for name in wanted.absent):
            return mapping
    return None
