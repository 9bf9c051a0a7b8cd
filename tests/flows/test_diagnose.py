"""``winnow diagnose`` on a lake of votes: what it writes, that it writes it once, and what it says."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

import curation
from curation import code_version
from flows.cli import app
from flows.lineage import Run
from flows.reading import reading
from flows.stages import diagnose as stage
from flows.stages.diagnose import diagnose
from flows.workspace import Workspace
from schemas.errors import WorkspaceError
from schemas.identity import canonical_messages, judgment_id, pair_id, prompt_id, response_id

# Three answers to one question in a circle, and one pair on which u says both things.
CYCLE = [("x", "y", "a"), ("y", "z", "a"), ("x", "z", "b")]
VOTES = [(q, *edge, who) for q in ("one", "two") for edge in CYCLE for who in ("u", "v", "w")]
VOTES += [("three", "x", "y", "a", "u"), ("three", "y", "x", "a", "u"), ("three", "x", "y", "a", "v")]

JUDGMENT = [
    "judgment_id",
    "pair_id",
    "prompt_id",
    "response_a_id",
    "response_b_id",
    "vote",
    "annotator_id",
    "source_row",
]


def fill(workspace: Workspace, votes: list[tuple[str, str, str, str, str]], *, start: int = 0) -> None:
    prompts, responses, judgments = {}, {}, []
    for number, (question, first, second, vote, who) in enumerate(votes, start):
        messages = canonical_messages([{"role": "user", "content": f"Question {question}?"}])
        prompt = prompt_id(messages)
        ids = [response_id(prompt, f"Answer {text} to {question}.") for text in (first, second)]
        prompts[prompt] = (prompt, messages)
        responses |= {i: (i, prompt, f"Answer {t} to {question}.") for i, t in zip(ids, (first, second), strict=True)}
        pair = pair_id(*ids, "overall")
        judgment = judgment_id("hand", pair, ids[0], vote, annotator_id=who, ordinal=number)
        judgments.append((judgment, pair, prompt, *ids, vote, who, number))

    def work(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("insert into raw.prompts select *, 'hand', 'r' from new_prompts")
        con.execute("insert into raw.responses select *, null, 'hand', 'r' from new_responses")
        con.execute(
            "insert into raw.judgments by name select *, 'overall' as criterion, true as is_display_order_known,"
            " false as is_both_bad, 'hand' as source, 'r' as run_id from new_judgments"
        )
        Run.start("ingest", input_hash=f"hand-{start}", settings={}).record(con, num_changed=len(judgments))

    frames = {
        "new_prompts": pl.DataFrame(list(prompts.values()), schema=["prompt_id", "messages"], orient="row"),
        "new_responses": pl.DataFrame(list(responses.values()), schema=["id", "prompt_id", "text"], orient="row"),
        "new_judgments": pl.DataFrame(judgments, schema=JUDGMENT, orient="row"),
    }
    with workspace.lake() as lake, lake.registered(**frames):
        lake.transact("fill", work)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace.create(tmp_path_factory.mktemp("diagnose"))
    fill(made, VOTES)
    diagnose(made, beta=0.3)
    return made


def rows(workspace: Workspace, sql: str) -> list[tuple[Any, ...]]:
    with workspace.lake(read_only=True) as lake:
        return lake.con.execute(sql).fetchall()


def test_every_pair_has_its_consensus(workspace: Workspace) -> None:
    found = rows(
        workspace, "select num_votes, num_votes_chosen, p_chosen from mart.pair_diagnostics order by num_votes_chosen"
    )
    assert [row[:2] for row in found] == [(3, 2)] + [(3, 3)] * 6
    assert all(0.5 < p < 1 for *_, p in found)


def test_contradictions_and_cycles_stand_in_the_lake(workspace: Workspace) -> None:
    found = dict(rows(workspace, "select kind, count(*) from mart.contradictions group by kind"))
    assert found == {"transitive": 6, "between_annotators": 1, "within_annotator": 1, "between_orders": 1}
    assert rows(workspace, "select count(*) from raw.pair_graph") == [(6,)]


def test_the_report_of_annotators_counts_what_they_did(workspace: Workspace) -> None:
    found = rows(workspace, "select annotator_id, num_votes, self_consistency from mart.annotator_report order by 1")
    assert found == [("u", 8, 0.0), ("v", 7, None), ("w", 6, None)]


def test_beta_stands_where_the_views_read_it(workspace: Workspace) -> None:
    assert rows(workspace, "select value from raw.parameters where name = 'beta'") == [(0.3,)]


@pytest.mark.slow
def test_a_second_run_makes_no_snapshot(workspace: Workspace) -> None:
    with workspace.lake() as lake:
        before = lake.snapshot_id()
    report = diagnose(workspace, beta=0.3)
    with workspace.lake() as lake:
        assert lake.snapshot_id() == before
    assert report.num_changed == 0
    assert report.run_id is None
    assert report.lines[0] == "nothing new to diagnose"


@pytest.mark.slow
def test_a_fit_that_did_not_settle_is_said(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w")
    fill(workspace, VOTES)
    (workspace.root / "winnow.toml").write_text("[diagnose.annotators]\nmax_rounds = 1\n")
    said = diagnose(Workspace.open(workspace.root)).lines
    assert sum("not settled on overall after 1 rounds" in line for line in said) == 1
    (workspace.root / "winnow.toml").write_text("")
    assert not any("not settled" in line for line in diagnose(Workspace.open(workspace.root)).lines)


@pytest.mark.slow
def test_other_code_diagnoses_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "diagnosis_code", lambda: "other")
    assert diagnose(workspace, beta=0.3).lines[0] != "nothing new to diagnose"


def test_the_code_that_diagnoses_is_known_by_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "curation"
    shutil.copytree(Path(curation.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "files", lambda _: copy)
    of = code_version.diagnosis_code.__wrapped__
    same = of()
    assert same == code_version.diagnosis_code()
    (copy / "ingest" / "reading.py").write_text("")
    assert of() == same
    (copy / "annotators" / "kernels.py").write_text("")
    assert of() != same


@pytest.mark.slow
def test_a_new_vote_changes_only_what_it_bears_on(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w")
    fill(workspace, VOTES)
    first = diagnose(workspace).run_id
    fill(workspace, [("four", "x", "y", "a", "u")], start=len(VOTES))
    second = diagnose(workspace).run_id
    assert second != first
    assert rows(workspace, "select count(*) from raw.pair_estimates") == [(8,)]
    assert rows(workspace, f"select count(*) from raw.pair_features where run_id = '{first}'") == [(7,)]
    assert rows(workspace, f"select count(*) from raw.contradictions where run_id = '{first}'") == [(9,)]


def test_it_says_in_words_what_it_found(workspace: Workspace) -> None:
    with workspace.lake(read_only=True) as lake:
        lines = "\n".join(reading(lake))
    assert "Krippendorff's alpha" in lines
    assert "transitive 6" in lines
    assert "cycles: 85.7% of 7 pairs lie on one" in lines
    assert "nothing is scored yet" in lines


@pytest.mark.slow
def test_commands_show_annotators_and_one_pair_with_its_evidence(workspace: Workspace) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["annotators", "-w", str(workspace.root)])
    assert listed.exit_code == 0
    assert "reliability" in listed.stdout
    pair = rows(workspace, "select pair_id from mart.contradictions where kind = 'within_annotator'")[0][0]
    shown = runner.invoke(app, ["pair", pair, "-w", str(workspace.root)])
    assert shown.exit_code == 0
    for text in (
        "Question three?",
        "Answer x to three.",
        "u: rejected",
        "contradiction within_annotator: 1 for, 1 against",
    ):
        assert text in shown.stdout


@pytest.mark.slow
def test_an_unknown_pair_and_an_empty_lake_are_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no diagnosed pair 'nonsense'"):
        CliRunner().invoke(app, ["pair", "nonsense", "-w", str(workspace.root)], catch_exceptions=False)
    with pytest.raises(WorkspaceError, match="no judgments to diagnose"):
        diagnose(Workspace.create(tmp_path / "empty"))


def test_the_length_bias_of_all_votes_stands_in_sql(workspace: Workspace) -> None:
    found = rows(workspace, "select * exclude (run_id) from mart.criterion_report")
    facts = json.loads(rows(workspace, "select facts from raw.runs where stage = 'diagnose'")[0][0])["overall"]
    assert [row[:4] for row in found] == [("overall", 21, 7, 3)]
    assert list(found[0][4:7]) == facts["length_bias"]
    slope, low, high = found[0][4:7]
    assert low < slope < high


@pytest.mark.slow
def test_prompts_that_two_splits_share_are_said(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w")
    fill(workspace, VOTES)
    diagnose(workspace)
    with workspace.lake() as lake:
        assert not any(line.startswith("leakage") for line in reading(lake))
        lake.transact(
            "split",
            lambda con: con.execute(
                "update raw.judgments set source_split = case when source_row % 2 = 0 then 'train' else 'test' end"
            ),
        )
        said = [line for line in reading(lake) if line.startswith("leakage")]
    assert len(said) == 1
    # all three prompts are in both
    assert "are in train of hand and in test of hand, 100.0% of its prompts" in said[0]


def test_the_list_of_annotators_fits_into_eighty_columns(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["annotators", "-w", str(workspace.root)])
    lines = shown.stdout.replace(f" -w {workspace.root}", "").splitlines()
    assert max(map(len, lines)) <= 80
    listed = {tuple(line.split()[:2]) for line in lines}
    assert listed >= {("u", "8"), ("v", "7"), ("w", "6")}, shown.stdout
    assert any(line.startswith("reliability: chance") for line in lines)


@pytest.mark.slow
def test_no_position_bias_is_shown_where_no_order_is_known(workspace: Workspace, tmp_path: Path) -> None:
    unordered = Workspace.create(tmp_path / "unordered")
    fill(unordered, VOTES)
    with unordered.lake() as lake:
        lake.con.execute("update raw.judgments set is_display_order_known = false")
    diagnose(unordered)
    for each, has_order in ((workspace, True), (unordered, False)):
        shown = CliRunner().invoke(app, ["annotators", "-w", str(each.root)]).stdout
        (line,) = [line for line in shown.splitlines() if line.split()[:1] == ["u"]]
        assert (line.split()[4] == "-") is not has_order, line
        assert ("first: - where no source says" in shown) is not has_order


@pytest.mark.slow
def test_a_pair_is_found_by_the_beginning_of_its_id(workspace: Workspace) -> None:
    pair = rows(workspace, "select min(pair_id) from raw.pair_estimates")[0][0]
    shown = CliRunner().invoke(app, ["pair", pair[:10], "-w", str(workspace.root)])
    assert shown.exit_code == 0
    assert pair in shown.stdout
    with pytest.raises(Exception, match="more than one pair that begins with ''"):
        CliRunner().invoke(app, ["pair", "", "-w", str(workspace.root)], catch_exceptions=False)


@pytest.mark.slow
def test_a_run_that_was_killed_leaves_nothing_and_the_next_one_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    killed, spared = (Workspace.create(tmp_path / name) for name in ("killed", "spared"))
    for each in (killed, spared):
        fill(each, VOTES)
    code = (
        "import os, signal, sys; from pathlib import Path; from flows.stages import diagnose as stage; from"
        " flows.workspace import Workspace\n"
        "replace, done = stage.replace_rows, []\n"
        "def dying(*arguments, **named):\n"
        "    if len(done) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    done.append(1); return replace(*arguments, **named)\n"
        "stage.replace_rows = dying; stage.diagnose(Workspace.open(Path(sys.argv[1])), beta=0.3)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(killed.root)], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-2000:]
    tables = ("pair_estimates", "annotator_estimates", "contradictions", "pair_graph", "response_estimates")
    for table in tables:
        assert rows(killed, f"select count(*) from raw.{table}") == [(0,)]
    assert rows(killed, "select count(*) from raw.runs where stage = 'diagnose'") == [(0,)]
    for each in (killed, spared):
        diagnose(each, beta=0.3)
    for table in tables:
        same = f"select * exclude (run_id) from raw.{table} order by all"
        assert rows(killed, same) == rows(spared, same)
        assert rows(killed, same)
