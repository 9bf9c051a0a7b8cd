"""Random judgments, written in every container and in every layout of several files, are read back the same."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.curation.ingest.reading import read_file, write_lines
from tests.curation.ingest.test_round_trip import FOLDERS, Vote, long_form, user, votes

pytestmark = pytest.mark.slow

Votes = Sequence[Vote]


def rows_of(given_votes: Votes) -> list[dict[str, Any]]:
    return [row for vote in given_votes for row in long_form(vote)]


def write_csv(path: Path, given_votes: Votes, delimiter: str = ",") -> None:
    rows = rows_of(given_votes)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)


def csv_text(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


CONTAINERS: dict[str, Callable[[Path, Votes], Any]] = {
    "rows.jsonl": lambda path, v: write_lines(path, rows_of(v)),
    "rows.json": lambda path, v: path.write_text(json.dumps(rows_of(v), ensure_ascii=False), encoding="utf-8"),
    "indented.json": lambda path, v: path.write_text("\n".join(json.dumps(row, indent=2) for row in rows_of(v))),
    "rows.csv": write_csv,
    "rows.tsv": lambda path, v: write_csv(path, v, "\t"),
    "rows.parquet": lambda path, v: pl.DataFrame(rows_of(v)).write_parquet(path),
    "rows.arrow": lambda path, v: pl.DataFrame(rows_of(v)).write_ipc(path),
    "stream.arrow": lambda path, v: pl.DataFrame(rows_of(v)).write_ipc_stream(path),
}
COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


def save_to_disk(folder: Path, v: Votes) -> None:
    datasets.Dataset.from_list(rows_of(v)).save_to_disk(folder, num_shards=min(2, len(v)))


def save_splits_to_disk(folder: Path, v: Votes) -> None:
    splits = {"train": rows_of(v[: len(v) // 2 + 1]), "test": rows_of(v[len(v) // 2 + 1 :])}
    datasets.DatasetDict({k: datasets.Dataset.from_list(r) for k, r in splits.items() if r}).save_to_disk(folder)


def arrow_shards(folder: Path, v: Votes) -> None:
    for number, part in enumerate((v[:1], v[1:])):
        if part:
            pl.DataFrame(rows_of(part)).write_ipc_stream(folder / f"data-0000{number}-of-00002.arrow")


def mixed_folder(folder: Path, v: Votes) -> None:
    """Files of several containers at several depths, one of them in another format, beside what is no data."""
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "README.md").write_text("About this set")
    write_lines(folder / "one.jsonl", rows_of(v[:1]))
    if v[1:]:
        pl.DataFrame(rows_of(v[1:3])).write_parquet(folder / "deep" / "two.parquet")
    if v[3:]:
        body = csv_text(rows_of(v[3:])).encode()
        (folder / "deep" / "er" / "three.csv.gz").write_bytes(gzip.compress(body))


def cragc25(folder: Path, v: Votes) -> None:
    texts = [
        {"response_id": f"{side}{i}", "query": vote.prompt, "text": text, "kind": "llm", "style": "list"}
        for i, vote in enumerate(v)
        for side, text in (("a", vote.a), ("b", vote.b))
    ]
    others = (
        "correctness_topical coherence_logical coherence_stylistic coverage_broad coverage_deep consistency_internal"
    )
    said = [
        {"query_id": "q", "a_id": f"a{i}", "b_id": f"b{i}", "annotator_id": vote.annotator,
         "quality_overall": vote.vote, **dict.fromkeys(others.split(), "tie")}
        for i, vote in enumerate(v)
    ]  # fmt: skip
    write_lines(folder / "responses.jsonl", texts)
    write_lines(folder / "votes.jsonl", said[:1])
    write_lines(folder / "llm_votes.jsonl", said[1:] or [{}])


def llmfao(folder: Path, v: Votes) -> None:
    pairs = [
        {"id": i, "slug": "s", "text": vote.prompt, "result_x": vote.a, "result_y": vote.b} for i, vote in enumerate(v)
    ]
    write_lines(folder / "pairs-crowd.jsonl", pairs)
    said = {"a": "left", "b": "right", "tie": "tie"}
    votes_ = [
        {"id": i, "worker": vote.annotator, "left": "m1", "right": "m2", "winner": said[vote.vote]}
        for i, vote in enumerate(v)
    ]
    (folder / "crowd-comparisons.csv").write_text(csv_text(votes_))
    for judge in ("gpt3", "gpt4"):
        (folder / f"{judge}-crowd-comparisons.csv").write_text("id,left,right,winner\n")


def ukpconvarg1(folder: Path, v: Votes) -> None:
    arguments = [
        {"argument_id": f"{side}{i}", "text": text}
        for i, vote in enumerate(v)
        for side, text in (("a", vote.a), ("b", vote.b))
    ]
    pairs = [
        {"pair_id": i, "a_id": f"a{i}", "b_id": f"b{i}", "question": vote.prompt, "stance": "yes", "topic": "t"}
        for i, vote in enumerate(v)
    ]
    said = [{"pair_id": i, "annotator_id": vote.annotator, "vote": vote.vote} for i, vote in enumerate(v)]
    for name, rows in (("arguments", arguments), ("pairs", pairs), ("votes", said)):
        write_lines(folder / f"{name}.jsonl", rows)


LAYOUTS: dict[str, Callable[[Path, Votes], None]] = {
    "save_to_disk": save_to_disk, "save_to_disk of splits": save_splits_to_disk, "Arrow shards": arrow_shards,
    "mixed folder": mixed_folder, "cragc25": cragc25, "llmfao": llmfao, "ukpconvarg1": ukpconvarg1,
}  # fmt: skip
_STANCE = "\nWrite a convincing argument for this stance: yes"


def check(path: Path, v: Votes, format: str | None = None) -> None:
    judgments, quarantine = read_file(path, format=format)
    found = [
        (row["messages"], row["response_a"], row["response_b"], row["vote"], row["annotator_id"])
        for row in judgments
        if row["criterion"] in ("overall", "quality_overall")
    ]
    end = _STANCE if format == "ukpconvarg1" else ""
    wanted = [
        (json.dumps(user(vote.prompt + end), ensure_ascii=False, separators=(",", ":")), vote.a, vote.b, vote.vote,
         vote.annotator)
        for vote in v
    ]  # fmt: skip
    assert sorted(found) == sorted(wanted)
    assert {row["reason"] for row in quarantine} <= ({"unknown_reference"} if format == "cragc25" else set())


lists_of_votes = st.lists(votes, min_size=1, max_size=12, unique_by=lambda v: v.prompt)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", CONTAINERS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_votes=lists_of_votes)
def test_every_container(name: str, compression: str, given_votes: list[Vote]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        CONTAINERS[name](path, given_votes)
        compressed = path.with_name(name + compression)
        compressed.write_bytes(COMPRESS[compression](path.read_bytes()))
        check(compressed, given_votes)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_votes=lists_of_votes)
def test_every_layout_of_several_files(name: str, given_votes: list[Vote]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set"
        path.mkdir()
        LAYOUTS[name](path, given_votes)
        check(path, given_votes, format=name if name in FOLDERS else None)


def test_every_layout_takes_part() -> None:
    assert LAYOUTS.keys() >= FOLDERS
