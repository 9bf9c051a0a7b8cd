"""Round trips: exporting in another trainer's format and ingesting that again gives the same pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.export.formats.registry import LAYOUTS
from flows.stages.curate import curate
from flows.stages.export import export
from flows.stages.ingest import ingest
from flows.workspace import Workspace
from schemas.errors import SourceError
from tests.generated_lake import fill

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace.create(tmp_path_factory.mktemp("formats") / "workspace")
    with made.lake() as lake:
        fill(lake, num_pairs=300)
        awkward = 'Line one\nline two\t"quoted" \\ {"role": "user"} 你好 👍'

        def spoil(con: object) -> None:
            lake.con.execute("update raw.responses set text = ? || text where text like 'Answer 1%'", [awkward])

        lake.transact("awkward texts", spoil)
    curate(made, rules="dpo-safe")
    return made


def pairs(workspace: Workspace) -> set[tuple[str, str, str]]:
    with workspace.lake(read_only=True) as lake:
        return set(lake.con.execute("select prompt, chosen, rejected from mart.training_set").fetchall())


def judged(workspace: Workspace) -> set[tuple[str, str, str]]:
    """Prompt, preferred and other text of every judgment."""
    with workspace.lake(read_only=True) as lake:
        return set(
            lake.con.execute(
                """
                select prompts.messages,
                    if(vote = 'a', a.text, b.text), if(vote = 'a', b.text, a.text)
                from raw.judgments as judgments
                join raw.prompts as prompts on prompts.prompt_id = judgments.prompt_id
                join raw.responses as a on a.response_id = response_a_id
                join raw.responses as b on b.response_id = response_b_id
                """
            ).fetchall()
        )


def counted(workspace: Workspace, table: str, column: str) -> dict[str, int]:
    """Rows of a table by a column."""
    with workspace.lake(read_only=True) as lake:
        return dict(lake.con.execute(f"select {column}, count(*) from {table} group by all").fetchall())


@pytest.mark.parametrize("of_folder", [False, True], ids=["files", "folder"])
@pytest.mark.parametrize("format", LAYOUTS)
def test_an_export_ingested_again_holds_the_same_pairs(
    workspace: Workspace, tmp_path: Path, format: str, of_folder: bool
) -> None:
    export(workspace, target=tmp_path / "set", format=format)
    files = sorted(str(path) for path in (tmp_path / "set").rglob("t*-0*.*"))
    again = Workspace.create(tmp_path / "again")
    ingest(again, [str(tmp_path / "set")] if of_folder else files)
    assert judged(again) == pairs(workspace)
    with again.lake(read_only=True) as lake:
        assert lake.value("select count(*) from raw.quarantine") == 0
    if of_folder:
        manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
        assert counted(again, "raw.judgments", "source_split") == manifest["counts"]
    if format in ("winnow", "hf-dataset"):
        assert counted(again, "raw.judgments", "criterion") == counted(workspace, "mart.training_set", "criterion")


def test_an_export_that_lacks_a_shard_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, target=tmp_path / "set")
    (tmp_path / "set" / "test-00000.parquet").unlink()
    with pytest.raises(SourceError, match=r"test-00000\.parquet is missing, which .*manifest\.json names"):
        ingest(Workspace.create(tmp_path / "again"), [str(tmp_path / "set")])


def test_what_a_format_cannot_hold_is_said_once_and_only_if_the_set_has_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    lines = {
        name: [line for line in export(workspace, target=tmp_path / name, format=name).lines if "no room" in line]
        for name in ("winnow", "trl", "axolotl")
    }
    assert lines["winnow"] == []
    assert lines["trl"] == []  # it has no soft label and no routed pair
    assert len(lines["axolotl"]) == 1
    assert "weights (of" in lines["axolotl"][0]
    assert "soft labels" not in lines["axolotl"][0]


def test_the_registries_name_files_that_are_there(workspace: Workspace, tmp_path: Path) -> None:
    export(workspace, target=tmp_path / "lf", format="llama-factory")
    info = json.loads((tmp_path / "lf" / "dataset_info.json").read_text())
    for split in ("train", "test"):
        entry = info[f"winnow_{split}"]
        assert sorted(path.name for path in (tmp_path / "lf" / entry["file_name"]).iterdir()) == [
            f"{split}-00000.jsonl"
        ]
        row = json.loads((tmp_path / "lf" / entry["file_name"] / f"{split}-00000.jsonl").read_text().splitlines()[0])
        assert set(entry["columns"].values()) == set(row)
    export(workspace, target=tmp_path / "trl", format="trl")
    assert "train_trl.py" in {
        file["path"] for file in json.loads((tmp_path / "trl" / "manifest.json").read_text())["files"]
    }
