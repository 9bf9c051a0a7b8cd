"""``winnow diagnose`` on real votes with two LLM judges among them: what it prints, and what SQL says of annotators."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.stages.diagnose import diagnose
from flows.stages.ingest import ingest
from flows.workspace import Workspace
from tests.real_data import shared

pytestmark = pytest.mark.slow

# A reference policy that gives each character 0.02 nats: it favors the shorter response of a pair.
SCORES = """
    insert into raw.reference_scores by name
    select 'characters' as reference_id, response_id, -0.02 * length(text) as logps, length(text) as num_tokens,
        9 as num_prompt_tokens, false as is_truncated, 'hand' as engine, 'hand' as engine_path, '0' as engine_version,
        'float64' as dtype, now()::timestamp as scored_at, 'r' as run_id
    from raw.responses
"""
POLICY = """
    insert into raw.reference_policies by name
    select 'characters' as reference_id, 'hand' as model, 'h' as weights_hash, 't' as tokenizer_hash,
        'chat' as template, 1024 as max_length, 'never' as truncate, now()::timestamp as created_at, 'r' as run_id
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[str]]:
    """llmfao, scored, and the lines that the command prints."""
    workspace = Workspace.create(tmp_path_factory.mktemp("real"))
    ingest(workspace, [str(shared("data/llmfao"))])
    with workspace.lake() as lake:
        lake.transact("score", lambda con: (con.execute(POLICY), con.execute(SCORES)))
    shown = CliRunner().invoke(app, ["diagnose", "-w", str(workspace.root)])
    assert shown.exit_code == 0, shown.output
    return workspace, [line.removeprefix("diagnose").strip() for line in shown.stdout.splitlines()]


def line(said: tuple[Workspace, list[str]], beginning: str) -> str:
    found = [each for each in said[1] if each.startswith(beginning)]
    assert len(found) == 1, said[1]
    return found[0]


def test_it_prints_agreement(said: tuple[Workspace, list[str]]) -> None:
    assert re.fullmatch(
        r"agreement: Krippendorff's alpha 0\.\d\d \(0\.\d\d to 0\.\d\d\) on 1,725 pairs; 0 with fewer .*",
        line(said, "agreement"),
    )


def test_it_prints_five_annotators_and_why(said: tuple[Workspace, list[str]]) -> None:
    start = said[1].index(line(said, "annotators: "))
    assert re.search(r"\d of 126 are flagged; the worst:", said[1][start])
    worst = said[1][start + 1 : start + 6]
    assert all(re.search(r"\(overall\): .+; reliability 0\.\d\d \(.*\) from [\d,]+ votes$", each) for each in worst)
    assert any("favors the response shown first (log-odds +" in each for each in worst)


def test_it_prints_contradictions_by_kind_and_the_share_on_cycles(said: tuple[Workspace, list[str]]) -> None:
    kinds = line(said, "contradictions, pairs: ")
    for kind in ("between annotators", "between sources", "transitive", "within annotator"):
        assert re.search(rf"{kind} [\d,]+", kinds)
    assert re.fullmatch(r"cycles: \d+\.\d% of 1,725 pairs lie on one", line(said, "cycles"))


def test_it_prints_the_safe_beta_curve_in_five_numbers(said: tuple[Workspace, list[str]]) -> None:
    curve = re.findall(r"([\d.]+)% at ([\d.]+)", line(said, "beta, share of pairs"))
    assert [float(beta) for _, beta in curve] == [0.01, 0.05, 0.1, 0.5, 1.0]
    shares = [float(share) for share, _ in curve]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 100
    with said[0].lake(read_only=True) as lake:
        # by hand, from the definition, at the last of the five
        failing = lake.value("""
            select avg((reference_margin + ln(p_chosen / (1 - p_chosen)) / 1.0 <= 0)::integer)
            from mart.pair_diagnostics where not is_tied
        """)
    assert shares[-1] == pytest.approx(100 * failing, abs=0.05)


def test_llm_judges_stand_among_the_annotators(said: tuple[Workspace, list[str]]) -> None:
    with said[0].lake(read_only=True) as lake:
        kinds = dict(lake.con.execute("select kind, count(*) from mart.annotator_report group by kind").fetchall())
        judges = lake.frame("select * from mart.annotator_report where kind = 'model' order by annotator_id")
        people = lake.frame("select * from mart.annotator_report where kind = 'human' and num_votes >= 30")
    assert kinds == {"human": 124, "model": 2}
    assert judges["annotator_id"].to_list() == ["gpt-3", "gpt-4"]
    # what docs/diagnosis.md says of them: GPT-3.5 less reliable than GPT-4 and fond of what is shown first
    gpt3, gpt4 = judges.to_dicts()
    assert gpt3["reliability_high"] < gpt4["reliability_low"]
    assert gpt3["position_bias_low"] > 0.5
    assert gpt4["position_bias_high"] < 0
    assert max(gpt3["tie_rate"], gpt4["tie_rate"]) < people["tie_rate"].median()


def test_a_set_without_flags_still_names_the_weakest(tmp_path: Path) -> None:
    rows = ["prompt,a,b,vote,who"]
    rows += [f"question {i},answer {i} one,answer {i} two,a,[bot] {who}" for i in range(3) for who in "uv"]
    (tmp_path / "votes.csv").write_text("\n".join(rows) + "\n")
    workspace = Workspace.create(tmp_path / "w")
    columns = [f"{ours}={theirs}" for ours, theirs in COLUMNS.items()]
    options = [each for pair in columns for each in ("--column", pair)]
    runner = CliRunner()
    read = runner.invoke(app, ["ingest", str(tmp_path / "votes.csv"), *options, "-w", str(workspace.root)])
    assert read.exit_code == 0, read.output
    shown = runner.invoke(app, ["diagnose", "-w", str(workspace.root)]).stdout
    assert "annotators: none of 2 is flagged; the weakest:" in shown
    assert shown.count("not flagged, but the interval ends lowest") == 2
    assert "[bot] u (overall)" in shown
    assert "[bot] u" in runner.invoke(app, ["annotators", "-w", str(workspace.root)]).stdout


def test_votes_of_nobody_in_particular(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "Who?", "chosen": "She did.", "rejected": "Nobody."}\n')
    workspace = Workspace.create(tmp_path / "w")
    ingest(workspace, [str(tmp_path / "pairs.jsonl")])
    lines = diagnose(workspace).lines
    assert "annotators: no vote names its annotator, so nothing can be said of them" in lines


COLUMNS = {"prompt": "prompt", "response_a": "a", "response_b": "b", "vote": "vote", "annotator_id": "who"}
