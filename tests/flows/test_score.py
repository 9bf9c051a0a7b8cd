"""``winnow score``: only what is new, each shard in one transaction, policies side by side, nothing cut in silence."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from flows.report import StageReport
from flows.stages.ingest import ingest
from flows.stages.score import score
from flows.workspace import Workspace
from schemas.errors import ConfigError, EngineError, ModelError, WorkspaceError
from schemas.tokens import encode_group
from tests.curation.scoring.real_groups import oracle_logps, tiny_tokenizer
from tests.real_data import shared

SCORES = "select response_id, logps, num_tokens, num_prompt_tokens, is_truncated from raw.reference_scores order by all"


def hh_file(folder: Path, count: int) -> Path:
    path = folder / "hh.jsonl"
    with gzip.open(shared("data/hh_rlhf/harmless-base-test.jsonl.gz"), "rt", encoding="utf-8") as stream:
        path.write_text("".join(line for _, line in zip(range(count), stream, strict=False)), encoding="utf-8")
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "workspace")
    ingest(made, [str(hh_file(tmp_path, 24))], format="hh")
    return made


def run(workspace: Workspace, **options: Any) -> StageReport:
    model = str(options.pop("model", shared("models/tiny-en")))
    return score(workspace, **{"model": model, "engine": "transformers", "dtype": "float32", **options})


def rows(workspace: Workspace, sql: str = SCORES) -> list[tuple[Any, ...]]:
    with workspace.lake(read_only=True) as lake:
        return lake.con.execute(sql).fetchall()


def test_every_response_is_scored_as_one_sequence_at_a_time_would_be(workspace: Workspace) -> None:
    report = run(workspace, shard_tokens=1500)
    found = rows(
        workspace,
        "select messages, text, logps, num_tokens, num_prompt_tokens from raw.reference_scores"
        " join raw.responses using (response_id) join raw.prompts using (prompt_id)",
    )
    assert report.facts["num_scored"] == len(found) == 48
    for messages, text, logps, num_tokens, num_prompt_tokens in found[:12]:
        encoded = encode_group(tiny_tokenizer(), json.loads(messages), [text])
        assert (num_prompt_tokens, num_tokens) == (len(encoded.prompt_ids), len(encoded.response_ids[0]))
        assert logps == pytest.approx(oracle_logps(encoded.prompt_ids, encoded.response_ids[0]), abs=1e-3)


def test_each_shard_is_one_snapshot_and_a_second_run_makes_none(workspace: Workspace) -> None:
    with workspace.lake() as lake:
        before = lake.snapshot_id()
    report = run(workspace, shard_tokens=1500)
    with workspace.lake() as lake:
        after = lake.snapshot_id()
        largest = lake.value("select max(num_prompt_tokens + num_tokens) from raw.reference_scores")
    assert after - before >= 3
    assert largest < 1500
    again = run(workspace, shard_tokens=1500)
    assert (again.run_id, again.num_changed) == (None, 0)
    assert again.facts["num_reused"] == report.facts["num_scored"]
    assert again.facts["reference_id"] == report.facts["reference_id"]
    with workspace.lake() as lake:
        assert lake.snapshot_id() == after


def test_only_new_responses_are_scored(workspace: Workspace, tmp_path: Path) -> None:
    first = run(workspace)
    ingest(workspace, [str(hh_file(tmp_path, 30))], format="hh")
    second = run(workspace)
    assert second.facts["num_reused"] == first.facts["num_scored"]
    assert second.facts["num_scored"] == len(rows(workspace)) - first.facts["num_scored"] > 0


def test_two_policies_live_side_by_side(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(shared("models/tiny-en"), other, copy_function=shutil.copyfile)
    other.chmod(0o755)
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] *= 0.5
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    one, two = run(workspace), run(workspace, model=other)
    assert one.facts["reference_id"] != two.facts["reference_id"]
    assert one.facts["num_scored"] == two.facts["num_scored"]
    counts = rows(workspace, "select count(*), count(distinct logps) from raw.reference_scores group by reference_id")
    assert [count for count, _ in counts] == [one.facts["num_scored"]] * 2
    (drift,) = rows(workspace, "from mart.reference_drift")
    assert drift[:3] == (one.facts["reference_id"], two.facts["reference_id"], 24)
    assert drift[4] == pytest.approx(drift[3] / 24)
    assert 0.5 < drift[5] < 1


def test_drift_is_counted_by_hand(tmp_path: Path) -> None:
    """Three pairs, margins 1, 2, 3 and then 1, -2, 5: one changes sign; Spearman 0.5; differences 0, 4 and 2."""
    made = Workspace.create(tmp_path / "drift")
    with made.lake() as lake:
        for number, margins in enumerate(((1, 2, 3), (1, -2, 5))):
            lake.con.execute(
                f"insert into raw.reference_policies select 'p{number}', 'm', null, 'w', 't', null, 'plain', null,"
                f" null, 9, 'never', timestamp '2026-01-0{number + 1}', 'run'"
            )
            for pair, margin in enumerate(margins):
                for response, logps in ((f"a{pair}", -10 + margin), (f"b{pair}", -10)):
                    lake.con.execute(
                        "insert into raw.reference_scores by name select ? as reference_id, ? as response_id,"
                        " ? as logps, 1 as num_tokens, 1 as num_prompt_tokens, false as is_truncated, 'e' as engine,"
                        " 'p' as engine_path, 'v' as engine_version, 'd' as dtype, timestamp '2026-01-01' as scored_at,"
                        " 'run' as run_id",
                        [f"p{number}", response, logps],
                    )
        for pair in range(3):
            lake.con.execute(
                "insert into raw.judgments by name select ? as judgment_id, ? as pair_id, 'x' as prompt_id,"
                " ? as response_a_id, ? as response_b_id, 'overall' as criterion, 'a' as vote,"
                " true as is_display_order_known, false as is_both_bad, 's' as source, 0 as source_row,"
                " 'run' as run_id",
                [f"j{pair}", f"pair{pair}", f"a{pair}", f"b{pair}"],
            )
        found = lake.con.execute("from mart.reference_drift").fetchall()
    assert found == [("p0", "p1", 3, 1, pytest.approx(1 / 3), pytest.approx(0.5), pytest.approx(2.0))]


def test_what_does_not_fit_is_marked_and_never_cut_in_silence(workspace: Workspace) -> None:
    report = run(workspace, max_length=100)
    found = rows(workspace)
    long = [row for row in found if row[2] + row[3] > 100]
    assert long
    assert report.facts["num_truncated"] == len(long)
    assert all(row[1] is None and row[4] for row in long)
    assert all(row[1] is not None and not row[4] for row in found if row not in long)


def test_truncate_left_cuts_the_prompt_and_says_so(workspace: Workspace) -> None:
    report = run(workspace, max_length=100, truncate="left")
    found = rows(workspace)
    cut = [row for row in found if row[4] and row[1] is not None]
    assert cut
    assert all(row[2] + row[3] == 100 for row in cut)
    assert report.facts["num_truncated"] == sum(row[2] >= 100 for row in found)


def test_a_bad_model_is_one_clear_error_and_leaves_the_lake_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.lake() as lake:
        before = lake.snapshot_id()
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(shared("models/tiny-en") / name, bare / name)
    with pytest.raises(ModelError, match="holds no tokenizer"):
        run(workspace, model=bare)
    with pytest.raises(ModelError, match="there is no model folder"):
        run(workspace, model=tmp_path / "missing")
    with pytest.raises(ModelError, match="no reference policy was given"):
        score(workspace)
    with pytest.raises(EngineError, match="there is no engine 'vlm'"):
        score(workspace, model=str(shared("models/tiny-en")), engine="vlm")
    with pytest.raises(ConfigError, match="scoring: dtype"):
        score(workspace, model=str(shared("models/tiny-en")), dtype="int3")
    with workspace.lake() as lake:
        assert lake.snapshot_id() == before


def test_an_empty_workspace_has_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no responses to score"):
        run(Workspace.create(tmp_path / "empty"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_a_killed_run_goes_on_at_its_last_shard_with_the_same_numbers(
    workspace: Workspace, tmp_path: Path, engine: str
) -> None:
    whole = Workspace.create(tmp_path / "whole")
    ingest(whole, [str(tmp_path / "hh.jsonl")], format="hh")
    run(whole, shard_tokens=800, engine=engine)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.flows.slow_score", str(workspace.root), str(shared("models/tiny-en")), engine],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not rows(workspace) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(rows(workspace))
    assert 0 < done < 48
    assert rows(workspace, "select count(*) from raw.runs where stage = 'score' and ended_at is null") == [(1,)]
    report = run(workspace, shard_tokens=800, engine=engine)
    assert report.facts["num_reused"] == done
    assert report.facts["num_scored"] == 48 - done
    assert rows(workspace) == rows(whole)
