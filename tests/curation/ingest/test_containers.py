"""The same judgments come out of every container, compressed or not; a broken file is one clear error."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pyarrow as pa
import pytest
import zstandard

from curation.ingest.containers import container_of, read_rows, stem
from curation.ingest.fetching import is_hub_id
from curation.ingest.settings import IngestSettings
from curation.ingest.sources import find_sources
from schemas.errors import SourceError
from tests.curation.ingest.reading import read_file, write_lines

ROWS = [
    {
        "prompt": f"Question {i // 2}, é?", "response_a": f'Yes, "{i}",\nthat is it.', "response_b": f"No, {i}",
        "vote": "ab"[i % 2], "annotator_id": f"w{i}", "strength": i / 2,
    }
    for i in range(7)
]  # fmt: skip


def pretty(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row, indent=2) for row in rows)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "rows.jsonl": lambda path: write_lines(path, ROWS),
    "rows.ndjson": lambda path: pl.DataFrame(ROWS).write_ndjson(path),
    "rows.json": lambda path: path.write_text(json.dumps(ROWS)),
    "indented.json": lambda path: path.write_text(json.dumps(ROWS, indent=1)),
    "lines.json": lambda path: write_lines(path, ROWS),
    "values.json": lambda path: path.write_text(pretty(ROWS)),
    "rows.csv": lambda path: pl.DataFrame(ROWS).write_csv(path),
    "rows.tsv": lambda path: pl.DataFrame(ROWS).write_csv(path, separator="\t"),
    "semicolon.csv": lambda path: pl.DataFrame(ROWS).write_csv(path, separator=";"),
    "rows.parquet": lambda path: pl.DataFrame(ROWS).write_parquet(path, row_group_size=3),
    "rows.arrow": lambda path: pl.DataFrame(ROWS).write_ipc(path),
    "stream.arrow": lambda path: pl.DataFrame(ROWS).write_ipc_stream(path),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    judgments, quarantine = read_file(write_lines(tmp_path_factory.mktemp("plain") / "rows.jsonl", ROWS))
    assert (len(judgments), quarantine) == (7, [])
    return judgments


def but_source(judgments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("source", "judgment_id")} for row in judgments]


def compress_gzip(data: bytes) -> bytes:
    return gzip.compress(data)


def compress_zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(
    ("name", "compression"),
    [(name, "") for name in WRITERS]
    + [
        (name, suffix) for name in ("rows.jsonl", "rows.json", "rows.csv", "rows.parquet") for suffix in (".gz", ".zst")
    ],
)
def test_every_container_gives_the_same_judgments(
    tmp_path: Path, expected: list[dict[str, Any]], name: str, compression: str
) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    if compression:
        compress = compress_gzip if compression == ".gz" else compress_zstd
        compressed = path.with_name(path.name + compression)
        compressed.write_bytes(compress(path.read_bytes()))
        path = compressed
    judgments, quarantine = read_file(path, batch_bytes=1 << 16)
    assert quarantine == []
    assert but_source(judgments) == but_source(expected)
    assert stem(path) == name.partition(".")[0]


@pytest.mark.parametrize("kind", ["dataset", "dict"])
def test_save_to_disk(tmp_path: Path, expected: list[dict[str, Any]], kind: str) -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    saved = dataset if kind == "dataset" else datasets.DatasetDict(train=dataset, test=dataset.select([0]))
    saved.save_to_disk(tmp_path / "set")
    judgments, _ = read_file(tmp_path / "set")
    found = [{**row, "source_split": None} for row in but_source(judgments) if row["source_split"] != "test"]
    assert found == but_source(expected)
    splits = {(row["source"], row["source_split"]) for row in judgments}
    assert splits == ({("set", None)} if kind == "dataset" else {("set/train", "train"), ("set/test", "test")})


@pytest.mark.slow
def test_a_hub_data_set_is_streamed_through_datasets(
    tmp_path: Path, expected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``datasets`` resolves ``owner/name`` to a folder here as it does to a repository there."""
    (tmp_path / "hub" / "owner" / "name").mkdir(parents=True)
    pl.DataFrame(ROWS).write_parquet(tmp_path / "hub" / "owner" / "name" / "train.parquet")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(tmp_path / "hub")
    (source,) = find_sources(["hf://datasets/owner/name"], fetch_folder=work)
    assert (source.source, source.split) == ("name/train", "train") or (source.source, source.split) == (
        "name",
        "train",
    )
    assert source.path.is_relative_to(work)
    rows = pa.concat_tables([batch for batch, _ in read_rows(source.path, IngestSettings())])
    assert rows.num_rows == len(expected)


def test_urls_are_read_through_fsspec(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/rows.jsonl", write_lines(tmp_path / "rows.jsonl", ROWS).read_bytes())
    memory.pipe("/bucket/more.jsonl", b"{}\n")
    (source,) = find_sources(["memory://bucket/rows.jsonl"], fetch_folder=tmp_path / "fetched")
    assert (source.source, str(source)) == ("rows", "memory://bucket/rows.jsonl")
    judgments, _ = read_file(source.path)
    assert judgments == expected
    found = find_sources(["memory://bucket/*.jsonl"], fetch_folder=tmp_path / "all", format_name="long")
    assert sorted(each.source for each in found) == ["more", "rows"]
    with pytest.raises(SourceError, match=r"memory://bucket/nothing\.jsonl cannot be read"):
        find_sources(["memory://bucket/nothing.jsonl"], fetch_folder=tmp_path / "none")


@pytest.mark.parametrize(
    ("source", "is_id"),
    [
        ("Anthropic/hh-rlhf", True), ("owner/name@v1.0:config", True), ("hf://datasets/owner/name", True),
        ("data/missing.jsonl", False), ("data/deep/missing", False), ("name", False),
    ],
)  # fmt: skip
def test_what_may_be_a_hub_id(source: str, is_id: bool) -> None:
    assert is_hub_id(source) is is_id


def test_messages_in_csv_are_json_texts(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Name a colour."}]
    answer = json.dumps([{"role": "assistant", "content": "Red."}])
    frame = pl.DataFrame({"prompt": [json.dumps(messages)], "chosen": [answer], "rejected": ["Four."]})
    frame.write_csv(tmp_path / "rows.csv")
    ((judgment,), quarantine) = read_file(tmp_path / "rows.csv")
    assert quarantine == []
    assert (json.loads(judgment["messages"]), judgment["response_a"]) == (messages, "Red.")


def test_csv_rows_that_do_not_fit_the_header_or_are_not_utf8(tmp_path: Path) -> None:
    lines = [b"prompt,chosen,rejected", b"Q0,a,b", b"Q1,a", b"Q2,a,b,c", b"Q3,\xff,b", b"Q4,a,b"]
    (tmp_path / "rows.csv").write_bytes(b"\n".join(lines) + b"\n")
    judgments, quarantine = read_file(tmp_path / "rows.csv")
    assert [row["source_row"] for row in judgments] == [0, 4]
    assert [(row["source_row"], row["reason"], row["payload"]) for row in quarantine[:2]] == [
        (1, "bad_csv_row", "Q1,a"), (2, "bad_csv_row", "Q2,a,b,c"),
    ]  # fmt: skip
    assert (quarantine[2]["source_row"], quarantine[2]["reason"]) == (3, "invalid_utf8")


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    good, bad = b"Red.", b"R\xffd."
    answers = pa.Array.from_buffers(pa.string(), 2, pa.array([good, bad], pa.binary()).buffers())
    pq.write_table(
        pa.table({"prompt": ["Q", "Q"], "chosen": answers, "rejected": ["x", "y"]}), tmp_path / "rows.parquet"
    )
    judgments, quarantine = read_file(tmp_path / "rows.parquet")
    assert [row["response_a"] for row in judgments] == ["Red."]
    assert [(row["source_row"], row["reason"]) for row in quarantine] == [(1, "invalid_utf8")]


def test_a_large_element_of_a_list_is_set_aside(tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[1], "response_a": "x" * 5000}, ROWS[2]]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    judgments, quarantine = read_file(tmp_path / "rows.json", max_row_bytes=4000, max_payload_bytes=300)
    assert [row["source_row"] for row in judgments] == [0, 2]
    assert [(row["source_row"], row["reason"], len(row["payload"])) for row in quarantine] == [
        (1, "row_too_large", 300)
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.json", b'[{"prompt": "a"', "is not valid JSON"),
        ("rows.jsonl", b"", "is empty"),
        ("rows.jsonl", b"\n \n", "is empty"),
        ("rows.csv", b"", "is empty"),
        ("rows.parquet", b"", "is empty"),
        ("rows.csv", b"prompt,chosen,rejected\n", "is empty"),
        ("rows.csv", b"pr\xe9,chosen,rejected\na,b,c\n", "has a CSV header that is not UTF-8"),
        ("rows.csv", b'prompt,chosen,rejected\na,"b,c\nd,e,f\n', "none of its first rows has the columns"),
        ("rows.csv", "prompt,chosen,rejected\na,b,c\n".encode("utf-16"), "is UTF-16"),
        ("rows.jsonl", json.dumps(ROWS[0]).encode("utf-16"), "is UTF-16"),
        ("rows.xlsx", b"PK\x03\x04 and so on", "none of its first rows is a JSON object"),
        ("rows.csv", b"a,a\n1,2\n", "has the column 'a' twice"),
        ("rows.parquet", b"PAR1 and nothing", "cannot be read as Parquet"),
        ("rows.arrow", b"ARROW1\0\0 and nothing", "cannot be read as Arrow"),
        ("rows.jsonl.gz", b"\x1f\x8bnothing", "corrupt gzip"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfdnothing", "corrupt zstd"),
        ("rows.jsonl", b"[1]\n", "none of its first rows is a JSON object"),
        ("rows.jsonl", b'{"a": 1}\n', "no known format fits its columns a"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=says) as raised:
        read_file(tmp_path / name)
    assert name in raised.value.message
    assert raised.value.mend


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("crlf.jsonl", b"".join(json.dumps(row).encode() + b"\r\n" for row in ROWS)),
        ("bom.jsonl", b"\xef\xbb\xbf" + b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)),
        ("bom.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("no end.jsonl", b"\n".join(json.dumps(row).encode() for row in ROWS)),
        ("no suffix", b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)),
        ("UPPER.JSONL", b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)),
        ("UPPER.JSON.GZ", gzip.compress(json.dumps(ROWS).encode())),
        ("Überblick 漢字 'q\".jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)),
        ("bom crlf.csv", b"\xef\xbb\xbf" + pl.DataFrame(ROWS).write_csv(line_terminator="\r\n").encode()),
    ],
)
def test_files_as_other_systems_write_them(
    tmp_path: Path, expected: list[dict[str, Any]], name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    judgments, quarantine = read_file(tmp_path / name)
    assert quarantine == []
    assert but_source(judgments) == but_source(expected)


def test_empty_and_hidden_files_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    write_lines(folder / ".ipynb_checkpoints" / "rows.jsonl", ROWS)
    (folder / "empty.jsonl").touch()
    (folder / "header.csv").write_text("prompt,chosen,rejected\n")
    with pytest.raises(SourceError, match=r"empty\.jsonl and the 1 other files are empty"):
        find_sources([str(folder)], fetch_folder=tmp_path)
    write_lines(folder / "rows.jsonl", ROWS)
    for given in (str(folder), str(folder / "*.*")):
        for format_name in (None, "long"):
            (source,) = find_sources([given], fetch_folder=tmp_path, format_name=format_name)
            assert source.path == folder / "rows.jsonl"


def test_a_source_without_a_name_is_not_the_folder_one_is_in(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the name of a source is empty"):
        find_sources([""], fetch_folder=tmp_path)


def test_a_truncated_zstd_file(tmp_path: Path) -> None:
    data = compress_zstd(b"".join(json.dumps({**row, "x": i}).encode() + b"\n" for i in range(500) for row in ROWS))
    (tmp_path / "rows.jsonl.zst").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match="corrupt zstd"):
        read_file(tmp_path / "rows.jsonl.zst", format="long")


def test_a_json_file_of_one_object_a_line_is_lines(tmp_path: Path) -> None:
    assert container_of(write_lines(tmp_path / "rows.json", ROWS)) == "lines"


def test_of_an_export_only_the_shards_are_read_and_a_manifest_of_others_is_data(tmp_path: Path) -> None:
    export, other = tmp_path / "sets" / "export", tmp_path / "sets" / "other"
    for folder in (export, other):
        folder.mkdir(parents=True)
        write_lines(folder / "train-00000.jsonl", ROWS)
        write_lines(folder / "manifest.json", ROWS)
    write_lines(export / "dataset_info.json", [{"winnow_train": {"file_name": "train"}}])
    files = [{"path": "train-00000.jsonl", "split": "train"}, {"path": "dataset_info.json", "split": None}]
    manifest = {"format": "winnow-export/llama-factory", "version": 1, "files": files}
    (export / "manifest.json").write_text(json.dumps(manifest, indent=2))
    found = find_sources([str(tmp_path / "sets")], fetch_folder=tmp_path)
    assert [(each.source, each.split) for each in found] == [
        ("sets/export/train-00000", "train"), ("sets/other/manifest", None), ("sets/other/train-00000", None),
    ]  # fmt: skip


def test_an_export_without_pairs_is_refused(tmp_path: Path) -> None:
    manifest = {"format": "winnow-export", "version": 1, "files": [{"path": "README.md", "split": None}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SourceError, match="has no pairs"):
        find_sources([str(tmp_path)], fetch_folder=tmp_path)
