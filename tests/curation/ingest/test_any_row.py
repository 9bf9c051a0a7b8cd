"""Whatever stands under a format's keys, a row becomes a judgment or goes to quarantine: nothing breaks or is lost."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.ingest.formats.format import Format
from curation.ingest.formats.registry import format_names, format_of
from curation.ingest.mapping_sql import mapping_query
from curation.ingest.settings import IngestSettings
from tests.curation.ingest.reading import read_file, write_lines

pytestmark = pytest.mark.slow

FOLDERS = {"cragc25", "llmfao", "ukpconvarg1"}
TEXTS = [
    "a", "b", "tie", "user", "assistant", "human", "gpt", "1", "", " ", "Tie", "left", "nan", "2024-01-01",
    "submitted", "\n\nHuman: x\n\nAssistant: y", "\n\nAssistant:", '[{"role": "user"}]', "\0", "text", "pairwise",
]  # fmt: skip
INNER = [
    "role", "content", "from", "value", "rank", "answer", "response", "score", "model", "completion", "result", "type",
    "selected", "choices", "evaluator", "overall_pref", "overall_score", "annotations", "Rating", "helpfulness",
]  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=12,
)


def format_query(name: str) -> str:
    found = format_of(name)
    return found.query(IngestSettings()) if isinstance(found, Format) else mapping_query(found)


def keys(name: str) -> list[str]:
    """Every key that a format's SQL names."""
    return sorted({*re.findall(r'\$\."?([\w-]+)', format_query(name)), "overall.responses", "overall.responses.users"})


@pytest.mark.parametrize("name", sorted(set(format_names()) - FOLDERS))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_row_ends_somewhere(name: str, data: st.DataObject) -> None:
    row = st.dictionaries(st.sampled_from(keys(name)), values, max_size=12)
    rows: list[dict[str, Any]] = data.draw(st.lists(row, min_size=1, max_size=30))
    with tempfile.TemporaryDirectory() as folder:
        judgments, quarantine = read_file(write_lines(Path(folder) / "rows.jsonl", rows), format=name)
    ended = {each["source_row"] for each in judgments} | {each["source_row"] for each in quarantine}
    assert ended <= set(range(len(rows)))
    if name not in ("helpsteer", "kto"):  # there, a judgment carries the number of the first of its two rows only
        assert ended == set(range(len(rows)))
