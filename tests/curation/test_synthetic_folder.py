"""The generated world as files: what is handed in, and the truth beside it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from curation.synthetic import world, write_world
from schemas.errors import SourceError


def test_the_folder_holds_the_world(tmp_path: Path) -> None:
    made = world(seed=3, num_prompts=300, num_annotators=20)
    steps: list[int] = []
    manifest = write_world(made, tmp_path / "w", num_documents=50, advance=steps.append)

    read = pl.read_ndjson(tmp_path / "w" / "judgments.jsonl")
    assert read.columns == [
        "prompt", "response_a", "response_b", "vote", "annotator_id", "criterion", "annotated_at", "batch",
    ]  # fmt: skip
    assert read.height == made.judgments.height == sum(steps) == manifest["counts"]["judgments"]
    texts = made.responses.select("response_id", "text")
    shown = made.judgments.join(texts, left_on="response_b_id", right_on="response_id", maintain_order="left")
    assert read["response_b"].equals(shown["text"].alias("response_b"))
    assert read["vote"].equals(made.judgments["vote"])
    assert read["annotated_at"].str.to_datetime(time_zone="UTC").is_sorted()

    truth = tmp_path / "w" / "truth"
    assert pl.read_parquet(truth / "pairs.parquet").equals(made.pairs)
    assert pl.read_parquet(truth / "annotators.parquet").equals(made.annotators)
    assert "text" not in pl.read_parquet(truth / "responses.parquet").columns
    assert pl.read_parquet(truth / "judgments.parquet")["source_row"].to_list() == list(range(read.height))
    assert pl.read_ndjson(tmp_path / "w" / "policy_corpus.jsonl").shape == (50, 2)
    assert json.loads((tmp_path / "w" / "manifest.json").read_text())["planted"]["is_flipped"] == int(
        made.pairs["is_flipped"].sum()
    )


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_world(world(seed=3, num_prompts=50), tmp_path / name, num_documents=20)
    for file in ("judgments.jsonl", "policy_corpus.jsonl", "manifest.json", "truth/pairs.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("")
    with pytest.raises(SourceError, match="is a file"):
        write_world(world(seed=3, num_prompts=20), tmp_path / "w", num_documents=5)
