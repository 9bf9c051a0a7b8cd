"""``winnow score``: only what is new, each shard in one transaction, policies side by side, nothing cut in silence."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from flows.report import StageReport
from flows.stages.ingest import ingest
from flows.stages.score import score
from flows.workspace import Workspace
from schemas.errors import ConfigError, EngineError, ModelError, WorkspaceError
from schemas.tokens import encode_group
from tests.curation.scoring.real_groups import oracle_logps, tiny_tokenizer
from tests.real_data import shared
from warehouse.scores import quarantine_id

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_scoring_goes_on_with_the_engine_and_dtype_that_it_began_with(
    workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(workspace, dtype="bfloat16")
    ingest(workspace, [str(hh_file(tmp_path, 30))], format="hh")
    report = score(workspace)
    assert (report.facts["engine"], report.facts["dtype"]) == ("transformers", "bfloat16")
    assert "kept as they are" not in capfd.readouterr().err
    ingest(workspace, [str(hh_file(tmp_path, 34))], format="hh")
    assert run(workspace).facts["dtype"] == "float32"
    said = capfd.readouterr().err
    assert "kept as they are: 60 responses scored by transformers, bfloat16; the two differ by noise" in said
    by = rows(workspace, "select dtype, count(*) from raw.reference_scores group by 1 order by 1")
    assert [dtype for dtype, _ in by] == ["bfloat16", "float32"]


@pytest.mark.slow
def test_an_engine_that_cannot_go_on_is_said_and_another_one_does(
    workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(workspace)
    with workspace.lake() as lake:
        lake.con.execute("update raw.reference_scores set engine = 'vllm-server', dtype = 'server'")
    ingest(workspace, [str(hh_file(tmp_path, 30))], format="hh")
    monkeypatch.setattr("flows.stages.score.explain_choice", lambda: ("transformers", "for this test"))
    assert score(workspace).facts["engine"] == "transformers"
    said = capfd.readouterr().err
    assert "48 responses scored by vllm-server, which needs its URL (--server): another engine goes on" in said
    assert "kept as they are: 48 responses scored by vllm-server, server;" in said


@pytest.mark.slow
def test_flags_without_effect_are_said(workspace: Workspace) -> None:
    run(workspace)
    assert run(workspace).lines[1:] == ()
    assert run(workspace, dtype="float16").lines[1:] == (
        "dtype float16 had no effect: what is scored is not scored again (48 by transformers, float32)",
    )


@pytest.mark.slow
def test_only_new_responses_are_scored(workspace: Workspace, tmp_path: Path) -> None:
    first = run(workspace)
    ingest(workspace, [str(hh_file(tmp_path, 30))], format="hh")
    second = run(workspace)
    assert second.facts["num_reused"] == first.facts["num_scored"]
    assert second.facts["num_scored"] == len(rows(workspace)) - first.facts["num_scored"] > 0


@pytest.mark.slow
def test_two_policies_live_side_by_side(workspace: Workspace, tmp_path: Path) -> None:
    other = changed_model(tmp_path / "other", lambda tensors: tensors["model.norm.weight"].mul_(0.5))
    one, two = run(workspace), run(workspace, model=other)
    assert one.facts["reference_id"] != two.facts["reference_id"]
    assert one.facts["num_scored"] == two.facts["num_scored"]
    counts = rows(workspace, "select count(*), count(distinct logps) from raw.reference_scores group by reference_id")
    assert [count for count, _ in counts] == [one.facts["num_scored"]] * 2
    (drift,) = rows(workspace, "from mart.reference_drift")
    assert drift[:2] == (one.facts["reference_id"], two.facts["reference_id"])
    assert drift[2:5] == (str(shared("models/tiny-en")), str(other), 24)
    assert drift[6] == pytest.approx(drift[5] / 24)
    assert 0.5 < drift[7] < 1


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
    assert found == [("p0", "p1", "m", "m", 3, 1, pytest.approx(1 / 3), pytest.approx(0.5), pytest.approx(2.0))]


@pytest.mark.slow
def test_what_does_not_fit_is_marked_and_never_cut_in_silence(workspace: Workspace) -> None:
    report = run(workspace, max_length=100)
    found = rows(workspace)
    long = [row for row in found if row[2] + row[3] > 100]
    assert long
    assert report.facts["num_truncated"] == len(long)
    assert all(row[1] is None and row[4] for row in long)
    assert all(row[1] is not None and not row[4] for row in found if row not in long)


@pytest.mark.slow
def test_truncate_left_cuts_the_prompt_and_says_so(workspace: Workspace) -> None:
    report = run(workspace, max_length=100, truncate="left")
    found = rows(workspace)
    cut = [row for row in found if row[4] and row[1] is not None]
    assert cut
    assert all(row[2] + row[3] == 100 for row in cut)
    assert report.facts["num_truncated"] == sum(row[2] >= 100 for row in found)


def changed_model(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The small policy with other weights."""
    shutil.copytree(shared("models/tiny-en"), folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.slow
def test_what_failed_before_is_tried_again_and_leaves_the_quarantine(workspace: Workspace) -> None:
    reference_id = run(workspace).facts["reference_id"]
    whole = rows(workspace)
    lost = [row[0] for row in whole[:3]]
    with workspace.lake() as lake:
        for response_id in lost:
            lake.con.execute("update raw.reference_scores set logps = null where response_id = ?", [response_id])
            lake.con.execute(
                "insert into raw.quarantine values (?, 'score:m', null, 'not_scored', 'no memory', ?, 'r')",
                [quarantine_id(reference_id, response_id), response_id],
            )
    report = run(workspace)
    assert (report.facts["num_scored"], report.facts["num_reused"], report.num_changed) == (3, 45, 3)
    assert [row[0::2] for row in rows(workspace)] == [row[0::2] for row in whole]
    assert [row[1] for row in rows(workspace)] == pytest.approx([row[1] for row in whole], abs=1e-3)
    assert rows(workspace, "from raw.quarantine") == []
    assert run(workspace).run_id is None


@pytest.mark.slow
def test_what_fails_again_changes_nothing_and_is_not_called_scored(workspace: Workspace, tmp_path: Path) -> None:
    (text,) = rows(workspace, "select text from raw.responses order by response_id limit 1")[0]
    rare = max(tiny_tokenizer()(text, add_special_tokens=False)["input_ids"])

    def spoil(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.embed_tokens.weight"][rare] = float("nan")

    model = changed_model(tmp_path / "spoilt", spoil)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    report = run(workspace, model=model)
    num_failed = report.facts["num_failed"]
    assert 0 < num_failed < 48
    assert len(rows(workspace, "from raw.quarantine where reason = 'not_scored'")) == num_failed
    with workspace.lake() as lake:
        before = lake.snapshot_id()
    again = run(workspace, model=model)
    assert (again.run_id, again.num_changed, again.facts["num_failed"]) == (None, 0, num_failed)
    with workspace.lake() as lake:
        assert lake.snapshot_id() == before


@pytest.mark.slow
def test_what_cannot_be_tokenized_needs_no_engine_to_fail_again(workspace: Workspace, tmp_path: Path) -> None:
    model = changed_model(tmp_path / "strict", lambda tensors: None)
    refuses = "{% if messages | length > 2 %}{{ raise_exception('too many turns') }}{% endif %}"
    template = model / "chat_template.jinja"
    template.chmod(0o644)
    template.write_text(refuses + template.read_text())
    first = run(workspace, model=model, max_length=100)
    assert first.facts["num_failed"] > 0
    again = run(workspace, model=model, max_length=100)
    assert again.run_id is None
    scored, truncated, failed = again.lines
    assert scored.startswith(f"nothing new: {first.facts['num_scored']} responses scored")
    assert truncated.startswith(
        f"{first.facts['num_truncated']} responses do not fit in 100 tokens, marked is_truncated"
    )
    assert failed.startswith(f"{first.facts['num_failed']} could not be scored")


@pytest.mark.slow
def test_without_a_model_the_whole_last_policy_is_meant(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(shared("models/tiny-en"))
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained(
        tmp_path / "adapter"
    )
    (tmp_path / "model").symlink_to(shared("models/tiny-en"))
    monkeypatch.chdir(tmp_path)
    first = run(workspace, model="model", adapter="adapter", max_length=90, truncate="left", template="plain")
    monkeypatch.chdir("/")
    again = score(workspace, engine="transformers", dtype="float32")
    assert (again.run_id, again.facts["reference_id"]) == (None, first.facts["reference_id"])
    longer = score(workspace, engine="transformers", dtype="float32", max_length=120)
    assert longer.facts["reference_id"] != first.facts["reference_id"]
    ((adapter, template, truncate),) = rows(
        workspace, "select adapter, template, truncate from raw.reference_policies where max_length = 120"
    )
    assert (adapter, template, truncate) == (str(tmp_path / "adapter"), "plain", "left")


@pytest.mark.slow
def test_a_response_of_many_pairs_is_scored_once_and_the_path_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = ["Red.", "Blue.", "Green."]
    lines = [
        {"prompt": "Name a colour.", "response_a": one, "response_b": other, "vote": "a", "annotator_id": annotator}
        for annotator in ("x", "y")
        for one, other in itertools.combinations(answers, 2)
    ]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = Workspace.create(tmp_path / "colours")
    ingest(made, [str(tmp_path / "votes.jsonl")])
    assert run(made, embeddings=True).facts["num_scored"] == 3
    assert re.search(r"scoring with transformers [\d.]+, path shared, float32 on cpu", capfd.readouterr().err)
    assert rows(made, "select distinct len(embedding) from raw.reference_scores") == [(256,)]


def test_options_that_contradict_are_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="--server is for engine vllm-server, not transformers"):
        run(workspace, server="http://127.0.0.1:1")
    with pytest.raises(ModelError, match=r"takes 1,024 tokens, not 4,096 \(--max-length 1024\)"):
        run(workspace, max_length=4096)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [None, "auto"])
def test_a_server_that_is_configured_scores_unless_another_engine_is_named(
    workspace: Workspace, engine: str | None
) -> None:
    config = workspace.root / "winnow.toml"
    model = shared("models/tiny-en")
    config.write_text(config.read_text() + f'\n[scoring]\nmodel = "{model}"\nserver = "http://127.0.0.1:1"\n')
    opened = Workspace.open(workspace.root)
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:1"):
        score(opened, engine=engine)
    assert score(opened, engine="transformers").facts["engine"] == "transformers"


@pytest.mark.slow
def test_a_bad_model_is_one_clear_error_and_leaves_the_lake_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.lake() as lake:
        before = lake.snapshot_id()
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(shared("models/tiny-en") / name, bare / name)
    with pytest.raises(ModelError, match="holds no tokenizer"):
        run(workspace, model=bare)
    bare.joinpath("tokenizer.json").write_bytes((shared("models/tiny-en") / "tokenizer.json").read_bytes())
    with pytest.raises(ModelError, match=r"bare has no chat template \(set \[scoring\] template = 'plain'"):
        run(workspace, model=bare, template="chat")
    with pytest.raises(ModelError, match="there is no model folder"):
        run(workspace, model=tmp_path / "missing")
    with pytest.raises(ModelError, match="no reference policy was given"):
        score(workspace)
    with pytest.raises(EngineError, match="there is no engine 'vlm'"):
        score(workspace, model=str(shared("models/tiny-en")), engine="vlm")
    with pytest.raises(ConfigError, match=r"scoring\.dtype"):
        score(workspace, model=str(shared("models/tiny-en")), dtype="int3")
    with workspace.lake() as lake:
        assert lake.snapshot_id() == before


def test_an_empty_workspace_has_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no responses to score"):
        run(Workspace.create(tmp_path / "empty"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["flows.stages.score_shards.claim_write", "curation.scoring.isolation._checked"])
def test_an_interrupted_run_says_that_it_goes_on(workspace: Workspace, place: str) -> None:
    """In the middle of a query of DuckDB, and in Python; the query is one that lasts until it is interrupted."""
    code = f"""
        import os, signal, sys, threading, unittest.mock
        import duckdb
        from flows.cli import main

        def long(*_):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            if {"claim" in place}:
                duckdb.sql("select sum(a.range * b.range % 7) from range(10000000) a, range(1000000) b").fetchall()
            while True:
                pass

        with unittest.mock.patch("{place}", long):
            main(["score", "-w", sys.argv[1], "--model", sys.argv[2], "--engine", "transformers", "--dtype", "float32"])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(workspace.root), str(shared("models/tiny-en"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130
    assert "interrupted; what is committed stays, and the same command goes on behind it" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(workspace) == []


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
        while len(rows(workspace, "select distinct scored_at from raw.reference_scores")) < 2:  # shards
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(rows(workspace))
    assert 0 < done < 48
    assert rows(workspace, "select num_changed from raw.runs where stage = 'score' and ended_at is null") == [(done,)]
    report = run(workspace, shard_tokens=800, engine=engine)
    assert report.facts["num_reused"] == done
    assert report.facts["num_scored"] == 48 - done
    assert rows(workspace) == rows(whole)
