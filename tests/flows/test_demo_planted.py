"""Planted against found, on a small generated world that went through ingest and diagnose."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.synthetic import world, write_world
from flows.planted import Finding, interval, planted_against_found
from flows.stages.diagnose import diagnose
from flows.stages.ingest import ingest
from flows.workspace import Workspace
from schemas.errors import SourceError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    root = tmp_path_factory.mktemp("planted")
    write_world(world(5, 150, 12), root / "world", num_documents=1)
    workspace = Workspace.create(root / "w")
    ingest(workspace, [str(root / "world" / "judgments.jsonl")])
    diagnose(workspace)
    with workspace.lake(read_only=True) as lake:
        return {f.kind.title: f for f in planted_against_found(lake, root / "world", reference_id=None)}


@pytest.mark.parametrize(
    "title",
    ["votes for both sides", "annotator against self", "pairs on a cycle", "identical responses"],
)
def test_what_the_votes_say_outright_is_found_exactly(findings: dict[str, Finding], title: str) -> None:
    found = findings[title]
    assert found.num_planted > 0
    assert (found.num_found, found.num_hits) == (found.num_planted, found.num_planted)


@pytest.mark.parametrize("title", ["opposing near-duplicates", "near-identical responses"])
def test_near_copies_are_found(findings: dict[str, Finding], title: str) -> None:
    precision, recall = findings[title].precision, findings[title].recall
    assert precision is not None
    assert recall is not None
    assert precision[0] >= 0.9
    assert recall[0] >= 0.7


def test_wrong_labels_are_found_better_than_by_chance(findings: dict[str, Finding]) -> None:
    wrong = findings["wrong labels"]
    assert wrong.precision is not None
    num_pairs = 600
    assert wrong.precision[1] > wrong.num_planted / num_pairs, "the interval lies above the base rate"


def test_a_part_has_a_recall_alone(findings: dict[str, Finding]) -> None:
    part = findings["cycles on purpose"]
    assert part.precision is None
    assert part.recall is not None
    assert part.recall[0] == 1
    assert part.num_planted < findings["pairs on a cycle"].num_planted


def test_nothing_is_claimed_of_a_policy_that_scored_nothing(findings: dict[str, Finding]) -> None:
    assert findings["policy favors rejected"].num_found == 0
    assert findings["policy favors rejected"].precision is None


def test_the_interval_is_wilsons() -> None:
    """8 of 10: centre (0.8 + 1.92/10) / 1.384 = 0.7167, half 0.2267; the published example."""
    assert interval(8, 10) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert interval(0, 10) == pytest.approx((0.0, 0.0, 0.2775), abs=1e-4)
    assert interval(10, 10) == pytest.approx((1.0, 0.7225, 1.0), abs=1e-4)
    assert interval(0, 0) is None


def test_a_missing_truth_is_named(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w")
    with (
        workspace.lake(read_only=True) as lake,
        pytest.raises(SourceError, match=r"pairs\.parquet does not exist") as caught,
    ):
        planted_against_found(lake, tmp_path / "nowhere", reference_id=None)
    assert caught.value.mend == f"winnow synth {tmp_path / 'nowhere'}"
