"""The real sets beside the checkout arrive in full: what is no judgment is in quarantine with its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from curation.ingest.sources import find_sources
from schemas.errors import SourceError
from tests.curation.ingest.reading import read_file
from tests.real_data import shared


@pytest.mark.slow
def test_cragc25_has_seven_criteria_two_orders_and_two_kinds_of_annotators() -> None:
    judgments, quarantine = read_file(shared("data/cragc25"))
    rows = Counter(each["source"] for each in judgments)
    # one row of the LLM judge has only one of its seven votes
    assert rows == {"cragc25/votes": 6760 * 7, "cragc25/llm_votes": 2359 * 7 - 6}
    lacking = Counter(each["reason"] for each in quarantine)
    assert lacking == {"missing_vote": 1}
    criteria = Counter(each["criterion"] for each in judgments)
    assert len(criteria) == 7
    assert criteria["quality_overall"] >= 9118
    assert len({each["annotator_id"] for each in judgments if each["annotator_kind"] == "human"}) == 420
    shown = {(each["response_a_id"], each["response_b_id"]) for each in judgments}
    assert sum((b, a) in shown for a, b in shown) == 2 * 377
    assert len({frozenset(pair) for pair in shown}) == 975
    assert all(each["is_display_order_known"] for each in judgments)


@pytest.mark.slow
def test_llmfao_has_ties_and_two_judges_as_annotators() -> None:
    judgments, quarantine = read_file(shared("data/llmfao"))
    assert {each["reason"] for each in quarantine} == {"empty_response"}
    assert len(judgments) + len(quarantine) == 8931 + 2 * 2139
    kinds = {(each["annotator_kind"], each["annotator_id"]) for each in judgments}
    assert {who for kind, who in kinds if kind == "model"} == {"gpt-3", "gpt-4"}
    assert {each["vote"] for each in judgments} == {"a", "b", "tie"}
    assert [each.format.name for each in find_sources([str(shared("data/llmfao"))], fetch_folder=Path())] == [
        "llmfao"
    ] * 3


def test_llmfao_without_its_judges_is_the_same_source(tmp_path: Path) -> None:
    folder = tmp_path / "llmfao"
    folder.mkdir()
    for file in shared("data/llmfao").iterdir():
        if file.is_file() and not file.name.startswith("gpt"):
            (folder / file.name).symlink_to(file)
    for name in (None, "llmfao"):
        (found,) = find_sources([str(folder)], fetch_folder=Path(), format_name=name)
        assert (found.format.name, found.source) == ("llmfao", "llmfao/crowd-comparisons")
    (folder / "crowd-comparisons.csv").unlink()
    with pytest.raises(SourceError, match=r"has no crowd-comparisons\.csv, which the format llmfao needs"):
        find_sources([str(folder)], fetch_folder=Path(), format_name="llmfao")


def test_fgrlhf_has_six_preferences_a_question() -> None:
    path = shared("data/fgrlhf_qa/dev_feedback.jsonl.gz")
    judgments, quarantine = read_file(path)
    assert len(judgments) + len(quarantine) == 3000
    assert [each.format.name for each in find_sources([str(path)], fetch_folder=path)] == ["fgrlhf"]
    first = [each for each in judgments if each["source_row"] == 0]
    assert sorted(each["vote"] for each in first) == sorted(["tie", "a", "b", "a", "tie", "b"])


@pytest.mark.slow
def test_blimp_needs_no_prompt() -> None:
    path = shared("data/blimp/pairs.jsonl.gz")
    judgments, quarantine = read_file(path)
    assert len(judgments) + len(quarantine) == 67_000
    assert {each["reason"] for each in quarantine} == {"identical_responses"}
    assert [each.format.name for each in find_sources([str(path)], fetch_folder=path)] == ["blimp"]
    assert {each["messages"] for each in judgments} == {"[]"}


@pytest.mark.parametrize(("folder", "name"), [("ukpconvarg1", "ukpconvarg1"), ("cragc25", "cragc25")])
def test_a_folder_of_joined_files_is_recognised(folder: str, name: str) -> None:
    assert {each.format.name for each in find_sources([str(shared(f"data/{folder}"))], fetch_folder=Path())} == {name}
